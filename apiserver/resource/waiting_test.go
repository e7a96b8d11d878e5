package resource_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/resource"
	"sagong/apiserver/turn"
	"sagong/client"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// meeting is admission that waits, as for a webhook, until as many writes wait.
// A write named "no" it refuses.
type meeting struct{ all sync.WaitGroup }

func (m *meeting) Admit(ctx context.Context, a *resource.Attributes) error {
	var both sync.WaitGroup // two webhooks, called at the same time
	for range 2 {
		both.Go(func() { turn.Yield(ctx) })
	}
	both.Wait()
	m.all.Done()
	m.all.Wait()
	a.Warn(a.Name)
	a.Annotate(a.Name, "")
	if a.Name == "no" {
		return errors.New("refused")
	}
	return nil
}

func (*meeting) Validate(context.Context, *resource.Attributes) error { return nil }

// TestWritesOfABatchWaitTogether has each write of a batch, and of a deletion of
// many, wait for all others: one after another, they would wait for ever.
func TestWritesOfABatchWaitTogether(t *testing.T) {
	const writes = 20
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	defer s.Close()
	m := &meeting{}
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Admission: m})
	def := e.Scheme().ByObject(&corev1.ConfigMap{})
	var batch []client.Write
	for n := range writes {
		name := fmt.Sprint("m", n)
		if n == 7 {
			name = "no"
		}
		batch = append(batch, client.Write{Op: client.OpCreate, Definition: def, Object: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}})
	}
	var warned, noted []string
	yields := 0
	caller := resource.Caller{Warn: func(s string) { warned = append(warned, s) }, Annotate: func(k, _ string) { noted = append(noted, k) }}
	ctx := turn.With(t.Context(), &turn.Turn{Yield: func() { yields++ }})
	m.all.Add(writes)
	for n, r := range e.Batch(ctx, caller, batch, nil) {
		if want := fmt.Sprint("m", n); n == 7 && r.Err == nil || n != 7 && (r.Err != nil || r.Object.GetName() != want) {
			t.Errorf("write %d: %v, %v", n, r.Object, r.Err)
		}
	}
	m.all.Add(writes - 1)
	l, err := e.DeleteCollection(ctx, caller, resource.Target{Kind: e.Kind(def), Namespace: "default"}, &metav1.DeleteOptions{}, resource.ListOptions{})
	if err != nil || len(l.Items) != writes-1 {
		t.Errorf("%d deleted, %v", len(l.Items), err)
	}
	if all := 2*writes - 1; len(warned) != all || len(noted) != all || yields == 0 {
		t.Errorf("%d warnings, %d notes, %d yields", len(warned), len(noted), yields)
	}
}
