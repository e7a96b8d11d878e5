package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// ComponentStatus defines core/v1 ComponentStatus. It is found out when somebody
// asks, and never stored.
func ComponentStatus() *object.Definition {
	healthy := func(c *corev1.ComponentStatus) corev1.ComponentCondition {
		for _, c := range c.Conditions {
			if c.Type == corev1.ComponentHealthy {
				return c
			}
		}
		return corev1.ComponentCondition{}
	}
	return object.Kind[*corev1.ComponentStatus]{
		Version: "v1", Kind: "ComponentStatus", Resource: "componentstatuses", Singular: "componentstatus",
		ShortNames: []string{"cs"}, Verbs: []string{"get", "list"},
		Deprecated: "v1 ComponentStatus is deprecated in v1.19+",
		New:        func() *corev1.ComponentStatus { return &corev1.ComponentStatus{} },
		NewList:    func() runtime.Object { return &corev1.ComponentStatusList{} },
		Columns: []object.TypedColumn[*corev1.ComponentStatus]{
			object.NameColumn[*corev1.ComponentStatus](),
			object.StringColumn("Status", "Status of the component conditions", func(c *corev1.ComponentStatus) string {
				switch healthy(c).Status {
				case "":
					return "Unknown"
				case corev1.ConditionTrue:
					return "Healthy"
				}
				return "Unhealthy"
			}),
			object.StringColumn("Message", "Message of the component conditions", func(c *corev1.ComponentStatus) string { return healthy(c).Message }),
			object.StringColumn("Error", "Error of the component conditions", func(c *corev1.ComponentStatus) string { return healthy(c).Error }),
		},
	}.Definition()
}
