package core

import (
	corev1 "k8s.io/api/core/v1"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/object"
)

// Binding defines core/v1 Binding, which ties a pod to a node when created.
func Binding() *object.Definition {
	return object.Kind[*corev1.Binding]{
		Version: "v1", Kind: "Binding", Resource: "bindings",
		Namespaced: true, Virtual: true, Verbs: []string{"create"},
		New:      func() *corev1.Binding { return &corev1.Binding{} },
		Validate: ValidateBinding,
	}.Definition()
}

// ValidateBinding checks a binding, whether it comes to bindings or to
// pods/binding.
func ValidateBinding(b *corev1.Binding) (errs field.ErrorList) {
	p := field.NewPath("target")
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(p.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	return append(errs, check.Required(p.Child("name"), b.Target.Name, "")...)
}
