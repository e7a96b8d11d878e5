package object

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// FieldManagers keep metadata.managedFields: which client set which field, the
// base of server-side apply. The schemas are compiled at first use, so that
// starting up does not wait for them.
type FieldManagers struct {
	converter func() managedfields.TypeConverter

	mu     sync.RWMutex
	known  map[managerKey]*managedfields.FieldManager
	typed  map[*Codec]*typed.TypedValue // an empty object; nil when there is no schema
	sets   sets
	shapes shapes
	diffs  diffs

	filters map[managerKey]fieldpath.Filter
}

// builtinScheme knows the Go types of all built-in kinds.
func builtinScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme} {
		if err := add(s); err != nil {
			panic(fmt.Sprintf("object: cannot register the built-in types: %v", err))
		}
	}
	return s
}

type managerKey struct {
	v           *Version
	subresource string
}

// NewFieldManagers makes a set of field managers.
func NewFieldManagers() *FieldManagers {
	return &FieldManagers{
		converter: sync.OnceValue(func() managedfields.TypeConverter {
			return managedfields.NewSchemeTypeConverter(builtinScheme(), withScale(builtinFields()))
		}),
		known: map[managerKey]*managedfields.FieldManager{},
		typed: map[*Codec]*typed.TypedValue{},

		filters: map[managerKey]fieldpath.Filter{},
	}
}

// TypeConverter gives the schema of a kind by which objects are merged.
func (m *FieldManagers) TypeConverter(d *Definition) (managedfields.TypeConverter, error) {
	if _, custom := d.New().(*unstructured.Unstructured); !custom {
		return m.converter(), nil
	}
	if d.Dynamic != nil && d.Dynamic.Fields != nil {
		return d.Dynamic.Fields()
	}
	return managedfields.NewDeducedTypeConverter(), nil
}

// For returns the library's field manager of a version and subresource.
func (m *FieldManagers) For(c *Codec, v *Version, subresource string) (*managedfields.FieldManager, error) {
	key := managerKey{v, subresource}
	m.mu.RLock()
	f := m.known[key]
	m.mu.RUnlock()
	if f != nil {
		return f, nil
	}
	adapter := versionConverter{c: c, v: v}
	hub := c.Storage().GroupVersion()
	reset := resetFields(c, v, subresource)
	var err error
	if c.custom {
		conv := managedfields.NewDeducedTypeConverter()
		if d := c.def.Dynamic; d != nil && d.Fields != nil {
			if conv, err = d.Fields(); err != nil {
				return nil, fmt.Errorf("cannot manage fields of %s: %w", v.Kind, err)
			}
		}
		f, err = managedfields.NewDefaultCRDFieldManager(conv, adapter, adapter, adapter, v.GroupVersionKind, hub, subresource, reset)
	} else {
		f, err = managedfields.NewDefaultFieldManager(m.converter(), adapter, adapter, adapter, v.GroupVersionKind, hub, subresource, reset)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot manage fields of %s: %w", v.Kind, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if had := m.known[key]; had != nil {
		return had, nil
	}
	m.known[key] = f
	return f, nil
}

// resetFields are what a write through the main resource or a subresource cannot
// change, and so never owns: the status, or all but the status, and what the
// kind says.
func resetFields(c *Codec, v *Version, subresource string) map[fieldpath.APIVersion]fieldpath.Filter {
	version := fieldpath.APIVersion(v.GroupVersion().String())
	if owned := c.def.Owns[subresource]; owned != nil {
		var only []*fieldpath.SetMatcher
		for _, path := range owned {
			only = append(only, fieldpath.MakePrefixMatcherOrDie(elements(path)...))
		}
		return map[fieldpath.APIVersion]fieldpath.Filter{version: fieldpath.NewIncludeMatcherFilter(only...)}
	}
	set := fieldpath.NewSet()
	resets := c.def.Resets[subresource]
	for _, path := range resets {
		set.Insert(fieldpath.MakePathOrDie(elements(path)...))
	}
	switch {
	case !c.def.Status:
	case subresource != "" && subresource != "status" && resets != nil:
	case subresource != "status":
		set.Insert(fieldpath.MakePathOrDie("status"))
	case c.custom:
		// Which top-level fields there are is the schema's business; metadata and
		// status remain by what the write keeps.
		set.Insert(fieldpath.MakePathOrDie("spec"))
		if c.def.Dynamic != nil {
			set.Insert(fieldpath.MakePathOrDie("metadata"))
		}
	default:
		t := reflect.TypeOf(v.New()).Elem()
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			switch t.Field(i).Name {
			case "TypeMeta", "ObjectMeta", "Status":
			default:
				set.Insert(fieldpath.MakePathOrDie(name))
			}
		}
		if c.def.StatusKeepsMetadata {
			set.Insert(fieldpath.MakePathOrDie("metadata"))
		}
	}
	if set.Empty() {
		return nil
	}
	return map[fieldpath.APIVersion]fieldpath.Filter{version: fieldpath.NewExcludeSetFilter(set)}
}

// elements are those of a path of Resets or Owns.
func elements(path string) (out []any) {
	for name := range strings.SplitSeq(path, ".") {
		if name == "*" {
			out = append(out, fieldpath.MatchAnyPathElement())
		} else {
			out = append(out, name)
		}
	}
	return out
}

// Forget drops what was prepared for a kind.
func (m *FieldManagers) Forget(c *Codec) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.known {
		if k.v.codec == c {
			delete(m.known, k)
			delete(m.filters, k)
		}
	}
	delete(m.typed, c)
}

// Create gives a new object the managed fields of its creator. empty is an
// empty object of the kind.
func (m *FieldManagers) Create(c *Codec, v *Version, empty, obj Object, manager string, now time.Time) error {
	if m.track(c, v, "", empty, obj, manager, now) {
		return nil
	}
	return m.byLibrary(c, v, "", empty, obj, manager)
}

// Update brings the managed fields of obj up to date with its changes from old,
// which is shared and immutable.
func (m *FieldManagers) Update(c *Codec, v *Version, subresource string, old, obj Object, manager string, now time.Time) error {
	if m.track(c, v, subresource, old, obj, manager, now) {
		return nil
	}
	if same, err := c.unchanged(old, obj); err == nil && same {
		return nil
	}
	return m.byLibrary(c, v, subresource, old, obj, manager)
}

func (m *FieldManagers) byLibrary(c *Codec, v *Version, subresource string, old, obj Object, manager string) error {
	f, err := m.For(c, v, subresource)
	if err != nil {
		return err
	}
	f.UpdateNoErrors(withKind(c, ShallowCopy(old)), withKind(c, obj), manager)
	clearTyped(c, obj)
	return nil
}

// unchanged reports whether obj is old, its resourceVersion aside. Then its
// managed fields are what they were.
func (c *Codec) unchanged(old, obj Object) (bool, error) {
	if len(obj.GetManagedFields()) == 0 && obj.GetManagedFields() != nil {
		return false, nil // the caller resets them
	}
	rv, managed := obj.GetResourceVersion(), obj.GetManagedFields()
	was := ShallowCopy(old)
	was.SetResourceVersion("")
	obj.SetResourceVersion("")
	if len(managed) == 0 {
		obj.SetManagedFields(was.GetManagedFields())
	}
	a, err := c.Form(was)
	if err != nil {
		return false, err
	}
	b, err := c.Form(obj)
	obj.SetResourceVersion(rv)
	if err != nil {
		obj.SetManagedFields(managed)
		return false, err
	}
	same := string(a) == string(b)
	if !same {
		obj.SetManagedFields(managed)
	}
	return same, nil
}

func withKind(c *Codec, o Object) Object {
	if !c.custom {
		o.GetObjectKind().SetGroupVersionKind(c.def.GVK())
	}
	return o
}

func clearTyped(c *Codec, o Object) {
	if !c.custom {
		clearKind(o)
	}
}

// versionConverter lets the managed fields library convert, default and make
// objects of one kind.
type versionConverter struct {
	c *Codec
	v *Version
}

// ConvertToVersion implements runtime.ObjectConvertor.
func (k versionConverter) ConvertToVersion(in runtime.Object, gv runtime.GroupVersioner) (runtime.Object, error) {
	gvk := in.GetObjectKind().GroupVersionKind()
	if gvk.Empty() {
		return nil, fmt.Errorf("cannot convert %T: it does not say its kind", in)
	}
	target, ok := gv.KindForGroupVersionKinds([]schema.GroupVersionKind{gvk})
	if exact, isOne := gv.(schema.GroupVersion); !ok && isOne {
		// One kind may be served in two groups: Events are.
		target, ok = exact.WithKind(gvk.Kind), k.c.Version(exact) != nil
	}
	if !ok {
		return nil, runtime.NewNotRegisteredErrForTarget("api", nil, gv)
	}
	if u, ok := in.(*unstructured.Unstructured); ok && k.c.def.Dynamic != nil {
		if gvk == target {
			return in, nil
		}
		return k.c.def.Dynamic.Convert(u, target.GroupVersion())
	}
	to := k.c.Version(target.GroupVersion())
	from := k.c.Version(gvk.GroupVersion())
	if to == nil || from == nil {
		return nil, runtime.NewNotRegisteredErrForKind("api", target)
	}
	if u, ok := in.(*unstructured.Unstructured); ok && !k.c.custom {
		typed := from.New()
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, typed); err != nil {
			return nil, err
		}
		typed.GetObjectKind().SetGroupVersionKind(gvk)
		in = typed
	}
	if from == to {
		return withoutManagedFields(in), nil
	}
	hub, err := from.ToStorage(in)
	if err != nil {
		return nil, err
	}
	if to.Storage() {
		return withKind(k.c, hub), nil
	}
	out, err := to.FromStorage(hub)
	if err != nil {
		return nil, err
	}
	out.GetObjectKind().SetGroupVersionKind(to.GroupVersionKind)
	return out, nil
}

// Convert implements runtime.ObjectConvertor.
func (k versionConverter) Convert(in, out, _ any) error {
	return fmt.Errorf("cannot convert %T to %T: give the version", in, out)
}

// withoutManagedFields is what the library is to compare: it has decoded them
// before and puts them in afterwards, but would walk them all the same.
func withoutManagedFields(in runtime.Object) runtime.Object {
	o, ok := in.(Object)
	if !ok || len(o.GetManagedFields()) == 0 {
		return in
	}
	kind := in.GetObjectKind().GroupVersionKind()
	o = ShallowCopy(o)
	o.SetManagedFields(nil)
	o.GetObjectKind().SetGroupVersionKind(kind)
	return o
}

// ConvertFieldLabel implements runtime.ObjectConvertor.
func (k versionConverter) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// Default implements runtime.ObjectDefaulter.
func (k versionConverter) Default(in runtime.Object) {
	if o, ok := in.(Object); ok && k.v.Storage() && k.c.def.Default != nil {
		k.c.def.Default(o)
	}
}

// New implements runtime.ObjectCreater.
func (k versionConverter) New(kind schema.GroupVersionKind) (runtime.Object, error) {
	if k.c.def.Dynamic != nil {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(kind)
		return u, nil
	}
	v := k.c.Version(kind.GroupVersion())
	if v == nil {
		return nil, runtime.NewNotRegisteredErrForKind("api", kind)
	}
	o := v.New()
	if !k.c.custom {
		o.GetObjectKind().SetGroupVersionKind(v.GroupVersionKind)
	}
	return o, nil
}
