package authn

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Keys finds the keys by which an issuer's tokens are verified.
type Keys interface {
	// Find returns the keys of that id (all of them when it is empty). With fresh
	// it asks the issuer again, unless it has just done so.
	Find(ctx context.Context, id string, fresh bool) ([]jose.JSONWebKey, error)
}

// JWT authenticates the tokens of one OpenID Connect issuer by the rules of an
// AuthenticationConfiguration:
// https://kubernetes.io/docs/reference/access-authn-authz/authentication/#using-authentication-configuration
type JWT struct {
	config apiserver.JWTAuthenticator
	algs   []jose.SignatureAlgorithm
	keys   Keys
	cel    authenticationcel.CELMapper
	now    func() time.Time

	elsewhere *distributed // nil when groups are not from a claim
}

// notBeforeLeeway is what clocks may differ by, as upstream's library has it.
const notBeforeLeeway = 5 * time.Minute

// AllJWTAlgorithms are those that tokens may be signed by.
var AllJWTAlgorithms = []string{"ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}

// NewJWT compiles the expressions of a configuration. disallowed are issuers
// that are not for users: that of service accounts.
func NewJWT(c apiserver.JWTAuthenticator, algorithms, disallowed []string, keys Keys, now func() time.Time) (*JWT, error) {
	mapper, errs := validation.CompileAndValidateJWTAuthenticator(authenticationcel.NewDefaultCompiler(), c, disallowed)
	if err := errs.ToAggregate(); err != nil {
		return nil, err
	}
	j := &JWT{config: c, keys: keys, cel: mapper, now: now}
	if c.ClaimMappings.Groups.Claim != "" {
		var err error
		if j.elsewhere, err = newDistributed(j); err != nil {
			return nil, err
		}
	}
	for _, a := range algorithms {
		if !slices.Contains(AllJWTAlgorithms, a) {
			return nil, fmt.Errorf("oidc: unsupported signing alg: %q", a)
		}
		j.algs = append(j.algs, jose.SignatureAlgorithm(a))
	}
	return j, nil
}

// claims are those of a token, unread.
type claims map[string]json.RawMessage

func (c claims) read(name string, into any) error {
	raw, ok := c[name]
	if !ok {
		return errors.New("claim not present")
	}
	return json.Unmarshal(raw, into)
}

// unverifiedIssuer reads the iss claim of a token that nobody has verified.
func unverifiedIssuer(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return ""
	}
	return issuerName(c.Issuer)
}

// issuerName is the URL of an issuer: one well-known one leaves out the scheme.
func issuerName(iss string) string {
	if iss == "accounts.google.com" {
		return "https://accounts.google.com"
	}
	return iss
}

// AuthenticateToken implements authenticator.Token.
func (j *JWT) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	if unverifiedIssuer(token) != j.config.Issuer.URL {
		return nil, false, nil
	}
	c, err := j.verify(ctx, token)
	if err != nil {
		return nil, false, fmt.Errorf("oidc: verify token: %w", err)
	}
	if j.elsewhere != nil {
		if err := j.elsewhere.expand(ctx, c); err != nil {
			return nil, false, fmt.Errorf("oidc: could not expand distributed claims: %w", err)
		}
	}
	who, err := j.user(ctx, c)
	if err != nil {
		return nil, false, fmt.Errorf("oidc: %w", err)
	}
	return &authenticator.Response{User: who}, true, nil
}

func (j *JWT) verify(ctx context.Context, token string) (claims, error) {
	parsed, err := jwt.ParseSigned(token, j.algs)
	if err != nil {
		return nil, err
	}
	if len(parsed.Headers) != 1 {
		return nil, errors.New("token must have one signature")
	}
	id := parsed.Headers[0].KeyID
	for _, fresh := range []bool{false, true} {
		keys, err := j.keys.Find(ctx, id, fresh)
		if err != nil {
			return nil, err
		}
		for i := range keys {
			var c claims
			var standard jwt.Claims
			if parsed.Claims(keys[i].Key, &c, &standard) == nil {
				return c, j.valid(standard)
			}
		}
	}
	return nil, errors.New("failed to verify signature: failed to verify id token signature")
}

func (j *JWT) valid(c jwt.Claims) error {
	now := j.now()
	switch {
	case issuerName(c.Issuer) != j.config.Issuer.URL:
		return fmt.Errorf("id token issued by a different provider, expected %q got %q", j.config.Issuer.URL, c.Issuer)
	case c.Expiry == nil || !now.Before(c.Expiry.Time()):
		expiry := time.Time{}
		if c.Expiry != nil {
			expiry = c.Expiry.Time()
		}
		return fmt.Errorf("token is expired (Token Expiry: %v)", expiry)
	case c.NotBefore != nil && now.Add(notBeforeLeeway).Before(c.NotBefore.Time()):
		return fmt.Errorf("current time %v before the nbf (not before) time: %v", now, c.NotBefore.Time())
	}
	for _, a := range j.config.Issuer.Audiences {
		if slices.Contains(c.Audience, a) {
			return nil
		}
	}
	return fmt.Errorf("oidc: expected audience in %q got %q", j.config.Issuer.Audiences, []string(c.Audience))
}

// user turns claims into a user and holds both to the rules.
func (j *JWT) user(ctx context.Context, c claims) (_ *user.DefaultInfo, err error) {
	info := &user.DefaultInfo{}
	value := newClaimsValue(c)
	if info.Name, err = j.username(ctx, c, value); err != nil {
		return nil, err
	}
	if info.Groups, err = j.groups(ctx, c, value); err != nil {
		return nil, err
	}
	if info.UID, err = j.uid(ctx, c, value); err != nil {
		return nil, err
	}
	if info.Extra, err = j.extra(ctx, c, value); err != nil {
		return nil, err
	}
	for _, r := range j.config.ClaimValidationRules {
		if r.Claim == "" {
			continue
		}
		var got string
		if _, ok := c[r.Claim]; !ok {
			return nil, fmt.Errorf("required claim %s not present in ID token", r.Claim)
		}
		if err := c.read(r.Claim, &got); err != nil {
			return nil, fmt.Errorf("parse claim %s: %w", r.Claim, err)
		}
		if got != r.RequiredValue {
			return nil, fmt.Errorf("required claim %s value does not match. Got = %s, want = %s", r.Claim, got, r.RequiredValue)
		}
	}
	if rules := j.cel.ClaimValidationRules; rules != nil {
		results, err := rules.EvalClaimMappings(ctx, value)
		if err == nil {
			err = allTrue(results)
		}
		if err != nil {
			return nil, fmt.Errorf("error evaluating claim validation expression: %w", err)
		}
	}
	if rules := j.cel.UserValidationRules; rules != nil {
		results, err := rules.EvalUser(ctx, newUserValue(info))
		if err == nil {
			err = allTrue(results)
		}
		if err != nil {
			return nil, fmt.Errorf("error evaluating user info validation rule: %w", err)
		}
	}
	return info, nil
}
