package object

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// message is what the generated types of k8s.io/api have.
type message interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
}

// Codec turns objects of one kind into bytes and back. The stored form is the
// storage version's protobuf message without resourceVersion, or for kinds made
// at run time JSON; it is also what lists and watches put on the wire.
type Codec struct {
	def      *Definition
	custom   bool
	status   int // protobuf number of the status field, 0 for none
	versions []*Version
}

// Version is one version in which a kind goes over the wire.
type Version struct {
	schema.GroupVersionKind
	ListKind string
	Columns  []Column

	codec  *Codec
	served *ServedVersion // nil for the storage version
	head   []byte         // {"kind":"Pod","apiVersion":"v1"
}

// Served is what the definition says of the version; nil for the storage version.
func (v *Version) Served() *ServedVersion { return v.served }

// NewCodec prepares the codec of a kind.
func NewCodec(d *Definition) *Codec {
	c := &Codec{def: d}
	if _, ok := d.New().(*unstructured.Unstructured); ok {
		c.custom = true
	} else if f, ok := reflect.TypeOf(d.New()).Elem().FieldByName("Status"); ok {
		c.status = protobufNumber(f.Tag.Get("protobuf"))
	}
	c.add(d.GVK(), nil)
	for i := range d.Served {
		s := &d.Served[i]
		k := s.Kind
		if k == "" {
			k = d.Kind
		}
		c.add(schema.GroupVersionKind{Group: s.Group, Version: s.Version, Kind: k}, s)
	}
	return c
}

func (c *Codec) add(gvk schema.GroupVersionKind, s *ServedVersion) {
	v := &Version{GroupVersionKind: gvk, ListKind: gvk.Kind + "List", Columns: c.def.Columns, codec: c, served: s}
	newList := c.def.NewList
	if s != nil {
		newList = s.NewList
		if s.Columns != nil {
			v.Columns = s.Columns
		}
	}
	if newList != nil {
		list := newList()
		if k := list.GetObjectKind().GroupVersionKind().Kind; k != "" {
			v.ListKind = k
		} else if t := reflect.TypeOf(list).Elem(); t.Kind() == reflect.Struct && t != reflect.TypeFor[unstructured.UnstructuredList]() {
			v.ListKind = t.Name()
		}
	}
	if s == nil && c.def.Dynamic != nil {
		v.ListKind = c.def.Dynamic.ListKind
	}
	v.head = fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q`, gvk.Kind, gvk.GroupVersion().String())
	c.versions = append(c.versions, v)
}

// Definition is the kind.
func (c *Codec) Definition() *Definition { return c.def }

// Custom reports whether the kind was made at run time: its objects are maps.
func (c *Codec) Custom() bool { return c.custom }

// Version finds a version by group and version; nil when it is not served.
func (c *Codec) Version(gv schema.GroupVersion) *Version {
	for _, v := range c.versions {
		if v.GroupVersion() == gv {
			return v
		}
	}
	return nil
}

// Storage is the version in which objects are kept.
func (c *Codec) Storage() *Version { return c.versions[0] }

// Storage reports whether v is the version in which objects are kept, whose
// stored bytes need no conversion.
func (v *Version) Storage() bool { return v.served == nil }

// Definition is the kind of which this is a version.
func (v *Version) Definition() *Definition { return v.codec.def }

// In is the same kind in another version; nil when it is not served there.
func (v *Version) In(gv schema.GroupVersion) *Version { return v.codec.Version(gv) }

// New returns an empty object of this version.
func (v *Version) New() runtime.Object {
	if v.served != nil {
		return v.served.New()
	}
	return v.codec.def.New()
}

// ToStorage converts an object of this version.
func (v *Version) ToStorage(o runtime.Object) (Object, error) {
	if v.served != nil {
		return v.served.From(o)
	}
	obj, ok := o.(Object)
	if !ok {
		return nil, fmt.Errorf("cannot use %T as %s", o, v.Kind)
	}
	return obj, nil
}

// FromStorage converts an object to this version. The result shares the
// argument when no conversion is needed.
func (v *Version) FromStorage(o Object) (runtime.Object, error) {
	if v.served != nil {
		return v.served.To(o)
	}
	return o, nil
}

// Encode returns the stored form of an object, which must have no
// resourceVersion.
func (c *Codec) Encode(o Object) ([]byte, error) {
	if c.custom {
		m, err := c.def.Dynamic.encode(o.(*unstructured.Unstructured).Object)
		if err != nil {
			return nil, err
		}
		return encodeCustom(m)
	}
	return Marshal(o)
}

// Form is like Encode, but in the codec's own version: for comparing objects.
func (c *Codec) Form(o Object) ([]byte, error) {
	if c.custom {
		return encodeCustom(o.(*unstructured.Unstructured).Object)
	}
	return Marshal(o)
}

// Decode reads the stored form.
func (c *Codec) Decode(value []byte, r Revision) (Object, error) {
	o := c.def.New()
	if c.custom {
		m, err := decodeMap(value)
		if err != nil {
			return nil, fmt.Errorf("cannot read stored %s: %w", c.def.Kind, err)
		}
		if m, err = c.def.Dynamic.decode(m); err != nil {
			return nil, err
		}
		o.(*unstructured.Unstructured).Object = m
	} else {
		m, ok := o.(message)
		if !ok {
			return nil, fmt.Errorf("cannot read stored %s: %T is no protobuf message", c.def.Kind, o)
		}
		if err := m.Unmarshal(value); err != nil {
			return nil, fmt.Errorf("cannot read stored %s: %w", c.def.Kind, err)
		}
	}
	o.SetResourceVersion(r.String())
	return o, nil
}

// DecodeAll is Decode of many at once, for kinds whose Dynamic can.
func (c *Codec) DecodeAll(values [][]byte, revisions []Revision) ([]Object, error) {
	all := make([]map[string]any, len(values))
	for i, value := range values {
		var err error
		if all[i], err = decodeMap(value); err != nil {
			return nil, fmt.Errorf("cannot read stored %s: %w", c.def.Kind, err)
		}
	}
	all, err := c.def.Dynamic.DecodeAll(all)
	if err != nil {
		return nil, err
	}
	out := make([]Object, len(all))
	for i, m := range all {
		o := c.def.New()
		o.(*unstructured.Unstructured).Object = m
		o.SetResourceVersion(revisions[i].String())
		out[i] = o
	}
	return out, nil
}

// Meta reads only the metadata of the stored form.
func (c *Codec) Meta(value []byte, r Revision) (*metav1.ObjectMeta, error) {
	m := &metav1.ObjectMeta{}
	if c.custom {
		var part struct {
			Metadata *metav1.ObjectMeta `json:"metadata"`
		}
		part.Metadata = m
		if err := json.Unmarshal(value, &part); err != nil {
			return nil, fmt.Errorf("cannot read metadata of stored %s: %w", c.def.Kind, err)
		}
	} else if raw, ok := ProtobufField(value, 1); ok {
		if err := m.Unmarshal(raw); err != nil {
			return nil, fmt.Errorf("cannot read metadata of stored %s: %w", c.def.Kind, err)
		}
	}
	m.ResourceVersion = r.String()
	return m, nil
}

// SpecEqual reports whether two stored forms agree in everything but metadata
// and status.
func (c *Codec) SpecEqual(a, b []byte) bool {
	if c.custom {
		ma, errA := decodeMap(a)
		mb, errB := decodeMap(b)
		for _, m := range []map[string]any{ma, mb} {
			delete(m, "metadata")
			delete(m, "status")
		}
		return errA == nil && errB == nil && reflect.DeepEqual(ma, mb)
	}
	return protobufEqualBut(a, b, 1, c.status)
}

// AppendStoredJSON appends the JSON of an object of the storage version without
// kind and apiVersion (which custom objects keep, as upstream's do in lists).
func (c *Codec) AppendStoredJSON(dst []byte, o Object) ([]byte, error) {
	if c.custom {
		b, err := json.Marshal(o.(*unstructured.Unstructured).Object)
		return append(dst, b...), err
	}
	return appendBareJSON(dst, o)
}

// appendBareJSON appends an object without its TypeMeta.
func appendBareJSON(dst []byte, o runtime.Object) ([]byte, error) {
	k := o.GetObjectKind()
	if gvk := k.GroupVersionKind(); !gvk.Empty() {
		// Published objects carry no TypeMeta, so this one is the caller's own.
		k.SetGroupVersionKind(schema.GroupVersionKind{})
		defer k.SetGroupVersionKind(gvk)
	}
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	b, err := appendTyped((*scratch)[:0], o)
	if err != nil {
		return dst, fmt.Errorf("cannot encode %T: %w", o, err)
	}
	*scratch = b
	return append(dst, b...), nil
}

// scratches are for JSON whose length is not known before it is made.
var scratches = sync.Pool{New: func() any { return new([]byte) }}

// WholeJSON appends the JSON of a whole object to dst, made from its form
// without kind and apiVersion.
func (v *Version) WholeJSON(dst, bare []byte) []byte {
	if v.codec != nil && v.codec.custom {
		return append(dst, bare...)
	}
	dst = append(dst, v.head...)
	if len(bare) <= 2 {
		return append(dst, '}')
	}
	dst = append(dst, ',')
	return append(dst, bare[1:]...)
}

// SplitJSON is WholeJSON without copying the object: the whole is dst, then rest.
func (v *Version) SplitJSON(dst, bare []byte) (head, rest []byte) {
	if v.codec.custom || len(bare) <= 2 {
		return v.WholeJSON(dst, bare), nil
	}
	return append(append(dst, v.head...), ','), bare[1:]
}

// AppendJSON appends an object, which is of the storage version, as JSON of this
// version without kind and apiVersion.
func (v *Version) AppendJSON(dst []byte, o Object) ([]byte, error) {
	if v.served == nil {
		return v.codec.AppendStoredJSON(dst, o)
	}
	converted, err := v.served.To(o)
	if err != nil {
		return dst, err
	}
	if u, ok := converted.(*unstructured.Unstructured); ok {
		b, err := json.Marshal(u.Object)
		return append(dst, b...), err
	}
	return appendBareJSON(dst, converted)
}

// Protobuf returns the message of an object, which is of the storage version,
// in this version.
func (v *Version) Protobuf(o Object) ([]byte, error) {
	converted, err := v.FromStorage(o)
	if err != nil {
		return nil, err
	}
	return Marshal(converted)
}

// Marshal returns an object's protobuf message.
func Marshal(o any) ([]byte, error) {
	m, ok := o.(message)
	if !ok {
		return nil, fmt.Errorf("cannot encode %T: %w", o, ErrNoProtobuf)
	}
	b := make([]byte, m.Size())
	n, err := m.MarshalToSizedBuffer(b)
	if err != nil {
		return nil, fmt.Errorf("cannot encode %T: %w", o, err)
	}
	if n != len(b) {
		return nil, fmt.Errorf("cannot encode %T: size %d became %d while encoding", o, len(b), n)
	}
	return b, nil
}

// ErrNoProtobuf is returned for types that have no protobuf form.
var ErrNoProtobuf = errors.New("it has no protobuf form")

// encodeCustom writes keys in order, so that equal objects have equal bytes.
func encodeCustom(m map[string]any) ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("cannot encode custom object: %w", err)
	}
	return b, nil
}

// Unmarshal reads an object of the storage version from its protobuf message,
// resourceVersion and all.
func Unmarshal(d *Definition, msg []byte) (Object, error) {
	o := d.New()
	m, ok := o.(message)
	if !ok {
		return nil, fmt.Errorf("cannot read %T: %w", o, ErrNoProtobuf)
	}
	if err := m.Unmarshal(msg); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", d.Kind, err)
	}
	return o, nil
}
