package compose

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/apis/apiserver"

	"sagong/apiserver/authn"
	"sagong/apiserver/authz"
	"sagong/apiserver/configfile"
	"sagong/lib/reload"
)

// configurations are files as they were read when the server started.
type configurations struct{ authentication, authority, authorization []byte }

// reloads count, under upstream's names, what became of files of one sort that
// changed.
type reloads struct {
	total  *prometheus.CounterVec
	at     *prometheus.GaugeVec
	info   *prometheus.GaugeVec
	server string
}

// newReloads makes the metrics of one sort of file: authentication, authorization
// or encryption.
func newReloads(r prometheus.Registerer, sort, identity string) *reloads {
	to := promauto.With(r)
	name := "apiserver_" + sort + "_config_controller_"
	labels := []string{"status", "apiserver_id_hash"}
	return &reloads{
		total:  to.NewCounterVec(prometheus.CounterOpts{Name: name + "automatic_reloads_total", Help: "Total number of automatic reloads of " + sort + " configuration split by status and apiserver identity."}, labels),
		at:     to.NewGaugeVec(prometheus.GaugeOpts{Name: name + "automatic_reload_last_timestamp_seconds", Help: "Timestamp of the last automatic reload of " + sort + " configuration split by status and apiserver identity."}, labels),
		info:   to.NewGaugeVec(prometheus.GaugeOpts{Name: name + "last_config_info", Help: "Information about the last applied " + sort + " configuration with hash as label, split by apiserver identity."}, []string{"apiserver_id_hash", "hash"}),
		server: hash([]byte(identity)),
	}
}

func hash(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// applied notes which configuration is in force.
func (r *reloads) applied(data []byte) {
	r.info.Reset()
	r.info.WithLabelValues(r.server, hash(data)).Set(1)
}

func (r *reloads) ended(data []byte, err error) {
	status := "success"
	if err != nil {
		status = "failure"
	} else {
		r.applied(data)
	}
	r.total.WithLabelValues(status, r.server).Inc()
	r.at.WithLabelValues(status, r.server).SetToCurrentTime()
}

// follow has a file read again when it changes, measured when its sort is. What
// apply refuses stays as it was.
func (s *server) follow(sort, path string, known []byte, apply func(context.Context, []byte) error) {
	m := s.reloads[sort]
	if m != nil {
		m.applied(known)
	}
	s.files = append(s.files, &reload.File{Path: path, Known: known, Changed: func(ctx context.Context, data []byte, err error) {
		if err == nil {
			err = apply(ctx, data)
		}
		if m != nil {
			m.ended(data, err)
		}
		if err != nil {
			s.log.Error("cannot use a file that changed; what it said before stays in force", "file", path, "err", err)
			return
		}
		s.log.Info("a file that changed is in force", "file", path)
	}})
}

// reloadIssuers follows the file of issuers of tokens, or the authority of the one
// that flags name. Who may come in anonymously stays as it was, as upstream does.
func (s *server) reloadIssuers(to *authn.Changing, tokens *authn.Tokens, accounts *authn.ServiceAccounts) {
	set := func(conf *apiserver.AuthenticationConfiguration, algorithms []string) error {
		issuers, err := tokenIssuers(conf, algorithms, accounts)
		if err == nil {
			to.Set(issuers)
			tokens.Forget()
		}
		return err
	}
	switch c := s.cfg; {
	case c.AuthenticationConfig != "":
		s.follow("authentication", c.AuthenticationConfig, s.read.authentication, func(_ context.Context, data []byte) error {
			conf, err := configfile.Decode[*apiserver.AuthenticationConfiguration](data)
			if err != nil {
				return err
			}
			return set(conf, authn.AllJWTAlgorithms)
		})
	case c.OIDCCA != "":
		s.follow("authentication", c.OIDCCA, s.read.authority, func(context.Context, []byte) error {
			conf, algorithms, err := s.authenticationConfig()
			if err != nil {
				return err
			}
			return set(conf, algorithms)
		})
	}
}

// reloadAuthorizers follows the file of authorizers. Only webhooks may come and go.
func (s *server) reloadAuthorizers(to *authz.Changing, first *apiserver.AuthorizationConfiguration) {
	if s.cfg.AuthorizationConfig == "" {
		return
	}
	own := ownAuthorizers(first)
	s.follow("authorization", s.cfg.AuthorizationConfig, s.read.authorization, func(_ context.Context, data []byte) error {
		conf, err := configfile.Decode[*apiserver.AuthorizationConfiguration](data)
		if err != nil {
			return err
		}
		now := ownAuthorizers(conf)
		var errs []error
		for t := range now.Difference(own) {
			errs = append(errs, fmt.Errorf("authorizer type %s is not allowed if it was not enabled at initial server startup", t))
		}
		for t := range own.Difference(now) {
			errs = append(errs, fmt.Errorf("authorizer type %s, which was enabled at initial server startup, is missing", t))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		chain, err := s.authorizerChain(conf)
		if err == nil {
			to.Set(chain)
		}
		return err
	})
}

func ownAuthorizers(c *apiserver.AuthorizationConfiguration) sets.Set[apiserver.AuthorizerType] {
	own := sets.New[apiserver.AuthorizerType]()
	for _, a := range c.Authorizers {
		if a.Type != apiserver.TypeWebhook {
			own.Insert(a.Type)
		}
	}
	return own
}

// reloadEncryption follows the file of what seals. All that is stored is sealed
// anew, so that the keys of before can go.
func (s *server) reloadEncryption() {
	c := s.cfg
	if c.EncryptionProviderConfig == "" || !c.EncryptionReload {
		return
	}
	s.follow("encryption", c.EncryptionProviderConfig, s.cipher.Config(), func(ctx context.Context, data []byte) error {
		if err := s.cipher.Reload(ctx, data); err != nil {
			return err
		}
		if err := s.store.Rewrite(ctx); err != nil {
			return fmt.Errorf("the new configuration is in force, but not all that is stored is sealed by it; the next start tries again: %w", err)
		}
		return nil
	})
}
