package authn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authenticationv1beta1 "k8s.io/api/authentication/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Poster asks a service.
type Poster interface {
	Post(ctx context.Context, in, out any) error
}

// Webhook has tokens judged by a service that speaks TokenReview.
type Webhook struct {
	Service Poster
	// V1beta1 speaks that version instead of v1.
	V1beta1 bool
	// Audiences are those of the API, meant when nobody asks for others.
	Audiences authenticator.Audiences
	// TTL is how long an answer holds, yes or no.
	TTL time.Duration
	Now func() time.Time

	mu    sync.Mutex
	known map[[sha256.Size]byte]verdict
}

type verdict struct {
	resp  *authenticator.Response
	err   error
	until time.Time
}

// AuthenticateToken implements authenticator.Token.
func (w *Webhook) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	wanted, ok := authenticator.AudiencesFrom(ctx)
	if !ok || len(wanted) == 0 {
		wanted = w.Audiences
	}
	key := sha256.Sum256([]byte(token + "\x00" + strings.Join(wanted, "\x00")))
	now := w.Now()
	w.mu.Lock()
	v, ok := w.known[key]
	w.mu.Unlock()
	if !ok || !now.Before(v.until) {
		st, err := w.ask(ctx, token, wanted)
		if err != nil {
			return nil, false, fmt.Errorf("cannot ask the token webhook: %w", err)
		}
		v = w.judge(st, wanted)
		v.until = now.Add(w.TTL)
		w.mu.Lock()
		if w.known == nil || len(w.known) >= tokenCacheSize {
			w.known = map[[sha256.Size]byte]verdict{}
		}
		w.known[key] = v
		w.mu.Unlock()
	}
	return v.resp, v.resp != nil, v.err
}

func (w *Webhook) ask(ctx context.Context, token string, audiences []string) (authenticationv1.TokenReviewStatus, error) {
	spec := authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}
	if !w.V1beta1 {
		r := authenticationv1.TokenReview{TypeMeta: metav1.TypeMeta{Kind: "TokenReview", APIVersion: "authentication.k8s.io/v1"}, Spec: spec}
		err := w.Service.Post(ctx, &r, &r)
		return r.Status, err
	}
	r := authenticationv1beta1.TokenReview{
		TypeMeta: metav1.TypeMeta{Kind: "TokenReview", APIVersion: "authentication.k8s.io/v1beta1"},
		Spec:     authenticationv1beta1.TokenReviewSpec(spec),
	}
	err := w.Service.Post(ctx, &r, &r)
	u := authenticationv1.UserInfo{Username: r.Status.User.Username, UID: r.Status.User.UID, Groups: r.Status.User.Groups}
	for k, v := range r.Status.User.Extra {
		if u.Extra == nil {
			u.Extra = map[string]authenticationv1.ExtraValue{}
		}
		u.Extra[k] = authenticationv1.ExtraValue(v)
	}
	return authenticationv1.TokenReviewStatus{Authenticated: r.Status.Authenticated, User: u, Audiences: r.Status.Audiences, Error: r.Status.Error}, err
}

func (w *Webhook) judge(st authenticationv1.TokenReviewStatus, wanted authenticator.Audiences) verdict {
	got := w.Audiences
	if len(st.Audiences) > 0 {
		got = st.Audiences
	}
	granted := wanted.Intersect(got)
	switch {
	case len(granted) == 0:
		return verdict{}
	case !st.Authenticated && st.Error != "":
		return verdict{err: errors.New(st.Error)}
	case !st.Authenticated:
		return verdict{}
	}
	u := &user.DefaultInfo{Name: st.User.Username, UID: st.User.UID, Groups: st.User.Groups}
	for k, v := range st.User.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[k] = v
	}
	return verdict{resp: &authenticator.Response{User: u, Audiences: granted}}
}
