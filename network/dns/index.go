package dns

import (
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
	// sources are the writer's: which owner adds what to a name.
	sources map[string]map[string]contribution
	// owned is what each owner has added, by name.
	owned map[string]map[string]contribution
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

func newIndex() *index {
	x := &index{seed: maphash.MakeSeed(), sources: map[string]map[string]contribution{}, owned: map[string]map[string]contribution{}}
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
	last := x.owned[owner]
	if len(next) == 0 {
		delete(x.owned, owner)
	} else {
		x.owned[owner] = next
	}
	// What comes goes first: a name that moves between two is never missing.
	for name, c := range next {
		if old, had := last[name]; had && old.equal(c) {
			continue
		}
		if x.sources[name] == nil {
			x.sources[name] = map[string]contribution{}
		}
		x.sources[name][owner] = c
		x.publish(name)
	}
	for name := range last {
		if _, keep := next[name]; keep {
			continue
		}
		delete(x.sources[name], owner)
		if len(x.sources[name]) == 0 {
			delete(x.sources, name)
		}
		x.publish(name)
	}
}

// publish lets readers see a name as its sources now have it.
func (x *index) publish(name string) {
	at := &x.shards[maphash.String(x.seed, name)%shardCount]
	next := maps.Clone(*at.Load())
	if sources := x.sources[name]; len(sources) == 0 {
		delete(next, name)
	} else {
		next[name] = merge(sources)
	}
	at.Store(&next)
}

func merge(sources map[string]contribution) *records {
	r := &records{}
	var addrs []netip.Addr
	for _, owner := range slices.Sorted(maps.Keys(sources)) {
		c := sources[owner]
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
