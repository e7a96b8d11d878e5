package resource

import (
	"context"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// ResourceClaimTemplate defines resource.k8s.io/v1 ResourceClaimTemplate.
func ResourceClaimTemplate() *object.Definition {
	return object.Kind[*resourcev1.ResourceClaimTemplate]{
		Group: "resource.k8s.io", Version: "v1", Kind: "ResourceClaimTemplate", Resource: "resourceclaimtemplates", Namespaced: true,
		New:     func() *resourcev1.ResourceClaimTemplate { return &resourcev1.ResourceClaimTemplate{} },
		NewList: func() runtime.Object { return &resourcev1.ResourceClaimTemplateList{} },
		Columns: []object.TypedColumn[*resourcev1.ResourceClaimTemplate]{
			object.NameColumn[*resourcev1.ResourceClaimTemplate](),
			object.AgeColumn[*resourcev1.ResourceClaimTemplate](),
		},
		Default:        func(t *resourcev1.ResourceClaimTemplate) { defaultClaim(&t.Spec.Spec) },
		PrepareCreate:  func(_ context.Context, t *resourcev1.ResourceClaimTemplate) { dropFromClaim(&t.Spec.Spec) },
		Validate:       validateTemplate,
		ValidateUpdate: validateTemplateUpdate,
	}.Definition()
}
