package quota_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	limits "k8s.io/apiserver/pkg/admission/plugin/resourcequota/apis/resourcequota"
)

// What is limited may be used only where a quota covers it.
func TestLimitedResources(t *testing.T) {
	c := start(t)
	important := []corev1.ScopedResourceSelectorRequirement{{ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: corev1.ScopeSelectorOpIn, Values: []string{"important"}}}
	c.ledger.Limit(&limits.Configuration{LimitedResources: []limits.LimitedResource{
		{Resource: "pods", MatchContains: []string{"cpu"}, MatchScopes: important},
	}})
	cpu, ofClass := list("cpu", "1"), func(p *corev1.Pod) { p.Spec.PriorityClassName = "important" }
	c.must(pod("free", nil, nil))
	c.refused(pod("p", cpu, nil), `pods "p" is forbidden: insufficient quota to consume: cpu,requests.cpu`)
	c.refused(pod("p", nil, nil, ofClass), `pods "p" is forbidden: insufficient quota to match these scopes: [{PriorityClass In [important]}]`)
	// Another quota covers neither.
	c.quota("pods", list("pods", "9"))
	c.refused(pod("p", cpu, nil), `pods "p" is forbidden: insufficient quota to consume: cpu,requests.cpu`)
	c.quota("cpu", list("cpu", "9", "requests.cpu", "9"))
	c.must(pod("a", cpu, nil))
	c.refused(pod("p", cpu, nil, ofClass), `pods "p" is forbidden: insufficient quota to match these scopes: [{PriorityClass In [important]}]`)
	c.quota("important", list("pods", "1"), func(q *corev1.ResourceQuotaSpec) {
		q.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: important}
	})
	c.must(pod("b", cpu, nil, ofClass))
}
