package metrics

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
)

// readOnly are the verbs of what is measured.
var readOnly = []string{"get", "list"}

// columns are those of metrics-server's tables.
func columns[T object.Object](usage func(T) corev1.ResourceList, window func(T) metav1.Duration) []object.TypedColumn[T] {
	amount := func(name corev1.ResourceName) object.TypedColumn[T] {
		return object.TypedColumn[T]{Name: string(name), Type: "string", Format: "quantity", Cell: func(o T, _ time.Time) any {
			q := usage(o)[name]
			return q.String()
		}}
	}
	name := object.NameColumn[T]()
	name.Description = "Name of the resource"
	return []object.TypedColumn[T]{
		name, amount(corev1.ResourceCPU), amount(corev1.ResourceMemory),
		{Name: "Window", Type: "string", Format: "duration", Cell: func(o T, _ time.Time) any { return window(o).Duration.String() }},
	}
}
