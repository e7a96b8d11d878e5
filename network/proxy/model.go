package proxy

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// model is what the kernel's table shall hold, and which part of it changed
// since the kernel last had it. Applying a plan costs what the plan changes.
type model struct {
	tag uint32
	// local ranges hold this node's pods.
	local []netip.Prefix

	owners map[string]plan
	pools  map[poolName]*pool
	byID   map[uint32]*pool
	nextID uint32
	// claims are the plans that want an address; the first one has it.
	claims map[frontKey][]claim
	// references count the users of elements that several plans share.
	references map[elementKey]int
	want       map[elementKey]elementData
	// touched holds, for each element that changed since the last commit, what
	// the kernel has.
	touched map[elementKey]kernelElement
	// adopted are the pool numbers that a former process gave to addresses, and
	// adoptedHandles the handles it gave to backends.
	adopted        map[frontKey]uint32
	adoptedHandles map[poolBackend]uint32
	nextHandle     uint32
	handles        map[uint32]bool
	// stale are connections that the change made wrong.
	stale stale
}

// kernelElement is an element as the kernel has it.
type kernelElement struct {
	present bool
	data    elementData
}

// pool is a living pool.
type pool struct {
	id    uint32
	name  poolName
	slots []netip.AddrPort
	// handles of the slots, for pools with affinity.
	handles  []uint32
	affinity uint32
	class    class
	ranges   []netip.Prefix
}

type claim struct {
	owner string
	front frontPlan
}

// stale lists what to forget in connection tracking: UDP only, because its
// connections never end by themselves.
type stale struct {
	// pools that are gone.
	pools map[uint32]bool
	// backends that left a pool.
	backends map[poolBackend]bool
	// fronts that are new: packets to them may have been tracked as they were.
	fronts map[frontKey]bool
	// moved fronts lead to another pool than before.
	moved map[movedFront]bool
}

type poolBackend struct {
	id      uint32
	backend netip.AddrPort
}

type movedFront struct {
	id   uint32
	port uint16
}

func (s *stale) empty() bool {
	return len(s.pools)+len(s.backends)+len(s.fronts)+len(s.moved) == 0
}

func newModel(tag uint32, local []netip.Prefix) *model {
	return &model{
		tag: tag << tagShift, local: local, nextID: 1,
		owners: map[string]plan{}, pools: map[poolName]*pool{}, byID: map[uint32]*pool{},
		claims: map[frontKey][]claim{}, references: map[elementKey]int{},
		want: map[elementKey]elementData{}, touched: map[elementKey]kernelElement{},
		adopted: map[frontKey]uint32{}, adoptedHandles: map[poolBackend]uint32{}, nextHandle: 1,
		handles: map[uint32]bool{}, stale: newStale(),
	}
}

func newStale() stale {
	return stale{map[uint32]bool{}, map[poolBackend]bool{}, map[frontKey]bool{}, map[movedFront]bool{}}
}

// put sets an element.
func (m *model) put(k elementKey, d elementData) {
	old, had := m.want[k]
	if had && old == d {
		return
	}
	m.touch(k, had, old)
	m.want[k] = d
}

// del removes an element.
func (m *model) del(k elementKey) {
	if old, had := m.want[k]; had {
		m.touch(k, true, old)
		delete(m.want, k)
	}
}

func (m *model) touch(k elementKey, had bool, old elementData) {
	if _, ok := m.touched[k]; !ok {
		m.touched[k] = kernelElement{had, old}
	}
}

func (m *model) retain(k elementKey) {
	m.references[k]++
	if m.references[k] == 1 {
		m.put(k, elementData{})
	}
}

func (m *model) release(k elementKey) {
	m.references[k]--
	if m.references[k] == 0 {
		delete(m.references, k)
		m.del(k)
	}
}

// apply replaces what the tables hold for an owner. An empty plan removes it.
func (m *model) apply(owner string, next plan) {
	last := m.owners[owner]
	if len(next.fronts) == 0 && len(next.pools) == 0 && len(next.addresses) == 0 {
		delete(m.owners, owner)
	} else {
		m.owners[owner] = next
	}
	for i := range next.pools {
		m.setPool(&next.pools[i], next.fronts)
	}
	for _, f := range next.fronts {
		m.claim(owner, f)
	}
	for _, f := range last.fronts {
		if !slices.ContainsFunc(next.fronts, func(g frontPlan) bool { return g.frontKey == f.frontKey }) {
			m.disclaim(owner, f.frontKey)
		}
	}
	for _, a := range next.addresses {
		m.retain(addressElement(a))
	}
	for _, a := range last.addresses {
		m.release(addressElement(a))
	}
	for i := range last.pools {
		name := last.pools[i].name
		if !slices.ContainsFunc(next.pools, func(p poolPlan) bool { return p.name == name }) {
			m.dropPool(name)
		}
	}
}

// setPool makes a pool hold what the plan says, changing as few slots as there
// are differences.
func (m *model) setPool(next *poolPlan, fronts []frontPlan) {
	p := m.pools[next.name]
	if p == nil {
		p = &pool{id: m.newID(next.name, fronts), name: next.name, affinity: next.affinity}
		m.pools[next.name], m.byID[p.id] = p, p
		m.put(idElement(setCounts, p.id), number(uint32(classReject)))
	}
	if (p.affinity == 0) != (next.affinity == 0) {
		for i := len(p.slots) - 1; i >= 0; i-- {
			m.removeSlot(p, i)
		}
	}
	p.affinity = next.affinity
	keep := make(map[netip.AddrPort]bool, len(next.backends))
	for _, b := range next.backends {
		keep[b] = true
	}
	for i := len(p.slots) - 1; i >= 0; i-- {
		if !keep[p.slots[i]] {
			m.removeSlot(p, i)
		}
	}
	for _, b := range p.slots {
		delete(keep, b)
	}
	if len(keep) > 0 {
		for _, b := range next.backends {
			if keep[b] {
				m.addSlot(p, b)
			}
		}
	}
	for _, r := range p.ranges {
		if !slices.Contains(next.ranges, r) {
			m.del(rangeElement(p.id, r))
		}
	}
	for _, r := range next.ranges {
		m.put(rangeElement(p.id, r), elementData{})
	}
	p.ranges = next.ranges
	if next.all != (poolName{}) {
		m.put(idElement(setAll, p.id), number(m.tag|m.pools[next.all].id))
	} else {
		m.del(idElement(setAll, p.id))
	}
	p.class = classOf(len(p.slots), p.affinity, next.drop)
	m.put(idElement(setCounts, p.id), number(uint32(p.class)))
}

// removeSlot takes a backend out; the last one moves into its place.
func (m *model) removeSlot(p *pool, i int) {
	b := p.slots[i]
	last := len(p.slots) - 1
	if p.affinity != 0 {
		m.del(idElement(setLive, p.handles[i]))
		delete(m.handles, p.handles[i])
		p.handles[i] = p.handles[last]
		p.handles = p.handles[:last]
		m.del(indexElement(setHandles, p.id, uint32(last)))
	}
	m.del(indexElement(setEndpoints, p.id, uint32(last)))
	p.slots[i] = p.slots[last]
	p.slots = p.slots[:last]
	if i != last {
		m.putSlot(p, i)
	}
	if m.isLocal(b.Addr()) {
		m.release(hairpinElement(b.Addr()))
	}
	if p.name.proto == unix.IPPROTO_UDP {
		m.stale.backends[poolBackend{p.id, b}] = true
	}
}

func (m *model) addSlot(p *pool, b netip.AddrPort) {
	p.slots = append(p.slots, b)
	if p.affinity != 0 {
		h := m.newHandle(poolBackend{p.id, b})
		p.handles = append(p.handles, h)
		m.put(idElement(setLive, h), backendData(b))
	}
	m.putSlot(p, len(p.slots)-1)
	if m.isLocal(b.Addr()) {
		m.retain(hairpinElement(b.Addr()))
	}
	delete(m.stale.backends, poolBackend{p.id, b})
}

func (m *model) putSlot(p *pool, i int) {
	if p.affinity != 0 {
		m.put(indexElement(setHandles, p.id, uint32(i)), number(p.handles[i]))
	}
	// Where affinity finds its handle gone in the middle of a change, the first
	// backend is there in one look-up.
	if p.affinity == 0 || i == 0 {
		m.put(indexElement(setEndpoints, p.id, uint32(i)), backendData(p.slots[i]))
	}
}

// newHandle chooses a backend's handle: the one that a former process gave it,
// so that clients stay where they are, or else the next. Handles come round
// again only after all others, when no client remembers the old backend.
func (m *model) newHandle(b poolBackend) uint32 {
	h, ok := m.adoptedHandles[b]
	if ok && !m.handles[h] {
		m.handles[h] = true
		return h
	}
	for {
		h = m.nextHandle
		m.nextHandle = m.nextHandle%handleMask + 1
		if !m.handles[h] {
			m.handles[h] = true
			return h
		}
	}
}

func (m *model) isLocal(a netip.Addr) bool {
	for _, r := range m.local {
		if r.Contains(a) {
			return true
		}
	}
	return false
}

func (m *model) dropPool(name poolName) {
	p := m.pools[name]
	for i := len(p.slots) - 1; i >= 0; i-- {
		m.removeSlot(p, i)
	}
	for _, r := range p.ranges {
		m.del(rangeElement(p.id, r))
	}
	m.del(idElement(setCounts, p.id))
	m.del(idElement(setAll, p.id))
	delete(m.pools, name)
	delete(m.byID, p.id)
	if name.proto == unix.IPPROTO_UDP {
		m.stale.pools[p.id] = true
	}
}

// newID chooses the number of a new pool: the one that a former process gave to
// one of its addresses, so that marks of living connections stay true, or else
// the next. Numbers come round again only after all others.
func (m *model) newID(name poolName, fronts []frontPlan) uint32 {
	for _, f := range fronts {
		if id, ok := m.adopted[f.frontKey]; ok && f.pool == name && id != 0 && m.byID[id] == nil {
			return id
		}
	}
	for {
		id := m.nextID
		m.nextID = m.nextID%idMask + 1
		if m.byID[id] == nil {
			return id
		}
	}
}

// claim gives an address to an owner, unless another one has it already. Who is
// first in order has it, whatever came first: the outcome does not depend on
// the order of events.
func (m *model) claim(owner string, f frontPlan) {
	list := m.claims[f.frontKey]
	i, found := slices.BinarySearchFunc(list, owner, func(c claim, o string) int {
		switch {
		case c.owner < o:
			return -1
		case c.owner > o:
			return 1
		}
		return 0
	})
	if found {
		list[i].front = f
	} else {
		list = slices.Insert(list, i, claim{owner, f})
	}
	m.claims[f.frontKey] = list
	m.lead(list[0].front)
}

func (m *model) disclaim(owner string, k frontKey) {
	list := slices.DeleteFunc(m.claims[k], func(c claim) bool { return c.owner == owner })
	if len(list) == 0 {
		delete(m.claims, k)
		m.del(frontElement(k))
		return
	}
	m.claims[k] = list
	m.lead(list[0].front)
}

// lead points an address at its pool.
func (m *model) lead(f frontPlan) {
	e := frontElement(f.frontKey)
	id := m.pools[f.pool].id
	d := number(m.tag | f.flags | id)
	old, had := m.want[e]
	if f.proto == unix.IPPROTO_UDP {
		if !had {
			m.stale.fronts[f.frontKey] = true
		} else if oldID := old.number() & idMask; oldID != id {
			m.stale.moved[movedFront{oldID, f.port}] = true
		}
	}
	m.put(e, d)
}

// neededClasses are the classes in use.
func (m *model) neededClasses() map[class]bool {
	all := map[class]bool{}
	for _, p := range m.pools {
		all[p.class] = true
	}
	return all
}

// noteFormer remembers a backend that the kernel has in a slot where it is not
// wanted: it left while nobody watched, unless it only has another slot.
func (m *model) noteFormer(id uint32, b netip.AddrPort) {
	p := m.byID[id]
	switch {
	case p == nil:
		m.stale.pools[id] = true
	case p.name.proto == unix.IPPROTO_UDP && !slices.Contains(p.slots, b):
		m.stale.backends[poolBackend{id, b}] = true
	}
}

// commit forgets what changed: the kernel has it.
func (m *model) commit() {
	m.forgetTouched()
	m.stale = newStale()
}

// forgetTouched makes a new map: to clear one costs what it held at its largest.
func (m *model) forgetTouched() { m.touched = map[elementKey]kernelElement{} }
