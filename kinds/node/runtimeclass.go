package node

import (
	"maps"
	"slices"

	nodev1 "k8s.io/api/node/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
	"sagong/object"
)

// RuntimeClass defines node.k8s.io/v1 RuntimeClass.
func RuntimeClass() *object.Definition {
	return object.Kind[*nodev1.RuntimeClass]{
		Group: "node.k8s.io", Version: "v1", Kind: "RuntimeClass", Resource: "runtimeclasses", RefuseUnconditionalUpdate: true,
		New:     func() *nodev1.RuntimeClass { return &nodev1.RuntimeClass{} },
		NewList: func() runtime.Object { return &nodev1.RuntimeClassList{} },
		Columns: []object.TypedColumn[*nodev1.RuntimeClass]{
			object.NameColumn[*nodev1.RuntimeClass](),
			object.StringColumn("Handler", "", func(c *nodev1.RuntimeClass) string { return c.Handler }),
			object.AgeColumn[*nodev1.RuntimeClass](),
		},
		Validate:       validateRuntimeClass,
		ValidateUpdate: validateRuntimeClassUpdate,
		Warnings: func(c, _ *nodev1.RuntimeClass) (out []string) {
			if c.Scheduling == nil {
				return nil
			}
			for _, key := range slices.Sorted(maps.Keys(c.Scheduling.NodeSelector)) {
				if msg, ok := podspec.DeprecatedLabel(key); ok {
					out = append(out, "scheduling.nodeSelector: "+msg)
				}
			}
			return out
		},
	}.Definition()
}

func validateRuntimeClass(c *nodev1.RuntimeClass) field.ErrorList {
	return append(validateClass(c), validateHandler(c)...)
}

func validateClass(c *nodev1.RuntimeClass) (errs field.ErrorList) {
	if c.Overhead != nil {
		errs = append(errs, podspec.ValidateOverhead(c.Overhead.PodFixed, field.NewPath("overhead", "podFixed"))...)
	}
	if s := c.Scheduling; s != nil {
		p := field.NewPath("scheduling")
		errs = append(errs, metav1validation.ValidateLabels(s.NodeSelector, p.Child("nodeSelector").Upstream())...)
		errs = append(errs, podspec.ValidateTolerations(s.Tolerations, p.Child("tolerations"))...)
	}
	return errs
}

// validateHandler checks what upstream declares beside the type, which comes last.
func validateHandler(c *nodev1.RuntimeClass) field.ErrorList {
	return check.RequiredName(field.NewPath("handler"), c.Handler, check.IsDNS1123Label)
}

func validateRuntimeClassUpdate(c, old *nodev1.RuntimeClass) field.ErrorList {
	errs := validateClass(c)
	if c.Handler == old.Handler {
		return errs
	}
	if c.Handler != "" {
		errs = append(errs, check.Declared(field.NewPath("handler"), false)...)
	}
	return append(errs, validateHandler(c)...)
}
