package networking

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// NetworkPolicy defines networking.k8s.io/v1 NetworkPolicy.
func NetworkPolicy() *object.Definition {
	return object.Kind[*networkingv1.NetworkPolicy]{
		Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy", Resource: "networkpolicies", ShortNames: []string{"netpol"},
		Namespaced: true, Generation: true,
		New:     func() *networkingv1.NetworkPolicy { return &networkingv1.NetworkPolicy{} },
		NewList: func() runtime.Object { return &networkingv1.NetworkPolicyList{} },
		Columns: []object.TypedColumn[*networkingv1.NetworkPolicy]{
			object.NameColumn[*networkingv1.NetworkPolicy](),
			object.StringColumn("Pod-Selector", networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"], func(p *networkingv1.NetworkPolicy) string {
				return metav1.FormatLabelSelector(&p.Spec.PodSelector)
			}),
			object.AgeColumn[*networkingv1.NetworkPolicy](),
		},
	}.Definition()
}
