package admission_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/object"
)

func serviceCIDR(name string, cidrs ...string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
}

// addresses are the IPAddresses there are: "address for namespace/name".
func (c *cluster) addresses() (all []string) {
	c.Helper()
	list, _, err := client.ListOf[*networkingv1.IPAddress](c.Context(), c, "", client.ListOptions{})
	if err != nil {
		c.Fatal(err)
	}
	for _, a := range list {
		all = append(all, fmt.Sprintf("%s for %s/%s", a.Name, a.Spec.ParentRef.Namespace, a.Spec.ParentRef.Name))
	}
	return all
}

func (c *cluster) hasAddresses(want ...string) {
	c.Helper()
	slices.Sort(want)
	got := c.addresses()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		c.Errorf("IPAddresses %q, want %q", got, want)
	}
}

func at(ip string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.ClusterIP = ip }
}

func (c *cluster) update(name string, change func(*corev1.Service)) (*corev1.Service, error) {
	s, err := client.Get[*corev1.Service](c.Context(), c, "default", name)
	if err != nil {
		c.Fatal(err)
	}
	s = s.DeepCopy()
	change(s)
	return client.Update(c.Context(), c, s)
}

func (c *cluster) delete(name string) {
	c.Helper()
	if err := client.Delete[*corev1.Service](c.Context(), c, "default", name, metav1.DeleteOptions{}); err != nil {
		c.Fatal(err)
	}
}

func TestServiceAndItsIPAddressComeAndGoTogether(t *testing.T) {
	c := newCluster(t)
	s := c.must(service("s", at("10.96.0.7"))).(*corev1.Service)
	ip, err := client.Get[*networkingv1.IPAddress](t.Context(), c, "", "10.96.0.7")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
	if got := fmt.Sprint(ip.Labels); got != fmt.Sprint(want) {
		t.Errorf("labels %v", ip.Labels)
	}
	if d := object.RevisionOf(s) - object.RevisionOf(ip); d != 1 {
		t.Errorf("the Service was written %d revisions after its IPAddress", d)
	}
	c.refused(c, service("t", at("10.96.0.7")), `Service "t" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.7"]: failed to allocate IP 10.96.0.7: provided IP is already allocated`)
	// One that a person made takes an address too.
	c.must(&networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.96.0.9"},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "gateways", Namespace: "default", Name: "g"}}})
	c.refused(c, service("t", at("10.96.0.9")), "provided IP is already allocated")
	c.refused(c, service("t", at("10.96.0.0")), "the provided network does not match the current range")
	c.refused(c, service("t", at("10.96.0.255")), "the provided network does not match the current range")
	c.refused(c, service("Bad_Name", at("10.96.0.8")), "Invalid value")
	c.hasAddresses("10.96.0.7 for default/s", "10.96.0.9 for default/g")

	// A change of type gives the address back, and takes one again.
	if _, err := c.update("s", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
	}); err != nil {
		t.Fatal(err)
	}
	c.hasAddresses("10.96.0.9 for default/g")
	back, err := c.update("s", func(s *corev1.Service) { s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeClusterIP, "" })
	if err != nil {
		t.Fatal(err)
	}
	c.hasAddresses(back.Spec.ClusterIP+" for default/s", "10.96.0.9 for default/g")

	// With a finalizer the address stays until the Service is gone.
	if _, err := c.update("s", func(s *corev1.Service) { s.Finalizers = []string{"example.com/wait"} }); err != nil {
		t.Fatal(err)
	}
	c.delete("s")
	c.hasAddresses(back.Spec.ClusterIP+" for default/s", "10.96.0.9 for default/g")
	if _, err := c.update("s", func(s *corev1.Service) { s.Finalizers = nil }); err != nil {
		t.Fatal(err)
	}
	c.hasAddresses("10.96.0.9 for default/g")

	// Headless Services and names of elsewhere have none. A name that is taken
	// leaves none behind.
	c.must(service("headless", at("None")))
	c.refused(c, service("headless"), "already exists")
	c.hasAddresses("10.96.0.9 for default/g")
	c.delete("headless")

	// An IPAddress that is another's by now stays when the Service goes.
	c.must(service("u", at("10.96.0.30")))
	if err := client.Delete[*networkingv1.IPAddress](t.Context(), c, "", "10.96.0.30", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.must(&networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.96.0.30"},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "v"}}})
	c.delete("u")
	c.hasAddresses("10.96.0.9 for default/g", "10.96.0.30 for default/v")
}

func TestDryRunTakesNoAddress(t *testing.T) {
	c := newCluster(t)
	target := resource.Target{Kind: c.engine.Kind(object.Of[*corev1.Service](c.Scheme())), Namespace: "default"}
	it, err := c.engine.Create(t.Context(), resource.Caller{}, target, service("s"), &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		t.Fatal(err)
	}
	if o, err := it.Object(); err != nil || o.(*corev1.Service).Spec.ClusterIP == "" {
		t.Errorf("%v %v", o, err)
	}
	c.hasAddresses()
	c.must(service("s", at("10.96.0.5")))
	target.Name = "s"
	if _, _, err := c.engine.Delete(t.Context(), resource.Caller{}, target, &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Fatal(err)
	}
	c.hasAddresses("10.96.0.5 for default/s")
}

// TestManyServicesShareASmallRange: writers that choose the same address begin
// again, the upper band is given first, and the last one is told.
func TestManyServicesShareASmallRange(t *testing.T) {
	c := newCluster(t)
	if err := client.Delete[*networkingv1.ServiceCIDR](t.Context(), c, "", "kubernetes", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.must(serviceCIDR("small", "10.1.0.0/27")) // 30 addresses, 16 of them the static band
	c.must(serviceCIDR("six", "fd00::/112"))
	var wg sync.WaitGroup
	for n := range 14 {
		wg.Go(func() {
			if _, err := client.Create(t.Context(), c, service(fmt.Sprint("s", n))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, a := range c.addresses() {
		ip, _, _ := strings.Cut(a, " ")
		if netip.MustParseAddr(ip).Less(netip.MustParseAddr("10.1.0.17")) {
			t.Errorf("%s is of the static band", a)
		}
	}
	writes := make([]client.Write, 16)
	for n := range writes {
		s := service("")
		s.GenerateName = "g-"
		writes[n] = client.Write{Op: client.OpCreate, Definition: object.Of[*corev1.Service](c.Scheme()), Object: s}
	}
	for _, r := range c.Batch(t.Context(), writes) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	_, err := client.Create(t.Context(), c, service("full"))
	if !apierrors.IsInternalError(err) || err.Error() != "Internal error occurred: failed to allocate a serviceIP: range is full" {
		t.Errorf("the 31st: %v", err)
	}
	owners := map[string]bool{}
	services, _, err := client.ListOf[*corev1.Service](t.Context(), c, "", client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range services {
		owners[fmt.Sprintf("%s for default/%s", s.Spec.ClusterIP, s.Name)] = true
	}
	for _, a := range c.addresses() {
		if !owners[a] {
			t.Errorf("%s, which no Service has", a)
		}
	}
	if len(owners) != 30 || len(c.addresses()) != 30 {
		t.Errorf("%d Services, %d IPAddresses", len(owners), len(c.addresses()))
	}
	// Another range helps, one that is not ready does not.
	no := serviceCIDR("no", "10.2.0.0/28")
	no.Status.Conditions = []metav1.Condition{{Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionFalse}}
	if err := c.engine.Seed(t.Context(), object.Of[*networkingv1.ServiceCIDR](c.Scheme()), no); err != nil {
		t.Fatal(err)
	}
	c.refused(c, service("full"), "range is full")
	c.refused(c, service("full", at("10.2.0.1")), "the provided network does not match the current range")
	c.must(serviceCIDR("more", "10.3.0.0/28"))
	if s := c.must(service("full")).(*corev1.Service); !strings.HasPrefix(s.Spec.ClusterIP, "10.3.0.") {
		t.Errorf("address %s", s.Spec.ClusterIP)
	}
}
