package resource

import (
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// DeviceClass defines resource.k8s.io/v1 DeviceClass.
func DeviceClass() *object.Definition {
	return object.Kind[*resourcev1.DeviceClass]{
		Group: "resource.k8s.io", Version: "v1", Kind: "DeviceClass", Resource: "deviceclasses", Generation: true,
		New:     func() *resourcev1.DeviceClass { return &resourcev1.DeviceClass{} },
		NewList: func() runtime.Object { return &resourcev1.DeviceClassList{} },
		Columns: []object.TypedColumn[*resourcev1.DeviceClass]{
			object.NameColumn[*resourcev1.DeviceClass](),
			object.AgeColumn[*resourcev1.DeviceClass](),
		},
		Validate:       validateClass,
		ValidateUpdate: validateClassUpdate,
	}.Definition()
}
