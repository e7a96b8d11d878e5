package volume

import (
	"context"
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
// it is valid.
func (c *tokenCache) get(ctx context.Context, p *corev1.Pod, s *corev1.ServiceAccountTokenProjection) (string, error) {
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
