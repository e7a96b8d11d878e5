package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/authz"
	"sagong/apiserver/resource"
	"sagong/object"
)

// RBACEscalation lets nobody grant what they do not hold, by a role or by a
// binding, unless they may escalate or bind.
type RBACEscalation struct {
	Rules      *authz.RBAC
	Authorizer authorizer.UnconditionalAuthorizer
}

// Name implements Plugin. Upstream does this in the storage of the RBAC kinds.
func (RBACEscalation) Name() string { return "RBACEscalation" }

// Validate implements Validator.
func (r RBACEscalation) Validate(ctx context.Context, a *resource.Attributes) error {
	if a.Definition.Group != rbacv1.GroupName || a.Operation == resource.Delete || a.Subresource != "" {
		return nil
	}
	if a.User == nil || slices.Contains(a.User.GetGroups(), user.SystemPrivilegedGroup) {
		return nil
	}
	if a.Operation == resource.Update && onlyCollectable(a) {
		return nil // the garbage collector need not hold what it deletes
	}
	var wanted []rbacv1.PolicyRule
	var verb, target string
	aggregated := false
	switch o := a.Object.(type) {
	case *rbacv1.Role:
		wanted, verb, target = o.Rules, "escalate", o.Name
	case *rbacv1.ClusterRole:
		wanted, verb, target = o.Rules, "escalate", o.Name
		old, _ := a.Old.(*rbacv1.ClusterRole)
		aggregated = o.AggregationRule != nil || old != nil && old.AggregationRule != nil
	case *rbacv1.RoleBinding:
		rules, err := r.Rules.RoleRules(o.RoleRef, a.Namespace)
		if err != nil && !r.may(ctx, a, "bind", resourceOf(o.RoleRef), o.RoleRef.Name) {
			return forbidden(a, "%w", err)
		}
		wanted, verb, target = rules, "bind", o.RoleRef.Name
		if r.may(ctx, a, "bind", resourceOf(o.RoleRef), target) {
			return nil
		}
	case *rbacv1.ClusterRoleBinding:
		rules, err := r.Rules.RoleRules(o.RoleRef, "")
		if err != nil && !r.may(ctx, a, "bind", "clusterroles", o.RoleRef.Name) {
			return forbidden(a, "%w", err)
		}
		wanted, verb, target = rules, "bind", o.RoleRef.Name
		if r.may(ctx, a, "bind", "clusterroles", target) {
			return nil
		}
	default:
		return nil
	}
	if verb == "escalate" && r.may(ctx, a, verb, a.Definition.Resource, target) {
		return nil
	}
	owned, missingRole := r.Rules.RulesFor(a.User, a.Namespace)
	missing := authz.Missing(owned, wanted)
	if len(missing) == 0 {
		// It holds whatever others put under its labels, and what it gathers may be
		// changed by its selectors.
		if aggregated && len(authz.Missing(owned, everything)) > 0 {
			return forbidden(a, "must have cluster-admin privileges to use the aggregationRule")
		}
		return nil
	}
	lines := make([]string, len(missing))
	for i := range missing {
		lines[i] = compact(&missing[i])
	}
	slices.Sort(lines)
	text := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
		a.User.GetName(), a.User.GetGroups(), strings.Join(slices.Compact(lines), "\n"))
	if missingRole != nil {
		text += fmt.Sprintf("; resolution errors: [%v]", missingRole)
	}
	return forbidden(a, "%s", text)
}

// everything is what a cluster's administrator may do.
var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}, {Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

// onlyCollectable tells whether an update changes nothing but what the garbage
// collector must: owners and finalizers.
func onlyCollectable(a *resource.Attributes) bool {
	o, ok := a.Object.(object.Object)
	if !ok || a.Old == nil {
		return false
	}
	now, before := o.DeepCopyObject().(object.Object), a.Old.DeepCopyObject().(object.Object)
	for _, x := range []object.Object{now, before} {
		x.SetOwnerReferences(nil)
		x.SetFinalizers(nil)
		x.SetManagedFields(nil)
		x.SetResourceVersion("")
	}
	return equality.Semantic.DeepEqual(now, before)
}

func resourceOf(ref rbacv1.RoleRef) string {
	if ref.Kind == "ClusterRole" {
		return "clusterroles"
	}
	return "roles"
}

func (r RBACEscalation) may(ctx context.Context, a *resource.Attributes, verb, res, name string) bool {
	decision, _, _ := r.Authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: a.User, Verb: verb, Namespace: a.Namespace, APIGroup: rbacv1.GroupName, APIVersion: "v1",
		Resource: res, Name: name, ResourceRequest: true,
	})
	return decision == authorizer.DecisionAllow
}

func compact(r *rbacv1.PolicyRule) string {
	var parts []string
	add := func(name string, list []string) {
		if len(list) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", name, list))
		}
	}
	add("APIGroups", r.APIGroups)
	add("Resources", r.Resources)
	add("ResourceNames", r.ResourceNames)
	add("NonResourceURLs", r.NonResourceURLs)
	add("Verbs", r.Verbs)
	return "{" + strings.Join(parts, ", ") + "}"
}
