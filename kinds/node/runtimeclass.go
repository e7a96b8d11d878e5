package node

import (
	"maps"
	"slices"

	nodev1 "k8s.io/api/node/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
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
	}.Definition()
}

func validateRuntimeClass(c *nodev1.RuntimeClass) field.ErrorList {
	errs := check.Rule(field.NewPath("handler"), c.Handler, utilvalidation.IsDNS1123Label)
	if c.Overhead != nil {
		for _, name := range slices.Sorted(maps.Keys(c.Overhead.PodFixed)) {
			errs = append(errs, podspec.ValidateQuantity(string(name), c.Overhead.PodFixed[name], field.NewPath("overhead", "podFixed").Key(string(name)))...)
		}
	}
	if s := c.Scheduling; s != nil {
		p := field.NewPath("scheduling")
		errs = append(errs, metav1validation.ValidateLabels(s.NodeSelector, p.Child("nodeSelector"))...)
		errs = append(errs, podspec.ValidateTolerations(s.Tolerations, p.Child("tolerations"))...)
	}
	return errs
}

func validateRuntimeClassUpdate(c, old *nodev1.RuntimeClass) field.ErrorList {
	return append(validateRuntimeClass(c), check.Immutable(field.NewPath("handler"), c.Handler, old.Handler)...)
}
