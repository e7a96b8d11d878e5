package webhookclient_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/webhookclient"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
)

func TestServices(t *testing.T) {
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "ns", Name: name} }
	yes, no, port, name, other := true, false, int32(8443), "https", "other"
	ports := []corev1.ServicePort{{Name: "https", Port: 443}}
	spec := corev1.ServiceSpec{Ports: ports}
	slice := func(service string, family discoveryv1.AddressType, p *string, at ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: service + "-" + strings.ToLower(string(family)), Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			AddressType: family, Ports: []discoveryv1.EndpointPort{{Name: p, Port: &port}}, Endpoints: at,
		}
	}
	endpoint := func(ready *bool, at ...string) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: at, Conditions: discoveryv1.EndpointConditions{Ready: ready}}
	}
	c := fake.New(object.NewScheme(kinds.All()...),
		&corev1.Service{ObjectMeta: meta("hook"), Spec: spec},
		&corev1.Service{ObjectMeta: meta("idle"), Spec: spec},
		&corev1.Service{ObjectMeta: meta("down"), Spec: spec},
		&corev1.Service{ObjectMeta: meta("unknown"), Spec: spec},
		&corev1.Service{ObjectMeta: meta("misnamed"), Spec: spec},
		&corev1.Service{ObjectMeta: meta("many"), Spec: spec},
		&corev1.Service{ObjectMeta: meta("headless"), Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: ports}},
		&corev1.Service{ObjectMeta: meta("dual"), Spec: corev1.ServiceSpec{Ports: ports, IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}}},
		&corev1.Service{ObjectMeta: meta("half"), Spec: corev1.ServiceSpec{Ports: ports, IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}}},
		&corev1.Service{ObjectMeta: meta("far"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "hook.example.com"}},
		slice("hook", discoveryv1.AddressTypeIPv4, &name, endpoint(&no, "10.0.0.1"), endpoint(&yes, "10.0.0.2")),
		slice("down", discoveryv1.AddressTypeIPv4, &name, endpoint(&no, "10.0.0.1")),
		slice("unknown", discoveryv1.AddressTypeIPv4, &name, endpoint(nil, "10.0.0.3")),
		slice("misnamed", discoveryv1.AddressTypeIPv4, &other, endpoint(&yes, "10.0.0.1")),
		slice("many", discoveryv1.AddressTypeIPv4, &name, endpoint(&yes, "10.0.0.4", "10.0.0.5", "10.0.0.6")),
		slice("headless", discoveryv1.AddressTypeIPv4, &name, endpoint(&yes, "10.0.0.7")),
		slice("dual", discoveryv1.AddressTypeIPv4, &name, endpoint(&yes, "10.0.0.8")),
		slice("dual", discoveryv1.AddressTypeIPv6, &name, endpoint(&yes, "fd00::8")),
		slice("half", discoveryv1.AddressTypeIPv4, &name, endpoint(&yes, "10.0.0.9")),
		slice("half", discoveryv1.AddressTypeIPv6, &name, endpoint(&no, "fd00::9")),
	)
	defer c.Close()
	for _, tc := range []struct {
		name string
		port int32
		want string
		err  string
	}{
		{"hook", 443, "10.0.0.2:8443", ""},
		{"hook", 444, "", `no service port 444 found for service "hook"`},
		{"idle", 443, "", `no endpoints available for service "idle"`},
		{"down", 443, "", `no endpoints available for service "down"`},
		{"unknown", 443, "10.0.0.3:8443", ""}, // not said to be unready
		{"misnamed", 443, "", `no endpoints available for service "misnamed"`},
		{"many", 443, "10.0.0.4:8443", ""}, // the first address alone counts
		{"headless", 443, "10.0.0.7:8443", ""},
		{"dual", 443, "[fd00::8]:8443", ""},
		{"half", 443, "10.0.0.9:8443", ""},
		{"far", 443, "hook.example.com:443", ""},
		{"far", 8443, "hook.example.com:8443", ""}, // an external name has any port
		{"none", 443, "", `service "none" not found`},
	} {
		for range 4 { // one of several is picked at random
			got, err := webhookclient.Services{Client: c}.Resolve(t.Context(), "ns", tc.name, tc.port)
			if got != tc.want || (err == nil) != (tc.err == "") || err != nil && err.Error() != tc.err {
				t.Errorf("%s:%d is %q, %v", tc.name, tc.port, got, err)
			}
		}
	}
}
