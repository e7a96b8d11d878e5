package resource

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
	"sagong/store"
)

// memo is what the engine attaches to a record: the typed object, where readers
// in the process share it, and the encoded JSON, while the cache holds it.
type memo struct {
	obj  object.Object
	bare bool // obj lacks the managed fields that the stored bytes have
	json atomic.Pointer[[]byte]
	used atomic.Uint32 // when obj was last asked for, in ages of the kind
}

// Stamp implements store.Stamper: the object learns its revision before anybody
// else can see it, and is immutable from then on.
func (m *memo) Stamp(r store.Rev) {
	if m.obj != nil {
		m.obj.SetResourceVersion(object.Revision(r).String())
	}
}

// kindMemo is the memo of a kind made at run time: after its definition changed,
// what another kept on the record means nothing.
type kindMemo struct {
	memo
	of *Kind
}

// newMemo makes what a record keeps of an object, nil for none yet, and its memo.
func (k *Kind) newMemo(o object.Object) (any, *memo) {
	if k.Dynamic == nil {
		m := &memo{}
		m.obj, m.bare = k.bare(o)
		m.used.Store(k.aging.age.Load())
		return m, m
	}
	m := &kindMemo{memo: memo{obj: o}, of: k}
	return m, &m.memo
}

// bare is an object without its managed fields: a copy where it has some. Those
// of a pod take as much as all else that it does not share with its like, and
// nobody who follows the objects in this process reads them.
func (k *Kind) bare(o object.Object) (object.Object, bool) {
	if o == nil || k.Custom() || len(o.GetManagedFields()) == 0 {
		return o, false
	}
	o = object.ShallowCopy(o)
	o.SetManagedFields(nil)
	return o, true
}

// memoOf finds the memo in what a record keeps; nil when there is none for k.
func (k *Kind) memoOf(kept any) *memo {
	switch m := kept.(type) {
	case *memo:
		return m
	case *kindMemo:
		if m.of == k {
			return &m.memo
		}
	}
	return nil
}

// sharing says whether readers in this process hold objects of a kind. Then
// records keep the typed object, so that all hold the same; otherwise bytes
// are enough.
type sharing struct{ on atomic.Bool }

// retiredKept is how many superseded records keep their typed object: watchers that
// follow closely need it once more, the store's history does not.
const retiredKept = 1024

// retired drops the typed objects of superseded records a little later.
type retired struct {
	mu   sync.Mutex
	ring [retiredKept]*store.Record
	next int
}

func (q *retired) add(r *store.Record) {
	if r == nil {
		return
	}
	q.mu.Lock()
	old := q.ring[q.next]
	q.ring[q.next] = r
	q.next = (q.next + 1) % retiredKept
	q.mu.Unlock()
	if old != nil {
		old.SetMemo(nil)
	}
}

// Share makes the records of a kind keep their typed objects from now on.
func (k *Kind) Share() {
	if !k.alias {
		k.shared.on.Store(true)
	}
}

// Item is one object: what a write or read results in. It gives the typed
// object and its encodings, made at most once where they are kept.
type Item struct {
	e   *Engine
	k   *Kind
	rec *store.Record // nil for what is not stored (dry run)
	obj object.Object
	rev object.Revision
}

func (e *Engine) item(k *Kind, r *store.Record) Item {
	return Item{e: e, k: k, rec: r, rev: object.Revision(r.ModRev)}
}

// Kind is the item's kind.
func (i Item) Kind() *Kind { return i.k }

// Revision is the item's resourceVersion; 0 for what was not stored.
func (i Item) Revision() object.Revision { return i.rev }

// IsZero reports whether there is no object.
func (i Item) IsZero() bool { return i.rec == nil && i.obj == nil }

// Object is the typed object, whole and immutable.
func (i Item) Object() (object.Object, error) {
	if i.obj != nil {
		return i.obj, nil
	}
	if i.apart() {
		return i.decode()
	}
	if m := i.known(); m != nil {
		if !m.bare {
			return m.obj, nil
		}
		return i.whole(m.obj)
	}
	o, err := i.decode()
	if err == nil {
		i.keep(o, false)
	}
	return o, err
}

// Shared is the typed object as all in this process hold it, who share it:
// without managed fields, and immutable.
func (i Item) Shared() (object.Object, error) {
	if i.rec == nil || i.apart() {
		return i.Object()
	}
	if m := i.known(); m != nil {
		return m.obj, nil
	}
	if i.obj != nil {
		return i.obj, nil
	}
	o, bare, err := i.decodeBare()
	if err != nil {
		return nil, err
	}
	return i.keep(o, bare), nil
}

// longList is from when on a list is decoded on all processors.
const longList = 2048

// Objects are the typed objects of a list, as Shared gives them. When a server
// starts, several components ask for the same long lists at once: the first
// decodes, the others wait for what its records then keep.
func Objects(items []Item) ([]object.Object, error) {
	out := make([]object.Object, len(items))
	decode := func(from, to int) (err error) {
		for i := from; i < to && err == nil; i++ {
			out[i], err = items[i].Shared()
		}
		return err
	}
	if len(items) < longList {
		return out, decode(0, len(items))
	}
	items[0].k.long.Lock()
	defer items[0].k.long.Unlock()
	parts := runtime.GOMAXPROCS(0)
	errs := make([]error, parts)
	var wg sync.WaitGroup
	for n := range parts {
		wg.Go(func() { errs[n] = decode(len(items)*n/parts, len(items)*(n+1)/parts) })
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

// apart says that what the record keeps is not this item: it is of another
// revision, or version.
func (i Item) apart() bool { return object.Revision(i.rec.ModRev) != i.rev || i.k.alias }

func (i Item) memo() *memo { return i.k.memoOf(i.rec.Memo()) }

// whole is an object with the managed fields that the stored bytes have.
func (i Item) whole(o object.Object) (object.Object, error) {
	entries, err := object.StoredManagedFields(i.rec.Value())
	if err != nil {
		return nil, err
	}
	o = object.ShallowCopy(o)
	o.SetManagedFields(entries)
	return o, nil
}

// keep makes the record hold an object that was decoded, where objects of its
// kind are shared, and returns what it holds. What was superseded is needed once
// more at most: history keeps bytes. bare says that its managed fields were left out.
func (i Item) keep(o object.Object, bare bool) object.Object {
	if !i.k.shared.on.Load() || !i.e.newest(i.rec) {
		return o
	}
	// Those who read it at the same time get the same object.
	one := &i.e.keeping[i.rev%object.Revision(len(i.e.keeping))]
	one.Lock()
	defer one.Unlock()
	had := i.memo()
	if had != nil && had.obj != nil {
		return had.obj
	}
	kept, fresh := i.k.newMemo(o)
	fresh.bare = fresh.bare || bare
	if !i.k.Custom() {
		// What it has in common with its like need not be looked up text by text.
		if !i.e.alike.share(i.k, fresh.obj, i.rec.Size(), true) {
			i.e.interner.Intern(fresh.obj)
		}
		i.e.alike.note(i.k, fresh.obj, i.rec.Size())
	}
	if had != nil {
		fresh.json.Store(had.json.Load())
	}
	i.rec.SetMemo(kept)
	if i.k.LetsGo() {
		i.k.aging.note(i.rec)
	}
	return fresh.obj
}

// newest reports whether a record is the present version of its key.
func (e *Engine) newest(r *store.Record) bool {
	now, _, err := e.store.Get(context.Background(), r.Key, 0)
	return err == nil && now == r
}

// decodeBare is decode without the managed fields, where the record is to keep the
// object, and says whether there were some.
func (i Item) decodeBare() (object.Object, bool, error) {
	if i.k.Custom() || !i.k.shared.on.Load() {
		o, err := i.decode()
		return o, false, err
	}
	buf := decoding.Get().(*[2][]byte)
	defer decoding.Put(buf)
	value, bare := object.WithoutManagedFields(i.rec.ValueIn(&buf[0]), &buf[1])
	o, err := i.decodeValue(value)
	return o, bare, err
}

// decoding is the memory for stored bytes while they are decoded.
var decoding = sync.Pool{New: func() any { return new([2][]byte) }}

// decode reads the stored bytes. Defaults come after, as upstream has it: what
// an older version stored, and what the bytes leave out (the kind of a claim
// template), reads as if it had been written today.
func (i Item) decode() (object.Object, error) { return i.decodeValue(i.rec.Value()) }

func (i Item) decodeValue(value []byte) (object.Object, error) {
	o, err := i.k.Decode(value, i.rev)
	if err == nil && i.k.Default != nil && i.k.Dynamic == nil { // which does so itself
		i.k.Default(o)
	}
	if err != nil && i.k.Dynamic != nil && i.rec != nil {
		err = i.undecodable(err)
	}
	return o, err
}

// undecodable is upstream's error for a stored object that a webhook cannot
// convert, with the key that it has there.
func (i Item) undecodable(err error) error {
	return fmt.Errorf("StorageError: corrupt object, Code: 7, Key: /%s/%s/%s, ResourceVersion: 0, AdditionalErrorMsg: object not decodable revision=%d: %w",
		i.k.Group, i.k.Resource, strings.TrimPrefix(i.rec.Key, i.k.prefix), i.rec.ModRev, err)
}

// Meta is the object's metadata, shared and immutable; it does not decode the
// rest.
func (i Item) Meta() (metav1.Object, error) {
	if i.obj != nil {
		return i.obj, nil
	}
	if d := i.k.Dynamic; d != nil && d.Converts {
		return i.Object()
	}
	if m := i.known(); m != nil && !m.bare {
		return m.obj, nil
	}
	return i.k.Meta(i.rec.Value(), i.rev)
}

// known is the memo, when it has the object.
func (i Item) known() *memo {
	if i.apart() {
		return nil
	}
	if m := i.memo(); m != nil && m.obj != nil {
		if i.k.LetsGo() {
			if age := i.k.aging.age.Load(); m.used.Load() != age {
				m.used.Store(age)
			}
		}
		return m
	}
	return nil
}

// sharedMeta is Meta without the managed fields, where that costs less.
func (i Item) sharedMeta() (metav1.Object, error) {
	if i.rec != nil {
		if m := i.known(); m != nil {
			return m.obj, nil
		}
	}
	return i.Meta()
}

// matches decides whether a selector chooses the item.
func (i Item) matches(s object.Selector) (bool, error) {
	if s.Empty() {
		return true, nil
	}
	if s.MetadataOnly() && i.obj == nil {
		m, err := i.sharedMeta()
		if err != nil {
			return false, err
		}
		return s.MatchesMeta(m), nil
	}
	if holds, ok := s.Sole("spec.nodeName"); ok && i.rec != nil && i.k.isPods {
		// Asked for every change of every pod, also of versions whose object was
		// dropped.
		if m := i.known(); m != nil {
			return holds(m.obj.(*corev1.Pod).Spec.NodeName), nil
		}
		return holds(Tag(i.rec)), nil
	}
	o, err := i.Shared()
	if err != nil {
		return false, err
	}
	return s.Matches(o), nil
}

// JSON is the object in version v without kind and apiVersion, as it stands in
// lists. It must not be changed.
func (i Item) JSON(v *object.Version) ([]byte, error) {
	if !v.Storage() || i.rec == nil || i.apart() {
		o, err := i.Object()
		if err != nil {
			return nil, err
		}
		return v.AppendJSON(nil, o)
	}
	m := i.memo()
	if m != nil {
		if b := m.json.Load(); b != nil {
			return *b, nil
		}
	}
	o, err := i.Object()
	if err != nil {
		return nil, err
	}
	b, err := i.k.AppendStoredJSON(nil, o)
	if err != nil {
		return nil, err
	}
	if m = i.memo(); m == nil {
		var kept any
		kept, m = i.k.newMemo(nil)
		i.rec.SetMemo(kept)
	}
	m.json.Store(&b)
	i.e.json.add(m, len(b))
	return b, nil
}

// protobufStored reports whether the stored bytes are the message in version v.
func (i Item) protobufStored(v *object.Version) bool {
	return v.Storage() && i.rec != nil && !i.k.Custom()
}

// ProtobufLen is the length of both parts that Protobuf returns, as far as it is
// known without them; ok is false when the item must be encoded.
func (i Item) ProtobufLen(v *object.Version) (n int, ok bool) {
	if !i.protobufStored(v) {
		return 0, false
	}
	return i.rec.Size() + object.RevisionFieldLen(i.rev), true
}

// Protobuf returns the object's message in version v as two parts that follow
// each other: stored bytes, which must not be changed, and the revision.
func (i Item) Protobuf(v *object.Version) (value []byte, tail []byte, err error) {
	return i.ProtobufIn(v, new([]byte))
}

// ProtobufIn is Protobuf for one who comes to the next item when done with this
// one: stored bytes that have to be expanded are in buf.
func (i Item) ProtobufIn(v *object.Version, buf *[]byte) (value []byte, tail []byte, err error) {
	if i.protobufStored(v) {
		return i.rec.ValueIn(buf), object.AppendRevision(nil, i.rev), nil
	}
	o, err := i.Object()
	if err != nil {
		return nil, nil, err
	}
	b, err := v.Protobuf(o)
	return b, nil, err
}

// AppendCBOR appends the object in version v as CBOR: a whole document, or as it
// stands in lists.
func (i Item) AppendCBOR(dst []byte, v *object.Version, whole bool) ([]byte, error) {
	o, err := i.Object()
	if err != nil {
		return dst, err
	}
	shown, err := v.InVersion(o, whole)
	if err != nil {
		return dst, err
	}
	if whole {
		return object.AppendCBOR(dst, shown)
	}
	return object.AppendCBORValue(dst, shown)
}

// jsonCache bounds the JSON kept on records: the oldest is dropped first.
type jsonCache struct {
	mu    sync.Mutex
	queue []cached
	head  int
	size  int64
	limit int64
}

type cached struct {
	m    *memo
	size int
}

func newJSONCache(limit int64) *jsonCache { return &jsonCache{limit: limit} }

func (c *jsonCache) add(m *memo, n int) {
	const overhead = 64
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, cached{m, n + overhead})
	c.size += int64(n + overhead)
	for c.size > c.limit && c.head < len(c.queue) {
		old := c.queue[c.head]
		c.queue[c.head] = cached{}
		c.head++
		c.size -= int64(old.size)
		old.m.json.Store(nil)
	}
	if c.head > 1024 && c.head > len(c.queue)/2 {
		c.queue = append([]cached(nil), c.queue[c.head:]...)
		c.head = 0
	}
}

// revised returns the item as it appears in a watch event of another revision:
// an object that leaves a selector is shown in its last matching state, at the
// revision at which it left.
func (i Item) revised(r object.Revision) Item {
	i.rev = r
	i.obj = nil
	return i
}

// Tag is the store.Options.Tag of the API: the node of a pod, by which node
// agents select their own.
func Tag(r *store.Record) string {
	const pods = "/registry/pods/"
	if len(r.Key) <= len(pods) || r.Key[:len(pods)] != pods {
		return ""
	}
	spec, ok := object.ProtobufField(r.Value(), 2)
	if !ok {
		return ""
	}
	node, _ := object.ProtobufField(spec, 10)
	return string(node)
}

// StoredMeta is the metadata's message as stored, without the revision; ok is
// false when there is none and the object must be encoded.
func (i Item) StoredMeta() ([]byte, bool) {
	return i.StoredMetaIn(new([]byte))
}

// StoredMetaIn is StoredMeta for one who comes to the next item when done with
// this one: stored bytes that have to be expanded are in buf.
func (i Item) StoredMetaIn(buf *[]byte) ([]byte, bool) {
	if i.rec == nil || i.k.Custom() {
		return nil, false
	}
	return object.ProtobufField(i.rec.ValueIn(buf), 1)
}
