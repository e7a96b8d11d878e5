package reconcile

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/client"
	"sagong/object"
)

// Controller brings one kind of thing into its wanted state, key by key.
type Controller interface {
	// Name is unique and appears in logs and metrics.
	Name() string
	// Inputs are the views it reads, each with the keys a change concerns.
	Inputs() []Input
	// Outputs are what it alone writes.
	Outputs() []Output
	// Reconcile handles one key. It writes through c only. The engine calls it
	// for a key from one goroutine at a time, and only once the controller's
	// views show everything it wrote itself when it handled that key before;
	// an error has the key handled again later.
	Reconcile(ctx context.Context, c client.Client, key object.Key) (Result, error)
}

// Runner is an optional power of a Controller: work beside its keys. Run starts
// once the inputs are synced, may ask for keys to be handled at any time, and
// returns when ctx ends (or before, when it has nothing more to do).
type Runner interface {
	Run(ctx context.Context, c client.Client, enqueue func(object.Key)) error
}

// Workers is an optional power of a Controller: how many keys may be handled at
// the same time, instead of DefaultWorkers.
type Workers interface{ Workers() int }

// DefaultWorkers is how many keys of a controller are handled at the same time.
const DefaultWorkers = 4

// Result says what a key needs besides changes of its inputs.
type Result struct {
	// After has the key handled again after that time, if no change did so
	// before. Each handling replaces what the one before asked for. Zero: not.
	After time.Duration
	// Rest has changes within that time handled together at its end: for keys
	// whose handling takes in many objects that change one after another. A
	// handling that fails is retried without.
	Rest time.Duration
}

// Output names what a controller alone writes: a field of a kind ("status"), or
// a class of its objects ("of Deployment").
type Output struct {
	Kind  schema.GroupKind
	Field string
}

// Input is a view that a controller reads. Make it with Reads, On, Self or
// Owner.
type Input struct {
	source source
	follow func(enqueue func(object.Key)) (stop func())
}

// source is what the engine needs of a View of any type.
type source interface {
	Definition() *object.Definition
	Revision() object.Revision
	Synced(context.Context) error
	find(object.Key) (object.Object, bool)
	onAdvance(func()) (stop func())
}

// Seen is the kind in view of an input, and the revision that view has reached.
// By it a test can hold a controller to never acting on a view older than its
// own last write.
func (i Input) Seen() (*object.Definition, object.Revision) {
	return i.source.Definition(), i.source.Revision()
}

// Reads declares a view that is only looked things up in.
func Reads[T object.Object](v *View[T]) Input { return Input{source: v} }

// On maps each change to keys: old is nil for an object that appears, new for
// one that is gone. keys must be quick.
func On[T object.Object](v *View[T], keys func(old, new T, enqueue func(object.Key))) Input {
	return Input{source: v, follow: func(enqueue func(object.Key)) func() {
		return v.OnChange(func(old, new T) { keys(old, new, enqueue) })
	}}
}

// Self makes an object's own key be handled at each of its changes.
func Self[T object.Object](v *View[T]) Input {
	return Input{source: v, follow: func(enqueue func(object.Key)) func() {
		return v.OnChange(func(old, new T) { enqueue(object.KeyOf(either(old, new))) })
	}}
}

// Owner makes the controlling owner of kind "Deployment" of group "apps" be
// handled at each change of what it controls, and both owners when that changes.
func Owner[T object.Object](v *View[T], owner schema.GroupKind) Input {
	return Input{source: v, follow: func(enqueue func(object.Key)) func() {
		return v.OnChange(func(old, new T) {
			before, after := ControllerKey(old, owner), ControllerKey(new, owner)
			if after != (object.Key{}) {
				enqueue(after)
			}
			if before != (object.Key{}) && before != after {
				enqueue(before)
			}
		})
	}}
}

// ControllerKey is the key of o's controlling owner when that is of the kind
// given, and the zero key otherwise (for a nil o as well).
func ControllerKey[T object.Object](o T, owner schema.GroupKind) object.Key {
	if isNil(o) {
		return object.Key{}
	}
	ref := metav1.GetControllerOfNoCopy(o)
	if ref == nil || ref.Kind != owner.Kind || GroupOf(ref.APIVersion) != owner.Group {
		return object.Key{}
	}
	return object.Key{Namespace: o.GetNamespace(), Name: ref.Name}
}

// GroupOf is the group of an apiVersion, "" for core.
func GroupOf(apiVersion string) string {
	for i := range len(apiVersion) {
		if apiVersion[i] == '/' {
			return apiVersion[:i]
		}
	}
	return ""
}

func either[T object.Object](old, new T) T {
	if isNil(new) {
		return old
	}
	return new
}

// isNil says whether o is the nil pointer of its type.
func isNil[T object.Object](o T) bool {
	var none T
	return any(o) == any(none)
}
