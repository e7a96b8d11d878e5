package compose

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/client/direct"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// TestServicesOfOldGetTheirIPAddresses: a data directory from before there were any.
func TestServicesOfOldGetTheirIPAddresses(t *testing.T) {
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	defer s.Close()
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...)})
	cl := direct.New(e, &user.DefaultInfo{Name: "system:apiserver", Groups: []string{user.SystemPrivilegedGroup}}, "test", nil)
	for name, ips := range map[string][]string{"a": {"10.96.0.7"}, "twin": {"10.96.0.7"}, "b": {"10.96.0.8"}, "bare": {"None"}, "elsewhere": nil} {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIPs: ips}}
		if ips == nil {
			svc.Spec.Type = corev1.ServiceTypeExternalName
		}
		if err := e.Seed(t.Context(), object.Of[*corev1.Service](e.Scheme()), svc); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second start has nothing to do
		before := s.Rev()
		if err := ensureAddresses(t.Context(), e, cl); err != nil {
			t.Fatal(err)
		}
		list, _, err := client.ListOf[*networkingv1.IPAddress](t.Context(), cl, "", client.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, ip := range list {
			got = append(got, ip.Name)
		}
		if !slices.Equal(got, []string{"10.96.0.7", "10.96.0.8"}) {
			t.Fatalf("IPAddresses %q", got)
		}
		if n := s.Rev() - before; n != 2 && n != 0 {
			t.Errorf("%d writes", n)
		}
	}
}
