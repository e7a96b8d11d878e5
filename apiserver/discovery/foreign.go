package discovery

import (
	"cmp"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
)

// Resource is one entry of a server's list of resources.
type Resource = metav1.APIResource

// Foreign is a group and version that another server answers for.
type Foreign struct {
	Group, Version                 string
	GroupPriority, VersionPriority int32
	Resources                      []Resource
	// Stale says that the server could not be asked lately.
	Stale bool
}

// Include adds what other servers serve, which comes after what this one does.
// Call it before the first request; Changed makes f be asked again.
func (d *Discovery) Include(f func() []Foreign) { d.foreign = f }

// others are the foreign versions in the order of their priorities.
func (d *Discovery) others() []Foreign {
	if d.foreign == nil {
		return nil
	}
	all := slices.Clone(d.foreign())
	most := map[string]int32{}
	for _, f := range all {
		most[f.Group] = max(most[f.Group], f.GroupPriority)
	}
	slices.SortFunc(all, func(a, b Foreign) int {
		return cmp.Or(cmp.Compare(most[b.Group], most[a.Group]), cmp.Compare(a.Group, b.Group), cmp.Compare(b.VersionPriority, a.VersionPriority),
			-version.CompareKubeAwareVersionStrings(a.Version, b.Version))
	})
	return all
}

// take fills a version in from a list of resources.
func (s *served) take(list []Resource) {
	s.resources = list
	at := map[string]int{}
	for _, r := range list {
		if strings.Contains(r.Name, "/") {
			continue
		}
		scope := apidiscoveryv2.ScopeCluster
		if r.Namespaced {
			scope = apidiscoveryv2.ScopeNamespace
		}
		at[r.Name] = len(s.aggregated)
		s.aggregated = append(s.aggregated, apidiscoveryv2.APIResourceDiscovery{
			Resource: r.Name, Scope: scope, SingularResource: r.SingularName, Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories, ResponseKind: kindOf(r),
		})
	}
	for _, r := range list {
		name, sub, ok := strings.Cut(r.Name, "/")
		i, known := at[name]
		if !ok || !known {
			continue
		}
		s.aggregated[i].Subresources = append(s.aggregated[i].Subresources, apidiscoveryv2.APISubresourceDiscovery{Subresource: sub, Verbs: r.Verbs, ResponseKind: kindOf(r)})
	}
}

// kindOf leaves the group and version out where they are those that list the
// resource, as upstream does of all but custom resources.
func kindOf(r Resource) *metav1.GroupVersionKind {
	return &metav1.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}
}
