package resource_test

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/client/direct"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

var seed = maphash.MakeSeed()

func hash(t *testing.T, o object.Object) uint64 {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return maphash.Bytes(seed, b)
}

// witness holds published objects and what they hashed to when first seen.
type witness struct {
	mu   sync.Mutex
	seen map[object.Object]uint64
}

func (w *witness) see(t *testing.T, o object.Object) {
	h := hash(t, o)
	w.mu.Lock()
	defer w.mu.Unlock()
	if was, ok := w.seen[o]; ok && was != h {
		t.Errorf("published %s changed", object.KeyOf(o))
	}
	w.seen[o] = h
}

// TestPublishedNeverChange runs writers of every kind of change beside readers
// and proves that no published object is ever touched. Under -race it also
// proves that nobody writes what another reads.
func TestPublishedNeverChange(t *testing.T) {
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	defer s.Close()
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Fields: object.NewFieldManagers()})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := direct.New(e, nil, "tester", nil)
	pods := object.Of[*corev1.Pod](c.Scheme())
	w := &witness{seen: map[object.Object]uint64{}}

	list, err := c.List(ctx, pods, "", client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for _, selector := range []string{"", "app=web", "app!=web"} {
		stream, err := c.Watch(ctx, pods, "", client.WatchOptions{From: list.Revision, LabelSelector: selector})
		if err != nil {
			t.Fatal(err)
		}
		readers.Go(func() {
			defer stream.Close()
			for {
				events, err := stream.Next(ctx)
				if err != nil {
					return
				}
				for _, ev := range events {
					w.see(t, ev.Object)
				}
			}
		})
	}
	var writers sync.WaitGroup
	for n := range 4 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			for range 150 {
				name := fmt.Sprintf("p%d", r.IntN(6))
				var err error
				switch r.IntN(9) {
				case 0, 1:
					_, err = client.Create(ctx, c, newPod(name))
				case 2:
					err = client.Delete[*corev1.Pod](ctx, c, "default", name, metav1.DeleteOptions{})
				case 3:
					err = client.Delete[*corev1.Pod](ctx, c, "default", name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
				case 4:
					_, err = c.CreateSubresource(ctx, pods, "default", name, "binding", &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: name}, Target: corev1.ObjectReference{Name: "n"}})
				case 5:
					_, err = client.PatchOf[*corev1.Pod](ctx, c, "default", name, client.Patch{Type: types.MergePatchType, Data: fmt.Appendf(nil, `{"metadata":{"labels":{"app":"%d"}}}`, r.IntN(3))})
				case 6:
					_, err = client.PatchOf[*corev1.Pod](ctx, c, "default", name, client.Patch{Type: types.ApplyPatchType, FieldManager: "applier", Force: true,
						Data: fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"a":"%d"}}}`, r.IntN(3))})
				case 7:
					var p *corev1.Pod
					if p, err = client.Get[*corev1.Pod](ctx, c, "default", name); err == nil {
						w.see(t, p)
						p = p.DeepCopy()
						p.Status.Conditions = append(p.Status.Conditions[:0:0], corev1.PodCondition{Type: "Ready", Status: "True"})
						p.Status.Message = fmt.Sprint(r.IntN(5))
						_, err = client.UpdateStatus(ctx, c, p)
					}
				case 8:
					res := c.Batch(ctx, []client.Write{
						{Op: client.OpCreate, Definition: pods, Object: newPod(name)},
						{Op: client.OpDelete, Definition: pods, Object: newPod(name)},
					})
					err = res[0].Err
					if res[0].Object != nil {
						w.see(t, res[0].Object)
					}
				}
				if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) && !apierrors.IsInvalid(err) {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	cancel()
	readers.Wait()
	if len(w.seen) < 50 {
		t.Fatalf("only %d objects were seen", len(w.seen))
	}
	for o, was := range w.seen {
		if hash(t, o) != was {
			t.Errorf("published %s changed later", object.KeyOf(o))
		}
	}
}

func newPod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.org/i:v1"}}, TerminationGracePeriodSeconds: new(int64(30))},
	}
}
