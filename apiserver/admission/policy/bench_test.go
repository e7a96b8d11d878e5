package policy_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkCreate is what policies add to a create: none in force, one that is
// about another kind, one that is evaluated, one that changes the object.
func BenchmarkCreate(b *testing.B) {
	const onConfigMaps = "\n  matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], resources: [configmaps], operations: [CREATE]}]}\n"
	for _, c := range []struct {
		name string
		set  func(*house)
	}{
		{"none", func(*house) {}},
		{"other", func(h *house) {
			h.policy(validating("p", "\n  validations: [{expression: object.spec.replicas > 1}]\n"))
			h.binding(bind("b", "p", "  validationActions: [Deny]"))
		}},
		{"validating", func(h *house) {
			h.policy("metadata: {name: p}\nspec:" + onConfigMaps + "  validations: [{expression: object.data.a == 'b' && size(object.metadata.name) > 0}]\n")
			h.binding(bind("b", "p", "  validationActions: [Deny]"))
		}},
		{"mutating", func(h *house) {
			h.mutation("metadata: {name: p}\nspec:" + onConfigMaps + never + "  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{metadata: Object.metadata{labels: Object.metadata.labels{x: \"y\"}}}'}}]\n")
			h.mutationBinding(bind("b", "p", ""))
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := newHouse(b)
			c.set(h)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				h.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("c", i)}, Data: map[string]string{"a": "b"}})
			}
		})
	}
}
