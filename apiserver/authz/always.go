package authz

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Always decides the same about everything: AlwaysAllow and AlwaysDeny.
type Always authorizer.Decision

// Authorize implements authorizer.UnconditionalAuthorizer.
func (d Always) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	reason := ""
	if authorizer.Decision(d) != authorizer.DecisionAllow {
		reason = "Everything is forbidden."
	}
	return authorizer.Decision(d), reason, nil
}

// Rules implements Lister.
func (d Always) Rules(user.Info, string) ([]rbacv1.PolicyRule, bool, error) {
	if authorizer.Decision(d) != authorizer.DecisionAllow {
		return nil, false, nil
	}
	all := []string{"*"}
	return []rbacv1.PolicyRule{{Verbs: all, APIGroups: all, Resources: all}, {Verbs: all, NonResourceURLs: all}}, false, nil
}
