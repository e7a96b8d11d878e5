package quota

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	limits "k8s.io/apiserver/pkg/admission/plugin/resourcequota/apis/resourcequota"

	"sagong/apiserver/resource"
	"sagong/object"
)

// Limit names what may be used only where a quota covers it, whatever else the
// namespace has. It is called before the ledger judges.
func (l *Ledger) Limit(c *limits.Configuration) { l.limited = c.LimitedResources }

// covered refuses what is limited and that no account covers.
func (l *Ledger) covered(a *resource.Attributes, m measure, o object.Object, after corev1.ResourceList, concerned []*account) error {
	var names []string
	var scopes []corev1.ScopedResourceSelectorRequirement
	for _, x := range l.limited {
		if a.Definition.GR() != (schema.GroupResource{Group: x.APIGroup, Resource: x.Resource}) {
			continue
		}
		for name := range after {
			if slices.ContainsFunc(x.MatchContains, func(part string) bool { return strings.Contains(string(name), part) }) && !slices.ContainsFunc(concerned, func(at *account) bool {
				_, hard := at.spec.Hard[name]
				return hard
			}) {
				names = append(names, string(name))
			}
		}
		for _, s := range x.MatchScopes {
			if m.inScopes(o, []corev1.ScopedResourceSelectorRequirement{s}) && !slices.ContainsFunc(concerned, func(at *account) bool {
				return slices.ContainsFunc(at.scopes, func(own corev1.ScopedResourceSelectorRequirement) bool { return own.ScopeName == s.ScopeName })
			}) {
				scopes = append(scopes, s)
			}
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > 0 {
		return refuse(a, "insufficient quota to consume: %v", strings.Join(names, ","))
	}
	if len(scopes) > 0 {
		slices.SortFunc(scopes, func(a, b corev1.ScopedResourceSelectorRequirement) int {
			return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
		})
		return refuse(a, "insufficient quota to match these scopes: %v", scopes)
	}
	return nil
}

// limits says whether a kind has limited resources.
func (l *Ledger) limits(gr schema.GroupResource) bool {
	return slices.ContainsFunc(l.limited, func(x limits.LimitedResource) bool {
		return gr == schema.GroupResource{Group: x.APIGroup, Resource: x.Resource}
	})
}
