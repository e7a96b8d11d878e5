package resource

import (
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// ResourceSlice defines resource.k8s.io/v1 ResourceSlice.
func ResourceSlice() *object.Definition {
	return object.Kind[*resourcev1.ResourceSlice]{
		Group: "resource.k8s.io", Version: "v1", Kind: "ResourceSlice", Resource: "resourceslices", Generation: true,
		Fields: func(s *resourcev1.ResourceSlice) fields.Set {
			node := ""
			if s.Spec.NodeName != nil {
				node = *s.Spec.NodeName
			}
			return fields.Set{resourcev1.ResourceSliceSelectorNodeName: node, resourcev1.ResourceSliceSelectorDriver: s.Spec.Driver, resourcev1.ResourceSliceSelectorPoolName: s.Spec.Pool.Name}
		},
		FieldLabels: object.FieldLabels{
			FieldNames:   []string{resourcev1.ResourceSliceSelectorNodeName, resourcev1.ResourceSliceSelectorDriver, resourcev1.ResourceSliceSelectorPoolName},
			UnknownField: "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: %s",
		},
		New:     func() *resourcev1.ResourceSlice { return &resourcev1.ResourceSlice{} },
		NewList: func() runtime.Object { return &resourcev1.ResourceSliceList{} },
		Columns: []object.TypedColumn[*resourcev1.ResourceSlice]{
			object.NameColumn[*resourcev1.ResourceSlice](),
			object.StringColumn("Node", resourcev1.ResourceSliceSpec{}.SwaggerDoc()["nodeName"], func(s *resourcev1.ResourceSlice) string {
				if s.Spec.NodeName == nil {
					return ""
				}
				return *s.Spec.NodeName
			}),
			object.StringColumn("Driver", resourcev1.ResourceSliceSpec{}.SwaggerDoc()["driver"], func(s *resourcev1.ResourceSlice) string { return s.Spec.Driver }),
			object.StringColumn("Pool", resourcev1.ResourcePool{}.SwaggerDoc()["name"], func(s *resourcev1.ResourceSlice) string { return s.Spec.Pool.Name }),
			object.AgeColumn[*resourcev1.ResourceSlice](),
		},
		Default: func(s *resourcev1.ResourceSlice) {
			for i := range s.Spec.Devices {
				for j := range s.Spec.Devices[i].Taints {
					defaultTaint(&s.Spec.Devices[i].Taints[j])
				}
			}
		},
		PrepareCreate: prepareSlice, PrepareUpdate: prepareSliceUpdate,
		Warnings: func(s, _ *resourcev1.ResourceSlice) []string {
			return lowercase(specPath.Child("driver"), s.Spec.Driver)
		},
		Validate:       validateSlice,
		ValidateUpdate: validateSliceUpdate,
	}.Definition()
}
