package services

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

const (
	// maxAddresses is how many addresses an Endpoints object holds; what is
	// beyond is only in EndpointSlices.
	maxAddresses     = 1000
	managedByLabel   = "endpoints.kubernetes.io/managed-by"
	managedByUs      = "endpoint-controller"
	overCapacity     = corev1.EndpointsOverCapacity
	leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
)

type endpointsController struct {
	matcher
	endpoints *reconcile.View[*corev1.Endpoints]
	events    client.Recorder
}

// NewEndpoints returns the controller of the core/v1 Endpoints of Services with
// a selector, for clients that do not read EndpointSlices.
func NewEndpoints(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	return &endpointsController{matcher: newMatcher(h), endpoints: reconcile.ViewOf[*corev1.Endpoints](h), events: events}
}

func (c *endpointsController) Name() string { return "endpoints" }

func (c *endpointsController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.Self(c.services),
		c.affected(),
		reconcile.On(c.endpoints, func(old, new *corev1.Endpoints, enqueue func(object.Key)) {
			switch {
			case new == nil:
				enqueue(object.KeyOf(old))
			case new.Labels[managedByLabel] == managedByUs:
				enqueue(object.KeyOf(new))
			}
		}),
	}
}

func (c *endpointsController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.endpoints.Definition().GVK().GroupKind(), Field: "of Services with a selector"}}
}

func (c *endpointsController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	s, ok := c.services.Get(key.Namespace, key.Name)
	current, exists := c.endpoints.Get(key.Namespace, key.Name)
	if !ok {
		if !exists {
			return reconcile.Result{}, nil
		}
		uid := current.UID
		err := client.Delete[*corev1.Endpoints](ctx, w, key.Namespace, key.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if apierrors.IsNotFound(err) {
			err = nil
		}
		return reconcile.Result{}, err
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.Selector == nil || s.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	var pods []*corev1.Pod
	if len(s.Spec.Selector) > 0 {
		pods = c.selectedBy(s)
	}
	next := planEndpoints(s, pods, current)
	if next == nil {
		return reconcile.Result{}, nil
	}
	var err error
	if exists {
		if _, err = client.Update(ctx, w, next); err != nil {
			c.events.Eventf(current, corev1.EventTypeWarning, "FailedToUpdateEndpoint", "Failed to update endpoint %s/%s: %v", s.Namespace, s.Name, err)
		}
	} else if _, err = client.Create(ctx, w, next); err != nil {
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return reconcile.Result{}, nil
		}
		c.events.Eventf(s, corev1.EventTypeWarning, "FailedToCreateEndpoint", "Failed to create endpoint for service %s/%s: %v", s.Namespace, s.Name, err)
	}
	return reconcile.Result{}, err
}

// planEndpoints returns the Endpoints to write; nil when current (nil when there
// is none) says it all.
func planEndpoints(s *corev1.Service, pods []*corev1.Pod, current *corev1.Endpoints) *corev1.Endpoints {
	subsets := subsetsOf(s, pods)
	truncated := truncate(subsets)
	l := maps.Clone(s.Labels)
	if l == nil {
		l = map[string]string{}
	}
	delete(l, corev1.IsHeadlessService)
	if headless(s) {
		l[corev1.IsHeadlessService] = ""
	}
	l[managedByLabel] = managedByUs
	next := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
	if current != nil {
		next = current.DeepCopy()
	}
	noted := next.Annotations[overCapacity]
	switch {
	case truncated && noted != "truncated":
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		next.Annotations[overCapacity] = "truncated"
	case !truncated && noted != "":
		delete(next.Annotations, overCapacity)
	case current != nil && sameMap(current.Labels, l) && equality.Semantic.DeepEqual(current.Subsets, subsets):
		return nil
	}
	next.Labels, next.Subsets = l, subsets
	return next
}

// subsetsOf groups the addresses of a Service by the ports they have.
func subsetsOf(s *corev1.Service, pods []*corev1.Pod) []corev1.EndpointSubset {
	type place struct {
		address corev1.EndpointAddress
		ports   []corev1.EndpointPort
		ready   bool
	}
	families := familiesOf(s)
	groups := map[string][]place{}
	for _, p := range pods {
		if !belongs(p, s.Spec.PublishNotReadyAddresses) {
			continue
		}
		ip := addressOf(p, families[0])
		if ip == "" {
			continue
		}
		a := corev1.EndpointAddress{
			IP: ip, Hostname: hostnameOf(p, s),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		}
		if p.Spec.NodeName != "" {
			a.NodeName = &p.Spec.NodeName
		}
		ports := endpointPorts(s, p)
		if len(ports) == 0 && (len(s.Spec.Ports) > 0 || !headless(s)) {
			continue
		}
		var key strings.Builder
		for _, port := range ports {
			key.WriteString(port.String())
			key.WriteByte(0)
		}
		groups[key.String()] = append(groups[key.String()], place{a, ports, s.Spec.PublishNotReadyAddresses || ready(p)})
	}
	var subsets []corev1.EndpointSubset
	for _, k := range sortedKeys(groups) {
		set := corev1.EndpointSubset{Ports: groups[k][0].ports}
		for _, at := range groups[k] {
			if at.ready {
				set.Addresses = append(set.Addresses, at.address)
			} else {
				set.NotReadyAddresses = append(set.NotReadyAddresses, at.address)
			}
		}
		for _, all := range [][]corev1.EndpointAddress{set.Addresses, set.NotReadyAddresses} {
			slices.SortFunc(all, func(a, b corev1.EndpointAddress) int {
				return cmp.Or(strings.Compare(a.IP, b.IP), strings.Compare(string(a.TargetRef.UID), string(b.TargetRef.UID)))
			})
		}
		subsets = append(subsets, set)
	}
	return subsets
}

func endpointPorts(s *corev1.Service, p *corev1.Pod) []corev1.EndpointPort {
	var ports []corev1.EndpointPort
	for i := range s.Spec.Ports {
		sp := &s.Spec.Ports[i]
		n, err := targetPort(p, sp)
		if err != nil {
			continue
		}
		ports = append(ports, corev1.EndpointPort{Name: sp.Name, Port: n, Protocol: sp.Protocol, AppProtocol: sp.AppProtocol})
	}
	slices.SortFunc(ports, func(a, b corev1.EndpointPort) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port), strings.Compare(string(a.Protocol), string(b.Protocol)))
	})
	return ports
}

// truncate cuts subsets to maxAddresses in all, ready ones first, shared out
// among the subsets by their size. It says whether it had to.
func truncate(subsets []corev1.EndpointSubset) bool {
	readyCount, total := 0, 0
	for i := range subsets {
		readyCount += len(subsets[i].Addresses)
		total += len(subsets[i].Addresses) + len(subsets[i].NotReadyAddresses)
	}
	if total <= maxAddresses {
		return false
	}
	roomReady := min(readyCount, maxAddresses)
	cut(subsets, roomReady, readyCount, func(s *corev1.EndpointSubset) *[]corev1.EndpointAddress { return &s.Addresses })
	cut(subsets, maxAddresses-roomReady, total-readyCount, func(s *corev1.EndpointSubset) *[]corev1.EndpointAddress { return &s.NotReadyAddresses })
	return true
}

// cut leaves room addresses of count, each subset its share.
func cut(subsets []corev1.EndpointSubset, room, count int, list func(*corev1.EndpointSubset) *[]corev1.EndpointAddress) {
	left := room
	for i := range subsets {
		l := list(&subsets[i])
		if count == 0 {
			return
		}
		n := min((len(*l)*room+count-1)/count, left, len(*l))
		*l = (*l)[:n:n]
		left -= n
	}
}
