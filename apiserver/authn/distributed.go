package authn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/apiserver/pkg/apis/apiserver"
)

// distributed fetches the groups of a token from where it says that they are:
// https://openid.net/specs/openid-connect-core-1_0.html#AggregatedDistributedClaims
//
// Who is asked stands in a token that the issuer signed. All the same only https
// is spoken, no redirect followed, and what listens on this machine or beside it
// alone (services of the cloud that give out credentials) is left alone, unless
// the issuer itself is there.
type distributed struct {
	of   *JWT
	http *http.Client

	mu      sync.Mutex
	issuers map[string]*JWT // of what was fetched
}

const (
	claimsTimeout = 10 * time.Second
	claimsAnswer  = 1 << 20
	// maxClaimIssuers bounds how many issuers are remembered.
	maxClaimIssuers = 16
)

func newDistributed(j *JWT) (*distributed, error) {
	t, err := issuerTransport(j.config.Issuer)
	if err != nil {
		return nil, err
	}
	home := ""
	if u, err := url.Parse(j.config.Issuer.URL); err == nil {
		home = u.Hostname()
	}
	free := &net.Dialer{Timeout: claimsTimeout}
	careful := &net.Dialer{Timeout: claimsTimeout, Control: func(_, address string, _ syscall.RawConn) error { return public(address) }}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, _, err := net.SplitHostPort(address); err == nil && host == home {
			return free.DialContext(ctx, network, address)
		}
		return careful.DialContext(ctx, network, address)
	}
	return &distributed{of: j, issuers: map[string]*JWT{}, http: &http.Client{
		Transport: t, Timeout: claimsTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// public refuses addresses that only this machine or its neighbours reach.
func public(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if a := at.Addr().Unmap(); a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() {
		return fmt.Errorf("address %s is not allowed", a)
	}
	return nil
}

// expand puts the groups into c when they are elsewhere.
func (d *distributed) expand(ctx context.Context, c claims) error {
	claim := d.of.config.ClaimMappings.Groups.Claim
	if _, here := c[claim]; here || c["_claim_names"] == nil {
		return nil
	}
	var names map[string]string
	if err := c.read("_claim_names", &names); err != nil {
		return fmt.Errorf("oidc: error parsing distributed claim names: %w", err)
	}
	if c["_claim_sources"] == nil {
		return errors.New("oidc: no claim sources")
	}
	var sources map[string]struct {
		Endpoint    string `json:"endpoint"`
		AccessToken string `json:"access_token"`
	}
	if err := c.read("_claim_sources", &sources); err != nil {
		return fmt.Errorf("oidc: could not parse claim sources: %w", err)
	}
	name, ok := names[claim]
	if !ok {
		return nil
	}
	source, ok := sources[name]
	switch {
	case !ok:
		return fmt.Errorf("id token _claim_names contained a source %s missing in _claims_sources", name)
	case source.Endpoint == "":
		return nil // an aggregated claim, of which upstream makes nothing either
	}
	token, err := d.fetch(ctx, source.Endpoint, source.AccessToken)
	if err != nil {
		return fmt.Errorf("while getting distributed claim %q: %w", claim, err)
	}
	j, err := d.issuer(unverifiedIssuer(token))
	if err != nil {
		return fmt.Errorf("getting untrusted issuer from endpoint %s failed for claim %q: %w", source.Endpoint, claim, err)
	}
	got, err := j.verify(ctx, token)
	if err != nil {
		return fmt.Errorf("verify distributed claim token: %w", err)
	}
	value, ok := got[claim]
	if !ok {
		return fmt.Errorf("jwt returned by distributed claim endpoint %q did not contain claim: %s", source.Endpoint, claim)
	}
	c[claim] = value
	return nil
}

// fetch gets a token of claims.
func (d *distributed) fetch(ctx context.Context, endpoint, access string) (string, error) {
	if err := secure(endpoint); err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return "", err
	}
	if access != "" {
		req.Header.Set("Authorization", "Bearer "+access)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, claimsAnswer+1))
	switch {
	case err != nil:
		return "", err
	case resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusMultipleChoices:
		return "", fmt.Errorf("error while getting distributed claim JWT: %s", resp.Status)
	case len(body) > claimsAnswer:
		return "", fmt.Errorf("the answer has more than %d bytes", claimsAnswer)
	}
	return strings.TrimSpace(string(body)), nil
}

func secure(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	if u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("%s must be https://host[/path]", u.Redacted())
	}
	return nil
}

// issuer verifies tokens of claims by the keys of who says that they are theirs,
// for the audiences of the issuer that named the endpoint.
func (d *distributed) issuer(name string) (*JWT, error) {
	if name == d.of.config.Issuer.URL {
		return d.of, nil
	}
	if err := secure(name); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if j := d.issuers[name]; j != nil {
		return j, nil
	}
	if len(d.issuers) >= maxClaimIssuers {
		d.issuers = map[string]*JWT{}
	}
	keys, err := NewIssuerKeys(apiserver.Issuer{URL: name, CertificateAuthority: d.of.config.Issuer.CertificateAuthority}, d.of.now)
	if err != nil {
		return nil, err
	}
	keys.http = d.http
	j := &JWT{algs: d.of.algs, keys: keys, now: d.of.now}
	j.config.Issuer = apiserver.Issuer{URL: name, Audiences: d.of.config.Issuer.Audiences}
	d.issuers[name] = j
	return j, nil
}
