package object

import (
	"bytes"
	"cmp"
	"reflect"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// The managed fields of an ordinary write, computed as the library does it for
// the case almost all writes are: a built-in kind in its storage version, whose
// entries are all of that version and were not touched by the client. Instead of
// validating, converting and walking both objects whole, it compares only what
// differs and decodes each entry once. TestTrackEqualsLibrary holds the two to
// the same results.

// maxUpdateManagers is the library's bound on entries of ordinary writes, beyond
// which it merges the oldest.
const maxUpdateManagers = 10

// ignoredFields are never owned by anybody.
var ignoredFields = fieldpath.NewSet(
	fieldpath.MakePathOrDie("apiVersion"), fieldpath.MakePathOrDie("kind"),
	fieldpath.MakePathOrDie("metadata"), fieldpath.MakePathOrDie("metadata", "name"),
	fieldpath.MakePathOrDie("metadata", "namespace"), fieldpath.MakePathOrDie("metadata", "creationTimestamp"),
	fieldpath.MakePathOrDie("metadata", "selfLink"), fieldpath.MakePathOrDie("metadata", "uid"),
	fieldpath.MakePathOrDie("metadata", "clusterName"), fieldpath.MakePathOrDie("metadata", "generation"),
	fieldpath.MakePathOrDie("metadata", "managedFields"), fieldpath.MakePathOrDie("metadata", "resourceVersion"),
)

// schemaOf is the merge schema of a kind; ok is false when there is none.
func (m *FieldManagers) schemaOf(c *Codec) (*schema.Schema, schema.TypeRef, bool) {
	m.mu.RLock()
	t, ok := m.typed[c]
	m.mu.RUnlock()
	if !ok {
		tv, err := m.converter().ObjectToTyped(withKind(c, c.def.New()))
		if err == nil {
			t = tv
		}
		m.mu.Lock()
		m.typed[c] = t
		m.mu.Unlock()
	}
	if t == nil {
		return nil, schema.TypeRef{}, false
	}
	return t.Schema(), t.TypeRef(), true
}

// filter leaves out what a write through a subresource cannot change; nil leaves
// out nothing.
func (m *FieldManagers) filter(c *Codec, v *Version, subresource string) fieldpath.Filter {
	key := managerKey{v, subresource}
	m.mu.RLock()
	f, ok := m.filters[key]
	m.mu.RUnlock()
	if !ok {
		f = resetFields(c, v, subresource)[fieldpath.APIVersion(v.GroupVersion().String())]
		m.mu.Lock()
		m.filters[key] = f
		m.mu.Unlock()
	}
	return f
}

// track computes obj's managed fields after a write by manager. It reports false
// when the library must do it. old may be an empty object, for a create.
func (m *FieldManagers) track(c *Codec, v *Version, subresource string, old, obj Object, manager string, now time.Time) bool {
	entries := obj.GetManagedFields()
	if subresource != "" || entries == nil {
		entries = old.GetManagedFields()
	} else if len(entries) == 0 || !sameEntries(entries, old.GetManagedFields()) {
		return false // the client edits or resets them
	}
	if c.custom || !v.Storage() {
		return false
	}
	if len(entries) == 0 && old.GetUID() != "" {
		obj.SetManagedFields(nil) // untracked objects stay so
		return true
	}
	apiVersion := v.GroupVersion().String()
	updates := 0
	for i := range entries {
		e := &entries[i]
		if e.APIVersion != apiVersion || e.FieldsType != "FieldsV1" || e.FieldsV1 == nil {
			return false
		}
		if e.Operation == metav1.ManagedFieldsOperationUpdate {
			updates++
		}
	}
	if updates >= maxUpdateManagers {
		return false
	}
	stamp := metav1.Unix(now.Unix(), 0)
	var shape []byte
	if len(entries) == 0 && subresource == "" {
		// A create: objects of one template have the same fields.
		buf := shapeBuffers.Get().(*[]byte)
		defer shapeBuffers.Put(buf)
		shape = m.shapes.key((*buf)[:0], c, obj)
		*buf = shape[:0]
		if f := m.shapes.get(shape); f != nil {
			obj.SetManagedFields([]metav1.ManagedFieldsEntry{{
				Manager: cmp.Or(manager, "unknown"), Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: apiVersion,
				Time: &stamp, FieldsType: "FieldsV1", FieldsV1: f,
			}})
			return true
		}
	}
	sch, ref, ok := m.schemaOf(c)
	if !ok {
		return false
	}
	changed, removed, ok := m.diffs.compare(sch, ref, old, obj)
	if !ok {
		diff, err := compareObjects(c, sch, ref, old, obj)
		if err != nil {
			return false
		}
		changed, removed = diff.Modified.Union(diff.Added), diff.Removed
	}
	if f := m.filter(c, v, subresource); f != nil {
		changed, removed = f.Filter(changed), f.Filter(removed)
	}
	manager = cmp.Or(manager, "unknown")
	mine := changed.Difference(ignoredFields)
	lost := changed.Union(removed)
	out := make([]metav1.ManagedFieldsEntry, 0, len(entries)+1)
	found := false
	for _, e := range entries {
		own := e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == subresource
		if own && !found && !mine.Empty() && removed.Empty() && covers(e.FieldsV1.GetRawBytes(), mine) {
			// A renewal: the fields that changed are the manager's already.
			found = true
			e.Time = &stamp
			out = append(out, e)
			continue
		}
		set, err := m.decodeSet(e.FieldsV1)
		if err != nil {
			return false
		}
		left := set
		if !lost.Empty() {
			left = set.Difference(lost)
		}
		if own && !found && !mine.Empty() {
			found = true
			left = left.Union(mine)
			e.Time = &stamp
		}
		if left.Empty() {
			continue
		}
		if left != set && !left.Equals(set) {
			if e.FieldsV1, err = m.sets.fields(left); err != nil {
				return false
			}
		}
		out = append(out, e)
	}
	if !found && !mine.Empty() {
		fields, err := m.sets.fields(mine)
		if err != nil {
			return false
		}
		out = append(out, metav1.ManagedFieldsEntry{
			Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: apiVersion,
			Time: &stamp, FieldsType: "FieldsV1", FieldsV1: fields, Subresource: subresource,
		})
	}
	if shape != nil && len(out) == 1 {
		m.shapes.put(shape, out[0].FieldsV1)
	}
	slices.SortStableFunc(out, compareEntries)
	if len(out) == 0 {
		out = nil
	}
	obj.SetManagedFields(out)
	return true
}

func sameEntries(a, b []metav1.ManagedFieldsEntry) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := &a[i], &b[i]
		if x.Manager != y.Manager || x.Operation != y.Operation || x.APIVersion != y.APIVersion || x.Subresource != y.Subresource ||
			x.FieldsType != y.FieldsType || (x.FieldsV1 == nil) != (y.FieldsV1 == nil) || !x.Time.Equal(y.Time) {
			return false
		}
		if x.FieldsV1 != nil && !x.FieldsV1.Equal(*y.FieldsV1) {
			return false
		}
	}
	return true
}

// compareEntries is the order in which the library keeps them.
func compareEntries(a, b metav1.ManagedFieldsEntry) int {
	seconds := func(t *metav1.Time) int64 {
		if t == nil {
			return 0
		}
		return t.Unix()
	}
	return cmp.Or(
		cmp.Compare(a.Operation, b.Operation), cmp.Compare(seconds(a.Time), seconds(b.Time)),
		cmp.Compare(a.Manager, b.Manager), cmp.Compare(a.APIVersion, b.APIVersion), cmp.Compare(a.Subresource, b.Subresource),
	)
}

// compareObjects compares two objects field by field. What is equal is taken out
// of both first: it adds nothing to the result.
func compareObjects(c *Codec, sch *schema.Schema, ref schema.TypeRef, old, obj Object) (*typed.Comparison, error) {
	a, b := withKind(c, ShallowCopy(old)), withKind(c, ShallowCopy(obj))
	a.SetManagedFields(nil)
	b.SetManagedFields(nil)
	dropEqual(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), 2)
	x, err := value.NewValueReflect(a)
	if err != nil {
		return nil, err
	}
	y, err := value.NewValueReflect(b)
	if err != nil {
		return nil, err
	}
	return typed.AsTypedUnvalidated(x, sch, ref).Compare(typed.AsTypedUnvalidated(y, sch, ref))
}

// dropEqual zeroes the fields of two structs of one type that are equal, down to
// depth structs below.
func dropEqual(a, b reflect.Value, depth int) {
	t := a.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() || f.Name == "TypeMeta" {
			continue
		}
		x, y := a.Field(i), b.Field(i)
		if f.Type.Kind() == reflect.Struct && depth > 0 && f.Type.NumField() > 0 && f.Type.Field(0).IsExported() && !isLeaf(f.Type) {
			dropEqual(x, y, depth-1)
			continue
		}
		if x.IsZero() && y.IsZero() {
			continue
		}
		if reflect.DeepEqual(x.Interface(), y.Interface()) {
			x.SetZero()
			y.SetZero()
		}
	}
}

var unstructuredConverter = reflect.TypeFor[value.UnstructuredConverter]()

// isLeaf reports whether a struct type is a scalar on the wire.
func isLeaf(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(unstructuredConverter) {
		return true
	}
	_, marshals := reflect.PointerTo(t).MethodByName("MarshalJSON")
	return marshals
}

// sets remembers decoded field sets by their encoded form: objects made from one
// template have the same, and share its bytes.
type sets struct {
	mu    sync.Mutex
	known map[string]*fieldSet
	order []*fieldSet
	next  int
}

// fieldSet is a field set in both forms, shared and immutable.
type fieldSet struct {
	set    *fieldpath.Set
	fields *metav1.FieldsV1
	key    string // the bytes of fields, which gives copies of them
}

var (
	shapeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}
	fieldBuffers = sync.Pool{New: func() any { return &bytes.Buffer{} }}
)

const knownSets = 1024

func (s *sets) get(raw []byte) *fieldSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[string(raw)]
}

func (s *sets) put(raw []byte, set *fieldpath.Set) *fieldSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	if had := s.known[string(raw)]; had != nil {
		return had
	}
	if s.known == nil {
		s.known = map[string]*fieldSet{}
	}
	f := &fieldSet{set: set, fields: &metav1.FieldsV1{}, key: string(raw)}
	f.fields.SetRawBytes(raw)
	if len(s.order) < knownSets {
		s.order = append(s.order, f)
	} else {
		delete(s.known, s.order[s.next].key)
		s.order[s.next] = f
		s.next = (s.next + 1) % knownSets
	}
	s.known[f.key] = f
	return f
}

// fields encodes a set.
func (s *sets) fields(set *fieldpath.Set) (*metav1.FieldsV1, error) {
	buf := fieldBuffers.Get().(*bytes.Buffer)
	defer fieldBuffers.Put(buf)
	buf.Reset()
	if err := set.ToJSONStream(buf); err != nil {
		return nil, err
	}
	return s.put(buf.Bytes(), set).fields, nil
}

func (m *FieldManagers) decodeSet(f *metav1.FieldsV1) (*fieldpath.Set, error) {
	raw := f.GetRawBytes()
	if s := m.sets.get(raw); s != nil {
		return s.set, nil
	}
	s := &fieldpath.Set{}
	if err := s.FromJSON(bytes.NewReader(raw)); err != nil {
		return nil, err
	}
	return m.sets.put(raw, s).set, nil
}
