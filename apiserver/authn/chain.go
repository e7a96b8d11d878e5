// Package authn finds out who is asking: one file a method. Each is an
// authenticator of k8s.io/apiserver, so that a chain of them, and any that
// others bring, fit the request path alike.
package authn

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Chain asks each method in order; the first that knows the caller decides. A
// credential that a method recognises but refuses ends in its error (401), never
// in anonymous access: a client with an expired token must learn of it.
type Chain []authenticator.Request

// AuthenticateRequest implements authenticator.Request. An authenticated user
// is a member of system:authenticated.
func (c Chain) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	var errs []error
	for _, method := range c {
		if _, last := method.(Anonymous); last && len(errs) > 0 {
			break
		}
		resp, ok, err := method.AuthenticateRequest(r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok {
			return Authenticated(resp), true, nil
		}
	}
	return nil, false, errors.Join(errs...)
}

// Anonymous lets requests without any credential in as system:anonymous. What
// that user may do is RBAC's business: health and version, by the bootstrap roles.
type Anonymous struct {
	// Paths limits it to these; none means all.
	Paths []string
}

// AuthenticateRequest implements authenticator.Request.
func (a Anonymous) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if bearer(r) != "" {
		return nil, false, errors.New("invalid bearer token")
	}
	if len(a.Paths) > 0 && !slices.Contains(a.Paths, r.URL.Path) {
		return nil, false, nil
	}
	return &authenticator.Response{User: &user.DefaultInfo{
		Name: user.Anonymous, Groups: []string{user.AllUnauthenticated},
	}}, true, nil
}

// Authenticated makes a user a member of system:authenticated, unless a method said
// that it is not.
func Authenticated(resp *authenticator.Response) *authenticator.Response {
	groups := resp.User.GetGroups()
	if resp.User.GetName() == user.Anonymous || slices.Contains(groups, user.AllAuthenticated) || slices.Contains(groups, user.AllUnauthenticated) {
		return resp
	}
	return &authenticator.Response{Audiences: resp.Audiences, User: &user.DefaultInfo{
		Name: resp.User.GetName(), UID: resp.User.GetUID(), Extra: resp.User.GetExtra(),
		Groups: append(slices.Clone(groups), user.AllAuthenticated),
	}}
}

// bearer returns the request's token; browsers, which cannot set headers on a
// WebSocket, offer it as a subprotocol.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(token)
	}
	return webSocketToken(r)
}
