package compose

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/client"
	"sagong/client/remote"
	"sagong/config"
	"sagong/kinds"
	"sagong/lib/progress"
	"sagong/object"
	"sagong/reconcile"
)

// RunAgent runs this machine as a node of a cluster elsewhere until ctx ends.
// Containers outlive it.
func RunAgent(ctx context.Context, c config.Config, log *slog.Logger, steps *progress.Reporter) error {
	// It holds the node's key and what pods keep.
	made, err := makeDir(c.DataDir, 0o700)
	if err != nil {
		return fmt.Errorf("cannot make the data directory: %w", err)
	}
	claim, err := claimRunDir(c)
	if err != nil {
		if made {
			_ = os.Remove(c.DataDir)
		}
		return err
	}
	m, err := joinCluster(ctx, c)
	if err != nil {
		// What half of a join left would be in the way of one to another cluster.
		if made {
			_ = os.RemoveAll(c.DataDir)
		}
		claim.remove()
		return err
	}
	defer claim.release()
	steps.Step("joined %s", c.Server)
	facts, err := readFacts(ctx, m)
	if err != nil {
		return err
	}
	c.ClusterDNS, c.Name = facts.dns.String(), facts.name
	// 'down' finds by them what this agent makes, network included.
	if err := SaveSettings(c); err != nil {
		return err
	}
	registry, api := newRegistry(), m.restConfig()
	api.Wrap(measureRequests(registry))
	cl, err := remote.New(api, object.NewScheme(kinds.All()...), "kubelet")
	if err != nil {
		return err
	}
	hub := reconcile.NewHub(cl, log)
	events := reconcile.NewRecorder(cl, log)
	n, err := openNode(c, facts, cl, hub, events, registry, log)
	if err != nil {
		return err
	}
	defer n.close()
	steps.Step("node opened")

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	part := func(name string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s ended: %w", name, err))
			}
		})
	}
	part("views", hub.Run)
	part("events", events.Run)
	part("node", n.run)
	part("serving", func(ctx context.Context) error { return serveNode(ctx, c, m, n, hub, log) })
	part("start", func(ctx context.Context) error {
		if err := n.agent.Adopted(ctx); err != nil {
			return err
		}
		if err := nodeReady(ctx, hub, log, c.NodeName); err != nil {
			return err
		}
		steps.Done("node %s ready", c.NodeName)
		log.Info("node ready", "node", c.NodeName)
		return nil
	})
	<-ctx.Done()
	log.Info("stopping")
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// serveNode serves the agent's own API to the API server: logs, exec and the
// like. Its certificate comes from the cluster, once the node is registered.
func serveNode(ctx context.Context, c config.Config, m *membership, n *node, hub *reconcile.Hub, log *slog.Logger) error {
	nodes := reconcile.ViewOf[*corev1.Node](hub)
	registered := make(chan struct{})
	var once sync.Once
	stop := nodes.OnChange(func(_, o *corev1.Node) {
		if o != nil && o.Name == c.NodeName && len(o.Status.Addresses) > 0 {
			once.Do(func() { close(registered) })
		}
	})
	defer stop()
	select {
	case <-registered:
	case <-ctx.Done():
		return ctx.Err()
	}
	addresses := []net.IP{net.ParseIP(c.NodeIP)}
	if err := m.renew(ctx, addresses); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(m.caPEM)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { done <- n.serveTLS(ctx, roots, m.serving) }()
	failed := m.measureCertificates(n.registry)
	renew := time.NewTicker(6 * time.Hour)
	defer renew.Stop()
	for {
		select {
		case <-renew.C:
			if err := m.renew(ctx, addresses); err != nil {
				failed()
				log.Error("cannot renew the node's certificates, trying again later", "err", err)
			}
		case err := <-done:
			return err
		}
	}
}

// serveTLS serves the agent's API on its port until ctx ends.
func (n *node) serveTLS(ctx context.Context, roots *x509.CertPool, cert func(*tls.ClientHelloInfo) (*tls.Certificate, error)) error {
	at := net.JoinHostPort(n.cfg.NodeIP, fmt.Sprint(n.cfg.KubeletPort))
	l, err := net.Listen("tcp", at)
	if err != nil {
		return listenError(err, at, "the node agent", "kubelet-port")
	}
	srv := nodeServer(n.handler, roots, cert, n.log)
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.ServeTLS(l, "", ""); ctx.Err() == nil {
		return err
	}
	return ctx.Err()
}

// nodeServer lets in who shows a certificate of the cluster that belongs to the
// API server or an administrator, and nobody else.
func nodeServer(h http.Handler, roots *x509.CertPool, cert func(*tls.ClientHelloInfo) (*tls.Certificate, error), log *slog.Logger) *http.Server {
	s := apiHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		if !slices.Contains(r.TLS.PeerCertificates[0].Subject.Organization, user.SystemPrivilegedGroup) {
			http.Error(w, "Forbidden", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	}), log)
	s.TLSConfig = &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: cert, ClientCAs: roots, ClientAuth: tls.VerifyClientCertIfGiven,
	}
	return s
}

// nodeReady waits until a node is Ready.
func nodeReady(ctx context.Context, hub *reconcile.Hub, log *slog.Logger, name string) error {
	ready := make(chan struct{})
	var once sync.Once
	// Of this node alone: the view of all may not be complete for a while.
	v := reconcile.NewView[*corev1.Node](hub.Client(), log, client.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	v.OnChange(func(_, n *corev1.Node) {
		if n == nil {
			return
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				once.Do(func() { close(ready) })
			}
		}
	})
	var running sync.WaitGroup
	defer running.Wait()
	following, stop := context.WithCancel(ctx)
	defer stop()
	running.Go(func() { _ = v.Run(following) })
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
