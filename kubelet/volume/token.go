package volume

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// tokenCache keeps the tokens that are in use, so that a volume that is
// refreshed for another reason keeps its token.
type tokenCache struct {
	issuer Tokens
	now    func() time.Time

	mu   sync.Mutex
	pods map[types.UID]map[tokenKey]token
}

type tokenKey struct {
	account, audience string
	seconds           int64
}

type token struct {
	value           string
	renew, notAfter time.Time
}

func newTokenCache(t Tokens, now func() time.Time) *tokenCache {
	return &tokenCache{issuer: t, now: now, pods: map[types.UID]map[tokenKey]token{}}
}

// retryToken is how soon a renewal that failed is tried again.
const retryToken = 10 * time.Second

// get returns a token bound to the pod: the one at hand, until four fifths of
// its life or 24 hours are over. One that cannot be renewed is used as long as
// it is valid. present is what the volume holds: an agent that is started anew
// goes on with it instead of asking for a new one for every pod at once.
func (c *tokenCache) get(ctx context.Context, p *corev1.Pod, s *corev1.ServiceAccountTokenProjection, present string) (string, error) {
	seconds := int64(3600)
	if s.ExpirationSeconds != nil {
		seconds = *s.ExpirationSeconds
	}
	account := p.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	key := tokenKey{account, s.Audience, seconds}
	c.mu.Lock()
	have, ok := c.pods[p.UID][key]
	c.mu.Unlock()
	now := c.now()
	if !ok && present != "" {
		if have, ok = readToken(present); ok {
			c.put(p.UID, key, have)
		}
	}
	if ok && now.Before(have.renew) {
		return have.value, nil
	}
	r := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID},
	}}
	if s.Audience != "" {
		r.Spec.Audiences = []string{s.Audience}
	}
	got, err := c.issuer.Token(ctx, p.Namespace, account, r)
	if err != nil {
		if ok && now.Before(have.notAfter) {
			have.renew = now.Add(retryToken)
			c.put(p.UID, key, have)
			return have.value, nil
		}
		return "", err
	}
	life := got.Status.ExpirationTimestamp.Sub(now)
	if got.Status.ExpirationTimestamp.IsZero() {
		life = time.Duration(seconds) * time.Second
	}
	c.put(p.UID, key, token{value: got.Status.Token, notAfter: now.Add(life), renew: now.Add(min(life*4/5, 24*time.Hour))})
	return got.Status.Token, nil
}

func (c *tokenCache) put(uid types.UID, k tokenKey, t token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pods[uid] == nil {
		c.pods[uid] = map[tokenKey]token{}
	}
	c.pods[uid][k] = t
}

// next is when the first token of a pod must be renewed.
func (c *tokenCache) next(uid types.UID) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	var first time.Time
	for _, t := range c.pods[uid] {
		if first.IsZero() || t.renew.Before(first) {
			first = t.renew
		}
	}
	return first
}

func (c *tokenCache) forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pods, uid)
}

// readToken takes the times out of a token that this node wrote earlier. It is
// not verified: it was made by the API server and lay in memory that only the
// node's administrator can write.
func readToken(value string) (token, bool) {
	parts := strings.Split(value, ".")
	if len(parts) != 3 {
		return token{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return token{}, false
	}
	var claims struct{ Iat, Exp int64 }
	if json.Unmarshal(raw, &claims) != nil || claims.Exp <= claims.Iat || claims.Iat == 0 {
		return token{}, false
	}
	began, end := time.Unix(claims.Iat, 0), time.Unix(claims.Exp, 0)
	return token{value: value, notAfter: end, renew: began.Add(min(end.Sub(began)*4/5, 24*time.Hour))}, true
}
