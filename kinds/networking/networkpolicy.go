package networking

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/fill"
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
		Default:        defaultNetworkPolicy,
		Validate:       validateNetworkPolicy,
		ValidateUpdate: validateNetworkPolicyUpdate,
	}.Definition()
}

// defaultNetworkPolicy lets a policy govern incoming traffic always, outgoing
// traffic when it says something of it.
func defaultNetworkPolicy(p *networkingv1.NetworkPolicy) {
	for i := range p.Spec.Ingress {
		defaultPolicyPorts(p.Spec.Ingress[i].Ports)
	}
	for i := range p.Spec.Egress {
		defaultPolicyPorts(p.Spec.Egress[i].Ports)
	}
	if len(p.Spec.PolicyTypes) == 0 {
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(p.Spec.Egress) > 0 {
			p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
}

func defaultPolicyPorts(ports []networkingv1.NetworkPolicyPort) {
	for i := range ports {
		fill.Ptr(&ports[i].Protocol, corev1.ProtocolTCP)
	}
}
