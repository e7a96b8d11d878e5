package core

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/kinds/fill"
	"sagong/object"
)

// Endpoints defines core/v1 Endpoints.
func Endpoints() *object.Definition {
	return object.Kind[*corev1.Endpoints]{
		Version: "v1", Kind: "Endpoints", Resource: "endpoints", Singular: "endpoints",
		ShortNames: []string{"ep"}, Namespaced: true, AllowCreateOnUpdate: true,
		New:     func() *corev1.Endpoints { return &corev1.Endpoints{} },
		NewList: func() runtime.Object { return &corev1.EndpointsList{} },
		Columns: []object.TypedColumn[*corev1.Endpoints]{
			object.NameColumn[*corev1.Endpoints](),
			object.StringColumn("Endpoints", corev1.Endpoints{}.SwaggerDoc()["subsets"], endpointsCell),
			object.AgeColumn[*corev1.Endpoints](),
		},
		Default:        defaultEndpoints,
		Validate:       validateEndpoints,
		ValidateUpdate: func(e, _ *corev1.Endpoints) field.ErrorList { return validateEndpoints(e) },
		Deprecated:     "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
	}.Definition()
}

func endpointsCell(e *corev1.Endpoints) string {
	if len(e.Subsets) == 0 {
		return "<none>"
	}
	const most = 3
	var shown []string
	count := 0
	add := func(s string) {
		if count < most {
			shown = append(shown, s)
		}
		count++
	}
	for _, ss := range e.Subsets {
		if len(ss.Ports) == 0 {
			for _, a := range ss.Addresses {
				add(a.IP)
			}
		}
		for _, p := range ss.Ports {
			for _, a := range ss.Addresses {
				add(net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	s := strings.Join(shown, ",")
	if count > most {
		return fmt.Sprintf("%s + %d more...", s, count-most)
	}
	return s
}

func defaultEndpoints(e *corev1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			fill.Zero(&e.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
		}
	}
}
