package admissionregistration

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/object"
)

// ValidatingWebhookConfiguration defines admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration.
func ValidatingWebhookConfiguration() *object.Definition {
	return object.Kind[*admissionregistrationv1.ValidatingWebhookConfiguration]{
		Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration",
		Resource: "validatingwebhookconfigurations", Categories: []string{"api-extensions"}, Generation: true, RefuseUnconditionalUpdate: true,
		New: func() *admissionregistrationv1.ValidatingWebhookConfiguration {
			return &admissionregistrationv1.ValidatingWebhookConfiguration{}
		},
		NewList: func() runtime.Object { return &admissionregistrationv1.ValidatingWebhookConfigurationList{} },
		Columns: []object.TypedColumn[*admissionregistrationv1.ValidatingWebhookConfiguration]{
			object.NameColumn[*admissionregistrationv1.ValidatingWebhookConfiguration](),
			object.IntColumn("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration", func(c *admissionregistrationv1.ValidatingWebhookConfiguration) int64 { return int64(len(c.Webhooks)) }),
			object.AgeColumn[*admissionregistrationv1.ValidatingWebhookConfiguration](),
		},
		Default: defaultValidatingWebhooks,
		Validate: func(o *admissionregistrationv1.ValidatingWebhookConfiguration) field.ErrorList {
			return validateValidatingWebhooks(o, nil)
		},
		ValidateUpdate: func(o, old *admissionregistrationv1.ValidatingWebhookConfiguration) field.ErrorList {
			return validateValidatingWebhooks(o, old)
		},
	}.Definition()
}
