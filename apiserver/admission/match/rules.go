package match

import (
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Rule finds the version of the write that a list of rules names: the request's
// own when a rule matches it, else, when matchPolicy is Equivalent, another one
// the objects are served in.
func Rule[R any](r *Request, rules []R, rule func(*R) *admissionregistrationv1.NamedRuleWithOperations, policy *admissionregistrationv1.MatchPolicyType) (Target, bool) {
	for i := range rules {
		if n := rule(&rules[i]); matches(r, r.Resource, n) {
			return Target{Resource: r.Resource, Kind: r.Kind}, true
		}
	}
	if policy == nil || *policy != admissionregistrationv1.Equivalent {
		return Target{}, false
	}
	for i := range rules {
		n := rule(&rules[i])
		for _, t := range r.Equivalents() {
			if matches(r, t.Resource, n) {
				return t, true
			}
		}
	}
	return Target{}, false
}

// Plain is a rule of a webhook, which has no names.
func Plain(r *admissionregistrationv1.RuleWithOperations) *admissionregistrationv1.NamedRuleWithOperations {
	return &admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: *r}
}

// Named is a rule of a policy.
func Named(r *admissionregistrationv1.NamedRuleWithOperations) *admissionregistrationv1.NamedRuleWithOperations {
	return r
}

func matches(r *Request, gvr schema.GroupVersionResource, n *admissionregistrationv1.NamedRuleWithOperations) bool {
	if !scope(r, n.Scope) || !wild(n.APIGroups, gvr.Group) || !wild(n.APIVersions, gvr.Version) {
		return false
	}
	op := admissionregistrationv1.OperationType(r.Operation)
	if !slices.Contains(n.Operations, op) && !slices.Contains(n.Operations, admissionregistrationv1.OperationAll) {
		return false
	}
	for _, s := range n.Resources {
		name, sub := splitResource(s)
		if (name == "*" || name == gvr.Resource) && (sub == "*" || sub == r.Subresource) {
			return len(n.ResourceNames) == 0 || slices.Contains(n.ResourceNames, r.Name)
		}
	}
	return false
}

// scope says whether a rule for namespaced or for cluster-wide objects is meant.
// A Namespace is cluster-wide, although it counts as being in itself.
func scope(r *Request, s *admissionregistrationv1.ScopeType) bool {
	if s == nil || *s == admissionregistrationv1.AllScopes {
		return true
	}
	cluster := r.Namespace == "" || isNamespace(r)
	return cluster == (*s == admissionregistrationv1.ClusterScope)
}

func isNamespace(r *Request) bool {
	return r.Resource.Group == "" && r.Resource.Resource == "namespaces"
}

func wild(items []string, s string) bool {
	return slices.Contains(items, s) || slices.Contains(items, "*")
}
