package node

import (
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/runtime"

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
			object.StringColumn("Handler", nodev1.RuntimeClass{}.SwaggerDoc()["handler"], func(c *nodev1.RuntimeClass) string { return c.Handler }),
			object.AgeColumn[*nodev1.RuntimeClass](),
		},
	}.Definition()
}
