// Package client is the contract by which every component meets the API:
// controllers, the scheduler, the node agent, the network and the dashboard
// know nothing else of the server. direct/ serves it in the server's own
// process by sharing pointers, remote/ over HTTPS, fake/ in tests; one
// conformance suite holds all three to this text.
package client

import (
	"context"
	"errors"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"sagong/object"
)

// Client reads and writes API objects. All methods may be called at the same
// time. Errors are those of the API (k8s.io/apimachinery/pkg/api/errors tells
// them apart: IsNotFound, IsConflict, IsGone, ...). Objects returned are shared
// and immutable, and may lack their managed fields, which the server keeps; an
// object passed in is owned by the call from then on and must not be touched
// afterwards.
type Client interface {
	// Scheme holds the kinds this client knows.
	Scheme() *object.Scheme
	Get(ctx context.Context, d *object.Definition, namespace, name string) (object.Object, error)
	// List returns one consistent snapshot; an empty namespace means all.
	List(ctx context.Context, d *object.Definition, namespace string, o ListOptions) (List, error)
	// Watch delivers every change after o.From in order, without gap or
	// double. It fails with IsGone / IsResourceExpired when o.From is too old.
	Watch(ctx context.Context, d *object.Definition, namespace string, o WatchOptions) (Watch, error)
	Create(ctx context.Context, d *object.Definition, obj object.Object) (object.Object, error)
	// Update replaces an object, or with a subresource ("status") that part of
	// it. metadata.resourceVersion, when set, must be the current one.
	Update(ctx context.Context, d *object.Definition, obj object.Object, subresource string) (object.Object, error)
	Patch(ctx context.Context, d *object.Definition, namespace, name string, p Patch) (object.Object, error)
	Delete(ctx context.Context, d *object.Definition, namespace, name string, o metav1.DeleteOptions) error
	// CreateSubresource posts a body to a subresource: pods/binding,
	// pods/eviction, serviceaccounts/token.
	CreateSubresource(ctx context.Context, d *object.Definition, namespace, name, subresource string, body runtime.Object) (runtime.Object, error)
	// Batch carries out independent writes together: each succeeds or fails on
	// its own, results are in order, and all that succeed are made durable with
	// as few syncs as possible. It is not a transaction.
	Batch(ctx context.Context, writes []Write) []Result
}

// ListOptions narrow a List. Selectors are in the API's string form.
type ListOptions struct {
	LabelSelector, FieldSelector string
}

// List is a consistent snapshot of objects of one kind.
type List struct {
	Items    []object.Object
	Revision object.Revision
	// Kept are what a Keeper gives the Items for, in their order; nil where it
	// gives none.
	Kept []Kept
}

// WatchOptions narrow a Watch. FieldSelector "spec.nodeName=X" on pods is
// served by an index, so ten thousand such watches cost no more than one.
type WatchOptions struct {
	LabelSelector, FieldSelector string
	// From is the revision after which changes are delivered, usually that of
	// a List before.
	From object.Revision
}

// Watch is pulled: a slow reader costs the server nothing but an eventual
// IsGone error.
type Watch interface {
	// Next waits for at least one event and returns all there are. Any error
	// ends the watch: list again.
	Next(ctx context.Context) ([]Event, error)
	Close()
}

// EventType says what happened to an object, as seen through the selectors.
type EventType string

// The types of Event.
const (
	Added    EventType = "ADDED"
	Modified EventType = "MODIFIED"
	Deleted  EventType = "DELETED"
	// Bookmark carries only a revision: all events up to it were delivered.
	Bookmark EventType = "BOOKMARK"
)

// Event is one change. For Deleted the object is its last state.
type Event struct {
	Type     EventType
	Object   object.Object // nil for Bookmark
	Revision object.Revision
	Kept     Kept // of Object; nil for Deleted, and where a Keeper gives none
}

// Patch is a change in one of the API's patch forms.
type Patch struct {
	Type        types.PatchType
	Data        []byte
	Subresource string
	// FieldManager and Force matter for apply patches.
	FieldManager string
	Force        bool
}

// Op is what a Write does.
type Op int

// The operations of Write.
const (
	OpCreate Op = iota
	OpUpdate
	OpUpdateStatus
	OpDelete // by Object's namespace and name, with its UID as precondition when set
	OpBind   // Object is a *corev1.Binding
)

// Write is one operation of a Batch.
type Write struct {
	Op         Op
	Definition *object.Definition // of the object written; for OpBind that of pods
	Object     object.Object
	Delete     metav1.DeleteOptions
}

// Result is the outcome of one Write.
type Result struct {
	Object object.Object // as stored; nil for OpBind and errors
	Err    error
}

// ErrClosed is returned by Watch.Next after Close.
var ErrClosed = errors.New("watch is closed")

// Recorder writes Events about objects. It never blocks and never fails: events
// are best effort, repeated ones are counted up as upstream does.
type Recorder interface {
	// Eventf records an event of type "Normal" or "Warning" about an object;
	// reason is a CamelCase word.
	Eventf(regarding object.Object, eventType, reason, format string, args ...any)
	// EventForField is the same for a part of the object, such as
	// "spec.containers{web}".
	EventForField(regarding object.Object, fieldPath, eventType, reason, format string, args ...any)
}

// Kept stands for one version of an object that a Keeper has: it takes no memory
// but its own.
type Kept = any

// Keeper is an optional power of a Client: it has the objects of some kinds
// anyway, and gives one again to who has let go of it. Who follows very many
// objects and seldom looks at one holds their Kept instead.
type Keeper interface {
	// Keeps returns what gives the object of a Kept of this kind, nil where lists
	// and events have none. Soon after the last call it gives the same object.
	Keeps(d *object.Definition) func(Kept) object.Object
}

// Streamer is an optional power of a Client: raw access to a subresource that
// streams, such as pods/log.
type Streamer interface {
	Stream(ctx context.Context, d *object.Definition, namespace, name, subresource string, query map[string][]string) (io.ReadCloser, error)
}
