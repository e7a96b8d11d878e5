package reconcile

import (
	"context"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
)

// tracked is the client that one handling of a key writes with. It notes what
// the views must show before the key may be handled again.
type tracked struct {
	client.Client
	mu    sync.Mutex
	notes []note
}

// note is a condition on the view of a kind: that it has reached a revision;
// or, with a uid, that it shows that object gone or being deleted; or, for a
// conflict, that it shows the object at a revision later than that one.
type note struct {
	def      *object.Definition
	key      object.Key
	revision object.Revision
	uid      types.UID
	sort     noteSort
}

type noteSort uint8

const (
	noteWritten noteSort = iota
	noteDeleted
	noteConflict
)

// reached says whether a view meets the condition.
func (n *note) reached(s source) bool {
	switch n.sort {
	case noteWritten:
		return s.Revision() >= n.revision
	case noteConflict:
		o, ok := s.find(n.key)
		return !ok || object.RevisionOf(o) > n.revision
	default:
		o, ok := s.find(n.key)
		return !ok || o.GetUID() != n.uid || o.GetDeletionTimestamp() != nil
	}
}

// take returns the notes and forgets them, with one note a kind for writes.
func (t *tracked) take() []note {
	t.mu.Lock()
	defer t.mu.Unlock()
	notes := t.notes
	t.notes = nil
	return notes
}

func (t *tracked) wrote(d *object.Definition, o object.Object) {
	if o == nil {
		return
	}
	r := object.RevisionOf(o)
	for i := range t.notes {
		if n := &t.notes[i]; n.sort == noteWritten && n.def == d {
			n.revision = max(n.revision, r)
			return
		}
	}
	t.notes = append(t.notes, note{def: d, revision: r})
}

func (t *tracked) result(d *object.Definition, key object.Key, sent object.Revision, o object.Object, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.noteResult(d, key, sent, o, err)
}

func (t *tracked) noteResult(d *object.Definition, key object.Key, sent object.Revision, o object.Object, err error) {
	switch {
	case err == nil:
		t.wrote(d, o)
	case apierrors.IsConflict(err) && sent > 0:
		t.notes = append(t.notes, note{sort: noteConflict, def: d, key: key, revision: sent})
	}
}

func (t *tracked) deleted(d *object.Definition, key object.Key, o metav1.DeleteOptions, uid types.UID, err error) {
	if err != nil {
		return
	}
	if p := o.Preconditions; p != nil && p.UID != nil {
		uid = *p.UID
	}
	if uid == "" {
		return // another of the same name could not be told from it
	}
	t.notes = append(t.notes, note{sort: noteDeleted, def: d, key: key, uid: uid})
}

func (t *tracked) Create(ctx context.Context, d *object.Definition, o object.Object) (object.Object, error) {
	made, err := t.Client.Create(ctx, d, o)
	t.result(d, object.Key{}, 0, made, err)
	return made, err
}

func (t *tracked) Update(ctx context.Context, d *object.Definition, o object.Object, subresource string) (object.Object, error) {
	key, sent := object.KeyOf(o), object.RevisionOf(o)
	made, err := t.Client.Update(ctx, d, o, subresource)
	if subresource == "" || subresource == "status" || subresource == "finalize" {
		t.result(d, key, sent, made, err)
	}
	return made, err
}

func (t *tracked) Patch(ctx context.Context, d *object.Definition, namespace, name string, p client.Patch) (object.Object, error) {
	made, err := t.Client.Patch(ctx, d, namespace, name, p)
	if p.Subresource != "scale" {
		t.result(d, object.Key{Namespace: namespace, Name: name}, 0, made, err)
	}
	return made, err
}

func (t *tracked) Delete(ctx context.Context, d *object.Definition, namespace, name string, o metav1.DeleteOptions) error {
	err := t.Client.Delete(ctx, d, namespace, name, o)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deleted(d, object.Key{Namespace: namespace, Name: name}, o, "", err)
	return err
}

func (t *tracked) CreateSubresource(ctx context.Context, d *object.Definition, namespace, name, subresource string, body runtime.Object) (runtime.Object, error) {
	return t.Client.CreateSubresource(ctx, d, namespace, name, subresource, body)
}

func (t *tracked) Batch(ctx context.Context, writes []client.Write) []client.Result {
	type sent struct {
		key object.Key
		rv  object.Revision
		uid types.UID
	}
	before := make([]sent, len(writes)) // the objects are not ours after the call
	for i, w := range writes {
		if w.Object != nil {
			before[i] = sent{object.KeyOf(w.Object), object.RevisionOf(w.Object), w.Object.GetUID()}
		}
	}
	results := t.Client.Batch(ctx, writes)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, r := range results {
		switch w := writes[i]; w.Op {
		case client.OpDelete:
			t.deleted(w.Definition, before[i].key, w.Delete, before[i].uid, r.Err)
			// A view that has not seen the object yet does not show it either.
			t.noteResult(w.Definition, before[i].key, 0, r.Object, r.Err)
		case client.OpBind:
		default:
			t.noteResult(w.Definition, before[i].key, before[i].rv, r.Object, r.Err)
		}
	}
	return results
}
