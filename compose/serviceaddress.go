package compose

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/config"
	"sagong/kinds/networking"
	"sagong/object"
)

// defaultServiceCIDR is the range that the server was started with.
func defaultServiceCIDR(c config.Config) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: networking.DefaultServiceCIDR}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{c.ServiceCIDR}},
	}
}

// ensureAddresses gives Services from before there were IPAddresses theirs. It
// comes before any Service is made: an address without one looks free.
func ensureAddresses(ctx context.Context, e *resource.Engine, cl client.Client) error {
	all, _, err := client.ListOf[*corev1.Service](ctx, cl, "", client.ListOptions{})
	if err != nil {
		return fmt.Errorf("cannot read the Services: %w", err)
	}
	d := object.Of[*networkingv1.IPAddress](cl.Scheme())
	var writes []client.Write
	made := map[netip.Addr]bool{}
	for _, s := range all {
		for _, a := range networking.ClusterAddresses(s) {
			has, err := e.Exists(ctx, d, "", a.String())
			if err != nil {
				return fmt.Errorf("cannot read IPAddress %s: %w", a, err)
			}
			if !has && !made[a] {
				made[a] = true
				writes = append(writes, client.Write{Op: client.OpCreate, Definition: d, Object: networking.AddressOf(s, a)})
			}
		}
	}
	for i, r := range cl.Batch(ctx, writes) {
		if r.Err != nil && !apierrors.IsAlreadyExists(r.Err) {
			return fmt.Errorf("cannot create IPAddress %s: %w", writes[i].Object.GetName(), r.Err)
		}
	}
	return nil
}
