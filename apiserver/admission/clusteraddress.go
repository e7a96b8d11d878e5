package admission

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/kinds/networking"
	"sagong/object"
)

// clusterAddresses finds addresses for Services in the ServiceCIDRs. An address
// is taken when there is an IPAddress of its name: the store says so, and it
// stores the IPAddress with the Service or neither of them, so nothing is
// reserved here, nothing leaks, and of two writes that chose the same one the
// second is begun again.
type clusterAddresses struct {
	c      client.Client
	engine *resource.Engine
}

const (
	outOfRange = "the provided network does not match the current range"
	allocated  = "provided IP is already allocated"
)

func (c clusterAddresses) ranges(ctx context.Context) (all []netip.Prefix, err error) {
	list, _, err := client.ListOf[*networkingv1.ServiceCIDR](ctx, c.c, "", client.ListOptions{})
	for _, s := range list {
		if networking.Allocates(s) {
			all = append(all, networking.Prefixes(s)...)
		}
	}
	return all, err
}

func (c clusterAddresses) taken(ctx context.Context, a netip.Addr) (bool, error) {
	return c.engine.Exists(ctx, object.Of[*networkingv1.IPAddress](c.c.Scheme()), "", a.String())
}

// claim judges an address that somebody named: why it cannot be had, or "".
func (c clusterAddresses) claim(ctx context.Context, a netip.Addr) (why string, err error) {
	ranges, err := c.ranges(ctx)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return networking.Gives(p, a) }) {
		return outOfRange, nil
	}
	taken, err := c.taken(ctx, a)
	if taken {
		why = allocated
	}
	return why, err
}

// any finds a free IPv4 address, in the upper band of a range if there is one:
// the lower is for those who name theirs. It is not valid when there is none.
func (c clusterAddresses) any(ctx context.Context) (netip.Addr, error) {
	ranges, err := c.ranges(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, n := range rand.Perm(len(ranges)) {
		p := ranges[n]
		if !p.Addr().Is4() {
			continue
		}
		size, low := 1<<(32-p.Bits())-2, staticBand(p)
		for _, band := range [][2]int{{low, size}, {0, low}} {
			if a, err := c.scan(ctx, p, band[0], band[1]); err != nil || a.IsValid() {
				return a, err
			}
		}
	}
	return netip.Addr{}, nil
}

// staticBand is how many addresses of a range are left for those who name theirs.
func staticBand(p netip.Prefix) int { return lowBand(1<<(32-p.Bits()), 16, 256) }

// scan tries the addresses from up to before to, counted from the first that may
// be given, beginning anywhere.
func (c clusterAddresses) scan(ctx context.Context, p netip.Prefix, from, to int) (netip.Addr, error) {
	n := to - from
	if n <= 0 {
		return netip.Addr{}, nil
	}
	base := p.Addr().As4()
	first, off := binary.BigEndian.Uint32(base[:])+1+uint32(from), rand.IntN(n)
	for i := range n {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], first+uint32((off+i)%n))
		a := netip.AddrFrom4(b)
		if taken, err := c.taken(ctx, a); err != nil {
			return netip.Addr{}, err
		} else if !taken {
			return a, nil
		}
	}
	return netip.Addr{}, nil
}

// choose gives a Service its address, or judges the one that it names.
func (c clusterAddresses) choose(ctx context.Context, svc, old *corev1.Service) error {
	if !hasClusterIP(svc) {
		if svc.Spec.ClusterIP == corev1.ClusterIPNone && len(svc.Spec.ClusterIPs) == 0 {
			svc.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
		}
		return nil
	}
	if svc.Spec.ClusterIP == "" && len(svc.Spec.ClusterIPs) > 0 {
		return nil // validation refuses the two lists that disagree
	}
	if svc.Spec.ClusterIP == "" {
		a, err := c.any(ctx)
		if err == nil && !a.IsValid() {
			err = fmt.Errorf("range is full")
		}
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP: %w", err))
		}
		svc.Spec.ClusterIP, svc.Spec.ClusterIPs = a.String(), []string{a.String()}
		return nil
	}
	if len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
	if old != nil && old.Spec.ClusterIP == svc.Spec.ClusterIP {
		return nil // its own
	}
	a, err := netip.ParseAddr(svc.Spec.ClusterIP)
	if err != nil {
		return nil // validation words this one
	}
	why, err := c.claim(ctx, a)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if why == "" {
		return nil
	}
	return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), svc.Name, field.ErrorList{
		field.Invalid(field.NewPath("spec", "clusterIPs"), svc.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: %s", svc.Spec.ClusterIP, why)),
	})
}

// Beside implements resource.Companions: a Service's IPAddresses come and go with
// its addresses.
func (c clusterAddresses) Beside(ctx context.Context, before, after object.Object) (all []resource.Companion, err error) {
	old, _ := before.(*corev1.Service)
	svc, _ := after.(*corev1.Service)
	had, has := networking.ClusterAddresses(old), networking.ClusterAddresses(svc)
	if slices.Equal(had, has) {
		return nil, nil
	}
	d := object.Of[*networkingv1.IPAddress](c.c.Scheme())
	for _, a := range has {
		if !slices.Contains(had, a) {
			all = append(all, resource.Companion{Definition: d, Create: networking.AddressOf(svc, a)})
		}
	}
	for _, a := range had {
		if slices.Contains(has, a) {
			continue
		}
		// One that is another's, or not there, is for the repair.
		ip, err := client.Get[*networkingv1.IPAddress](ctx, c.c, "", a.String())
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, err
		case networking.OfService(ip, old.Namespace, old.Name):
			all = append(all, resource.Companion{Definition: d, Delete: ip.Name})
		}
	}
	return all, nil
}
