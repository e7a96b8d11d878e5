package services_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/controller/services"
	"sagong/kinds"
	"sagong/kinds/networking"
	"sagong/object"
	"sagong/reconcile"
)

// cluster collects the events of a test.
type cluster struct {
	*testing.T
	*fake.Client
	mu   sync.Mutex
	said []string
}

func (c *cluster) Eventf(o object.Object, _, reason, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, o.GetName()+" "+reason+": "+fmt.Sprintf(format, args...))
}
func (c *cluster) EventForField(object.Object, string, string, string, string, ...any) {}

func (c *cluster) hears(want ...string) {
	c.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.said, want) {
		c.Errorf("events\n%s\nwant\n%s", strings.Join(c.said, "\n"), strings.Join(want, "\n"))
	}
	c.said = nil
}

// inCluster runs f beside the controllers of addresses, in virtual time. Nothing
// writes IPAddresses with Services there: f says which there are.
func inCluster(t *testing.T, f func(*cluster), objs ...object.Object) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{T: t, Client: fake.New(object.NewScheme(kinds.All()...), objs...)}
		log := slog.New(slog.DiscardHandler)
		hub, e := reconcile.NewHub(c, log), reconcile.NewEngine(c, log, nil)
		if err := e.Add(services.NewServiceCIDR(hub, c, netip.MustParsePrefix("10.96.0.0/24")), services.NewAddressRepair(hub, c)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = hub.Run(ctx) })
		wg.Go(func() { _ = e.Run(ctx) })
		defer func() { cancel(); wg.Wait(); c.Close() }()
		synctest.Wait()
		f(c)
	})
}

func add[T object.Object](c *cluster, o T) {
	c.Helper()
	if _, err := client.Create(c.Context(), c, o); err != nil {
		c.Fatal(err)
	}
	synctest.Wait()
}

func drop[T object.Object](c *cluster, ns, name string) {
	c.Helper()
	if err := client.Delete[T](c.Context(), c, ns, name, metav1.DeleteOptions{}); err != nil {
		c.Fatal(err)
	}
	synctest.Wait()
}

func has[T object.Object](c *cluster, ns, name string) bool {
	c.Helper()
	_, err := client.Get[T](c.Context(), c, ns, name)
	if err != nil && !apierrors.IsNotFound(err) {
		c.Fatal(err)
	}
	return err == nil
}

func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func service(name, ip string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Port: 80}},
	}}
}

func addressOf(s *corev1.Service) *networkingv1.IPAddress {
	return networking.AddressOf(s, networking.ClusterAddresses(s)[0])
}

func cidr(name string, cidrs ...string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
}

// ready is the condition of a ServiceCIDR.
func (c *cluster) ready(name string, want metav1.ConditionStatus, reason, message string) {
	c.Helper()
	o, err := client.Get[*networkingv1.ServiceCIDR](c.Context(), c, "", name)
	if err != nil {
		c.Fatal(err)
	}
	if !slices.Contains(o.Finalizers, "networking.k8s.io/service-cidr-finalizer") {
		c.Errorf("finalizers %v", o.Finalizers)
	}
	if len(o.Status.Conditions) != 1 {
		c.Fatalf("conditions %v", o.Status.Conditions)
	}
	if got := o.Status.Conditions[0]; got.Type != "Ready" || got.Status != want || got.Reason != reason || got.Message != message || got.LastTransitionTime.IsZero() {
		c.Errorf("condition %+v", got)
	}
}

func TestServiceCIDRGoesWhenNoAddressDependsOnIt(t *testing.T) {
	used := service("used", "10.1.0.5")
	inCluster(t, func(c *cluster) {
		const isReady = "Kubernetes Service CIDR is ready"
		c.ready("kubernetes", "True", "", isReady)
		c.ready("more", "True", "", isReady)
		add(c, cidr("free", "10.2.0.0/24"))
		c.ready("free", "True", "", isReady)

		drop[*networkingv1.ServiceCIDR](c, "", "free")
		later(9 * time.Second)
		if !has[*networkingv1.ServiceCIDR](c, "", "free") {
			t.Error("gone before a Service under way could have its address")
		}
		later(2 * time.Second)
		if has[*networkingv1.ServiceCIDR](c, "", "free") {
			t.Error("one that nobody uses is still there")
		}

		const waits = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
		drop[*networkingv1.ServiceCIDR](c, "", "more")
		later(time.Hour)
		c.ready("more", "False", "Terminating", waits)
		// A smaller range which has the address sets it free.
		add(c, cidr("part", "10.1.0.4/30"))
		if has[*networkingv1.ServiceCIDR](c, "", "more") {
			t.Error("kept for an address that another has")
		}
		drop[*networkingv1.ServiceCIDR](c, "", "part")
		later(time.Hour)
		c.ready("part", "False", "Terminating", waits)
		drop[*corev1.Service](c, "default", "used") // and its address with it, as nothing but the repair does here
		if has[*networkingv1.ServiceCIDR](c, "", "part") {
			t.Error("kept after its last address went")
		}
		// An address that is not of a Service keeps nothing.
		add(c, cidr("other", "10.5.0.0/24"))
		gw := addressOf(service("g", "10.5.0.9"))
		gw.Labels, gw.Spec.ParentRef.Resource = nil, "gateways"
		add(c, gw)
		drop[*networkingv1.ServiceCIDR](c, "", "other")
		later(11 * time.Second)
		if has[*networkingv1.ServiceCIDR](c, "", "other") {
			t.Error("kept for an address of another kind")
		}

		// The default one comes back.
		drop[*networkingv1.ServiceCIDR](c, "", "kubernetes")
		later(11 * time.Second)
		c.ready("kubernetes", "True", "", isReady)
		c.hears("10.1.0.5 IPAddressNotAllocated: IPAddress: 10.1.0.5 for Service default/used appears to have leaked: cleaning up")
	}, used, addressOf(used), cidr("more", "10.1.0.0/24"))
}

func TestDefaultServiceCIDRThatDiffersIsReported(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.hears("kubernetes KubernetesDefaultServiceCIDRInconsistent: The default ServiceCIDR [10.7.0.0/16] does not match the controller flag configurations [10.96.0.0/24]")
	}, cidr("kubernetes", "10.7.0.0/16"))
}

// TestRepair has each way in which a Service and its IPAddress can disagree.
func TestRepair(t *testing.T) {
	a, b := service("a", "10.96.0.1"), service("b", "10.96.0.2")
	leaked := addressOf(service("nobody", "10.96.0.9"))
	inCluster(t, func(c *cluster) {
		sound := func(name, ip string) {
			c.Helper()
			o, err := client.Get[*networkingv1.IPAddress](c.Context(), c, "", ip)
			if err != nil || o.Spec.ParentRef.Resource != "services" || o.Spec.ParentRef.Name != name || len(o.Labels) != 2 {
				t.Errorf("IPAddress %s: %+v %v", ip, o, err)
			}
		}
		later(59 * time.Second)
		if !has[*networkingv1.IPAddress](c, "", "10.96.0.9") {
			t.Error("gone before its Service could have been written")
		}
		c.hears()
		later(2 * time.Second)
		if has[*networkingv1.IPAddress](c, "", "10.96.0.9") {
			t.Error("an address without a Service stays")
		}
		c.hears("10.96.0.9 IPAddressNotAllocated: IPAddress: 10.96.0.9 for Service default/nobody appears to have leaked: cleaning up")

		// Deleted by hand.
		drop[*networkingv1.IPAddress](c, "", "10.96.0.1")
		sound("a", "10.96.0.1")
		c.hears("a ClusterIPNotAllocated: Cluster IP [IPv4]: 10.96.0.1 is not allocated; repairing")

		// Stripped of its labels.
		o, err := client.Get[*networkingv1.IPAddress](c.Context(), c, "", "10.96.0.1")
		if err != nil {
			t.Fatal(err)
		}
		o = o.DeepCopy()
		o.Labels = nil
		if _, err := client.Update(c.Context(), c, o); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		sound("a", "10.96.0.1")
		c.hears()

		// Of a Service that has another address: it goes, and is made for the right one.
		wrong := addressOf(service("a", "10.96.0.3"))
		add(c, wrong)
		c.hears("10.96.0.3 IPAddressWrongReference: IPAddress: 10.96.0.3 for Service default/a has a wrong reference; cleaning up")
		wrong.Labels, wrong.Spec.ParentRef.Resource, wrong.ResourceVersion, wrong.UID = nil, "gateways", "", ""
		add(c, wrong)
		add(c, service("c", "10.96.0.3"))
		sound("c", "10.96.0.3")
		c.hears("c ClusterIPNotAllocated: the ClusterIP [IPv4]: 10.96.0.3 for Service default/c has a wrong reference; repairing")
		odd := addressOf(service("x", "10.96.0.4"))
		odd.Spec.ParentRef.Group = "example.com"
		add(c, odd)
		if has[*networkingv1.IPAddress](c, "", "10.96.0.4") {
			t.Error("an address that names no Service stays")
		}
		c.mu.Lock()
		c.said = nil // a pointer is in the text, as upstream has it
		c.mu.Unlock()

		// Two Services with one address, and one out of range, until there is one.
		add(c, service("twin", "10.96.0.2"))
		sound("b", "10.96.0.2")
		c.hears("twin ClusterIPAlreadyAllocated: Cluster IP [IPv4]:10.96.0.2 was assigned to multiple services; please recreate service")
		add(c, service("far", "10.99.0.2"))
		c.hears("far ClusterIPOutOfRange: Cluster IP [IPv4]: 10.99.0.2 is not within any configured Service CIDR; please recreate service")
		add(c, cidr("wide", "10.99.0.0/16"))
		sound("far", "10.99.0.2")
	}, a, addressOf(a), b, addressOf(b), leaked)
}
