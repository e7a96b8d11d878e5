package authn

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
)

// Tokens authenticates bearer tokens by a list of methods and remembers good
// answers for a few seconds, as checking a signature and the objects it is bound
// to costs more than most requests do.
type Tokens struct {
	Methods []authenticator.Token
	Now     func() time.Time

	mu    sync.Mutex
	known map[[sha256.Size]byte]cachedToken
}

type cachedToken struct {
	resp  *authenticator.Response
	until time.Time
}

const (
	tokenCacheTime = 10 * time.Second
	tokenCacheSize = 8192
)

// Changing is a list of methods that may be replaced while requests come.
type Changing struct {
	methods atomic.Pointer[[]authenticator.Token]
}

// Set replaces the methods.
func (c *Changing) Set(methods []authenticator.Token) { c.methods.Store(&methods) }

// AuthenticateToken implements authenticator.Token.
func (c *Changing) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	methods := c.methods.Load()
	if methods == nil {
		return nil, false, nil
	}
	var errs []error
	for _, m := range *methods {
		resp, ok, err := m.AuthenticateToken(ctx, token)
		if ok {
			return resp, true, nil
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return nil, false, errors.Join(errs...)
}

// Forget drops the good answers that are remembered.
func (t *Tokens) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known = nil
}

// AuthenticateRequest implements authenticator.Request.
func (t *Tokens) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	token := bearer(r)
	if token == "" {
		return nil, false, nil
	}
	return t.AuthenticateToken(r.Context(), token)
}

// AuthenticateToken implements authenticator.Token; TokenReview uses it too.
func (t *Tokens) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	// Audiences asked for change the answer, so those requests go to the methods.
	_, special := authenticator.AudiencesFrom(ctx)
	sum := sha256.Sum256([]byte(token))
	if !special {
		t.mu.Lock()
		hit, ok := t.known[sum]
		t.mu.Unlock()
		if ok && t.Now().Before(hit.until) {
			return hit.resp, true, nil
		}
	}
	var errs []error
	for _, m := range t.Methods {
		resp, ok, err := m.AuthenticateToken(ctx, token)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok {
			if !special {
				t.remember(sum, resp)
			}
			return resp, true, nil
		}
	}
	if len(errs) == 0 {
		errs = append(errs, errors.New("invalid bearer token"))
	}
	return nil, false, errors.Join(errs...)
}

func (t *Tokens) remember(sum [sha256.Size]byte, resp *authenticator.Response) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil || len(t.known) >= tokenCacheSize {
		t.known = map[[sha256.Size]byte]cachedToken{}
	}
	t.known[sum] = cachedToken{resp, t.Now().Add(tokenCacheTime)}
}
