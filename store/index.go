package store

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"
)

// item is a key's place in the index. Its versions hang off head, newest
// first, so an update touches neither the hash nor the tree.
type item struct {
	key  string
	head atomic.Pointer[Record] // newest published version; nil before the first, while it is not in the tree
	tip  *Record                // newest decided version; the committer's alone
}

// at returns the newest version not above rev, nil if there is none. The caller
// checks afterwards that rev was not compacted meanwhile, which would have cut
// the chain.
func (it *item) at(rev Rev) *Record {
	r := it.head.Load()
	for r != nil && r.ModRev > rev {
		r = r.older.Load()
	}
	return r
}

// index finds items by key in a hash, for reads and conditions, and in order in
// a tree, for lists. Only the committer changes it.
type index struct {
	seed   maphash.Seed
	shards [64]shard

	topic func(string) int
	tag   func(*Record) string

	mu     sync.Mutex // of what follows; the publisher holds it for a batch
	live   *btree.BTreeG[*item]
	copy   *btree.BTreeG[*item] // what lists read; nil once live has changed
	tagged map[string]*tagIndex // by topic, for those that were listed by tag
	keys   map[string]int       // how many are in the tree, by topic
}

type shard struct {
	mu    sync.RWMutex
	items map[string]*item
}

func newIndex(opts Options) *index {
	x := &index{seed: maphash.MakeSeed(), topic: opts.Topic, tag: opts.Tag, tagged: map[string]*tagIndex{}, keys: map[string]int{}}
	for i := range x.shards {
		x.shards[i].items = map[string]*item{}
	}
	less := func(a, b *item) bool { return a.key < b.key }
	x.live = btree.NewBTreeGOptions(less, btree.Options{NoLocks: true, Degree: 64})
	return x
}

func (x *index) shard(key string) *shard {
	return &x.shards[maphash.String(x.seed, key)%uint64(len(x.shards))]
}

// get returns the item of key, nil if there is none.
func (x *index) get(key string) *item {
	s := x.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.items[key]
}

// ensure returns the item of key and makes it if needed. A new item is not in
// the tree and has no version.
func (x *index) ensure(key string) *item {
	s := x.shard(key)
	s.mu.RLock() // the committer is the only writer: what it finds stays
	it := s.items[key]
	s.mu.RUnlock()
	if it == nil {
		it = &item{key: strings.Clone(key)}
		s.mu.Lock()
		s.items[it.key] = it
		s.mu.Unlock()
	}
	return it
}

// publishLocked makes rec the newest version of it.
func (x *index) publishLocked(it *item, rec *Record) {
	fresh := it.head.Swap(rec) == nil
	x.retagLocked(it, rec)
	if fresh {
		x.keys[it.key[:x.topic(it.key)]]++
		x.copy = nil
		x.live.Set(it)
	}
}

// removeLocked drops an item whose only version is a tombstone.
func (x *index) removeLocked(it *item) {
	s := x.shard(it.key)
	s.mu.Lock()
	delete(s.items, it.key)
	s.mu.Unlock()
	if it.head.Load() != nil {
		if topic := it.key[:x.topic(it.key)]; x.keys[topic] > 1 {
			x.keys[topic]--
		} else {
			delete(x.keys, topic)
		}
		x.copy = nil
		x.live.Delete(it)
	}
}

// ordered returns a tree that nobody changes any more. The copy is O(1) and is
// shared by all lists until a key comes or goes.
func (x *index) orderedLocked() *btree.BTreeG[*item] {
	if x.copy == nil {
		x.copy = x.live.Copy()
	}
	return x.copy
}
