// Package authz decides what a caller may do: one file a method, asked in order
// until one has an opinion.
package authz

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Chain asks each authorizer in order; the first that allows or denies decides,
// and with none that does the answer is no, with what each had to say.
type Chain []Named

// Named is an authorizer with the name by which its reasons are told from those of
// others.
type Named struct {
	Name       string
	Authorizer authorizer.UnconditionalAuthorizer
}

// Lister is an optional power of an authorizer: it lists what a user may do in a
// namespace, and says whether that may not be all.
type Lister interface {
	Rules(u user.Info, namespace string) (rules []rbacv1.PolicyRule, incomplete bool, err error)
}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (c Chain) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	var reasons []string
	var errs []error
	for _, z := range c {
		decision, reason, err := z.Authorizer.Authorize(ctx, a)
		if decision != authorizer.DecisionNoOpinion {
			return decision, reason, err
		}
		if err != nil {
			errs = append(errs, err)
		}
		if reason != "" {
			reasons = append(reasons, z.Name+": "+reason)
		}
	}
	return authorizer.DecisionNoOpinion, strings.Join(reasons, "\n"), utilerrors.NewAggregate(errs)
}

// Rules implements Lister.
func (c Chain) Rules(u user.Info, namespace string) (rules []rbacv1.PolicyRule, incomplete bool, _ error) {
	var errs []error
	for _, z := range c {
		l, ok := z.Authorizer.(Lister)
		if !ok {
			continue
		}
		more, not, err := l.Rules(u, namespace)
		rules, incomplete = append(rules, more...), incomplete || not
		if err != nil {
			errs = append(errs, err)
		}
	}
	return rules, incomplete, utilerrors.NewAggregate(errs)
}

// Changing is a chain that may be replaced while requests come.
type Changing struct{ chain atomic.Pointer[Chain] }

// Set replaces the chain.
func (c *Changing) Set(to Chain) { c.chain.Store(&to) }

// Authorize implements authorizer.UnconditionalAuthorizer.
func (c *Changing) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	return (*c.chain.Load()).Authorize(ctx, a)
}

// Rules implements Lister.
func (c *Changing) Rules(u user.Info, namespace string) ([]rbacv1.PolicyRule, bool, error) {
	return (*c.chain.Load()).Rules(u, namespace)
}

// MastersName is the name of Masters in a chain.
const MastersName = "system-privileged-group.authorizer.kubernetes.io"

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
