package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
	"sagong/kinds/podspec"
	"sagong/object"
)

// CSINode defines storage.k8s.io/v1 CSINode.
func CSINode() *object.Definition {
	return object.Kind[*storagev1.CSINode]{
		Group: "storage.k8s.io", Version: "v1", Kind: "CSINode", Resource: "csinodes", RefuseUnconditionalUpdate: true,
		New:     func() *storagev1.CSINode { return &storagev1.CSINode{} },
		NewList: func() runtime.Object { return &storagev1.CSINodeList{} },
		Columns: []object.TypedColumn[*storagev1.CSINode]{
			object.NameColumn[*storagev1.CSINode](),
			object.IntColumn("Drivers", "Drivers indicates the number of CSI drivers registered on the node", func(n *storagev1.CSINode) int64 { return int64(len(n.Spec.Drivers)) }),
			object.AgeColumn[*storagev1.CSINode](),
		},
		Validate:       validateCSINode,
		ValidateUpdate: validateCSINodeUpdate,
	}.Definition()
}

func validateCSINode(n *storagev1.CSINode) (errs field.ErrorList) {
	const maxNodeID = 192
	seen := map[string]bool{}
	for i, d := range n.Spec.Drivers {
		p := field.NewPath("spec", "drivers").Index(i)
		errs = append(errs, podspec.ValidateDriverName(d.Name, p.Child("name"))...)
		if seen[d.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), d.Name))
		}
		seen[d.Name] = true
		errs = append(errs, check.Required(p.Child("nodeID"), d.NodeID, d.NodeID)...)
		if len(d.NodeID) > maxNodeID {
			errs = append(errs, field.Invalid(p.Child("nodeID"), d.NodeID, "must be 192 characters or less"))
		}
		if d.Allocatable != nil && d.Allocatable.Count != nil && *d.Allocatable.Count < 0 {
			errs = append(errs, field.Invalid(p.Child("allocatable.count"), *d.Allocatable.Count, "must be greater than or equal to 0"))
		}
		keys := map[string]bool{}
		for j, k := range d.TopologyKeys {
			p := p.Child("topologyKeys").Index(j)
			errs = append(errs, check.RequiredName(p, k, utilvalidation.IsQualifiedName)...)
			if keys[k] {
				errs = append(errs, field.Duplicate(p, k))
			}
			keys[k] = true
		}
	}
	return errs
}

func validateCSINodeUpdate(n, old *storagev1.CSINode) field.ErrorList {
	errs := validateCSINode(n)
	for _, o := range old.Spec.Drivers {
		for i, d := range n.Spec.Drivers {
			d.Allocatable, o.Allocatable = nil, nil
			if d.Name == o.Name && !equality.Semantic.DeepEqual(d, o) {
				errs = append(errs, field.Invalid(field.NewPath("CSINodeDriver").Index(i), d, "field is immutable"))
			}
		}
	}
	return errs
}
