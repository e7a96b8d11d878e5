package dns

import (
	"cmp"
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"sagong/reconcile"
)

func ownerOf(namespace, name string) string { return namespace + "/" + name }

func (s *Server) known(owner string) *known {
	k := s.services[owner]
	if k == nil {
		k = &known{slices: map[string]*discoveryv1.EndpointSlice{}}
		s.services[owner] = k
	}
	return k
}

// update publishes the names of a Service.
func (s *Server) update(owner string) {
	k := s.services[owner]
	if k == nil {
		s.index.set(owner, nil)
		return
	}
	all := slices.SortedFunc(maps.Values(k.slices), func(a, b *discoveryv1.EndpointSlice) int {
		return cmp.Compare(a.Name, b.Name)
	})
	names, faults := serviceNames(s.zone.name, k.object, all)
	for _, f := range faults {
		s.cfg.Log.Warn("part of a Service has no name", "service", owner, "err", f)
	}
	s.index.set(owner, names)
	if k.object == nil && len(k.slices) == 0 {
		delete(s.services, owner)
	}
}

// SetService publishes a Service that is new or has changed.
func (s *Server) SetService(o *corev1.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := ownerOf(o.Namespace, o.Name)
	s.known(owner).object = o
	s.update(owner)
}

// DeleteService withdraws a Service's names.
func (s *Server) DeleteService(namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := ownerOf(namespace, name)
	if k := s.services[owner]; k != nil {
		k.object = nil
		s.update(owner)
	}
}

// SetEndpointSlice publishes an EndpointSlice that is new or has changed.
func (s *Server) SetEndpointSlice(o *discoveryv1.EndpointSlice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, owner := ownerOf(o.Namespace, o.Name), ""
	if name := o.Labels[discoveryv1.LabelServiceName]; name != "" {
		owner = ownerOf(o.Namespace, name)
	}
	if s.sliceOwner[key] != owner {
		s.removeSlice(key)
	}
	if owner == "" {
		return
	}
	s.sliceOwner[key] = owner
	s.known(owner).slices[key] = o
	// The names of other Services do not depend on their endpoints.
	if k := s.services[owner]; k.object != nil && isHeadless(k.object) {
		s.update(owner)
	}
}

// DeleteEndpointSlice withdraws what an EndpointSlice added.
func (s *Server) DeleteEndpointSlice(namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeSlice(ownerOf(namespace, name))
}

func (s *Server) removeSlice(key string) {
	owner, ok := s.sliceOwner[key]
	if !ok {
		return
	}
	delete(s.sliceOwner, key)
	if k := s.services[owner]; k != nil {
		delete(k.slices, key)
		s.update(owner)
	}
}

// Run follows the Services and EndpointSlices of the hub, which must run too,
// starts to answer when all of them are known, and stops following when ctx
// ends; then Close the server.
func (s *Server) Run(ctx context.Context, hub *reconcile.Hub) error {
	services := reconcile.ViewOf[*corev1.Service](hub)
	endpoints := reconcile.ViewOf[*discoveryv1.EndpointSlice](hub)
	defer services.OnChange(func(old, new *corev1.Service) {
		if new != nil {
			s.SetService(new)
		} else {
			s.DeleteService(old.Namespace, old.Name)
		}
	})()
	defer endpoints.OnChange(func(old, new *discoveryv1.EndpointSlice) {
		if new != nil {
			s.SetEndpointSlice(new)
		} else {
			s.DeleteEndpointSlice(old.Namespace, old.Name)
		}
	})()
	if err := services.Need(ctx); err != nil {
		return err
	}
	if err := endpoints.Need(ctx); err != nil {
		return err
	}
	s.Start()
	<-ctx.Done()
	return ctx.Err()
}
