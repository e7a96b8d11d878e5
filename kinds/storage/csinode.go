package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"

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
			object.IntColumn("Drivers", storagev1.CSINodeSpec{}.SwaggerDoc()["drivers"], func(n *storagev1.CSINode) int64 { return int64(len(n.Spec.Drivers)) }),
			object.AgeColumn[*storagev1.CSINode](),
		},
	}.Definition()
}
