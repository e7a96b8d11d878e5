package compose

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/client-go/util/keyutil"

	"sagong/apiserver/authn"
	"sagong/apiserver/callout"
	"sagong/apiserver/configfile"
	"sagong/config"
	"sagong/lib/pki"
)

// tokenWebhookTime is how long the service that judges tokens may take.
const tokenWebhookTime = 30 * time.Second

// authenticators lists the ways in, in upstream's order, and those of tokens.
func (s *server) authenticators(accounts *authn.ServiceAccounts) (authenticator.Request, *authn.Tokens, error) {
	c := s.cfg
	var chain authn.Chain
	headers := []authn.RequestHeaders{authn.Plain}
	s.trust = &trust{own: s.ids.ca.CertPEM, ownProxy: s.ids.proxyCA.CertPEM}
	if c.RequestHeaderCA != "" {
		proxies, err := s.authorities("requestheader-client-ca-file", c.RequestHeaderCA, &s.trust.proxies, nil)
		if err != nil {
			return nil, nil, err
		}
		h := authn.RequestHeaders{
			Proxies: proxies, Allowed: c.RequestHeaderNames, Users: c.RequestHeaderUsers,
			UIDs: c.RequestHeaderUIDs, Groups: c.RequestHeaderGroups, Extras: c.RequestHeaderExtras,
		}
		chain, headers = append(chain, h), append(headers, h)
	}
	clients := authn.NewCertificates(s.ids.ca.Pool(), time.Now)
	if c.ClientCA != "" {
		var err error
		if clients, err = s.authorities("client-ca-file", c.ClientCA, &s.trust.clients, s.ids.ca.CertPEM); err != nil {
			return nil, nil, err
		}
	}
	left := promauto.With(s.metrics.registry).NewHistogram(prometheus.HistogramOpts{
		Name: "apiserver_client_certificate_expiration_seconds", Help: "Distribution of the remaining lifetime on the certificate used to authenticate a request.",
		Buckets: []float64{0, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 345600, 604800, 2592000, 7776000, 15552000, 31104000},
	})
	clients.Expires = func(d time.Duration) { left.Observe(d.Seconds()) }
	tokens := &authn.Tokens{Now: time.Now}
	anonymous, err := s.tokenMethods(accounts, tokens)
	if err != nil {
		return nil, nil, err
	}
	chain = append(chain, clients, tokens)
	if anonymous != nil {
		chain = append(chain, *anonymous)
	}
	return authn.Cleared{Request: chain, Headers: headers}, tokens, nil
}

// tokenMethods puts the ways to judge tokens into to, and returns what anonymous
// requests may do; nil for nothing.
func (s *server) tokenMethods(accounts *authn.ServiceAccounts, to *authn.Tokens) (*authn.Anonymous, error) {
	c := s.cfg
	// What is not made for an audience is good for the API's own.
	own := func(t authenticator.Token) authenticator.Token {
		return authenticator.WrapAudienceAgnosticToken(accounts.Audiences, t)
	}
	if c.TokenAuthFile != "" {
		f, err := os.Open(c.TokenAuthFile)
		if err != nil {
			return nil, fmt.Errorf("cannot use --token-auth-file: %w", err)
		}
		defer f.Close()
		list, err := authn.ReadTokenFile(f)
		if err != nil {
			return nil, fmt.Errorf("cannot use --token-auth-file %s: %w", c.TokenAuthFile, err)
		}
		to.Methods = append(to.Methods, own(list))
	}
	to.Methods = append(to.Methods, accounts, own(authn.Bootstrap{Secrets: s.system, Now: time.Now}))
	conf, algorithms, err := s.authenticationConfig()
	if err != nil {
		return nil, err
	}
	issuers, err := tokenIssuers(conf, algorithms, accounts)
	if err != nil {
		return nil, err
	}
	changing := &authn.Changing{}
	changing.Set(issuers)
	to.Methods = append(to.Methods, changing)
	s.reloadIssuers(changing, to, accounts)
	if c.AuthenticationWebhook != "" {
		service, err := callout.Open(c.AuthenticationWebhook, tokenWebhookTime)
		if err != nil {
			return nil, fmt.Errorf("cannot use --authentication-token-webhook-config-file: %w", err)
		}
		to.Methods = append(to.Methods, &authn.Webhook{
			Service: service, V1beta1: c.AuthenticationWebhookVersion == "v1beta1", Audiences: accounts.Audiences,
			TTL: c.Duration(c.AuthenticationWebhookTTL), Now: time.Now,
		})
	}
	if conf.Anonymous == nil {
		if c.AnonymousAuth == "false" {
			return nil, nil
		}
		return &authn.Anonymous{}, nil
	}
	if !conf.Anonymous.Enabled {
		return nil, nil
	}
	out := &authn.Anonymous{}
	for _, x := range conf.Anonymous.Conditions {
		out.Paths = append(out.Paths, x.Path)
	}
	return out, nil
}

// tokenIssuers are the methods of the issuers in a configuration.
func tokenIssuers(conf *apiserver.AuthenticationConfiguration, algorithms []string, accounts *authn.ServiceAccounts) (all []authenticator.Token, _ error) {
	if err := validation.ValidateAuthenticationConfiguration(authenticationcel.NewDefaultCompiler(), conf, accounts.Issuers).ToAggregate(); err != nil {
		return nil, fmt.Errorf("cannot use the issuers of tokens: %w", err)
	}
	for _, j := range conf.JWT {
		keys, err := authn.NewIssuerKeys(j.Issuer, time.Now)
		if err != nil {
			return nil, fmt.Errorf("cannot use issuer %s: %w", j.Issuer.URL, err)
		}
		m, err := authn.NewJWT(j, algorithms, accounts.Issuers, keys, time.Now)
		if err != nil {
			return nil, fmt.Errorf("cannot use issuer %s: %w", j.Issuer.URL, err)
		}
		all = append(all, authenticator.WrapAudienceAgnosticToken(accounts.Audiences, m))
	}
	return all, nil
}

// authenticationConfig is that of the file, or what the oidc flags say, and the
// algorithms tokens may be signed by.
func (s *server) authenticationConfig() (*apiserver.AuthenticationConfiguration, []string, error) {
	c := s.cfg
	if c.AuthenticationConfig != "" {
		data, err := os.ReadFile(c.AuthenticationConfig)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot use --authentication-config: %w", err)
		}
		s.read.authentication = data
		conf, err := configfile.Decode[*apiserver.AuthenticationConfiguration](data)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot use --authentication-config: cannot read %s: %w", c.AuthenticationConfig, err)
		}
		return conf, authn.AllJWTAlgorithms, nil
	}
	if c.OIDCIssuer == "" {
		return &apiserver.AuthenticationConfiguration{}, nil, nil
	}
	prefix := c.OIDCUsernamePrefix
	switch {
	case prefix == "-":
		prefix = ""
	case prefix == "" && c.OIDCUsernameClaim != "email":
		prefix = c.OIDCIssuer + "#"
	}
	j := apiserver.JWTAuthenticator{
		Issuer:        apiserver.Issuer{URL: c.OIDCIssuer, Audiences: []string{c.OIDCClientID}},
		ClaimMappings: apiserver.ClaimMappings{Username: apiserver.PrefixedClaimOrExpression{Claim: c.OIDCUsernameClaim, Prefix: &prefix}},
	}
	if c.OIDCGroupsClaim != "" {
		j.ClaimMappings.Groups = apiserver.PrefixedClaimOrExpression{Claim: c.OIDCGroupsClaim, Prefix: &c.OIDCGroupsPrefix}
	}
	for _, r := range c.OIDCRequired {
		k, v, _ := strings.Cut(r, "=")
		j.ClaimValidationRules = append(j.ClaimValidationRules, apiserver.ClaimValidationRule{Claim: k, RequiredValue: v})
	}
	if c.OIDCCA != "" {
		ca, err := os.ReadFile(c.OIDCCA)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot use --oidc-ca-file: %w", err)
		}
		s.read.authority = ca
		j.Issuer.CertificateAuthority = string(ca)
	}
	return &apiserver.AuthenticationConfiguration{JWT: []apiserver.JWTAuthenticator{j}}, c.OIDCSigningAlgs, nil
}

// openAccounts makes the issuer of service-account tokens.
func (s *server) openAccounts() (*authn.ServiceAccounts, error) {
	c := s.cfg
	private, others, err := s.tokenKeys()
	if err != nil {
		return nil, err
	}
	keys, err := authn.NewTokenKeys(private, others...)
	if err != nil {
		return nil, err
	}
	issuers := c.ServiceAccountIssuers
	if len(issuers) == 0 {
		issuers = []string{"https://kubernetes.default.svc." + c.ClusterDomain}
	}
	s.accounts = authn.NewServiceAccounts(authn.AccountOptions{
		Keys: keys, Issuers: issuers, Audiences: c.APIAudiences, Objects: s.system, Now: time.Now, MaxLife: c.Duration(c.ServiceAccountMaxLife),
	})
	return s.accounts, nil
}

func oldTokenKeys(c config.Config) string { return filepath.Join(PKIDir(c), "service-account-old.pem") }

// tokenKeys are the key that signs and those that verify as well.
func (s *server) tokenKeys() (crypto.Signer, []crypto.PublicKey, error) {
	c := s.cfg
	files := c.ServiceAccountKeys
	var private crypto.Signer = s.ids.tokenKey
	if c.ServiceAccountSigningKey != "" {
		data, err := os.ReadFile(c.ServiceAccountSigningKey)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot use --service-account-signing-key-file: %w", err)
		}
		key, err := keyutil.ParsePrivateKeyPEM(data)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot use --service-account-signing-key-file: %w", err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, nil, fmt.Errorf("cannot use --service-account-signing-key-file: it holds a %T", key)
		}
		private = signer
	}
	if _, err := os.Stat(oldTokenKeys(c)); err == nil {
		files = append(files[:len(files):len(files)], oldTokenKeys(c))
	}
	var others []crypto.PublicKey
	for _, f := range files {
		public, err := keyutil.PublicKeysFromFile(f)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot read the keys of tokens: %w", err)
		}
		for _, p := range public {
			others = append(others, p)
		}
	}
	return private, others, nil
}

// rotateTokenKey signs with a new key from now on. Tokens of before are taken
// for as long as they live, unless drop is set. The public keys of before are on
// disk ahead of the new private one: a crash between loses no token.
func (s *server) rotateTokenKey(drop bool) error {
	c := s.cfg
	if c.ServiceAccountSigningKey != "" {
		return errors.New("cannot rotate: --service-account-signing-key-file is in use; put a new key there, list the old one with --service-account-key-file and restart the server")
	}
	private, others, err := s.tokenKeys()
	if err != nil {
		return err
	}
	fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("cannot make a key: %w", err)
	}
	var old bytes.Buffer
	keep := append([]crypto.PublicKey{private.Public()}, others...)
	if drop {
		keep = nil
	}
	for _, p := range keep {
		der, err := x509.MarshalPKIXPublicKey(p)
		if err != nil {
			return fmt.Errorf("cannot encode a token key: %w", err)
		}
		if err := pem.Encode(&old, &pem.Block{Type: "PUBLIC KEY", Bytes: der}); err != nil {
			return err
		}
	}
	if !drop {
		if err := writeFile(oldTokenKeys(c), old.Bytes()); err != nil {
			return err
		}
	}
	if err := pki.SaveKey(filepath.Join(PKIDir(c), "service-account.key"), fresh); err != nil {
		return err
	}
	if drop {
		if err := os.Remove(oldTokenKeys(c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot delete the keys of before: %w", err)
		}
	}
	s.ids.tokenKey = fresh
	return s.accounts.Keys.Set(fresh, keep...)
}
