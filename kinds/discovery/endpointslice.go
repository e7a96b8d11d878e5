package discovery

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/field"
	"sagong/kinds/fill"
	"sagong/object"
)

// EndpointSlice defines discovery.k8s.io/v1 EndpointSlice.
func EndpointSlice() *object.Definition {
	doc := discoveryv1.EndpointSlice{}.SwaggerDoc()
	return object.Kind[*discoveryv1.EndpointSlice]{
		Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice", Resource: "endpointslices",
		Namespaced: true, Generation: true,
		NewGeneration: func(e, old *discoveryv1.EndpointSlice, content bool) bool {
			return content || !maps.Equal(e.Labels, old.Labels)
		},
		New:     func() *discoveryv1.EndpointSlice { return &discoveryv1.EndpointSlice{} },
		NewList: func() runtime.Object { return &discoveryv1.EndpointSliceList{} },
		Columns: []object.TypedColumn[*discoveryv1.EndpointSlice]{
			object.NameColumn[*discoveryv1.EndpointSlice](),
			object.StringColumn("AddressType", doc["addressType"], func(e *discoveryv1.EndpointSlice) string { return string(e.AddressType) }),
			object.StringColumn("Ports", doc["ports"], func(e *discoveryv1.EndpointSlice) string {
				var all []string
				for _, p := range e.Ports {
					switch {
					case p.Port != nil:
						all = append(all, strconv.Itoa(int(*p.Port)))
					case p.Name != nil:
						all = append(all, *p.Name)
					default:
						all = append(all, "*")
					}
				}
				return firstThree(all)
			}),
			object.StringColumn("Endpoints", doc["endpoints"], func(e *discoveryv1.EndpointSlice) string {
				var all []string
				for _, ep := range e.Endpoints {
					all = append(all, ep.Addresses...)
				}
				return firstThree(all)
			}),
			object.AgeColumn[*discoveryv1.EndpointSlice](),
		},
		Default:        defaultEndpointSlice,
		PrepareCreate:  func(_ context.Context, e *discoveryv1.EndpointSlice) { dropTopology(e) },
		PrepareUpdate:  func(_ context.Context, e, _ *discoveryv1.EndpointSlice) { dropTopology(e) },
		Warnings:       endpointSliceWarnings,
		Validate:       validateEndpointSlice,
		ValidateUpdate: validateEndpointSliceUpdate,
	}.Definition()
}

// dropTopology drops what only version v1beta1 could write.
func dropTopology(e *discoveryv1.EndpointSlice) {
	for i := range e.Endpoints {
		if e.Endpoints[i].DeprecatedTopology != nil {
			e.Endpoints[i].DeprecatedTopology = nil
		}
	}
}

// endpointSliceWarnings warns of names and oddly written addresses in slices that no
// controller of the cluster's own keeps.
func endpointSliceWarnings(e, old *discoveryv1.EndpointSlice) (out []string) {
	if e.AddressType == discoveryv1.AddressTypeFQDN {
		if old == nil {
			out = []string{"spec.addressType: FQDN endpoints are deprecated"}
		}
		return out
	}
	switch e.Labels[discoveryv1.LabelManagedBy] {
	case "endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io":
		return nil // they write addresses as they should be
	}
	for i := range e.Endpoints {
		for j, a := range e.Endpoints[i].Addresses {
			out = append(out, utilvalidation.GetWarningsForIP(field.NewPath("endpoints").Index(i).Child("addresses").Index(j).Upstream(), a)...)
		}
	}
	return out
}

func firstThree(all []string) string {
	if len(all) > 3 {
		return fmt.Sprintf("%s + %d more...", strings.Join(all[:3], ","), len(all)-3)
	}
	if s := strings.Join(all, ","); s != "" {
		return s
	}
	return "<unset>"
}

func defaultEndpointSlice(e *discoveryv1.EndpointSlice) {
	for i := range e.Ports {
		fill.Ptr(&e.Ports[i].Name, "")
		fill.Ptr(&e.Ports[i].Protocol, corev1.ProtocolTCP)
	}
}
