package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	var verb string
	var ref *rbacv1.RoleRef // of a binding
	aggregated := false
	switch o := a.Object.(type) {
	case *rbacv1.Role:
		wanted, verb = o.Rules, "escalate"
	case *rbacv1.ClusterRole:
		wanted, verb = o.Rules, "escalate"
		old, _ := a.Old.(*rbacv1.ClusterRole)
		gathers := func(r *rbacv1.ClusterRole) bool {
			return r != nil && r.AggregationRule != nil && len(r.AggregationRule.ClusterRoleSelectors) > 0
		}
		aggregated = gathers(o) || gathers(old)
	case *rbacv1.RoleBinding:
		ref = &o.RoleRef
	case *rbacv1.ClusterRoleBinding:
		ref = &o.RoleRef
	default:
		return nil
	}
	if ref != nil {
		if r.may(ctx, a, "bind", resourceOf(*ref), ref.Name) {
			return nil
		}
		rules, err := r.Rules.RoleRules(*ref, a.Namespace)
		if err != nil {
			return apierrors.NewNotFound(rbacv1.Resource(resourceOf(*ref)), ref.Name)
		}
		wanted = rules
	}
	// A new role has no name yet for those who may escalate by name, unless the
	// request's path has it.
	if verb != "" && r.may(ctx, a, verb, a.Definition.Resource, a.Name) {
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
	missing = together(missing)
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

// together unites single rules that differ in their verbs alone.
func together(single []rbacv1.PolicyRule) (all []rbacv1.PolicyRule) {
	for _, r := range single {
		at := slices.IndexFunc(all, func(x rbacv1.PolicyRule) bool {
			return len(r.NonResourceURLs) == 0 && slices.Equal(x.APIGroups, r.APIGroups) && slices.Equal(x.Resources, r.Resources) &&
				slices.Equal(x.ResourceNames, r.ResourceNames)
		})
		if at < 0 {
			all = append(all, r)
			continue
		}
		all[at].Verbs = append(slices.Clone(all[at].Verbs), r.Verbs...)
	}
	return all
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
