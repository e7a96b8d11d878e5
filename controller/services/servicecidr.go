package services

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/kinds/networking"
	"sagong/object"
	"sagong/reconcile"
)

const (
	cidrFinalizer = "networking.k8s.io/service-cidr-finalizer"
	// cidrGrace is how long a ServiceCIDR that nobody uses stays after it was
	// deleted: a Service may just be taking an address of it.
	cidrGrace = 10 * time.Second
)

type cidrController struct {
	cidrs  *reconcile.View[*networkingv1.ServiceCIDR]
	ips    *reconcile.View[*networkingv1.IPAddress]
	wanted []string // ranges of the default ServiceCIDR, none for without
	events client.Recorder
	odd    sync.Once // the default ServiceCIDR was found to differ
}

// NewServiceCIDR returns the controller that has ServiceCIDRs ready, lets them go
// when no address depends on them, and keeps the default one, of the range given
// (not valid: there is none to keep).
func NewServiceCIDR(h *reconcile.Hub, events client.Recorder, ranges netip.Prefix) reconcile.Controller {
	c := &cidrController{cidrs: reconcile.ViewOf[*networkingv1.ServiceCIDR](h), ips: reconcile.ViewOf[*networkingv1.IPAddress](h), events: events}
	if ranges.IsValid() {
		c.wanted = []string{ranges.String()}
	}
	return c
}

func (c *cidrController) Name() string { return "service-cidrs" }

func (c *cidrController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(c.cidrs, func(old, new *networkingv1.ServiceCIDR, enqueue func(object.Key)) {
			changed := new
			if changed == nil {
				changed = old
			}
			enqueue(object.KeyOf(changed))
			if old != nil && new != nil && slices.Equal(old.Spec.CIDRs, new.Spec.CIDRs) {
				return
			}
			// Those that wait for its coming, or lived in its shadow.
			for _, o := range c.cidrs.All() {
				if overlap(o, changed) {
					enqueue(object.KeyOf(o))
				}
			}
		}),
		reconcile.On(c.ips, func(old, new *networkingv1.IPAddress, enqueue func(object.Key)) {
			if old != nil && new != nil {
				return
			}
			for _, o := range c.cidrs.All() {
				// An address matters to those that are about to go alone.
				if o.DeletionTimestamp != nil {
					enqueue(object.KeyOf(o))
				}
			}
		}),
	}
}

func (c *cidrController) Outputs() []reconcile.Output {
	k := c.cidrs.Definition().GVK().GroupKind()
	return []reconcile.Output{{Kind: k, Field: "status"}, {Kind: k, Field: "finalizer " + cidrFinalizer}}
}

// Run has the default ServiceCIDR looked at where there is none.
func (c *cidrController) Run(_ context.Context, _ client.Client, enqueue func(object.Key)) error {
	enqueue(object.Key{Name: networking.DefaultServiceCIDR})
	return nil
}

func overlap(a, b *networkingv1.ServiceCIDR) bool {
	for _, p := range networking.Prefixes(a) {
		if slices.ContainsFunc(networking.Prefixes(b), p.Overlaps) {
			return true
		}
	}
	return false
}

func (c *cidrController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	o, ok := c.cidrs.Get("", key.Name)
	if !ok {
		if key.Name != networking.DefaultServiceCIDR || c.wanted == nil {
			return reconcile.Result{}, nil
		}
		_, err := client.Create(ctx, w, &networkingv1.ServiceCIDR{
			ObjectMeta: metav1.ObjectMeta{Name: networking.DefaultServiceCIDR}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: c.wanted},
		})
		return reconcile.Result{}, ignore(err, apierrors.IsAlreadyExists)
	}
	if o.DeletionTimestamp != nil {
		return c.letGo(ctx, w, o)
	}
	if o.Name == networking.DefaultServiceCIDR && c.wanted != nil && !slices.Equal(o.Spec.CIDRs, c.wanted) {
		c.odd.Do(func() {
			c.events.Eventf(o, corev1.EventTypeWarning, "KubernetesDefaultServiceCIDRInconsistent",
				"The default ServiceCIDR %v does not match the controller flag configurations %s", o.Spec.CIDRs, c.wanted)
		})
	}
	if !slices.Contains(o.Finalizers, cidrFinalizer) {
		o = o.DeepCopy()
		o.Finalizers = append(o.Finalizers, cidrFinalizer)
		made, err := client.Update(ctx, w, o)
		if err != nil {
			return reconcile.Result{}, ignore(err, apierrors.IsNotFound)
		}
		o = made
	}
	err := c.tell(ctx, w, o, metav1.Condition{
		Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, Message: "Kubernetes Service CIDR is ready",
	})
	if err != nil {
		c.events.Eventf(o, corev1.EventTypeWarning, "KubernetesServiceCIDRError", "The ServiceCIDR Status can not be set to Ready=True")
	}
	return reconcile.Result{}, err
}

// letGo takes the finalizer from a deleted ServiceCIDR, once each address that it
// gave is covered by another too.
func (c *cidrController) letGo(ctx context.Context, w client.Client, o *networkingv1.ServiceCIDR) (reconcile.Result, error) {
	if !slices.Contains(o.Finalizers, cidrFinalizer) {
		return reconcile.Result{}, nil
	}
	if c.needed(o) {
		return reconcile.Result{}, c.tell(ctx, w, o, metav1.Condition{
			Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionFalse, Reason: networkingv1.ServiceCIDRReasonTerminating,
			Message: "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
		})
	}
	if wait := cidrGrace - time.Since(o.DeletionTimestamp.Time); wait > 0 {
		return reconcile.Result{After: wait}, nil
	}
	o = o.DeepCopy()
	o.Finalizers = slices.DeleteFunc(o.Finalizers, func(f string) bool { return f == cidrFinalizer })
	_, err := client.Update(ctx, w, o)
	return reconcile.Result{}, ignore(err, apierrors.IsNotFound)
}

// needed says whether a Service would lose its range with o.
func (c *cidrController) needed(o *networkingv1.ServiceCIDR) bool {
	var others []netip.Prefix
	for _, x := range c.cidrs.All() {
		if x.Name != o.Name {
			others = append(others, networking.Prefixes(x)...)
		}
	}
	within := func(p netip.Prefix) bool {
		return slices.ContainsFunc(others, func(x netip.Prefix) bool { return x.Overlaps(p) && x.Bits() <= p.Bits() })
	}
	own := networking.Prefixes(o)
	if !slices.ContainsFunc(own, func(p netip.Prefix) bool { return !within(p) }) {
		return false
	}
	for _, ip := range c.ips.All() {
		a, err := netip.ParseAddr(ip.Name)
		if err != nil || ip.Labels[networkingv1.LabelManagedBy] != networking.AddressManager {
			continue
		}
		gives := func(p netip.Prefix) bool { return networking.Gives(p, a) }
		if slices.ContainsFunc(own, gives) && !slices.ContainsFunc(others, gives) {
			return true
		}
	}
	return false
}

func (c *cidrController) tell(ctx context.Context, w client.Client, o *networkingv1.ServiceCIDR, want metav1.Condition) error {
	o = o.DeepCopy()
	if !meta.SetStatusCondition(&o.Status.Conditions, want) {
		return nil
	}
	_, err := client.UpdateStatus(ctx, w, o)
	return ignore(err, apierrors.IsNotFound)
}

func ignore(err error, is func(error) bool) error {
	if is(err) {
		return nil
	}
	return err
}
