package authz

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/reconcile"
)

// RBAC authorizes by Roles, ClusterRoles and their bindings. It reads views
// indexed by subject, so that a decision costs what binds the caller and not
// what binds everyone.
type RBAC struct {
	roles           *reconcile.View[*rbacv1.Role]
	clusterRoles    *reconcile.View[*rbacv1.ClusterRole]
	bindings        *reconcile.View[*rbacv1.RoleBinding]
	clusterBindings *reconcile.View[*rbacv1.ClusterRoleBinding]
}

// bySubject and byScopedSubject are the indexes: "u:name", "g:name", and for
// role bindings the same after "namespace/".
const bySubject = "subject"

// NewRBAC reads the hub's views; the hub must be running for it to decide.
func NewRBAC(h *reconcile.Hub) *RBAC {
	r := &RBAC{
		roles: reconcile.ViewOf[*rbacv1.Role](h), clusterRoles: reconcile.ViewOf[*rbacv1.ClusterRole](h),
		bindings: reconcile.ViewOf[*rbacv1.RoleBinding](h), clusterBindings: reconcile.ViewOf[*rbacv1.ClusterRoleBinding](h),
	}
	r.bindings.Index(bySubject, func(b *rbacv1.RoleBinding) []string {
		keys := subjectKeys(b.Subjects, b.Namespace)
		for i := range keys {
			keys[i] = b.Namespace + "/" + keys[i]
		}
		return keys
	})
	r.clusterBindings.Index(bySubject, func(b *rbacv1.ClusterRoleBinding) []string { return subjectKeys(b.Subjects, "") })
	return r
}

// Synced waits until the rules are known.
func (r *RBAC) Synced(ctx context.Context) error {
	for _, wait := range []func(context.Context) error{r.roles.Need, r.clusterRoles.Need, r.bindings.Need, r.clusterBindings.Need} {
		if err := wait(ctx); err != nil {
			return fmt.Errorf("cannot load the access rules: %w", err)
		}
	}
	return nil
}

func subjectKeys(subjects []rbacv1.Subject, namespace string) []string {
	keys := make([]string, 0, len(subjects))
	for _, s := range subjects {
		key := ""
		switch s.Kind {
		case rbacv1.UserKind:
			key = "u:" + s.Name
		case rbacv1.GroupKind:
			key = "g:" + s.Name
		case rbacv1.ServiceAccountKind:
			ns := s.Namespace
			if ns == "" {
				ns = namespace
			}
			key = "u:" + serviceaccount.MakeUsername(ns, s.Name)
		}
		if key != "" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

func callerKeys(u user.Info) []string {
	keys := make([]string, 0, 1+len(u.GetGroups()))
	keys = append(keys, "u:"+u.GetName())
	for _, g := range u.GetGroups() {
		keys = append(keys, "g:"+g)
	}
	return keys
}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (r *RBAC) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	u := a.GetUser()
	if u == nil {
		return authorizer.DecisionNoOpinion, "no user", nil
	}
	allowed := false
	reason := ""
	var missing error
	r.visit(u, a.GetNamespace(), func(why func() string, rules []rbacv1.PolicyRule, err error) bool {
		if err != nil {
			missing = err
		}
		for i := range rules {
			if ruleAllows(&rules[i], a) {
				allowed, reason = true, why()
				return false
			}
		}
		return true
	})
	if allowed {
		return authorizer.DecisionAllow, reason, nil
	}
	if missing != nil {
		return authorizer.DecisionNoOpinion, "RBAC: " + missing.Error(), nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// visit calls f with the rules of each binding that applies to a user in a
// namespace ("" for cluster scope only), until f returns false.
func (r *RBAC) visit(u user.Info, namespace string, f func(why func() string, rules []rbacv1.PolicyRule, err error) bool) {
	keys := callerKeys(u)
	for _, k := range keys {
		for _, b := range r.clusterBindings.By(bySubject, k) {
			role, ok := r.clusterRoles.Get("", b.RoleRef.Name)
			if !ok {
				if !f(nil, nil, fmt.Errorf("clusterrole.rbac.authorization.k8s.io %q not found", b.RoleRef.Name)) {
					return
				}
				continue
			}
			if !f(func() string {
				return fmt.Sprintf("RBAC: allowed by ClusterRoleBinding %q of ClusterRole %q to %s", b.Name, role.Name, describe(k))
			}, role.Rules, nil) {
				return
			}
		}
	}
	if namespace == "" {
		return
	}
	for _, k := range keys {
		for _, b := range r.bindings.By(bySubject, namespace+"/"+k) {
			rules, err := r.referenced(b)
			if !f(func() string {
				return fmt.Sprintf("RBAC: allowed by RoleBinding \"%s/%s\" of %s %q to %s", b.Name, b.Namespace, b.RoleRef.Kind, b.RoleRef.Name, describe(k))
			}, rules, err) {
				return
			}
		}
	}
}

func (r *RBAC) referenced(b *rbacv1.RoleBinding) ([]rbacv1.PolicyRule, error) {
	if b.RoleRef.Kind == "ClusterRole" {
		if role, ok := r.clusterRoles.Get("", b.RoleRef.Name); ok {
			return role.Rules, nil
		}
		return nil, fmt.Errorf("clusterrole.rbac.authorization.k8s.io %q not found", b.RoleRef.Name)
	}
	if role, ok := r.roles.Get(b.Namespace, b.RoleRef.Name); ok {
		return role.Rules, nil
	}
	return nil, fmt.Errorf("role.rbac.authorization.k8s.io %q not found", b.RoleRef.Name)
}

func describe(key string) string {
	kind, name, _ := strings.Cut(key, ":")
	if kind == "g" {
		return fmt.Sprintf("Group %q", name)
	}
	if ns, sa, err := serviceaccount.SplitUsername(name); err == nil {
		return fmt.Sprintf("ServiceAccount \"%s/%s\"", sa, ns)
	}
	return fmt.Sprintf("User %q", name)
}

// RulesFor lists the rules that apply to a user in a namespace, for escalation
// checks.
func (r *RBAC) RulesFor(u user.Info, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	var missing error
	r.visit(u, namespace, func(_ func() string, more []rbacv1.PolicyRule, err error) bool {
		if err != nil {
			missing = err
		}
		rules = append(rules, more...)
		return true
	})
	return rules, missing
}

// Rules implements Lister.
func (r *RBAC) Rules(u user.Info, namespace string) ([]rbacv1.PolicyRule, bool, error) {
	rules, err := r.RulesFor(u, namespace)
	return rules, false, err
}

// RoleRules returns the rules of the role a binding would refer to.
func (r *RBAC) RoleRules(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	return r.referenced(&rbacv1.RoleBinding{ObjectMeta: metaIn(namespace), RoleRef: ref})
}

func ruleAllows(rule *rbacv1.PolicyRule, a authorizer.Attributes) bool {
	if !hasOrAll(rule.Verbs, a.GetVerb()) {
		return false
	}
	if !a.IsResourceRequest() {
		return pathMatches(rule.NonResourceURLs, a.GetPath())
	}
	return hasOrAll(rule.APIGroups, a.GetAPIGroup()) &&
		resourceMatches(rule.Resources, a.GetResource(), a.GetSubresource()) &&
		(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, a.GetName()))
}

func hasOrAll(list []string, want string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, want)
}

func resourceMatches(list []string, resource, sub string) bool {
	full := resource
	if sub != "" {
		full = resource + "/" + sub
	}
	for _, r := range list {
		if r == "*" || r == full {
			return true
		}
		if sub != "" && r == "*/"+sub {
			return true
		}
	}
	return false
}

func pathMatches(list []string, path string) bool {
	for _, p := range list {
		if p == "*" || p == path {
			return true
		}
		if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}
