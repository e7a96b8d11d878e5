package object

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Scheme is the set of kinds a process serves or uses. It is a value passed to
// constructors; kinds made at run time are added and removed while it is in use.
type Scheme struct {
	mu     sync.RWMutex
	all    []*Definition
	byGVK  map[schema.GroupVersionKind]*Definition
	byGVR  map[schema.GroupVersionResource]*Definition
	byType map[reflect.Type]*Definition
	// changed is closed at the next change; nil when nobody waits.
	changed chan struct{}
}

// NewScheme holds the given kinds. It panics on two definitions of one kind,
// which is a programming error.
func NewScheme(defs ...*Definition) *Scheme {
	s := &Scheme{
		byGVK:  map[schema.GroupVersionKind]*Definition{},
		byGVR:  map[schema.GroupVersionResource]*Definition{},
		byType: map[reflect.Type]*Definition{},
	}
	for _, d := range defs {
		if err := s.Add(d); err != nil {
			panic(err)
		}
	}
	return s
}

// Add makes a kind known, with all versions it is served in.
func (s *Scheme) Add(d *Definition) error { return s.Replace(nil, d) }

// Remove makes a kind unknown, with all its versions.
func (s *Scheme) Remove(d *Definition) { _ = s.Replace(d, nil) }

// Replace puts a kind in the place of another at once; either may be nil. When
// the new one cannot be added, nothing changes.
func (s *Scheme) Replace(old, d *Definition) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d != nil {
		for _, v := range d.Versions() {
			if has := s.byGVK[v.GVK()]; has != nil && !isVersion(old, has) {
				return fmt.Errorf("cannot add kind %s: it is defined already", v.GVK())
			}
			if has := s.byGVR[v.GVR()]; has != nil && !isVersion(old, has) {
				return fmt.Errorf("cannot add resource %s: it belongs to kind %s", v.GVR(), has.Kind)
			}
		}
	}
	if old != nil {
		s.all = slices.DeleteFunc(slices.Clone(s.all), func(x *Definition) bool { return x == old })
		for _, v := range old.Versions() {
			delete(s.byGVK, v.GVK())
			delete(s.byGVR, v.GVR())
		}
	}
	if d != nil {
		s.add(d)
	}
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	return nil
}

func isVersion(d, of *Definition) bool { return d != nil && slices.Contains(d.Versions(), of) }

func (s *Scheme) add(d *Definition) {
	s.all = append(s.all, d)
	for _, o := range d.Versions() {
		s.byGVK[o.GVK()] = o
		s.byGVR[o.GVR()] = o
		for _, v := range o.Served {
			kind := v.Kind
			if kind == "" {
				kind = o.Kind
			}
			s.byGVK[schema.GroupVersionKind{Group: v.Group, Version: v.Version, Kind: kind}] = o
			s.byGVR[schema.GroupVersionResource{Group: v.Group, Version: v.Version, Resource: o.Resource}] = o
		}
	}
	t := reflect.TypeOf(d.New())
	if _, taken := s.byType[t]; !taken && d.Dynamic == nil {
		s.byType[t] = d
	}
}

// Changed is closed when a kind is added, removed or replaced. Ask for it before
// looking at the kinds.
func (s *Scheme) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// All returns the kinds in the order they were added. Kinds made at run time are
// in it once, in the version that stands for them.
func (s *Scheme) All() []*Definition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.all)
}

// ByKind finds a kind in any version it is served in; nil when unknown.
func (s *Scheme) ByKind(k schema.GroupVersionKind) *Definition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byGVK[k]
}

// ByResource finds a resource in any version it is served in; nil when unknown.
func (s *Scheme) ByResource(r schema.GroupVersionResource) *Definition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byGVR[r]
}

// ByObject finds the kind of a typed object; nil when unknown.
func (s *Scheme) ByObject(o Object) *Definition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byType[reflect.TypeOf(o)]
}

// Of finds the kind held in Go type T, and panics when the scheme lacks it: a
// component was composed without a kind it needs.
func Of[T Object](s *Scheme) *Definition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	d := s.byType[reflect.TypeFor[T]()]
	if d == nil {
		panic(fmt.Sprintf("object: kind of %s is not in the scheme", reflect.TypeFor[T]()))
	}
	return d
}

// Revision is a store revision, the number behind metadata.resourceVersion.
type Revision int64

// RevisionOf returns an object's revision; 0 when it has none.
func RevisionOf(o Object) Revision {
	n, err := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return Revision(n)
}

// String returns the form that metadata.resourceVersion has.
func (r Revision) String() string { return strconv.FormatInt(int64(r), 10) }

// Key names an object within its kind. Namespace is empty for cluster scope.
type Key struct{ Namespace, Name string }

// KeyOf returns an object's key.
func KeyOf(o Object) Key { return Key{o.GetNamespace(), o.GetName()} }

// String is "namespace/name", or the name alone for cluster scope.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

func lower(s string) string { return strings.ToLower(s) }
