package services

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

const (
	managedBySlices  = "endpointslice-controller.k8s.io"
	managedByMirror  = "endpointslicemirroring-controller.k8s.io"
	triggerTime      = corev1.EndpointsLastChangeTriggerTime
	managedByService = "slices-of" // index of slices by manager and Service
)

type endpointSliceController struct {
	matcher
	slices *reconcile.View[*discoveryv1.EndpointSlice]
	nodes  *reconcile.View[*corev1.Node]
	events client.Recorder
}

// NewEndpointSlice returns the controller of the EndpointSlices of Services with
// a selector.
func NewEndpointSlice(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	c := &endpointSliceController{
		matcher: newMatcher(h), events: events,
		slices: sliceView(h), nodes: reconcile.ViewOf[*corev1.Node](h),
	}
	c.pods.Index("node", func(p *corev1.Pod) []string { return []string{p.Spec.NodeName} })
	return c
}

// sliceView is the view of slices with their index by manager and Service.
func sliceView(h *reconcile.Hub) *reconcile.View[*discoveryv1.EndpointSlice] {
	v := reconcile.ViewOf[*discoveryv1.EndpointSlice](h)
	v.Index(managedByService, func(s *discoveryv1.EndpointSlice) []string {
		return []string{sliceIndexKey(s.Labels[discoveryv1.LabelManagedBy], s.Namespace, s.Labels[discoveryv1.LabelServiceName])}
	})
	return v
}

func sliceIndexKey(manager, namespace, service string) string {
	return manager + "/" + namespace + "/" + service
}

// slicesInput maps a slice's changes to its Service (or Endpoints) for one manager.
func slicesInput(v *reconcile.View[*discoveryv1.EndpointSlice], manager string) reconcile.Input {
	return reconcile.On(v, func(old, new *discoveryv1.EndpointSlice, enqueue func(object.Key)) {
		for _, s := range []*discoveryv1.EndpointSlice{old, new} {
			if s != nil && s.Labels[discoveryv1.LabelManagedBy] == manager {
				if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
					enqueue(object.Key{Namespace: s.Namespace, Name: name})
				}
			}
		}
	})
}

func (c *endpointSliceController) Name() string { return "endpointslice" }

func (c *endpointSliceController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.Self(c.services),
		c.affected(),
		slicesInput(c.slices, managedBySlices),
		// A node's zone shows in its endpoints; its first appearance lets them in.
		reconcile.On(c.nodes, func(old, new *corev1.Node, enqueue func(object.Key)) {
			if new == nil || (old != nil && old.Labels[corev1.LabelTopologyZone] == new.Labels[corev1.LabelTopologyZone]) {
				return
			}
			for _, p := range c.pods.By("node", new.Name) {
				c.selecting(p, enqueue)
			}
		}),
	}
}

func (c *endpointSliceController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.slices.Definition().GVK().GroupKind(), Field: "managed by " + managedBySlices}}
}

func (c *endpointSliceController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	s, ok := c.services.Get(key.Namespace, key.Name)
	if !ok || s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.Selector == nil || s.DeletionTimestamp != nil {
		return reconcile.Result{}, nil // deletion of slices is the garbage collector's
	}
	existing := c.slices.By(managedByService, sliceIndexKey(managedBySlices, s.Namespace, s.Name))
	existing = slices.DeleteFunc(existing, func(e *discoveryv1.EndpointSlice) bool { return e.DeletionTimestamp != nil })
	var families []discoveryv1.AddressType
	for _, f := range familiesOf(s) {
		families = append(families, discoveryv1.AddressType(f))
	}
	var pods []*corev1.Pod
	if len(s.Spec.Selector) > 0 {
		pods = c.selectedBy(s)
	}
	wanted := wantedOf(s, pods, func(name string) *corev1.Node {
		n, _ := c.nodes.Get("", name)
		return n
	})
	ref := metav1.NewControllerRef(s, corev1.SchemeGroupVersion.WithKind("Service"))
	plan := planSlices(existing, wanted, families,
		func(f discoveryv1.AddressType) *discoveryv1.EndpointSlice {
			return newSlice(s.Namespace, s.Name, f, ref)
		},
		func(e *discoveryv1.EndpointSlice) bool { return dressSlice(e, sliceLabels(s), nil) })
	if err := writeSlices(ctx, w, c.slices.Definition(), plan); err != nil {
		c.events.Eventf(s, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error updating Endpoint Slices for Service %s/%s: %v", s.Namespace, s.Name, err)
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, nil
}

// wantedOf groups the endpoints of a Service by family and resolved ports.
func wantedOf(s *corev1.Service, pods []*corev1.Pod, node func(string) *corev1.Node) []wantedSlices {
	var wanted []wantedSlices
	at := map[string]int{}
	for _, p := range pods {
		if !belongs(p, true) {
			continue
		}
		ports := portsOn(s, p)
		for _, f := range familiesOf(s) {
			e, ok := endpointOf(s, p, f, node)
			if !ok {
				continue
			}
			k := groupKey(discoveryv1.AddressType(f), ports)
			i, have := at[k]
			if !have {
				i = len(wanted)
				at[k] = i
				wanted = append(wanted, wantedSlices{family: discoveryv1.AddressType(f), ports: ports, most: maxEndpoints})
			}
			wanted[i].endpoints = append(wanted[i].endpoints, e)
		}
	}
	return wanted
}

// portsOn resolves the Service's ports on a pod, leaving out what the pod lacks.
func portsOn(s *corev1.Service, p *corev1.Pod) []discoveryv1.EndpointPort {
	ports := []discoveryv1.EndpointPort{}
	for i := range s.Spec.Ports {
		sp := &s.Spec.Ports[i]
		n, err := targetPort(p, sp)
		if err != nil {
			continue
		}
		name, protocol := sp.Name, sp.Protocol
		ports = append(ports, discoveryv1.EndpointPort{Name: &name, Port: &n, Protocol: &protocol, AppProtocol: sp.AppProtocol})
	}
	return ports
}

func endpointOf(s *corev1.Service, p *corev1.Pod, family corev1.IPFamily, node func(string) *corev1.Node) (discoveryv1.Endpoint, bool) {
	address := addressOf(p, family)
	if address == "" {
		return discoveryv1.Endpoint{}, false
	}
	serving, terminating := ready(p), p.DeletionTimestamp != nil
	isReady := s.Spec.PublishNotReadyAddresses || (serving && !terminating)
	e := discoveryv1.Endpoint{
		Addresses:  []string{address},
		Conditions: discoveryv1.EndpointConditions{Ready: &isReady, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
	}
	if p.Spec.NodeName != "" {
		n := node(p.Spec.NodeName)
		if n == nil {
			// Its node is gone: nothing answers at that address any more.
			return discoveryv1.Endpoint{}, false
		}
		e.NodeName = &p.Spec.NodeName
		if zone := n.Labels[corev1.LabelTopologyZone]; zone != "" {
			e.Zone = &zone
		}
	}
	if h := hostnameOf(p, s); h != "" {
		e.Hostname = &h
	}
	if isReady {
		e.Hints = hintsOf(s, &e)
	}
	return e, true
}

// hintsOf says for which clients a ready endpoint is meant, as its Service would
// have traffic distributed; nil for all.
func hintsOf(s *corev1.Service, e *discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	var h discoveryv1.EndpointHints
	switch deref(s.Spec.TrafficDistribution) {
	case corev1.ServiceTrafficDistributionPreferSameNode:
		if e.NodeName != nil {
			h.ForNodes = []discoveryv1.ForNode{{Name: *e.NodeName}}
		}
	case corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferClose:
	default:
		return nil
	}
	if e.Zone != nil {
		h.ForZones = []discoveryv1.ForZone{{Name: *e.Zone}}
	}
	if h.ForNodes == nil && h.ForZones == nil {
		return nil
	}
	return &h
}

func newSlice(namespace, service string, f discoveryv1.AddressType, owner *metav1.OwnerReference) *discoveryv1.EndpointSlice {
	prefix := service + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) > 0 {
		prefix = service
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, GenerateName: prefix, OwnerReferences: []metav1.OwnerReference{*owner}},
		AddressType: f,
	}
}

// sliceLabels are the Service's labels and those that say whose slices they are.
func sliceLabels(s *corev1.Service) map[string]string {
	l := make(map[string]string, len(s.Labels)+3)
	maps.Copy(l, s.Labels)
	delete(l, corev1.IsHeadlessService)
	if headless(s) {
		l[corev1.IsHeadlessService] = ""
	}
	l[discoveryv1.LabelServiceName] = s.Name
	l[discoveryv1.LabelManagedBy] = managedBySlices
	return l
}

// dressSlice sets labels and, unless nil, annotations; it says whether that
// changed the slice.
func dressSlice(e *discoveryv1.EndpointSlice, l, annotations map[string]string) bool {
	changed := false
	if !sameMap(e.Labels, l) {
		e.Labels, changed = l, true
	}
	if annotations != nil && !sameMap(e.Annotations, annotations) {
		e.Annotations, changed = annotations, true
	}
	return changed
}

// writeSlices carries out a plan in one batch. Creations come first, so that a
// reader never sees endpoints missing that only move.
func writeSlices(ctx context.Context, w client.Client, def *object.Definition, plan slicePlan) error {
	var writes []client.Write
	for _, s := range plan.create {
		writes = append(writes, client.Write{Op: client.OpCreate, Definition: def, Object: s})
	}
	for _, s := range plan.update {
		writes = append(writes, client.Write{Op: client.OpUpdate, Definition: def, Object: s})
	}
	for _, s := range plan.delete {
		uid := s.UID
		writes = append(writes, client.Write{
			Op: client.OpDelete, Definition: def,
			Object: &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, UID: uid}},
			Delete: metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
		})
	}
	if len(writes) == 0 {
		return nil
	}
	ops := make([]client.Op, len(writes))
	for i := range writes {
		ops[i] = writes[i].Op
	}
	for i, r := range w.Batch(ctx, writes) {
		switch {
		case r.Err == nil:
		case ops[i] == client.OpDelete && apierrors.IsNotFound(r.Err):
		case apierrors.HasStatusCause(r.Err, corev1.NamespaceTerminatingCause):
			return nil // the Service will go too
		default:
			return fmt.Errorf("cannot write endpoint slice: %w", r.Err)
		}
	}
	return nil
}
