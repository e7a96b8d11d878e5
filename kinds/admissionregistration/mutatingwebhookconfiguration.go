package admissionregistration

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/object"
)

// MutatingWebhookConfiguration defines admissionregistration.k8s.io/v1 MutatingWebhookConfiguration.
func MutatingWebhookConfiguration() *object.Definition {
	return object.Kind[*admissionregistrationv1.MutatingWebhookConfiguration]{
		Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingWebhookConfiguration",
		Resource: "mutatingwebhookconfigurations", Categories: []string{"api-extensions"}, Generation: true, RefuseUnconditionalUpdate: true,
		New: func() *admissionregistrationv1.MutatingWebhookConfiguration {
			return &admissionregistrationv1.MutatingWebhookConfiguration{}
		},
		NewList: func() runtime.Object { return &admissionregistrationv1.MutatingWebhookConfigurationList{} },
		Columns: []object.TypedColumn[*admissionregistrationv1.MutatingWebhookConfiguration]{
			object.NameColumn[*admissionregistrationv1.MutatingWebhookConfiguration](),
			object.IntColumn("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration", func(c *admissionregistrationv1.MutatingWebhookConfiguration) int64 { return int64(len(c.Webhooks)) }),
			object.AgeColumn[*admissionregistrationv1.MutatingWebhookConfiguration](),
		},
		Default: defaultMutatingWebhooks,
		Validate: func(o *admissionregistrationv1.MutatingWebhookConfiguration) field.ErrorList {
			return validateMutatingWebhooks(o, nil)
		},
		ValidateUpdate: func(o, old *admissionregistrationv1.MutatingWebhookConfiguration) field.ErrorList {
			return validateMutatingWebhooks(o, old)
		},
	}.Definition()
}
