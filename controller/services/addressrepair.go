package services

import (
	"context"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/kinds/networking"
	"sagong/object"
	"sagong/reconcile"
)

// leakGrace is how old an IPAddress gets before it goes for want of its Service,
// which other servers store after it.
const leakGrace = 60 * time.Second

// repairController handles Services by namespace and name, and IPAddresses by
// their name alone.
type repairController struct {
	services *reconcile.View[*corev1.Service]
	ips      *reconcile.View[*networkingv1.IPAddress]
	cidrs    *reconcile.View[*networkingv1.ServiceCIDR]
	events   client.Recorder
}

// NewAddressRepair returns the controller that holds Services and their
// IPAddresses together: the server writes both at once, but people delete and
// edit either.
func NewAddressRepair(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	c := &repairController{
		reconcile.ViewOf[*corev1.Service](h), reconcile.ViewOf[*networkingv1.IPAddress](h), reconcile.ViewOf[*networkingv1.ServiceCIDR](h), events,
	}
	c.services.Index(byAddress, func(s *corev1.Service) (all []string) {
		for _, a := range networking.ClusterAddresses(s) {
			all = append(all, a.String())
		}
		return all
	})
	return c
}

// byAddress is the index of Services by cluster address.
const byAddress = "cluster address"

func (c *repairController) Name() string { return "ipallocator-repair-controller" }

func (c *repairController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(c.services, func(old, new *corev1.Service, enqueue func(object.Key)) {
			had, has := networking.ClusterAddresses(old), networking.ClusterAddresses(new)
			if slices.Equal(had, has) {
				return
			}
			if new != nil {
				enqueue(object.KeyOf(new))
			}
			for _, a := range had {
				enqueue(object.Key{Name: a.String()})
			}
		}),
		reconcile.On(c.ips, func(old, new *networkingv1.IPAddress, enqueue func(object.Key)) {
			ip := new
			if ip == nil {
				ip = old
			}
			enqueue(object.Key{Name: ip.Name})
			for _, s := range c.services.By(byAddress, ip.Name) {
				enqueue(object.KeyOf(s))
			}
		}),
		reconcile.On(c.cidrs, func(old, new *networkingv1.ServiceCIDR, enqueue func(object.Key)) {
			if new == nil || old != nil && slices.Equal(old.Spec.CIDRs, new.Spec.CIDRs) {
				return
			}
			for _, s := range c.services.All() {
				if slices.ContainsFunc(networking.ClusterAddresses(s), func(a netip.Addr) bool { return networking.Covers(new, a) && c.missing(a) }) {
					enqueue(object.KeyOf(s))
				}
			}
		}),
	}
}

func (c *repairController) missing(a netip.Addr) bool {
	_, ok := c.ips.Get("", a.String())
	return !ok
}

func (c *repairController) Outputs() []reconcile.Output { return nil }

func (c *repairController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	if key.Namespace == "" {
		return c.address(ctx, w, key.Name)
	}
	s, ok := c.services.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	for _, a := range networking.ClusterAddresses(s) {
		if err := c.service(ctx, w, s, a); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{}, nil
}

// service makes sure that an address of a Service has an IPAddress which says so.
func (c *repairController) service(ctx context.Context, w client.Client, s *corev1.Service, a netip.Addr) error {
	say := func(reason, format string, args ...any) {
		c.events.Eventf(s, corev1.EventTypeWarning, reason, format, args...)
	}
	if ip, ok := c.ips.Get("", a.String()); ok && sound(ip, s) {
		return nil
	}
	// The two views may be of different moments: what is stored decides.
	live, err := client.Get[*corev1.Service](ctx, w, s.Namespace, s.Name)
	if apierrors.IsNotFound(err) || err == nil && !slices.Contains(networking.ClusterAddresses(live), a) {
		return nil
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(c.cidrs.All(), func(x *networkingv1.ServiceCIDR) bool { return networking.Covers(x, a) }) {
		say("ClusterIPOutOfRange", "Cluster IP [%v]: %s is not within any configured Service CIDR; please recreate service", networking.Family(a), a)
		return nil
	}
	ip, err := client.Get[*networkingv1.IPAddress](ctx, w, "", a.String())
	switch {
	case apierrors.IsNotFound(err):
		say("ClusterIPNotAllocated", "Cluster IP [%v]: %s is not allocated; repairing", networking.Family(a), a)
		_, err := client.Create(ctx, w, networking.AddressOf(s, a))
		return err
	case err != nil:
		return err
	case !networking.OfService(ip, "", ""):
		say("ClusterIPNotAllocated", "the ClusterIP [%v]: %s for Service %s/%s has a wrong reference; repairing", networking.Family(a), a, s.Namespace, s.Name)
		return c.again(ctx, w, ip, s, a)
	case !networking.OfService(ip, s.Namespace, s.Name):
		other, err := client.Get[*corev1.Service](ctx, w, ip.Spec.ParentRef.Namespace, ip.Spec.ParentRef.Name)
		switch {
		case apierrors.IsNotFound(err):
			say("ClusterIPNotAllocated", "the ClusterIP [%v]: %s for Service %s/%s has a wrong reference; repairing", networking.Family(a), a, s.Namespace, s.Name)
			return c.again(ctx, w, ip, s, a)
		case err != nil:
			return err
		case slices.Contains(networking.ClusterAddresses(other), a):
			say("ClusterIPAlreadyAllocated", "Cluster IP [%v]:%s was assigned to multiple services; please recreate service", networking.Family(a), a)
			return nil
		}
		return nil // the IPAddress goes for its wrong reference, and is made anew for this one then
	case !sound(ip, s):
		return c.again(ctx, w, ip, s, a)
	}
	return nil
}

// sound says whether an IPAddress is as the server makes it for a Service.
func sound(ip *networkingv1.IPAddress, s *corev1.Service) bool {
	a, err := netip.ParseAddr(ip.Name)
	return err == nil && networking.OfService(ip, s.Namespace, s.Name) && ip.Labels[networkingv1.LabelManagedBy] == networking.AddressManager &&
		ip.Labels[networkingv1.LabelIPAddressFamily] == string(networking.Family(a))
}

func (c *repairController) again(ctx context.Context, w client.Client, ip *networkingv1.IPAddress, s *corev1.Service, a netip.Addr) error {
	if err := remove(ctx, w, ip); err != nil {
		return err
	}
	_, err := client.Create(ctx, w, networking.AddressOf(s, a))
	return err
}

func remove(ctx context.Context, w client.Client, ip *networkingv1.IPAddress) error {
	err := client.Delete[*networkingv1.IPAddress](ctx, w, "", ip.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(ip.UID))})
	return ignore(err, apierrors.IsNotFound)
}

// address removes an IPAddress that no Service has.
func (c *repairController) address(ctx context.Context, w client.Client, name string) (reconcile.Result, error) {
	ip, ok := c.ips.Get("", name)
	if !ok || ip.DeletionTimestamp != nil || ip.Labels[networkingv1.LabelManagedBy] != networking.AddressManager {
		return reconcile.Result{}, nil
	}
	say := func(reason, format string, args ...any) {
		c.events.Eventf(ip, corev1.EventTypeWarning, reason, format, args...)
	}
	if !networking.OfService(ip, "", "") {
		say("IPAddressNotAllocated", "IPAddress %s appears to have been modified, not referencing a Service %v: cleaning up", ip.Name, ip.Spec.ParentRef)
		return reconcile.Result{}, remove(ctx, w, ip)
	}
	ref := ip.Spec.ParentRef
	a, _ := netip.ParseAddr(ip.Name)
	if s, ok := c.services.Get(ref.Namespace, ref.Name); ok && slices.Contains(networking.ClusterAddresses(s), a) {
		return reconcile.Result{}, nil
	}
	// The server deletes both at once: again, what is stored decides.
	if live, err := client.Get[*networkingv1.IPAddress](ctx, w, "", name); err != nil || live.UID != ip.UID {
		return reconcile.Result{}, ignore(err, apierrors.IsNotFound)
	}
	s, err := client.Get[*corev1.Service](ctx, w, ref.Namespace, ref.Name)
	switch {
	case apierrors.IsNotFound(err):
		if wait := leakGrace - time.Since(ip.CreationTimestamp.Time); wait > 0 {
			return reconcile.Result{After: wait}, nil
		}
		say("IPAddressNotAllocated", "IPAddress: %s for Service %s/%s appears to have leaked: cleaning up", ip.Name, ref.Namespace, ref.Name)
	case err != nil:
		return reconcile.Result{}, err
	case slices.Contains(networking.ClusterAddresses(s), a):
		return reconcile.Result{}, nil
	default:
		say("IPAddressWrongReference", "IPAddress: %s for Service %s/%s has a wrong reference; cleaning up", ip.Name, ref.Namespace, ref.Name)
	}
	return reconcile.Result{}, remove(ctx, w, ip)
}
