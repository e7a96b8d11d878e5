package services

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	netutils "k8s.io/utils/net"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

type mirrorController struct {
	services  *reconcile.View[*corev1.Service]
	endpoints *reconcile.View[*corev1.Endpoints]
	slices    *reconcile.View[*discoveryv1.EndpointSlice]
	events    client.Recorder
}

// NewEndpointSliceMirroring returns the controller that copies Endpoints which
// users write for Services without a selector into EndpointSlices.
func NewEndpointSliceMirroring(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	return &mirrorController{
		services: reconcile.ViewOf[*corev1.Service](h), endpoints: reconcile.ViewOf[*corev1.Endpoints](h),
		slices: sliceView(h), events: events,
	}
}

func (c *mirrorController) Name() string { return "endpointslice-mirroring" }

func (c *mirrorController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.Self(c.endpoints),
		reconcile.On(c.services, func(old, new *corev1.Service, enqueue func(object.Key)) {
			if old == nil || new == nil || (old.Spec.Selector == nil) != (new.Spec.Selector == nil) {
				s := new
				if s == nil {
					s = old
				}
				enqueue(object.KeyOf(s))
			}
		}),
		slicesInput(c.slices, managedByMirror),
	}
}

func (c *mirrorController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.slices.Definition().GVK().GroupKind(), Field: "managed by " + managedByMirror}}
}

func (c *mirrorController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	existing := c.slices.By(managedByService, sliceIndexKey(managedByMirror, key.Namespace, key.Name))
	existing = slices.DeleteFunc(existing, func(e *discoveryv1.EndpointSlice) bool { return e.DeletionTimestamp != nil })
	ep, ok := c.endpoints.Get(key.Namespace, key.Name)
	s, okService := c.services.Get(key.Namespace, key.Name)
	if !ok || !okService || s.Spec.Selector != nil || !mirrored(ep) || ep.DeletionTimestamp != nil {
		return reconcile.Result{}, writeSlices(ctx, w, c.slices.Definition(), slicePlan{delete: existing})
	}
	wanted, families, invalid, skipped := wantedOfEndpoints(ep)
	if invalid > 0 {
		c.events.Eventf(ep, corev1.EventTypeWarning, "InvalidIPAddress", "Skipped %d invalid IP addresses when mirroring to EndpointSlices", invalid)
	}
	if skipped > invalid {
		c.events.Eventf(ep, corev1.EventTypeWarning, "TooManyAddressesToMirror", "A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", maxAddresses, skipped)
	}
	ref := metav1.NewControllerRef(ep, corev1.SchemeGroupVersion.WithKind("Endpoints"))
	l, a := mirrorLabels(ep), mirrorAnnotations(ep)
	plan := planSlices(existing, wanted, families,
		func(f discoveryv1.AddressType) *discoveryv1.EndpointSlice {
			return newSlice(ep.Namespace, ep.Name, f, ref)
		},
		func(e *discoveryv1.EndpointSlice) bool { return dressSlice(e, maps.Clone(l), maps.Clone(a)) })
	if err := writeSlices(ctx, w, c.slices.Definition(), plan); err != nil {
		c.events.Eventf(ep, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error updating EndpointSlices for Endpoints %s/%s: %v", ep.Namespace, ep.Name, err)
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, nil
}

// mirrored says whether Endpoints are a user's and wanted as slices: not made by
// this system, not a leader lock, not opted out.
func mirrored(ep *corev1.Endpoints) bool {
	_, leader := ep.Annotations[leaderAnnotation]
	return !leader && ep.Labels[discoveryv1.LabelSkipMirror] != "true" && ep.Labels[managedByLabel] != managedByUs
}

func mirrorLabels(ep *corev1.Endpoints) map[string]string {
	l := make(map[string]string, len(ep.Labels)+2)
	maps.Copy(l, ep.Labels)
	l[discoveryv1.LabelServiceName] = ep.Name
	l[discoveryv1.LabelManagedBy] = managedByMirror
	return l
}

func mirrorAnnotations(ep *corev1.Endpoints) map[string]string {
	a := map[string]string{}
	for k, v := range ep.Annotations {
		if k != corev1.LastAppliedConfigAnnotation && k != triggerTime {
			a[k] = v
		}
	}
	return a
}

// wantedOfEndpoints turns subsets into slices, at most maxAddresses of each. It
// counts the addresses that are none, and all that were left out.
func wantedOfEndpoints(ep *corev1.Endpoints) (wanted []wantedSlices, families []discoveryv1.AddressType, invalid, skipped int) {
	at := map[string]int{}
	for _, set := range ep.Subsets {
		ports := []discoveryv1.EndpointPort{}
		for _, p := range set.Ports {
			ports = append(ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol})
		}
		count := 0
		add := func(a *corev1.EndpointAddress, isReady bool) {
			if count == maxAddresses {
				return
			}
			ip := netutils.ParseIPSloppy(a.IP)
			if ip == nil {
				invalid++
				return
			}
			count++
			family := discoveryv1.AddressType(familyOf(ip.String()))
			if !slices.Contains(families, family) {
				families = append(families, family)
			}
			k := groupKey(family, ports)
			i, have := at[k]
			if !have {
				i = len(wanted)
				at[k] = i
				wanted = append(wanted, wantedSlices{family: family, ports: ports, most: maxAddresses})
			}
			e := discoveryv1.Endpoint{
				Addresses: []string{ip.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &isReady},
				TargetRef: a.TargetRef.DeepCopy(), NodeName: a.NodeName,
			}
			if a.Hostname != "" {
				e.Hostname = &a.Hostname
			}
			wanted[i].endpoints = append(wanted[i].endpoints, e)
		}
		for i := range set.Addresses {
			add(&set.Addresses[i], true)
		}
		for i := range set.NotReadyAddresses {
			add(&set.NotReadyAddresses[i], false)
		}
		skipped += len(set.Addresses) + len(set.NotReadyAddresses) - count
	}
	return wanted, families, invalid, skipped
}
