package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

var quiet = slog.New(slog.DiscardHandler)

type testController struct {
	name    string
	inputs  []reconcile.Input
	outputs []reconcile.Output
	workers int
	f       func(context.Context, client.Client, object.Key) (reconcile.Result, error)
}

func (c *testController) Name() string                { return c.name }
func (c *testController) Inputs() []reconcile.Input   { return c.inputs }
func (c *testController) Outputs() []reconcile.Output { return c.outputs }
func (c *testController) Workers() int                { return max(c.workers, 1) }
func (c *testController) Reconcile(ctx context.Context, w client.Client, k object.Key) (reconcile.Result, error) {
	return c.f(ctx, w, k)
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

// world starts a cluster and a hub; run starts an engine over it.
func world(t *testing.T, objs ...object.Object) (*fake.Client, *reconcile.Hub) {
	t.Helper()
	objs = append(objs, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	c := fake.New(object.NewScheme(kinds.All()...), objs...)
	h := reconcile.NewHub(c, quiet)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = h.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; c.Close() })
	return c, h
}

func run(t *testing.T, c client.Client, cs ...reconcile.Controller) (stop func()) {
	t.Helper()
	e := reconcile.NewEngine(c, quiet, nil)
	if err := e.Add(cs...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

func wait[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(time.Minute):
		t.Fatal("nothing happened")
		panic("unreachable")
	}
}

func TestOwnersDoNotOverlap(t *testing.T) {
	out := reconcile.Output{Kind: schema.GroupKind{Kind: "Pod"}, Field: "status"}
	e := reconcile.NewEngine(nil, quiet, nil)
	if err := e.Add(&testController{name: "a", outputs: []reconcile.Output{out}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Add(&testController{name: "b", outputs: []reconcile.Output{out}}); err == nil || !strings.Contains(err.Error(), "belongs to a") {
		t.Fatal(err)
	}
	if err := e.Add(&testController{name: "a"}); err == nil {
		t.Fatal("two controllers of one name")
	}
}

// TestNeverActsOnAViewOlderThanItsOwnWrite counts up a number in one object by
// read from the view and write without revision: any handling on an old view
// would lose a count or write one twice.
func TestNeverActsOnAViewOlderThanItsOwnWrite(t *testing.T) {
	c, h := world(t, configMap("n"))
	v := reconcile.ViewOf[*corev1.ConfigMap](h)
	const top = 200
	done := make(chan struct{})
	run(t, c, &testController{name: "count", inputs: []reconcile.Input{reconcile.Self(v)}, workers: 4,
		f: func(ctx context.Context, w client.Client, k object.Key) (reconcile.Result, error) {
			m, _ := v.Get(k.Namespace, k.Name)
			n := len(m.Data)
			if n == top {
				close(done)
				return reconcile.Result{}, nil
			}
			next := m.DeepCopy()
			if next.Data == nil {
				next.Data = map[string]string{}
			}
			key := fmt.Sprint("k", n)
			next.Data[key] = ""
			next.ResourceVersion = ""
			written, err := client.Update(ctx, w, next)
			if err == nil && len(written.Data) != n+1 {
				t.Errorf("wrote %d keys after having seen %d", len(written.Data), n)
			}
			return reconcile.Result{}, err
		}})
	wait(t, done)
}

// TestDeletedObjectsAreNotDeletedTwice has a controller delete what it sees; the
// second deletion of one would fail.
func TestDeletedObjectsAreNotDeletedTwice(t *testing.T) {
	c, h := world(t)
	v := reconcile.ViewOf[*corev1.ConfigMap](h)
	var failed atomic.Int32
	gone := make(chan struct{}, 100)
	all := object.Key{Name: "all"}
	run(t, c, &testController{name: "delete", workers: 4,
		inputs: []reconcile.Input{reconcile.On(v, func(_, new *corev1.ConfigMap, enqueue func(object.Key)) {
			if new == nil {
				gone <- struct{}{}
			}
			enqueue(all)
		})},
		f: func(ctx context.Context, w client.Client, k object.Key) (reconcile.Result, error) {
			for _, m := range v.All() {
				if err := client.Delete[*corev1.ConfigMap](ctx, w, m.Namespace, m.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(m.UID))}); err != nil {
					failed.Add(1)
				}
			}
			return reconcile.Result{}, nil
		}})
	for i := range 100 {
		if _, err := client.Create(t.Context(), c, configMap(fmt.Sprint("m", i))); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		wait(t, gone)
	}
	if n := failed.Load(); n > 0 {
		t.Fatalf("%d deletions of what was deleted already", n)
	}
}

func TestErrorsAndPanicsAreRetried(t *testing.T) {
	c, h := world(t, configMap("m"))
	v := reconcile.ViewOf[*corev1.ConfigMap](h)
	var n atomic.Int32
	done := make(chan struct{})
	run(t, c, &testController{name: "fail", inputs: []reconcile.Input{reconcile.Self(v)},
		f: func(context.Context, client.Client, object.Key) (reconcile.Result, error) {
			switch n.Add(1) {
			case 1:
				return reconcile.Result{}, errors.New("no")
			case 2:
				panic("oops")
			case 3:
				return reconcile.Result{After: time.Millisecond}, nil
			case 4:
				close(done)
			}
			return reconcile.Result{}, nil
		}})
	wait(t, done)
}

func TestConflictIsRetriedOnceTheViewHasMoved(t *testing.T) {
	c, h := world(t, configMap("m"))
	v := reconcile.ViewOf[*corev1.ConfigMap](h)
	var tries, conflicts atomic.Int32
	done := make(chan struct{})
	run(t, c, &testController{name: "conflict", inputs: []reconcile.Input{reconcile.Self(v)},
		f: func(ctx context.Context, w client.Client, k object.Key) (reconcile.Result, error) {
			m, _ := v.Get(k.Namespace, k.Name)
			if m.Labels["mine"] != "" {
				close(done)
				return reconcile.Result{}, nil
			}
			if tries.Add(1) == 1 { // somebody else is faster
				other := m.DeepCopy()
				other.Labels = map[string]string{"other": "1"}
				if _, err := client.Update(ctx, client.Client(c), other); err != nil {
					t.Error(err)
				}
			}
			next := m.DeepCopy()
			next.Labels = map[string]string{"mine": "1"}
			_, err := client.Update(ctx, w, next)
			if apierrors.IsConflict(err) {
				conflicts.Add(1)
			}
			return reconcile.Result{}, err
		}})
	wait(t, done)
	if n := conflicts.Load(); n != 1 {
		t.Fatalf("%d conflicts: retried on the old view", n)
	}
}

func TestOneKeyIsHandledByOneWorker(t *testing.T) {
	c, h := world(t, configMap("a"), configMap("b"))
	v := reconcile.ViewOf[*corev1.ConfigMap](h)
	var busy sync.Map
	var handled atomic.Int32
	done := make(chan struct{})
	run(t, c, &testController{name: "busy", inputs: []reconcile.Input{reconcile.Self(v)}, workers: 8,
		f: func(context.Context, client.Client, object.Key) (reconcile.Result, error) {
			return reconcile.Result{After: time.Microsecond}, nil
		}}, &testController{name: "alone", inputs: []reconcile.Input{reconcile.Self(v)}, workers: 8,
		f: func(_ context.Context, _ client.Client, k object.Key) (reconcile.Result, error) {
			if _, taken := busy.LoadOrStore(k, true); taken {
				t.Error("two workers on one key")
			}
			if handled.Add(1) == 500 {
				close(done)
			}
			busy.Delete(k)
			return reconcile.Result{After: time.Microsecond}, nil
		}})
	wait(t, done)
}

func TestStopWaitsForHandlings(t *testing.T) {
	c, h := world(t, configMap("m"))
	v := reconcile.ViewOf[*corev1.ConfigMap](h)
	began, ended := make(chan struct{}), false
	stop := run(t, c, &testController{name: "slow", inputs: []reconcile.Input{reconcile.Self(v)},
		f: func(ctx context.Context, _ client.Client, _ object.Key) (reconcile.Result, error) {
			close(began)
			<-ctx.Done()
			time.Sleep(5 * time.Millisecond)
			ended = true
			return reconcile.Result{}, nil
		}})
	wait(t, began)
	stop()
	if !ended {
		t.Fatal("stopped before the handling ended")
	}
}

func TestViewSeparatesAnObjectFromItsSuccessor(t *testing.T) {
	c, h := world(t)
	v := reconcile.ViewOf[*corev1.ConfigMap](h)
	seen := make(chan string, 10)
	if err := v.Synced(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := v.OnChange(func(old, new *corev1.ConfigMap) {
		switch {
		case old == nil:
			seen <- "added"
		case new == nil:
			seen <- "gone"
		default:
			seen <- "changed"
		}
	})
	made, err := client.Create(t.Context(), c, configMap("m"))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.WaitRevision(t.Context(), object.RevisionOf(made)); err != nil {
		t.Fatal(err)
	}
	if err := client.Delete[*corev1.ConfigMap](t.Context(), c, "default", "m", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	made, err = client.Create(t.Context(), c, configMap("m"))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.WaitRevision(t.Context(), object.RevisionOf(made)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"added", "gone", "added"} {
		if got := wait(t, seen); got != want {
			t.Fatalf("saw %s, want %s", got, want)
		}
	}
	stop()
	made, err = client.Create(t.Context(), c, configMap("n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.WaitRevision(t.Context(), object.RevisionOf(made)); err != nil {
		t.Fatal(err)
	}
	if len(seen) > 0 {
		t.Fatal("a stopped handler was called")
	}
}
