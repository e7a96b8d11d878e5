package authz

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func metaIn(namespace string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: namespace} }

// Missing returns the rules among wanted that owned does not cover, each broken
// down to single verb, group, resource and name. Nobody may grant what they do
// not hold: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
func Missing(owned, wanted []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var missing []rbacv1.PolicyRule
	for i := range wanted {
		for _, single := range breakdown(&wanted[i]) {
			covered := slices.ContainsFunc(owned, func(o rbacv1.PolicyRule) bool { return covers(&o, &single) })
			if !covered {
				missing = append(missing, single)
			}
		}
	}
	return missing
}

func breakdown(r *rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, verb := range r.Verbs {
		for _, url := range r.NonResourceURLs {
			out = append(out, rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: []string{url}})
		}
		for _, group := range r.APIGroups {
			for _, res := range r.Resources {
				one := rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{res}}
				if len(r.ResourceNames) == 0 {
					out = append(out, one)
				}
				for _, name := range r.ResourceNames {
					named := one
					named.ResourceNames = []string{name}
					out = append(out, named)
				}
			}
		}
	}
	return out
}

// covers tells whether a rule allows all that a single (broken down) one does.
func covers(owner, single *rbacv1.PolicyRule) bool {
	if !hasOrAll(owner.Verbs, single.Verbs[0]) {
		return false
	}
	if len(single.NonResourceURLs) > 0 {
		want := single.NonResourceURLs[0]
		return slices.ContainsFunc(owner.NonResourceURLs, func(have string) bool {
			prefix, wild := strings.CutSuffix(have, "*")
			return have == want || wild && strings.HasPrefix(want, prefix)
		})
	}
	if !hasOrAll(owner.APIGroups, single.APIGroups[0]) {
		return false
	}
	res, sub, _ := strings.Cut(single.Resources[0], "/")
	if !resourceMatches(owner.Resources, res, sub) {
		return false
	}
	if len(owner.ResourceNames) == 0 {
		return true
	}
	return len(single.ResourceNames) == 1 && slices.Contains(owner.ResourceNames, single.ResourceNames[0])
}
