package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/check"
	"sagong/kinds/field"
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

// validateCSINode checks the drivers of a node; what is wrong with the keys of a
// driver is said of the driver, as upstream does.
func validateCSINode(n *storagev1.CSINode) (errs field.ErrorList) {
	const maxNodeID = 192
	seen := map[string]bool{}
	for i, d := range n.Spec.Drivers {
		p := driversPath.Index(i)
		errs = append(errs, podspec.ValidateDriverName(d.Name, p.Child("name"))...)
		errs = append(errs, check.Required(p.Child("nodeID"), d.NodeID, "")...)
		if len(d.NodeID) > maxNodeID {
			errs = append(errs, field.Invalid(p.Child("nodeID"), d.NodeID, "must be 192 characters or less"))
		}
		if d.Allocatable != nil {
			errs = append(errs, check.NonnegativePtr(p.Child("allocatable", "count"), d.Allocatable.Count)...)
		}
		if seen[d.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), d.Name))
		}
		seen[d.Name] = true
		keys := map[string]bool{}
		for _, k := range d.TopologyKeys {
			errs = append(errs, check.Required(p, k, "")...)
			if keys[k] {
				errs = append(errs, field.Duplicate(p, k))
			}
			keys[k] = true
			errs = append(errs, check.Rule(p, k, check.IsQualifiedName)...)
		}
	}
	return errs
}

var driversPath = field.NewPath("spec", "drivers")

func validateCSINodeUpdate(n, old *storagev1.CSINode) field.ErrorList {
	errs := validateCSINode(n)
	for _, was := range old.Spec.Drivers {
		for _, is := range n.Spec.Drivers {
			is.Allocatable, was.Allocatable = nil, nil
			if is.Name == was.Name {
				errs = append(errs, check.Immutable(driversPath, &is, &was)...)
			}
		}
	}
	return errs
}
