package object

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// diffs compares objects of Go types field by field, as the managed fields
// library does through its own view of them, and finds the same paths. How a type
// is compared is worked out once; what the library handles in ways of its own
// (untyped values, list keys given twice) is left to it.
type diffs struct {
	mu    sync.Mutex
	plans map[diffKey]*diffPlan
}

type diffKey struct {
	t        reflect.Type
	named    string
	relation schema.ElementRelationship // where the reference overrides the type's
}

type diffKind uint8

const (
	diffUnknown diffKind = iota // for the library
	diffLeaf                    // a scalar, or what counts as one
	diffStruct
	diffMap
	diffKeyed // list of structs with keys
	diffSet   // list of scalars
)

// diffPlan is how values of a type are compared under a schema.
type diffPlan struct {
	kind   diffKind
	fields []diffField
	elem   *diffPlan
	keys   []diffItemKey
}

// diffField is a field of a struct, by its name in JSON.
type diffField struct {
	name  string
	index []int
	omit  func(reflect.Value) bool
	plan  *diffPlan
}

// diffItemKey is a field that tells the elements of a list apart.
type diffItemKey struct {
	field    diffField
	fallback any // the schema's default, nil for none
}

// plan makes the plan of a type under a schema; mu is held.
func (d *diffs) plan(s *schema.Schema, ref schema.TypeRef, t reflect.Type) *diffPlan {
	t = pointee(t)
	unknown := &diffPlan{}
	atom, ok := s.Resolve(ref)
	if !ok {
		return unknown
	}
	key := diffKey{t: t}
	if ref.ElementRelationship != nil {
		key.relation = *ref.ElementRelationship
	}
	if ref.NamedType != nil {
		key.named = *ref.NamedType
		if p := d.plans[key]; p != nil {
			return p
		}
	}
	p := &diffPlan{}
	if ref.NamedType != nil {
		d.plans[key] = p // a type that contains itself meets its own plan
	}
	switch {
	case atom.Scalar != nil && atom.List == nil && atom.Map == nil:
		if isScalar(t) {
			p.kind = diffLeaf
		}
	case atom.Map != nil && atom.Scalar == nil && atom.List == nil:
		d.planMap(p, s, atom.Map, t)
	case atom.List != nil && atom.Scalar == nil && atom.Map == nil:
		d.planList(p, s, atom.List, t)
	}
	return p
}

func pointee(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// isScalar reports whether values of a type are scalars in JSON, or null.
func isScalar(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[resource.Quantity](), reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime](),
		reflect.TypeFor[metav1.Duration](), reflect.TypeFor[intstr.IntOrString]():
		return true
	}
	if value.TypeReflectEntryOf(t).CanConvertToUnstructured() {
		return false
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Float32, reflect.Float64:
		return true
	case reflect.Slice:
		return t.Elem().Kind() == reflect.Uint8
	}
	return false
}

func (d *diffs) planMap(p *diffPlan, s *schema.Schema, m *schema.Map, t reflect.Type) {
	if value.TypeReflectEntryOf(t).CanConvertToUnstructured() {
		return
	}
	switch {
	case t.Kind() != reflect.Struct && t.Kind() != reflect.Map:
		return
	case m.ElementRelationship == schema.Atomic:
		p.kind = diffLeaf
		return
	case t.Kind() == reflect.Map:
		if t.Key().Kind() == reflect.String {
			p.kind, p.elem = diffMap, d.plan(s, m.ElementType, t.Elem())
		}
		return
	}
	fields, ok := jsonFields(t)
	if !ok {
		return
	}
	p.kind = diffStruct
	for _, f := range fields {
		if t == reflect.TypeFor[metav1.ObjectMeta]() && f.name == "managedFields" {
			continue
		}
		ref := m.ElementType
		if sf, ok := m.FindField(f.name); ok {
			ref = sf.Type
		}
		f.plan = d.plan(s, ref, t.FieldByIndex(f.index).Type)
		p.fields = append(p.fields, f)
	}
}

func (d *diffs) planList(p *diffPlan, s *schema.Schema, l *schema.List, t reflect.Type) {
	if t.Kind() != reflect.Slice || t.Elem().Kind() == reflect.Uint8 || value.TypeReflectEntryOf(t).CanConvertToUnstructured() {
		return
	}
	if l.ElementRelationship != schema.Associative {
		p.kind = diffLeaf
		return
	}
	p.elem = d.plan(s, l.ElementType, t.Elem())
	if len(l.Keys) == 0 {
		if p.elem.kind == diffLeaf && t.Elem().Kind() == reflect.String {
			p.kind = diffSet
		}
		return
	}
	item := pointee(t.Elem())
	atom, ok := s.Resolve(l.ElementType)
	if !ok || atom.Map == nil || item.Kind() != reflect.Struct || t.Elem().Kind() == reflect.Pointer {
		return
	}
	fields, ok := jsonFields(item)
	if !ok {
		return
	}
	for _, name := range slices.Sorted(slices.Values(l.Keys)) {
		i := slices.IndexFunc(fields, func(f diffField) bool { return f.name == name })
		if i < 0 || !isKey(item.FieldByIndex(fields[i].index).Type) {
			return
		}
		k := diffItemKey{field: fields[i]}
		if sf, ok := atom.Map.FindField(name); ok {
			k.fallback = sf.Default
		}
		p.keys = append(p.keys, k)
	}
	p.kind = diffKeyed
}

// isKey reports whether a value of the type can be a list key here.
func isKey(t reflect.Type) bool {
	switch pointee(t).Kind() {
	case reflect.String, reflect.Int32, reflect.Int64, reflect.Bool:
		return !value.TypeReflectEntryOf(t).CanConvertToUnstructured()
	}
	return false
}

// jsonFields are the fields of a struct type as JSON has them, those of structs
// inside included; ok is false for what is not that plain.
func jsonFields(t reflect.Type) (out []diffField, ok bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		inline := name == "" && f.Anonymous || strings.Contains(options, "inline")
		switch {
		case name == "-":
		case inline && f.Type.Kind() == reflect.Struct:
			inner, ok := jsonFields(f.Type)
			if !ok {
				return nil, false
			}
			for _, g := range inner {
				g.index = append([]int{i}, g.index...)
				out = append(out, g)
			}
		case inline || name == "" || !f.IsExported():
			return nil, false
		default:
			out = append(out, diffField{name: name, index: []int{i}, omit: omission(f.Type, options)})
		}
	}
	return out, true
}

// omission is the test for values that JSON leaves out.
func omission(t reflect.Type, options string) func(reflect.Value) bool {
	empty, zero := strings.Contains(options, "omitempty"), strings.Contains(options, "omitzero")
	var test func(reflect.Value) bool
	if empty {
		switch t.Kind() {
		case reflect.Slice, reflect.Map, reflect.String:
			test = func(v reflect.Value) bool { return v.Len() == 0 }
		case reflect.Struct, reflect.Array:
		default:
			test = reflect.Value.IsZero
		}
	}
	if zero {
		rest := test
		isZero := reflect.Value.IsZero
		if _, has := t.MethodByName("IsZero"); has {
			isZero = func(v reflect.Value) bool { return v.Interface().(interface{ IsZero() bool }).IsZero() }
		} else if _, has := reflect.PointerTo(t).MethodByName("IsZero"); has {
			isZero = func(v reflect.Value) bool { return v.Addr().Interface().(interface{ IsZero() bool }).IsZero() }
		}
		test = func(v reflect.Value) bool { return rest != nil && rest(v) || isZero(v) }
	}
	if test == nil {
		return func(reflect.Value) bool { return false }
	}
	return test
}

// comparison is one walk over two values.
type comparison struct {
	path             fieldpath.Path
	changed, removed fieldpath.Set
	given            bool // up: to the library
}

// compare finds the paths that obj has with other values than old, or alone, and
// those that old alone has. It reports false when the library must do it.
func (d *diffs) compare(s *schema.Schema, ref schema.TypeRef, old, obj Object) (changed, removed *fieldpath.Set, ok bool) {
	l, r := reflect.ValueOf(old).Elem(), reflect.ValueOf(obj).Elem()
	if l.Type() != r.Type() {
		return nil, nil, false
	}
	d.mu.Lock()
	if d.plans == nil {
		d.plans = map[diffKey]*diffPlan{}
	}
	p := d.plan(s, ref, l.Type())
	d.mu.Unlock()
	c := comparison{path: make(fieldpath.Path, 0, 8)}
	c.walk(p, l, r)
	return &c.changed, &c.removed, !c.given
}

// walk compares two values at the path; an invalid one is not there at all.
func (c *comparison) walk(p *diffPlan, l, r reflect.Value) {
	if c.given {
		return
	}
	lv, rv := content(l), content(r)
	switch p.kind {
	case diffUnknown:
		if !l.IsValid() || !r.IsValid() || !same(l, r) {
			c.given = true
		}
		return
	case diffStruct:
		if c.walkStruct(p, lv, rv) {
			c.own(l, r)
			return
		}
	case diffMap:
		if length(lv)+length(rv) > 0 {
			c.walkMap(p, lv, rv)
			c.own(l, r)
			return
		}
	case diffKeyed, diffSet:
		if length(lv)+length(rv) > 0 {
			c.walkList(p, lv, rv)
			c.own(l, r)
			return
		}
	}
	c.leaf(l, r)
}

// content is what a value holds; invalid when that is nothing or null.
func content(v reflect.Value) reflect.Value {
	if !v.IsValid() {
		return v
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return reflect.Value{}
		}
		v = v.Elem()
	}
	if (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.IsNil() {
		return reflect.Value{}
	}
	return v
}

func length(v reflect.Value) int {
	if !v.IsValid() {
		return 0
	}
	return v.Len()
}

// own notes a map or list, whose contents were compared, where it came or went
// as a whole.
func (c *comparison) own(l, r reflect.Value) {
	switch {
	case !l.IsValid():
		c.changed.Insert(c.path)
	case !r.IsValid():
		c.removed.Insert(c.path)
	}
}

// leaf compares two values as wholes.
func (c *comparison) leaf(l, r reflect.Value) {
	switch {
	case !l.IsValid():
		c.changed.Insert(c.path)
	case !r.IsValid():
		c.removed.Insert(c.path)
	case !same(l, r):
		c.changed.Insert(c.path)
	}
}

// same reports whether two values of a type are the same in JSON.
func same(l, r reflect.Value) bool {
	switch l.Kind() {
	case reflect.String:
		return l.String() == r.String()
	case reflect.Bool:
		return l.Bool() == r.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return l.Int() == r.Int()
	case reflect.Pointer:
		if l.IsNil() || r.IsNil() {
			return l.IsNil() && r.IsNil()
		}
		if l.Pointer() == r.Pointer() {
			return true
		}
	}
	a, b := l.Interface(), r.Interface()
	switch x := a.(type) {
	case *metav1.Time:
		return sameTime(x.Time, b.(*metav1.Time).Time, time.Second)
	case metav1.Time:
		return sameTime(x.Time, b.(metav1.Time).Time, time.Second)
	case *metav1.MicroTime:
		return sameTime(x.Time, b.(*metav1.MicroTime).Time, time.Microsecond)
	case metav1.MicroTime:
		return sameTime(x.Time, b.(metav1.MicroTime).Time, time.Microsecond)
	}
	if reflect.DeepEqual(a, b) {
		return true
	}
	x, err := value.NewValueReflect(addressed(l))
	if err != nil {
		return false
	}
	y, err := value.NewValueReflect(addressed(r))
	return err == nil && value.Equals(x, y)
}

// sameTime compares times as precisely as JSON has them; the zero time is null.
func sameTime(a, b time.Time, precision time.Duration) bool {
	if a.IsZero() || b.IsZero() {
		return a.IsZero() && b.IsZero()
	}
	return a.Truncate(precision).Equal(b.Truncate(precision))
}

func addressed(v reflect.Value) any {
	if v.Kind() == reflect.Pointer {
		return v.Interface()
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p.Interface()
}

// walkStruct reports whether either has any field.
func (c *comparison) walkStruct(p *diffPlan, l, r reflect.Value) (any bool) {
	if l.IsValid() && r.IsValid() && l.CanAddr() && r.CanAddr() && l.Addr().Pointer() == r.Addr().Pointer() {
		return true
	}
	for i := range p.fields {
		f := &p.fields[i]
		a, b := f.of(l), f.of(r)
		if !a.IsValid() && !b.IsValid() {
			continue
		}
		any = true
		c.path = append(c.path, fieldpath.PathElement{FieldName: &f.name})
		c.walk(f.plan, a, b)
		c.path = c.path[:len(c.path)-1]
	}
	return any
}

// of is the field of a struct, invalid where there is none or it is left out.
func (f *diffField) of(v reflect.Value) reflect.Value {
	if !v.IsValid() {
		return v
	}
	for _, i := range f.index {
		v = v.Field(i)
	}
	if f.omit(v) {
		return reflect.Value{}
	}
	return v
}

func (c *comparison) walkMap(p *diffPlan, l, r reflect.Value) {
	if l.IsValid() && r.IsValid() && l.Pointer() == r.Pointer() {
		return
	}
	at := func(k reflect.Value, a, b reflect.Value) {
		name := k.String()
		c.path = append(c.path, fieldpath.PathElement{FieldName: &name})
		c.walk(p.elem, a, b)
		c.path = c.path[:len(c.path)-1]
	}
	if l.IsValid() {
		for it := l.MapRange(); it.Next(); {
			var b reflect.Value
			if r.IsValid() {
				b = r.MapIndex(it.Key())
			}
			at(it.Key(), it.Value(), b)
		}
	}
	if r.IsValid() {
		for it := r.MapRange(); it.Next(); {
			if !l.IsValid() || !l.MapIndex(it.Key()).IsValid() {
				at(it.Key(), reflect.Value{}, it.Value())
			}
		}
	}
}

func (c *comparison) walkList(p *diffPlan, l, r reflect.Value) {
	if l.IsValid() && r.IsValid() && l.Len() == r.Len() && l.Pointer() == r.Pointer() {
		return
	}
	left, right := c.elements(p, l), c.elements(p, r)
	if c.given {
		return
	}
	at := func(pe fieldpath.PathElement, a, b reflect.Value) {
		c.path = append(c.path, pe)
		c.walk(p.elem, a, b)
		c.path = c.path[:len(c.path)-1]
	}
	for i, pe := range left {
		var b reflect.Value
		if j := find(right, pe, i); j >= 0 {
			b = r.Index(j)
		}
		at(pe, l.Index(i), b)
	}
	for j, pe := range right {
		if find(left, pe, j) < 0 {
			at(pe, reflect.Value{}, r.Index(j))
		}
	}
}

// find looks for an element, where it most likely is first.
func find(all []fieldpath.PathElement, pe fieldpath.PathElement, likely int) int {
	if likely < len(all) && all[likely].Equals(pe) {
		return likely
	}
	return slices.IndexFunc(all, pe.Equals)
}

// elements says what tells the elements of a list apart. One that nothing does,
// two of the same, and lists too long to search are for the library.
func (c *comparison) elements(p *diffPlan, list reflect.Value) []fieldpath.PathElement {
	const longest = 64
	n := length(list)
	if n > longest {
		c.given = true
		return nil
	}
	all := make([]fieldpath.PathElement, 0, n)
	for i := range n {
		var pe fieldpath.PathElement
		if p.kind == diffSet {
			pe = fieldpath.ValueElement(value.NewValueInterface(list.Index(i).String()))
		} else {
			fields := make(value.FieldList, 0, len(p.keys))
			for k := range p.keys {
				if v, ok := p.keys[k].of(list.Index(i)); ok {
					fields = append(fields, value.Field{Name: p.keys[k].field.name, Value: v})
				}
			}
			if len(fields) == 0 {
				c.given = true
				return nil
			}
			pe.Key = &fields
		}
		if slices.ContainsFunc(all, pe.Equals) {
			c.given = true
			return nil
		}
		all = append(all, pe)
	}
	return all
}

// of is the value of a key; false where the element has none.
func (k *diffItemKey) of(item reflect.Value) (value.Value, bool) {
	v := k.field.of(item)
	if !v.IsValid() {
		return value.NewValueInterface(k.fallback), k.fallback != nil
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return value.NewValueInterface(nil), true
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		return value.NewValueInterface(v.String()), true
	case reflect.Bool:
		return value.NewValueInterface(v.Bool()), true
	}
	return value.NewValueInterface(v.Int()), true
}
