package cleanup

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

// lagging holds back what happens to pods until it is let go.
type lagging struct {
	client.Client
	// watching is closed with the first watch; looked gets each list after it.
	watching, looked, letGo chan struct{}
}

type laggingWatch struct {
	client.Watch
	letGo chan struct{}
}

func (l lagging) List(ctx context.Context, d *object.Definition, namespace string, o client.ListOptions) (client.List, error) {
	if d.Kind == "Pod" {
		defer func() {
			select {
			case <-l.watching:
				l.looked <- struct{}{}
			default:
			}
		}()
	}
	return l.Client.List(ctx, d, namespace, o)
}

func (l lagging) Watch(ctx context.Context, d *object.Definition, namespace string, o client.WatchOptions) (client.Watch, error) {
	w, err := l.Client.Watch(ctx, d, namespace, o)
	if err == nil && d.Kind == "Pod" {
		w = laggingWatch{w, l.letGo}
		close(l.watching)
	}
	return w, err
}

func (l laggingWatch) Next(ctx context.Context) ([]client.Event, error) {
	select {
	case <-l.letGo:
		return l.Watch.Next(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A foreground deletion waits for dependents of which the collector has not
// heard yet: it follows each kind on its own, and one may be late.
func TestForegroundWaitsForTheUnheard(t *testing.T) {
	c := fake.New(object.NewScheme(kinds.All()...), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	defer c.Close()
	late := lagging{c, make(chan struct{}), make(chan struct{}, 100), make(chan struct{})}
	engine := reconcile.NewEngine(late, slog.New(slog.DiscardHandler), nil)
	recorder := reconcile.NewRecorder(c, slog.New(slog.DiscardHandler))
	if err := engine.Add(NewGarbageCollector(recorder.For("gc", ""), slog.New(slog.DiscardHandler))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = engine.Run(ctx) })

	labels := map[string]string{"app": "a"}
	containers := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}
	<-late.watching // what is made from now on comes by the watch
	set, err := client.Create(ctx, c, &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"},
		Spec: appsv1.ReplicaSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: containers},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ref := *metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", OwnerReferences: []metav1.OwnerReference{ref}}, Spec: containers}
	if _, err := client.Create(ctx, c, pod); err != nil {
		t.Fatal(err)
	}
	sets := c.Scheme().ByKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
	seen, err := c.Watch(ctx, sets, "default", client.WatchOptions{From: object.RevisionOf(set)})
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Close()
	foreground := metav1.DeletePropagationForeground
	if err := client.Delete[*appsv1.ReplicaSet](ctx, c, "default", "s", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() {
		for {
			events, err := seen.Next(ctx)
			if err != nil || events[len(events)-1].Type == client.Deleted {
				gone <- err
				return
			}
		}
	}()
	select {
	case <-late.looked: // the collector has no dependent in its graph and asks the API
	case err := <-gone:
		t.Fatalf("gone before its pod: %v", err)
	}
	close(late.letGo)
	if err := <-gone; err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get[*corev1.Pod](ctx, c, "default", "p"); !apierrors.IsNotFound(err) {
		t.Fatalf("its pod outlived it: %v", err)
	}
}

// meddling does something else just before an object is deleted.
type meddling struct {
	client.Client
	before func()
}

func (m *meddling) Delete(ctx context.Context, d *object.Definition, namespace, name string, o metav1.DeleteOptions) error {
	if f := m.before; f != nil {
		m.before = nil
		f()
	}
	return m.Client.Delete(ctx, d, namespace, name, o)
}

// collecting runs f beside a collector that works with another client, in virtual time.
func collecting(t *testing.T, by func(client.Client) client.Client, f func(*testing.T, *fake.Client)) {
	synctest.Test(t, func(t *testing.T) {
		c := fake.New(object.NewScheme(kinds.All()...), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
		defer c.Close()
		log := slog.New(slog.DiscardHandler)
		engine := reconcile.NewEngine(by(c), log, nil)
		if err := engine.Add(NewGarbageCollector(reconcile.NewRecorder(c, log).For("gc", ""), log)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() { _ = engine.Run(ctx) })
		synctest.Wait()
		f(t, c)
	})
}

// late is lagging from the first watch on.
func late(c client.Client) client.Client {
	return lagging{c, make(chan struct{}), make(chan struct{}, 100), make(chan struct{})}
}

func create[T object.Object](t *testing.T, c *fake.Client, o T) T {
	t.Helper()
	made, err := client.Create(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return made
}

func podOf(name string, owners ...metav1.OwnerReference) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, OwnerReferences: owners},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func mapOf(name string, owners ...metav1.OwnerReference) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, OwnerReferences: owners}}
}

func owner(kind string, o object.Object) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: kind, Name: o.GetName(), UID: o.GetUID()}
}

// An owner of which the collector has not heard yet is one all the same.
func TestOwnersUnheardAreAskedFor(t *testing.T) {
	collecting(t, late, func(t *testing.T, c *fake.Client) {
		create(t, c, mapOf("m", owner("Pod", create(t, c, podOf("p")))))
		if _, err := client.Get[*corev1.ConfigMap](t.Context(), c, "default", "m"); err != nil {
			t.Error(err)
		}
	})
}

// Dependents of which the collector has not heard yet are orphaned too.
func TestOrphansUnheardAreLeft(t *testing.T) {
	collecting(t, late, func(t *testing.T, c *fake.Client) {
		m := create(t, c, mapOf("m"))
		create(t, c, podOf("p", owner("ConfigMap", m)))
		orphan := metav1.DeletePropagationOrphan
		if err := client.Delete[*corev1.ConfigMap](t.Context(), c, "default", "m", metav1.DeleteOptions{PropagationPolicy: &orphan}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := client.Get[*corev1.ConfigMap](t.Context(), c, "default", "m"); !apierrors.IsNotFound(err) {
			t.Errorf("the owner is not gone: %v", err)
		}
		if p, err := client.Get[*corev1.Pod](t.Context(), c, "default", "p"); err != nil || len(p.OwnerReferences) > 0 {
			t.Errorf("%v, %v", p, err)
		}
	})
}

// One that gets an owner just before it is deleted for want of one stays.
func TestOwnerInTheLastMoment(t *testing.T) {
	m := &meddling{}
	collecting(t, func(c client.Client) client.Client { m.Client = c; return m }, func(t *testing.T, c *fake.Client) {
		root := create(t, c, mapOf("root"))
		m.before = func() {
			live, err := client.Get[*corev1.ConfigMap](t.Context(), c, "default", "m")
			if err != nil {
				t.Error(err)
				return
			}
			next := live.DeepCopy()
			next.OwnerReferences = append(next.OwnerReferences, owner("ConfigMap", root))
			if _, err := client.Update(t.Context(), client.Client(c), next); err != nil {
				t.Error(err)
			}
		}
		create(t, c, mapOf("m", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "never", UID: "never"}))
		if _, err := client.Get[*corev1.ConfigMap](t.Context(), c, "default", "m"); err != nil || m.before != nil {
			t.Errorf("%v, meddled: %t", err, m.before == nil)
		}
	})
}
