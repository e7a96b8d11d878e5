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
	yes, no, port, name := true, false, int32(8443), "https"
	ports := corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}
	c := fake.New(object.NewScheme(kinds.All()...),
		&corev1.Service{ObjectMeta: meta("hook"), Spec: ports},
		&corev1.Service{ObjectMeta: meta("idle"), Spec: ports},
		&corev1.Service{ObjectMeta: meta("far"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "hook.example.com"}},
		&discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "hook-x", Labels: map[string]string{discoveryv1.LabelServiceName: "hook"}},
			Ports:      []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
			Endpoints: []discoveryv1.Endpoint{
				{Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
				{Addresses: []string{"10.0.0.2"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
			},
		})
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
		{"far", 443, "hook.example.com:443", ""},
		{"none", 443, "", `services "none" not found`},
	} {
		got, err := webhookclient.Services{Client: c}.Resolve(t.Context(), "ns", tc.name, tc.port)
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s:%d is %q, %v", tc.name, tc.port, got, err)
		}
	}
}
