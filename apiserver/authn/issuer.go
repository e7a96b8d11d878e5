package authn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"k8s.io/apiserver/pkg/apis/apiserver"
)

// IssuerKeys are the keys that an issuer publishes. They are found by OpenID
// Connect discovery when a token first needs them, and asked for again when a
// token names one that is not known.
type IssuerKeys struct {
	url, discovery string
	http           *http.Client
	now            func() time.Time

	mu    sync.Mutex
	jwks  string // where the keys are
	keys  []jose.JSONWebKey
	asked time.Time
	err   error // of the last time they were asked for
}

const (
	issuerTimeout = 30 * time.Second
	issuerAnswer  = 1 << 20 // bytes
	// issuerPause is the least time between two questions to an issuer, so that
	// tokens with made-up key ids cost it nothing; issuerRetry that after one
	// which failed.
	issuerPause = time.Second
	issuerRetry = 10 * time.Second
)

// NewIssuerKeys makes the keys of a configured issuer.
func NewIssuerKeys(i apiserver.Issuer, now func() time.Time) (*IssuerKeys, error) {
	t, err := issuerTransport(i)
	if err != nil {
		return nil, err
	}
	discovery := i.DiscoveryURL
	if discovery == "" {
		discovery = strings.TrimSuffix(i.URL, "/") + "/.well-known/openid-configuration"
	}
	return &IssuerKeys{url: i.URL, discovery: discovery, http: &http.Client{Transport: t, Timeout: issuerTimeout}, now: now}, nil
}

// issuerTransport trusts the authority of an issuer.
func issuerTransport(i apiserver.Issuer) (*http.Transport, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if i.CertificateAuthority != "" {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(i.CertificateAuthority)) {
			return nil, errors.New("certificateAuthority holds no certificate")
		}
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return t, nil
}

// Find implements Keys.
func (k *IssuerKeys) Find(ctx context.Context, id string, fresh bool) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	pause := issuerPause
	if k.err != nil {
		pause = issuerRetry
	}
	if (fresh || k.asked.IsZero() || k.err != nil) && (k.asked.IsZero() || k.now().Sub(k.asked) >= pause) {
		k.err = k.ask(ctx)
		k.asked = k.now()
	}
	if k.err != nil && len(k.keys) == 0 {
		return nil, fmt.Errorf("authenticator not initialized: %w", k.err)
	}
	var out []jose.JSONWebKey
	for _, key := range k.keys {
		if id == "" || key.KeyID == id {
			out = append(out, key)
		}
	}
	return out, nil
}

// ask finds the keys anew. What is known stays when it fails.
func (k *IssuerKeys) ask(ctx context.Context) error {
	// One that asks must not fail the others by going away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), issuerTimeout)
	defer cancel()
	if k.jwks == "" {
		var doc struct {
			Issuer string `json:"issuer"`
			JWKS   string `json:"jwks_uri"`
		}
		if err := k.get(ctx, k.discovery, &doc); err != nil {
			return err
		}
		if doc.Issuer != k.url {
			return fmt.Errorf("issuer did not match the issuer returned by provider, expected %q got %q", k.url, doc.Issuer)
		}
		if doc.JWKS == "" {
			return errors.New("provider did not return JWKS URL")
		}
		k.jwks = doc.JWKS
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, k.jwks, &set); err != nil {
		return err
	}
	k.keys = nil
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		// Keys of kinds that nobody here verifies with are none of our business.
		if key.UnmarshalJSON(raw) == nil && key.Valid() && key.IsPublic() {
			k.keys = append(k.keys, key)
		}
	}
	return nil
}

func (k *IssuerKeys) get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := k.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, issuerAnswer+1))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, resp.Status)
	}
	if len(body) > issuerAnswer {
		return fmt.Errorf("the answer of %s is larger than %d bytes", url, issuerAnswer)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", url, err)
	}
	return nil
}
