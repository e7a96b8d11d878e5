package services

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// maxEndpoints is how many endpoints a slice holds, as upstream's default.
const maxEndpoints = 100

// wantedSlices are the endpoints of a Service that share an address type and the
// same ports, which is what one slice can say.
type wantedSlices struct {
	family    discoveryv1.AddressType
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
	most      int // in one slice
}

// slicePlan is what to write. Objects in it are ready to be sent.
type slicePlan struct {
	create, update, delete []*discoveryv1.EndpointSlice
}

// planSlices moves the existing slices of one Service to the wanted endpoints in
// as few writes as possible: endpoints stay in the slice they are in, new ones
// fill slices that are written anyway, then the fullest that has room for them,
// then new slices. dress gives a slice its labels, annotations and owner, and
// says whether that changed it. For each family a slice remains even with
// nothing in it, so that readers can tell "none" from "not yet".
func planSlices(existing []*discoveryv1.EndpointSlice, wanted []wantedSlices, families []discoveryv1.AddressType,
	fresh func(discoveryv1.AddressType) *discoveryv1.EndpointSlice, dress func(*discoveryv1.EndpointSlice) bool,
) slicePlan {
	var plan slicePlan
	groups := map[string][]*discoveryv1.EndpointSlice{}
	known := map[discoveryv1.AddressType]bool{}
	for _, f := range families {
		known[f] = true
	}
	for _, s := range existing {
		if !known[s.AddressType] {
			plan.delete = append(plan.delete, s)
			continue
		}
		k := groupKey(s.AddressType, s.Ports)
		groups[k] = append(groups[k], s)
	}
	kept := map[discoveryv1.AddressType]int{}
	for _, w := range wanted {
		k := groupKey(w.family, w.ports)
		p := planGroup(groups[k], w, fresh, dress)
		delete(groups, k)
		kept[w.family] += p.kept
		plan.create = append(plan.create, p.create...)
		plan.update = append(plan.update, p.update...)
		plan.delete = append(plan.delete, p.delete...)
	}
	for _, k := range sortedKeys(groups) {
		plan.delete = append(plan.delete, groups[k]...)
	}
	for _, f := range families {
		if kept[f] == 0 {
			plan.placeholder(f, fresh, dress)
		}
	}
	return plan
}

// placeholder keeps (or makes) one empty slice of a family.
func (p *slicePlan) placeholder(f discoveryv1.AddressType, fresh func(discoveryv1.AddressType) *discoveryv1.EndpointSlice, dress func(*discoveryv1.EndpointSlice) bool) {
	i := slices.IndexFunc(p.delete, func(s *discoveryv1.EndpointSlice) bool { return s.AddressType == f })
	if i < 0 {
		s := fresh(f)
		s.Endpoints, s.Ports = []discoveryv1.Endpoint{}, []discoveryv1.EndpointPort{}
		dress(s)
		p.create = append(p.create, s)
		return
	}
	s := p.delete[i].DeepCopy()
	p.delete = slices.Delete(p.delete, i, i+1)
	changed := len(s.Endpoints) > 0 || len(s.Ports) > 0
	s.Endpoints, s.Ports = []discoveryv1.Endpoint{}, []discoveryv1.EndpointPort{}
	if dress(s) || changed {
		p.update = append(p.update, s)
	}
}

type groupPlan struct {
	slicePlan
	kept int // slices that remain, new ones included
}

func planGroup(existing []*discoveryv1.EndpointSlice, w wantedSlices, fresh func(discoveryv1.AddressType) *discoveryv1.EndpointSlice, dress func(*discoveryv1.EndpointSlice) bool) (plan groupPlan) {
	missing := make(map[string]*discoveryv1.Endpoint, len(w.endpoints))
	for i := range w.endpoints {
		missing[endpointKey(&w.endpoints[i])] = &w.endpoints[i]
	}
	var open, quiet []*discoveryv1.EndpointSlice // to be written anyway; unchanged so far
	stored := map[*discoveryv1.EndpointSlice]*discoveryv1.EndpointSlice{}
	slices.SortFunc(existing, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range existing {
		next := *s // shallow: labels and endpoints are replaced, never changed in place
		changed := dress(&next)
		kept := make([]discoveryv1.Endpoint, 0, max(len(s.Endpoints), 1))
		for i := range s.Endpoints {
			k := endpointKey(&s.Endpoints[i])
			want, ok := missing[k]
			if !ok {
				changed = true
				continue
			}
			delete(missing, k)
			changed = changed || !sameEndpointFields(&s.Endpoints[i], want)
			kept = append(kept, *want)
		}
		next.Endpoints = kept
		stored[&next] = s
		if changed {
			open = append(open, &next)
		} else {
			quiet = append(quiet, &next)
		}
	}
	var rest []discoveryv1.Endpoint // in the order wanted
	for i := range w.endpoints {
		k := endpointKey(&w.endpoints[i])
		if missing[k] == &w.endpoints[i] {
			rest = append(rest, w.endpoints[i])
		}
	}
	fill := func(s *discoveryv1.EndpointSlice) {
		n := min(max(0, w.most-len(s.Endpoints)), len(rest))
		s.Endpoints = append(s.Endpoints, rest[:n]...)
		rest = rest[n:]
	}
	slices.SortStableFunc(open, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(len(b.Endpoints), len(a.Endpoints)) })
	for _, s := range open {
		fill(s)
	}
	for len(rest) > 0 {
		if i := fullestWithRoom(quiet, min(len(rest), w.most), w.most); i >= 0 {
			fill(quiet[i])
			open = append(open, quiet[i])
			quiet = slices.Delete(quiet, i, i+1)
			continue
		}
		s := fresh(w.family)
		s.Ports = w.ports
		dress(s)
		fill(s)
		plan.create = append(plan.create, s)
	}
	for _, s := range open {
		if len(s.Endpoints) == 0 {
			plan.delete = append(plan.delete, stored[s])
			continue
		}
		plan.update = append(plan.update, s.DeepCopy())
		plan.kept++
	}
	plan.kept += len(plan.create) + len(quiet)
	// An unchanged empty slice is of use only when nothing else is left; then
	// the caller makes it the placeholder.
	quiet = slices.DeleteFunc(quiet, func(s *discoveryv1.EndpointSlice) bool {
		if len(s.Endpoints) == 0 {
			plan.delete = append(plan.delete, stored[s])
			plan.kept--
			return true
		}
		return false
	})
	return plan
}

// fullestWithRoom picks the slice with the least room that still holds n more, most
// in all.
func fullestWithRoom(all []*discoveryv1.EndpointSlice, n, most int) int {
	best := -1
	for i, s := range all {
		if len(s.Endpoints)+n <= most && (best < 0 || len(s.Endpoints) > len(all[best].Endpoints)) {
			best = i
		}
	}
	return best
}

// endpointKey identifies an endpoint across its changes: the object behind it,
// or its first address when it has none.
func endpointKey(e *discoveryv1.Endpoint) string {
	address := ""
	if len(e.Addresses) > 0 {
		address = e.Addresses[0]
	}
	if e.TargetRef != nil && e.TargetRef.UID != "" {
		return string(e.TargetRef.UID) + "/" + address
	}
	hostname := ""
	if e.Hostname != nil {
		hostname = *e.Hostname
	}
	return address + "/" + hostname
}

// sameEndpointFields compares what this package writes of an endpoint, without
// the cost of reflection, as it is done for every endpoint at every change.
func sameEndpointFields(a, b *discoveryv1.Endpoint) bool {
	return slices.Equal(a.Addresses, b.Addresses) &&
		samePointed(a.Conditions.Ready, b.Conditions.Ready) &&
		samePointed(a.Conditions.Serving, b.Conditions.Serving) &&
		samePointed(a.Conditions.Terminating, b.Conditions.Terminating) &&
		samePointed(a.Hostname, b.Hostname) && samePointed(a.NodeName, b.NodeName) && samePointed(a.Zone, b.Zone) &&
		samePointed(a.TargetRef, b.TargetRef) &&
		sameMap(a.DeprecatedTopology, b.DeprecatedTopology) && sameHints(a.Hints, b.Hints)
}

func sameHints(a, b *discoveryv1.EndpointHints) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.ForZones, b.ForZones) && slices.Equal(a.ForNodes, b.ForNodes)
}

func samePointed[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// groupKey identifies a set of ports of an address type.
func groupKey(f discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	parts := make([]string, len(ports))
	for i, p := range ports {
		parts[i] = fmt.Sprint(deref(p.Name), "\x00", deref(p.Protocol), "\x00", deref(p.Port), "\x00", p.AppProtocol != nil, deref(p.AppProtocol))
	}
	slices.Sort(parts)
	return string(f) + "\x01" + strings.Join(parts, "\x01")
}

func deref[T any](p *T) T {
	if p == nil {
		var none T
		return none
	}
	return *p
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
