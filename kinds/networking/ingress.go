package networking

import (
	"context"
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// Ingress defines networking.k8s.io/v1 Ingress.
func Ingress() *object.Definition {
	return object.Kind[*networkingv1.Ingress]{
		Group: "networking.k8s.io", Version: "v1", Kind: "Ingress", Resource: "ingresses", ShortNames: []string{"ing"},
		Namespaced: true, Status: true, Generation: true,
		New:     func() *networkingv1.Ingress { return &networkingv1.Ingress{} },
		NewList: func() runtime.Object { return &networkingv1.IngressList{} },
		Columns: []object.TypedColumn[*networkingv1.Ingress]{
			object.NameColumn[*networkingv1.Ingress](),
			object.StringColumn("Class", "The name of the IngressClass resource that should be used for additional configuration", func(i *networkingv1.Ingress) string {
				if i.Spec.IngressClassName == nil {
					return "<none>"
				}
				return *i.Spec.IngressClassName
			}),
			object.StringColumn("Hosts", "Hosts that incoming requests are matched against before the ingress rule", ingressHosts),
			object.StringColumn("Address", "Address is a list containing ingress points for the load-balancer", ingressAddress),
			object.StringColumn("Ports", "Ports of TLS configurations that open", func(i *networkingv1.Ingress) string {
				if len(i.Spec.TLS) != 0 {
					return "80, 443"
				}
				return "80"
			}),
			object.AgeColumn[*networkingv1.Ingress](),
		},
		PrepareCreate:        func(_ context.Context, i *networkingv1.Ingress) { i.Status = networkingv1.IngressStatus{} },
		Validate:             validateIngressCreate,
		ValidateUpdate:       validateIngressUpdate,
		ValidateStatusUpdate: validateIngressStatus,
		Warnings:             ingressWarnings,
	}.Definition()
}

// ingressHosts names three hosts; of what comes after, rules are counted, with
// hosts or without.
func ingressHosts(i *networkingv1.Ingress) string {
	const most = 3
	var hosts []string
	more := false
	for _, r := range i.Spec.Rules {
		if more = len(hosts) == most; more {
			break
		}
		if r.Host != "" {
			hosts = append(hosts, r.Host)
		}
	}
	switch names := strings.Join(hosts, ","); {
	case names == "":
		return "*"
	case more:
		return fmt.Sprintf("%s + %d more...", names, len(i.Spec.Rules)-most)
	default:
		return names
	}
}

func ingressAddress(i *networkingv1.Ingress) string {
	var all []string
	for _, in := range i.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			all = append(all, in.IP)
		} else if in.Hostname != "" {
			all = append(all, in.Hostname)
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ",")
}
