package proxy

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// randomPlan makes the plan of a random Service; few addresses and ports, so
// that they collide often.
func randomPlan(r *rand.Rand, owner string) plan {
	n := node{name: "n1", served: []netip.Addr{addr("10.96.0.10")}, sctp: r.IntN(2) == 0}
	if r.IntN(8) == 0 {
		var ports []HostPort
		for range r.IntN(3) {
			ports = append(ports, HostPort{
				HostIP:   []netip.Addr{{}, addr("127.0.0.1"), addr("0.0.0.0")}[r.IntN(3)],
				HostPort: uint16(30000 + r.IntN(4)), Protocol: corev1.ProtocolTCP,
				Backend: netip.AddrPortFrom(addr(fmt.Sprintf("10.244.1.%d", r.IntN(5))), 8080),
			})
		}
		return planHostPorts(owner, ports, n)
	}
	s := newService(strings.TrimPrefix(owner, "default/"), fmt.Sprintf("10.96.0.%d", 8+r.IntN(4)))
	if r.IntN(3) > 0 {
		nodePort(int32(30000 + r.IntN(4)))(s)
	}
	if r.IntN(3) == 0 {
		affinity(int32(1 + r.IntN(3)))(s)
	}
	if r.IntN(3) == 0 {
		var ranges []string
		for range r.IntN(4) {
			ranges = append(ranges, fmt.Sprintf("10.%d.0.0/%d", r.IntN(3), 8+r.IntN(10)))
		}
		balancer(fmt.Sprintf("198.51.100.%d", r.IntN(3)), int32(31000+r.IntN(3)), ranges...)(s)
	}
	if r.IntN(2) == 0 {
		externalLocal(s)
	}
	if r.IntN(3) == 0 {
		internalLocal(s)
	}
	if r.IntN(4) == 0 {
		s.Spec.ExternalIPs = []string{fmt.Sprintf("198.51.100.%d", r.IntN(3))}
	}
	if r.IntN(4) == 0 {
		s.Spec.Ports = s.Spec.Ports[:1]
	}
	if r.IntN(6) == 0 {
		s.Spec.Ports[0].Protocol = corev1.ProtocolSCTP
	}
	var all []*discoveryv1.EndpointSlice
	for range r.IntN(3) {
		var texts []string
		for range r.IntN(6) {
			text := fmt.Sprintf("10.244.%d.%d", 1+r.IntN(2), r.IntN(5))
			text += []string{"", "@n2"}[r.IntN(2)] + []string{"", "", "!terminating", "!unready"}[r.IntN(4)]
			texts = append(texts, text)
		}
		all = append(all, endpoints(s.Name, texts...))
	}
	return planService(owner, s, all, n)
}

// kernelImage is what a kernel would hold that took every change so far.
type kernelImage map[elementKey]elementData

func (k kernelImage) take(t *testing.T, m *model) {
	t.Helper()
	for key, was := range m.touched {
		data, had := k[key]
		if had != was.present || had && data != was.data {
			t.Fatalf("element %v is thought to be %v, but the kernel has %v %v", key, was, had, data)
		}
		if want, ok := m.want[key]; ok {
			k[key] = want
		} else {
			delete(k, key)
		}
	}
	m.commit()
	if !maps.Equal(map[elementKey]elementData(k), m.want) {
		t.Fatal("the changes do not lead to what is wanted")
	}
}

// meaning renders elements without numbers and slots, which depend on history,
// and fails on any inner contradiction.
func meaning(t *testing.T, have map[elementKey]elementData) []string {
	t.Helper()
	pools := map[uint32]map[uint32]netip.AddrPort{}
	ranges := map[uint32][]string{}
	for k, d := range have {
		id := binary.NativeEndian.Uint32(k.key[:])
		switch k.set {
		case setEndpoints:
			if class(have[idElement(setCounts, id)].number()).affinity() > 0 {
				handle, ok := have[indexElement(setHandles, id, 0)]
				if i := binary.NativeEndian.Uint32(k.key[4:]); i != 0 || !ok || have[idElement(setLive, handle.number())] != d {
					t.Fatalf("pool %d with affinity has %v at index %d", id, d.backend(), i)
				}
				continue
			}
			if pools[id] == nil {
				pools[id] = map[uint32]netip.AddrPort{}
			}
			pools[id][binary.NativeEndian.Uint32(k.key[4:])] = d.backend()
		case setHandles:
			if pools[id] == nil {
				pools[id] = map[uint32]netip.AddrPort{}
			}
			live, ok := have[idElement(setLive, d.number())]
			if !ok {
				t.Fatalf("handle %d of pool %d does not live", d.number(), id)
			}
			pools[id][binary.NativeEndian.Uint32(k.key[4:])] = live.backend()
		case setRanges:
			ranges[id] = append(ranges[id], fmt.Sprint(k.key[4:]))
		}
	}
	describe := func(id uint32) string {
		k := idElement(setCounts, id)
		d, ok := have[k]
		if !ok {
			t.Fatalf("pool %d has no count", id)
		}
		c := class(d.number())
		var names []string
		for i := range c.backends() {
			b, ok := pools[id][i]
			if !ok {
				t.Fatalf("pool %d of %d has no backend %d", id, c.backends(), i)
			}
			names = append(names, b.String())
		}
		if len(pools[id]) != int(c.backends()) {
			t.Fatalf("pool %d of %d has %d backends", id, c.backends(), len(pools[id]))
		}
		slices.Sort(names)
		slices.Sort(ranges[id])
		return fmt.Sprintf("%v affinity=%d class0=%v ranges=%v", names, c.affinity(), c == classDrop, ranges[id])
	}
	var out []string
	for k, d := range have {
		switch k.set {
		case setServices, setPorts:
			id, flags := d.number()&idMask, d.number()&^uint32(idMask)
			line := fmt.Sprintf("%v flags=%x %s", parseFront(k), flags, describe(id))
			if flags&localOnly != 0 {
				all, ok := have[idElement(setAll, id)]
				if !ok {
					t.Fatalf("pool %d has no pool of all endpoints", id)
				}
				line += " all " + describe(all.number()&idMask)
			}
			out = append(out, line)
		case setHairpin, setAddresses:
			out = append(out, fmt.Sprint(k))
		}
	}
	slices.Sort(out)
	return out
}

func TestIncrementalEqualsFromScratch(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := newModel(5, []netip.Prefix{prefix("10.244.1.0/24")})
		kernel := kernelImage{}
		current := map[string]plan{}
		for step := range 120 {
			for range 1 + r.IntN(3) {
				owner := fmt.Sprintf("default/s%d", r.IntN(6))
				p := plan{}
				if r.IntN(5) > 0 {
					p = randomPlan(r, owner)
				}
				current[owner] = p
				m.apply(owner, p)
			}
			kernel.take(t, m)
			if step%10 != 9 {
				continue
			}
			fresh := newModel(5, []netip.Prefix{prefix("10.244.1.0/24")})
			owners := slices.Collect(maps.Keys(current))
			r.Shuffle(len(owners), func(i, j int) { owners[i], owners[j] = owners[j], owners[i] })
			for _, o := range owners {
				fresh.apply(o, current[o])
			}
			if a, b := meaning(t, m.want), meaning(t, fresh.want); !slices.Equal(a, b) {
				t.Fatalf("seed %d step %d: by changes\n%s\nfrom scratch\n%s", seed, step, strings.Join(a, "\n"), strings.Join(b, "\n"))
			}
			if len(m.want) != len(fresh.want) {
				t.Fatalf("seed %d step %d: %d elements by changes, %d from scratch", seed, step, len(m.want), len(fresh.want))
			}
		}
		for o := range current {
			m.apply(o, plan{})
		}
		kernel.take(t, m)
		if len(kernel) != 0 || len(m.pools)+len(m.claims)+len(m.references)+len(m.owners)+len(m.byID)+len(m.handles) != 0 {
			t.Fatalf("seed %d: %d elements are left of nothing", seed, len(kernel))
		}
	}
}

// A change costs what changes, not what there is.
func TestChangeTouchesFewElements(t *testing.T) {
	m := newModel(1, nil)
	texts := make([]string, 100)
	for i := range texts {
		texts[i] = fmt.Sprintf("10.244.1.%d", i)
	}
	s := newService("web", "10.96.0.100", nodePort(30080))
	s.Spec.Ports = s.Spec.Ports[:1]
	set := func(texts ...string) {
		m.apply("default/web", planService("default/web", s, []*discoveryv1.EndpointSlice{endpoints("web", texts...)}, node{name: "n1"}))
	}
	set(texts...)
	m.commit()
	set(texts[:99]...)
	if n := len(m.touched); n > 2 {
		t.Errorf("removing the last endpoint touches %d elements", n)
	}
	m.commit()
	set(texts[1:99]...)
	if n := len(m.touched); n > 3 {
		t.Errorf("removing the first endpoint touches %d elements", n)
	}
	m.commit()
	set(texts[1:99]...)
	if n := len(m.touched); n != 0 {
		t.Errorf("changing nothing touches %d elements", n)
	}
}

func TestElementRoundTrip(t *testing.T) {
	for _, f := range []frontKey{{addr("10.96.0.1"), 6, 443}, {netip.Addr{}, 17, 30053}, {addr("255.1.2.3"), 132, 65535}} {
		if got := parseFront(frontElement(f)); got != f {
			t.Errorf("%v became %v", f, got)
		}
	}
	b := netip.MustParseAddrPort("10.1.2.3:65000")
	if got := backendData(b).backend(); got != b {
		t.Errorf("%v became %v", b, got)
	}
}
