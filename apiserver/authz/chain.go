// Package authz decides what a caller may do: one file a method, asked in order
// until one has an opinion.
package authz

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Chain asks each authorizer in order; the first that allows or denies decides,
// and with none that does the answer is no.
type Chain []authorizer.UnconditionalAuthorizer

// Authorize implements authorizer.UnconditionalAuthorizer.
func (c Chain) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	var reasons []string
	var firstErr error
	for _, z := range c {
		decision, reason, err := z.Authorize(ctx, a)
		if err != nil && firstErr == nil {
			firstErr = err
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
		if decision != authorizer.DecisionNoOpinion {
			return decision, reason, err
		}
	}
	return authorizer.DecisionNoOpinion, strings.Join(reasons, "\n"), firstErr
}

// Changing is a chain that may be replaced while requests come.
type Changing struct{ chain atomic.Pointer[Chain] }

// Set replaces the chain.
func (c *Changing) Set(to Chain) { c.chain.Store(&to) }

// Authorize implements authorizer.UnconditionalAuthorizer.
func (c *Changing) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	return (*c.chain.Load()).Authorize(ctx, a)
}

// Masters allows members of system:masters everything, before any other rule
// can lock the administrator out.
type Masters struct{}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (Masters) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if u := a.GetUser(); u != nil && slices.Contains(u.GetGroups(), user.SystemPrivilegedGroup) {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}
