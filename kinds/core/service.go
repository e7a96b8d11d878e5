package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// Service defines core/v1 Service.
func Service() *object.Definition {
	spec := corev1.ServiceSpec{}.SwaggerDoc()
	return object.Kind[*corev1.Service]{
		Version: "v1", Kind: "Service", Resource: "services",
		ShortNames: []string{"svc"}, Categories: []string{"all"},
		Namespaced: true, Status: true, AllowCreateOnUpdate: true,
		New:     func() *corev1.Service { return &corev1.Service{} },
		NewList: func() runtime.Object { return &corev1.ServiceList{} },
		Subresources: []object.Subresource{
			{Name: "proxy", Version: "v1", Kind: "ServiceProxyOptions", Verbs: []string{"create", "delete", "get", "patch", "update"}},
		},
		Fields: func(s *corev1.Service) fields.Set {
			return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
		},
		FieldNames: []string{"spec.clusterIP", "spec.type"},
		Columns: []object.TypedColumn[*corev1.Service]{
			object.NameColumn[*corev1.Service](),
			object.StringColumn("Type", spec["type"], func(s *corev1.Service) string { return string(s.Spec.Type) }),
			object.StringColumn("Cluster-IP", spec["clusterIP"], func(s *corev1.Service) string {
				if len(s.Spec.ClusterIPs) > 0 {
					return s.Spec.ClusterIPs[0]
				}
				return orNone(s.Spec.ClusterIP)
			}),
			object.StringColumn("External-IP", spec["externalIPs"], serviceExternal),
			object.StringColumn("Port(s)", spec["ports"], servicePorts),
			object.AgeColumn[*corev1.Service](),
			object.StringColumn("Selector", spec["selector"], func(s *corev1.Service) string { return labels.FormatLabels(s.Spec.Selector) }).Wide(),
		},
		NameRule:             validation.NameIsDNSLabel,
		Default:              defaultService,
		PrepareCreate:        prepareServiceCreate,
		PrepareUpdate:        prepareServiceUpdate,
		Validate:             validateService,
		ValidateUpdate:       validateServiceUpdate,
		ValidateStatusUpdate: validateServiceStatus,
		Warnings:             serviceWarnings,
	}.Definition()
}

func serviceExternal(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var all []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				all = append(all, in.IP)
			} else if in.Hostname != "" {
				all = append(all, in.Hostname)
			}
		}
		slices.Sort(all)
		all = append(slices.Compact(all), s.Spec.ExternalIPs...)
		if len(all) == 0 {
			return "<pending>"
		}
		return strings.Join(all, ",")
	}
	return orNone(strings.Join(s.Spec.ExternalIPs, ","))
}

func servicePorts(s *corev1.Service) string {
	all := make([]string, len(s.Spec.Ports))
	for i, p := range s.Spec.Ports {
		if p.NodePort > 0 {
			all[i] = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		} else {
			all[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		}
	}
	return orNone(strings.Join(all, ","))
}
