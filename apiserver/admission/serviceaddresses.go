package admission

import (
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// ServiceAddresses gives Services their cluster address and node ports. Upstream
// does this in the storage of Services.
//
// The ports that stored Services hold are known from a view; what writes under
// way have taken is reserved on top, until the view shows the write or it has
// failed. Addresses are settled by the write itself (clusterAddresses).
type ServiceAddresses struct {
	services  *reconcile.View[*corev1.Service]
	addresses clusterAddresses
	ports     *portPool

	mu       sync.Mutex
	reserved map[*resource.Attributes]*taken
	// written are reservations of writes that succeeded and that the view has
	// not shown yet; seen is the last revision it has.
	written []*taken
	seen    object.Revision
}

type taken struct {
	revision object.Revision // of the write, once it is done
	ports    []int32
}

// NewServiceAddresses hands out addresses of the ServiceCIDRs, each with an
// IPAddress, and ports from first to last.
func NewServiceAddresses(e *resource.Engine, c client.Client, h *reconcile.Hub, first, last int) *ServiceAddresses {
	s := &ServiceAddresses{
		services:  reconcile.ViewOf[*corev1.Service](h),
		addresses: clusterAddresses{c, e},
		ports:     newPortPool(int32(first), int32(last)),
		reserved:  map[*resource.Attributes]*taken{},
	}
	e.Accompany(object.Of[*corev1.Service](e.Scheme()), s.addresses)
	s.services.OnChange(func(old, new *corev1.Service) {
		// Take before giving back: an unchanged address is never free between.
		if new != nil {
			s.hold(new, 1)
		}
		if old != nil {
			s.hold(old, -1)
		}
		s.shown(old, new)
	})
	return s
}

// shown gives back the reservations of writes that the view holds by now.
func (s *ServiceAddresses) shown(objs ...*corev1.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range objs {
		if o != nil {
			s.seen = max(s.seen, object.RevisionOf(o))
		}
	}
	s.written = slices.DeleteFunc(s.written, func(t *taken) bool {
		if t.revision > s.seen {
			return false
		}
		s.release(t)
		return true
	})
}

// Name implements Plugin.
func (*ServiceAddresses) Name() string { return "ServiceAddresses" }

func (s *ServiceAddresses) hold(svc *corev1.Service, n int) {
	for _, p := range nodePorts(svc) {
		s.ports.count(p, n)
	}
}

func nodePorts(svc *corev1.Service) []int32 {
	var all []int32
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 && !slices.Contains(all, p.NodePort) {
			all = append(all, p.NodePort)
		}
	}
	if p := svc.Spec.HealthCheckNodePort; p != 0 {
		all = append(all, p)
	}
	return all
}

func hasClusterIP(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeExternalName && svc.Spec.ClusterIP != corev1.ClusterIPNone
}

func wantsNodePorts(svc *corev1.Service) bool {
	switch svc.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

func wantsHealthPort(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// Admit implements Mutator.
func (s *ServiceAddresses) Admit(ctx context.Context, a *resource.Attributes) error {
	if !on(a, "", "services") || a.Operation != resource.Create && a.Operation != resource.Update {
		return nil
	}
	if err := s.services.Need(ctx); err != nil {
		return apierrors.NewInternalError(fmt.Errorf("cannot read the Services: %w", err))
	}
	svc := a.Object.(*corev1.Service)
	old, _ := a.Old.(*corev1.Service)
	if old != nil {
		keepAllocated(svc, old)
		dropForType(svc, old)
	}
	if errs := s.families(svc); len(errs) > 0 {
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), svc.Name, errs)
	}
	if err := s.addresses.choose(ctx, svc, old); err != nil {
		return err
	}
	t := &taken{}
	if errs := s.takePorts(svc, old, t); len(errs) > 0 {
		s.release(t)
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), svc.Name, errs)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if again := s.reserved[a]; again != nil {
		// The write is tried once more, against a newer object.
		s.release(again)
	}
	s.reserved[a] = t
	return nil
}

// AfterWrite implements resource.AfterWrite: the view holds what a stored
// Service has by the time its write is answered, or soon; until then the
// reservation stays.
func (s *ServiceAddresses) AfterWrite(_ context.Context, a *resource.Attributes, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.reserved[a]
	delete(s.reserved, a)
	if t == nil {
		return
	}
	if err == nil && !a.DryRun {
		if t.revision = object.RevisionOf(a.Object.(*corev1.Service)); t.revision > s.seen {
			s.written = append(s.written, t)
			return
		}
	}
	s.release(t)
}

func (s *ServiceAddresses) release(t *taken) {
	for _, p := range t.ports {
		s.ports.count(p, -1)
	}
}

// keepAllocated fills in what an update leaves out: clients that wrote a
// Service without its allocated values mean to keep them.
func keepAllocated(svc, old *corev1.Service) {
	if hasClusterIP(old) && hasClusterIP(svc) {
		if svc.Spec.ClusterIP == "" {
			svc.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(svc.Spec.ClusterIPs) == 0 && svc.Spec.ClusterIP == old.Spec.ClusterIP {
			svc.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	}
	if wantsNodePorts(old) && wantsNodePorts(svc) {
		type key struct {
			protocol corev1.Protocol
			port     int32
		}
		used := map[int32]bool{}
		had := map[key]int32{}
		for _, p := range old.Spec.Ports {
			had[key{p.Protocol, p.Port}] = p.NodePort
		}
		for _, p := range svc.Spec.Ports {
			used[p.NodePort] = true
		}
		for i := range svc.Spec.Ports {
			p := &svc.Spec.Ports[i]
			if n := had[key{p.Protocol, p.Port}]; p.NodePort == 0 && n != 0 && !used[n] {
				p.NodePort = n
				used[n] = true
			}
		}
	}
	if wantsHealthPort(old) && wantsHealthPort(svc) && svc.Spec.HealthCheckNodePort == 0 {
		svc.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

// dropForType clears what the old type had and the new one does not, where the
// client sent it back unchanged.
func dropForType(svc, old *corev1.Service) {
	if svc.Spec.Type == corev1.ServiceTypeExternalName && old.Spec.Type != corev1.ServiceTypeExternalName &&
		svc.Spec.ClusterIP == old.Spec.ClusterIP {
		svc.Spec.ClusterIP, svc.Spec.ClusterIPs, svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = "", nil, nil, nil
	}
	if wantsNodePorts(old) && !wantsNodePorts(svc) && svc.Spec.Type != corev1.ServiceTypeLoadBalancer &&
		slices.Equal(nodePortList(svc), nodePortList(old)) {
		for i := range svc.Spec.Ports {
			svc.Spec.Ports[i].NodePort = 0
		}
	}
	if wantsHealthPort(old) && !wantsHealthPort(svc) && svc.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		svc.Spec.HealthCheckNodePort = 0
	}
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer {
		svc.Spec.AllocateLoadBalancerNodePorts = nil
		if sameText(svc.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
			svc.Spec.LoadBalancerClass = nil
		}
	}
}

func nodePortList(svc *corev1.Service) []int32 {
	all := make([]int32, len(svc.Spec.Ports))
	for i, p := range svc.Spec.Ports {
		all[i] = p.NodePort
	}
	slices.Sort(all)
	return all
}

func sameText(a, b *string) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

// families settles the address families. The cluster has IPv4.
func (s *ServiceAddresses) families(svc *corev1.Service) field.ErrorList {
	spec := field.NewPath("spec")
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	single, require := corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyRequireDualStack
	bare := svc.Spec.ClusterIP == corev1.ClusterIPNone && len(svc.Spec.Selector) == 0
	if bare {
		// Its endpoints come from elsewhere and may be of either family.
		if svc.Spec.IPFamilyPolicy == nil {
			svc.Spec.IPFamilyPolicy = &require
		}
		if len(svc.Spec.IPFamilies) == 0 {
			svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
			if *svc.Spec.IPFamilyPolicy != single {
				svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, corev1.IPv6Protocol)
			}
		}
		if len(svc.Spec.ClusterIPs) == 0 {
			svc.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
		}
		return nil
	}
	if svc.Spec.IPFamilyPolicy == nil {
		svc.Spec.IPFamilyPolicy = &single
		if len(svc.Spec.IPFamilies) > 1 || len(svc.Spec.ClusterIPs) > 1 {
			svc.Spec.IPFamilyPolicy = &require
		}
	}
	var errs field.ErrorList
	if *svc.Spec.IPFamilyPolicy == require {
		errs = append(errs, field.Invalid(spec.Child("ipFamilyPolicy"), *svc.Spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, f := range svc.Spec.IPFamilies {
		if f != corev1.IPv4Protocol {
			errs = append(errs, field.Invalid(spec.Child("ipFamilies").Index(i), f, "not configured on this cluster"))
		}
	}
	if len(svc.Spec.IPFamilies) == 0 {
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	return errs
}

func (s *ServiceAddresses) takePorts(svc, old *corev1.Service, t *taken) field.ErrorList {
	var errs field.ErrorList
	var own []int32
	if old != nil {
		own = nodePorts(old)
	}
	mine := func(p int32) bool { return slices.Contains(own, p) || slices.Contains(t.ports, p) }
	ports := field.NewPath("spec", "ports")
	// The same number may serve two protocols.
	byPort := map[int32]int32{}
	if svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for i := range svc.Spec.Ports {
			p := &svc.Spec.Ports[i]
			if p.NodePort == 0 {
				continue
			}
			byPort[p.Port] = p.NodePort
			if mine(p.NodePort) {
				continue
			}
			if why := s.ports.take(p.NodePort); why != "" {
				errs = append(errs, field.Invalid(ports.Index(i).Child("nodePort"), p.NodePort, why))
				continue
			}
			t.ports = append(t.ports, p.NodePort)
		}
	}
	if wantsNodePorts(svc) {
		for i := range svc.Spec.Ports {
			p := &svc.Spec.Ports[i]
			if p.NodePort != 0 {
				continue
			}
			if shared, ok := byPort[p.Port]; ok && !takenBy(svc, shared, p.Protocol) {
				p.NodePort = shared
				continue
			}
			n, ok := s.ports.any()
			if !ok {
				errs = append(errs, field.InternalError(ports.Index(i).Child("nodePort"), fmt.Errorf("failed to allocate a nodePort: range is full")))
				continue
			}
			t.ports = append(t.ports, n)
			p.NodePort, byPort[p.Port] = n, n
		}
	}
	if wantsHealthPort(svc) {
		path := field.NewPath("spec", "healthCheckNodePort")
		switch n := svc.Spec.HealthCheckNodePort; {
		case n == 0:
			if n, ok := s.ports.any(); ok {
				t.ports = append(t.ports, n)
				svc.Spec.HealthCheckNodePort = n
			} else {
				errs = append(errs, field.InternalError(path, fmt.Errorf("failed to allocate a nodePort: range is full")))
			}
		case !mine(n):
			if why := s.ports.take(n); why != "" {
				errs = append(errs, field.Invalid(path, n, why))
			} else {
				t.ports = append(t.ports, n)
			}
		}
	}
	return errs
}

func takenBy(svc *corev1.Service, nodePort int32, protocol corev1.Protocol) bool {
	return slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == nodePort && p.Protocol == protocol })
}
