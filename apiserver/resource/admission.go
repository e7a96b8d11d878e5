package resource

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/object"
)

// Operation is the kind of write that admission judges.
type Operation string

// The operations of admission.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Attributes are what admission sees of a write.
type Attributes struct {
	Operation   Operation
	Definition  *object.Definition
	Version     *object.Version // as requested
	Namespace   string
	Name        string // empty while generateName has not been resolved
	Subresource string
	// Object is the new state in the storage version's type, or the body of a
	// subresource (Binding, Eviction, Scale); nil for Delete. Admit may change it.
	Object runtime.Object
	// Old is the present state, shared and immutable; nil for Create.
	Old object.Object
	// Options are the request's metav1 options.
	Options runtime.Object
	// Collection says that the request deletes all that it selects: it has named
	// none of them.
	Collection bool
	DryRun     bool
	User       user.Info
	Warn       func(text string)
	// Annotate adds to the audit record of the request.
	Annotate func(key, value string)

	// Again is set by a rule that changed the object in a way that those before
	// it may want to judge; they are then asked once more, with Round 1. Kept is
	// what rules remember between the rounds, by their names.
	Again bool
	Round int
	Kept  map[string]any
}

// Admission is asked about every write, whichever way it came. Errors are the
// API's (a plain error becomes 403 Forbidden in upstream's words).
type Admission interface {
	// Admit may change a.Object, before validation.
	Admit(ctx context.Context, a *Attributes) error
	// Validate sees the final object.
	Validate(ctx context.Context, a *Attributes) error
}

// AfterWrite is an optional power of an Admission: it hears of every write that
// Admit let through, once its outcome is known, so that it can keep or give back
// what it had reserved (addresses, quota).
type AfterWrite interface {
	AfterWrite(ctx context.Context, a *Attributes, err error)
}

func (e *Engine) attributes(c Caller, t Target, op Operation, obj runtime.Object, old object.Object, options runtime.Object, dry bool) *Attributes {
	return &Attributes{
		Operation: op, Definition: t.Definition, Version: t.WireVersion(), Namespace: t.Namespace, Name: t.Name,
		Subresource: t.Subresource, Object: obj, Old: old, Options: options, DryRun: dry, User: c.User,
		Warn: func(s string) { c.warn(s) }, Annotate: c.annotate,
	}
}

func (e *Engine) admit(ctx context.Context, a *Attributes) error {
	if e.admission == nil {
		return nil
	}
	return e.admission.Admit(ctx, a)
}

func (e *Engine) validateAdmission(ctx context.Context, a *Attributes) error {
	if e.admission == nil {
		return nil
	}
	return e.admission.Validate(ctx, a)
}

// refused tells the admission of a write that something after Admit refused.
func (e *Engine) refused(ctx context.Context, a *Attributes, err *error) {
	if *err != nil {
		e.settled(ctx, a, *err)
	}
}

// settled tells the admission what became of a write it let through.
func (e *Engine) settled(ctx context.Context, a *Attributes, err error) {
	if after, ok := e.admission.(AfterWrite); ok && a != nil {
		after.AfterWrite(ctx, a, err)
	}
}

// Connect asks admission about opening a stream to a subresource.
func (e *Engine) Connect(ctx context.Context, c Caller, t Target, options runtime.Object) error {
	a := e.attributes(c, t, Connect, options, nil, options, false)
	if err := e.admit(ctx, a); err != nil {
		return err
	}
	return e.validateAdmission(ctx, a)
}
