package compose

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

func TestServiceAddressesAreCounted(t *testing.T) {
	c := fake.New(object.NewScheme(kinds.All()...),
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}},
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.97.0.0/24"}}},
		&networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.96.0.1"}}, &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.96.7.7"}})
	defer c.Close()
	hub := reconcile.NewHub(c, slog.New(slog.DiscardHandler))
	g := gauges{hub: hub}
	ranges, addresses := reconcile.ViewOf[*networkingv1.ServiceCIDR](hub), reconcile.ViewOf[*networkingv1.IPAddress](hub)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hub.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	if err := ranges.Need(ctx); err != nil {
		t.Fatal(err)
	}
	if err := addresses.Need(ctx); err != nil {
		t.Fatal(err)
	}
	want := map[netip.Prefix]int{netip.MustParsePrefix("10.96.0.0/16"): 2, netip.MustParsePrefix("10.97.0.0/24"): 0}
	if got := g.serviceAddresses(); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
