package dns

import (
	"cmp"
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
)

// shardCount splits the index: a change copies one shard, a thousandth of all.
const shardCount = 1024

// index finds the records of a name. Readers take no lock: a change publishes a
// new shard. One writer at a time.
type index struct {
	seed   maphash.Seed
	shards [shardCount]atomic.Pointer[map[string]*records]
	// sources are the writer's: which owners add what to a name, nearly always one.
	sources map[string][]source
	// held counts the owners that only say that a name exists: a namespace's name
	// is held by all its Services.
	held map[string]int
	// owned is what each owner has added.
	owned map[string][]added
}

// source is what one owner adds to a name.
type source struct {
	owner string
	what  *contribution
}

// added is a name and what an owner adds to it; nil when it only holds the name.
type added struct {
	name string
	what *contribution
}

// records are all that is known of one name. They are immutable. A name with no
// records at all exists because names below it do.
type records struct {
	// a and aaaa are ready-made answers: resource records whose owner name
	// points at the question.
	a, aaaa []byte
	cname   string
	srv     []service
	ptr     []string
	txt     []string
}

// service is an SRV record and the address its target has.
type service struct {
	target string
	port   uint16
	addrs  []netip.Addr
}

// contribution is what one owner adds to a name.
type contribution struct {
	addrs []netip.Addr
	cname string
	srv   []service
	ptr   string
	txt   string
}

func (c contribution) equal(d contribution) bool {
	return c.cname == d.cname && c.ptr == d.ptr && c.txt == d.txt && slices.Equal(c.addrs, d.addrs) &&
		slices.EqualFunc(c.srv, d.srv, func(a, b service) bool {
			return a.target == b.target && a.port == b.port && slices.Equal(a.addrs, b.addrs)
		})
}

func (c contribution) empty() bool {
	return len(c.addrs) == 0 && len(c.srv) == 0 && c.cname == "" && c.ptr == "" && c.txt == ""
}

func newIndex() *index {
	x := &index{seed: maphash.MakeSeed(), sources: map[string][]source{}, held: map[string]int{}, owned: map[string][]added{}}
	for i := range x.shards {
		x.shards[i].Store(&map[string]*records{})
	}
	return x
}

// find returns the records of a name in wire format and lower case, nil when
// it does not exist.
func (x *index) find(name []byte) *records {
	shard := x.shards[maphash.Bytes(x.seed, name)%shardCount].Load()
	return (*shard)[string(name)]
}

// set replaces everything that an owner adds; names are in wire format and
// lower case. Each name changes at once, one after another.
func (x *index) set(owner string, next map[string]contribution) {
	last := make(map[string]*contribution, len(x.owned[owner]))
	for _, a := range x.owned[owner] {
		last[a.name] = a.what
	}
	var now []added
	// What comes goes first: a name that moves between two is never missing.
	for name, c := range next {
		what := &c
		if c.empty() {
			what = nil
		}
		old, had := last[name]
		if had && (old == nil && what == nil || old != nil && what != nil && old.equal(c)) {
			now = append(now, added{name, old})
			continue
		}
		now = append(now, added{name, what})
		changed := had && x.remove(name, owner, old)
		if x.add(name, owner, what) || changed {
			x.publish(name)
		}
	}
	for name, old := range last {
		if _, keep := next[name]; !keep && x.remove(name, owner, old) {
			x.publish(name)
		}
	}
	if len(now) == 0 {
		delete(x.owned, owner)
	} else {
		x.owned[owner] = slices.Clip(now)
	}
}

// add notes what an owner adds to a name, and reports whether readers must see
// it: that one more holds a name changes nothing for them.
func (x *index) add(name, owner string, what *contribution) bool {
	if what == nil {
		x.held[name]++
		return x.held[name] == 1 && len(x.sources[name]) == 0
	}
	x.sources[name] = append(x.sources[name], source{owner, what})
	return true
}

// remove is the reverse of add.
func (x *index) remove(name, owner string, what *contribution) bool {
	if what == nil {
		if x.held[name]--; x.held[name] > 0 {
			return false
		}
		delete(x.held, name)
		return len(x.sources[name]) == 0
	}
	rest := slices.DeleteFunc(x.sources[name], func(s source) bool { return s.owner == owner })
	if len(rest) > 0 {
		x.sources[name] = rest
	} else {
		delete(x.sources, name)
	}
	return true
}

// publish lets readers see a name as its sources now have it.
func (x *index) publish(name string) {
	at := &x.shards[maphash.String(x.seed, name)%shardCount]
	next := maps.Clone(*at.Load())
	if sources := x.sources[name]; len(sources) > 0 || x.held[name] > 0 {
		next[name] = merge(sources)
	} else {
		delete(next, name)
	}
	at.Store(&next)
}

func merge(sources []source) *records {
	r := &records{}
	var addrs []netip.Addr
	// In the order of owners, so that answers do not depend on that of events.
	sources = slices.SortedFunc(slices.Values(sources), func(a, b source) int { return cmp.Compare(a.owner, b.owner) })
	for _, s := range sources {
		c := s.what
		addrs = append(addrs, c.addrs...)
		r.srv = append(r.srv, c.srv...)
		if c.cname != "" {
			r.cname = c.cname
		}
		if c.ptr != "" {
			r.ptr = append(r.ptr, c.ptr)
		}
		if c.txt != "" {
			r.txt = append(r.txt, c.txt)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, a := range slices.Compact(addrs) {
		if a.Is4() {
			r.a = appendAddress(r.a, a)
		} else {
			r.aaaa = appendAddress(r.aaaa, a)
		}
	}
	return r
}

// sizes of ready-made address records.
const (
	sizeA    = 16
	sizeAAAA = 28
)

// appendAddress appends an address record whose owner name is the question's.
func appendAddress(p []byte, a netip.Addr) []byte {
	typ := byte(typeA)
	if a.Is6() {
		typ = typeAAAA
	}
	raw := a.AsSlice()
	p = append(p, 0xc0, headerSize, 0, typ, 0, classIN, 0, 0, 0, ttl, 0, byte(len(raw)))
	return append(p, raw...)
}
