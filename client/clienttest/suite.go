// Package clienttest is the suite that every implementation of client.Client
// passes.
package clienttest

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
)

// Run runs the suite. make gives a client to an empty cluster for each test.
func Run(t *testing.T, make func(t *testing.T) client.Client) {
	tests := map[string]func(*testing.T, context.Context, client.Client){
		"CreateGetDelete": createGetDelete, "Conflict": conflict, "Watch": watch, "WatchSelector": watchSelector,
		"Status": status, "Patch": patch, "Batch": batch, "Bind": bind, "Finalizers": finalizers, "GenerateName": generateName,
		"ListSelectors": listSelectors, "GracefulDelete": gracefulDelete, "NoChange": noChange, "WatchGone": watchClosed,
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			t.Cleanup(cancel)
			f(t, ctx, make(t))
		})
	}
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"a": "1"}}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "c", Image: "example.org/image:v1", ImagePullPolicy: corev1.PullIfNotPresent,
			TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		}}, RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst,
			TerminationGracePeriodSeconds: ptr(int64(30))},
	}
}

func ptr[T any](v T) *T { return &v }

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func createGetDelete(t *testing.T, ctx context.Context, c client.Client) {
	made := must[*corev1.ConfigMap](t)(client.Create(ctx, c, configMap("one")))
	if made.UID == "" || made.CreationTimestamp.IsZero() || object.RevisionOf(made) == 0 {
		t.Fatalf("created object lacks system fields: %+v", made.ObjectMeta)
	}
	got := must[*corev1.ConfigMap](t)(client.Get[*corev1.ConfigMap](ctx, c, "default", "one"))
	if got.UID != made.UID || got.Data["a"] != "1" || got.ResourceVersion != made.ResourceVersion {
		t.Fatalf("got %+v, want %+v", got, made)
	}
	if _, err := client.Create(ctx, c, configMap("one")); !apierrors.IsAlreadyExists(err) {
		t.Fatalf("second create: %v, want AlreadyExists", err)
	} else if want := `configmaps "one" already exists`; err.Error() != want {
		t.Fatalf("second create says %q, want %q", err, want)
	}
	wrong := types.UID("another")
	err := client.Delete[*corev1.ConfigMap](ctx, c, "default", "one", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &wrong}})
	if !apierrors.IsConflict(err) {
		t.Fatalf("delete with a wrong uid: %v, want Conflict", err)
	}
	if err := client.Delete[*corev1.ConfigMap](ctx, c, "default", "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get[*corev1.ConfigMap](ctx, c, "default", "one"); !apierrors.IsNotFound(err) {
		t.Fatalf("get after delete: %v, want NotFound", err)
	} else if want := `configmaps "one" not found`; err.Error() != want {
		t.Fatalf("get after delete says %q, want %q", err, want)
	}
}

func conflict(t *testing.T, ctx context.Context, c client.Client) {
	made := must[*corev1.ConfigMap](t)(client.Create(ctx, c, configMap("one")))
	first, second := made.DeepCopy(), made.DeepCopy()
	first.Data["a"], second.Data["a"] = "2", "3"
	updated := must[*corev1.ConfigMap](t)(client.Update(ctx, c, first))
	if object.RevisionOf(updated) <= object.RevisionOf(made) {
		t.Fatalf("revision %s after %s", updated.ResourceVersion, made.ResourceVersion)
	}
	_, err := client.Update(ctx, c, second)
	if !apierrors.IsConflict(err) {
		t.Fatalf("update of an old version: %v, want Conflict", err)
	}
	want := `Operation cannot be fulfilled on configmaps "one": the object has been modified; please apply your changes to the latest version and try again`
	if err.Error() != want {
		t.Fatalf("conflict says\n%s, want\n%s", err, want)
	}
	third := made.DeepCopy()
	third.ResourceVersion = ""
	third.Data["a"] = "4"
	if got := must[*corev1.ConfigMap](t)(client.Update(ctx, c, third)); got.Data["a"] != "4" || got.UID != made.UID {
		t.Fatalf("unconditional update gave %+v", got)
	}
}

func noChange(t *testing.T, ctx context.Context, c client.Client) {
	made := must[*corev1.ConfigMap](t)(client.Create(ctx, c, configMap("one")))
	again := must[*corev1.ConfigMap](t)(client.Update(ctx, c, made.DeepCopy()))
	if again.ResourceVersion != made.ResourceVersion {
		t.Fatalf("an update that changes nothing went from revision %s to %s", made.ResourceVersion, again.ResourceVersion)
	}
}

// events reads at least n events.
func events(t *testing.T, ctx context.Context, w client.Watch, n int) []client.Event {
	t.Helper()
	var all []client.Event
	for len(all) < n {
		more, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("watch after %d of %d events: %v", len(all), n, err)
		}
		for _, e := range more {
			if e.Type != client.Bookmark {
				all = append(all, e)
			}
		}
	}
	return all
}

func watch(t *testing.T, ctx context.Context, c client.Client) {
	d := object.Of[*corev1.ConfigMap](c.Scheme())
	before := must[*corev1.ConfigMap](t)(client.Create(ctx, c, configMap("before")))
	list := must[client.List](t)(c.List(ctx, d, "", client.ListOptions{}))
	if len(list.Items) != 1 || list.Items[0].GetUID() != before.UID || list.Revision < object.RevisionOf(before) {
		t.Fatalf("list: %+v", list)
	}
	w := must[client.Watch](t)(c.Watch(ctx, d, "", client.WatchOptions{From: list.Revision}))
	defer w.Close()
	made := must[*corev1.ConfigMap](t)(client.Create(ctx, c, configMap("one")))
	change := made.DeepCopy()
	change.Data["a"] = "2"
	updated := must[*corev1.ConfigMap](t)(client.Update(ctx, c, change))
	if err := client.Delete[*corev1.ConfigMap](ctx, c, "default", "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	got := events(t, ctx, w, 3)
	for i, want := range []client.EventType{client.Added, client.Modified, client.Deleted} {
		if got[i].Type != want || got[i].Object.GetName() != "one" {
			t.Fatalf("event %d is %s %s, want %s one", i, got[i].Type, got[i].Object.GetName(), want)
		}
		if r := object.RevisionOf(got[i].Object); r != got[i].Revision {
			t.Fatalf("event %d at revision %d has an object of revision %d", i, got[i].Revision, r)
		}
	}
	if got[1].Revision != object.RevisionOf(updated) || got[2].Revision <= got[1].Revision {
		t.Fatalf("revisions %d, %d; the update was %s", got[1].Revision, got[2].Revision, updated.ResourceVersion)
	}
	if got[2].Object.(*corev1.ConfigMap).Data["a"] != "2" {
		t.Fatal("the deleted object is not in its last state")
	}
}

func watchSelector(t *testing.T, ctx context.Context, c client.Client) {
	d := object.Of[*corev1.ConfigMap](c.Scheme())
	list := must[client.List](t)(c.List(ctx, d, "default", client.ListOptions{LabelSelector: "x=y"}))
	w := must[client.Watch](t)(c.Watch(ctx, d, "default", client.WatchOptions{LabelSelector: "x=y", From: list.Revision}))
	defer w.Close()
	made := must[*corev1.ConfigMap](t)(client.Create(ctx, c, configMap("one")))
	in := made.DeepCopy()
	in.Labels = map[string]string{"x": "y"}
	in = must[*corev1.ConfigMap](t)(client.Update(ctx, c, in))
	in = in.DeepCopy()
	in.Data["a"] = "2"
	in = must[*corev1.ConfigMap](t)(client.Update(ctx, c, in))
	out := in.DeepCopy()
	out.Labels = nil
	out = must[*corev1.ConfigMap](t)(client.Update(ctx, c, out))
	got := events(t, ctx, w, 3)
	for i, want := range []client.EventType{client.Added, client.Modified, client.Deleted} {
		if got[i].Type != want {
			t.Fatalf("event %d is %s, want %s", i, got[i].Type, want)
		}
	}
	last := got[2].Object
	if last.GetLabels()["x"] != "y" || last.GetResourceVersion() != out.ResourceVersion {
		t.Fatalf("the object that left the selector is %v at %s, want its last matching state at %s", last.GetLabels(), last.GetResourceVersion(), out.ResourceVersion)
	}
}

func watchClosed(t *testing.T, ctx context.Context, c client.Client) {
	d := object.Of[*corev1.ConfigMap](c.Scheme())
	list := must[client.List](t)(c.List(ctx, d, "", client.ListOptions{}))
	w := must[client.Watch](t)(c.Watch(ctx, d, "", client.WatchOptions{From: list.Revision}))
	done := make(chan error, 1)
	go func() {
		_, err := w.Next(ctx)
		done <- err
	}()
	w.Close()
	if err := <-done; err == nil {
		t.Fatal("a closed watch still gives events")
	}
}

func status(t *testing.T, ctx context.Context, c client.Client) {
	made := must[*corev1.Pod](t)(client.Create(ctx, c, pod("one")))
	change := made.DeepCopy()
	change.Status.Message = "hello"
	change.Labels["app"] = "two"
	main := must[*corev1.Pod](t)(client.Update(ctx, c, change.DeepCopy()))
	if main.Status.Message != "" || main.Labels["app"] != "two" {
		t.Fatalf("a write to the pod changed its status to %q, labels to %v", main.Status.Message, main.Labels)
	}
	change.ResourceVersion = ""
	change.Spec.Containers[0].Image = "example.org/image:v2"
	st := must[*corev1.Pod](t)(client.UpdateStatus(ctx, c, change))
	if st.Status.Message != "hello" || st.Spec.Containers[0].Image != "example.org/image:v1" {
		t.Fatalf("a write to the status gave status %q, image %s", st.Status.Message, st.Spec.Containers[0].Image)
	}
}

func patch(t *testing.T, ctx context.Context, c client.Client) {
	must[*corev1.ConfigMap](t)(client.Create(ctx, c, configMap("one")))
	for _, p := range []client.Patch{
		{Type: types.MergePatchType, Data: []byte(`{"data":{"b":"2"}}`)},
		{Type: types.StrategicMergePatchType, Data: []byte(`{"data":{"c":"3"}}`)},
		{Type: types.JSONPatchType, Data: []byte(`[{"op":"remove","path":"/data/a"}]`)},
	} {
		must[*corev1.ConfigMap](t)(client.PatchOf[*corev1.ConfigMap](ctx, c, "default", "one", p))
	}
	got := must[*corev1.ConfigMap](t)(client.Get[*corev1.ConfigMap](ctx, c, "default", "one"))
	if len(got.Data) != 2 || got.Data["b"] != "2" || got.Data["c"] != "3" {
		t.Fatalf("after the patches: %v", got.Data)
	}
	if _, err := client.PatchOf[*corev1.ConfigMap](ctx, c, "default", "none", client.Patch{Type: types.MergePatchType, Data: []byte(`{}`)}); !apierrors.IsNotFound(err) {
		t.Fatalf("patch of a missing object: %v", err)
	}
}

func batch(t *testing.T, ctx context.Context, c client.Client) {
	d := object.Of[*corev1.ConfigMap](c.Scheme())
	must[*corev1.ConfigMap](t)(client.Create(ctx, c, configMap("old")))
	change := configMap("old")
	change.Data["a"] = "changed"
	results := c.Batch(ctx, []client.Write{
		{Op: client.OpCreate, Definition: d, Object: configMap("new")},
		{Op: client.OpCreate, Definition: d, Object: configMap("old")},
		{Op: client.OpUpdate, Definition: d, Object: change},
		{Op: client.OpDelete, Definition: d, Object: configMap("missing")},
	})
	if results[0].Err != nil || results[0].Object.GetName() != "new" {
		t.Errorf("create: %+v", results[0])
	}
	if !apierrors.IsAlreadyExists(results[1].Err) {
		t.Errorf("create of what exists: %v", results[1].Err)
	}
	if results[2].Err != nil || results[2].Object.(*corev1.ConfigMap).Data["a"] != "changed" {
		t.Errorf("update: %+v", results[2])
	}
	if !apierrors.IsNotFound(results[3].Err) {
		t.Errorf("delete of what is missing: %v", results[3].Err)
	}
}

func bind(t *testing.T, ctx context.Context, c client.Client) {
	pods := object.Of[*corev1.Pod](c.Scheme())
	must[*corev1.Pod](t)(client.Create(ctx, c, pod("one")))
	must[*corev1.Pod](t)(client.Create(ctx, c, pod("two")))
	binding := func(name string) *corev1.Binding {
		return &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}
	}
	list := must[client.List](t)(c.List(ctx, pods, "", client.ListOptions{FieldSelector: "spec.nodeName=n1"}))
	w := must[client.Watch](t)(c.Watch(ctx, pods, "", client.WatchOptions{FieldSelector: "spec.nodeName=n1", From: list.Revision}))
	defer w.Close()
	if _, err := c.CreateSubresource(ctx, pods, "default", "one", "binding", binding("one")); err != nil {
		t.Fatal(err)
	}
	if r := c.Batch(ctx, []client.Write{{Op: client.OpBind, Definition: pods, Object: binding("two")}}); r[0].Err != nil {
		t.Fatal(r[0].Err)
	}
	for i, e := range events(t, ctx, w, 2) {
		p := e.Object.(*corev1.Pod)
		if e.Type != client.Added || p.Spec.NodeName != "n1" {
			t.Errorf("event %d for the node is %s with node %q", i, e.Type, p.Spec.NodeName)
		}
		if len(p.Status.Conditions) == 0 || p.Status.Conditions[0].Type != corev1.PodScheduled || p.Status.Conditions[0].Status != corev1.ConditionTrue {
			t.Errorf("bound pod has conditions %+v", p.Status.Conditions)
		}
	}
	_, err := c.CreateSubresource(ctx, pods, "default", "one", "binding", binding("one"))
	if !apierrors.IsConflict(err) {
		t.Fatalf("second binding: %v", err)
	}
	if want := `Operation cannot be fulfilled on pods/binding "one": pod one is already assigned to node "n1"`; err.Error() != want {
		t.Fatalf("second binding says %q, want %q", err, want)
	}
}

func finalizers(t *testing.T, ctx context.Context, c client.Client) {
	cm := configMap("one")
	cm.Finalizers = []string{"example.org/hold"}
	must[*corev1.ConfigMap](t)(client.Create(ctx, c, cm))
	if err := client.Delete[*corev1.ConfigMap](ctx, c, "default", "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	held := must[*corev1.ConfigMap](t)(client.Get[*corev1.ConfigMap](ctx, c, "default", "one"))
	if held.DeletionTimestamp == nil || held.DeletionGracePeriodSeconds == nil || *held.DeletionGracePeriodSeconds != 0 {
		t.Fatalf("object with a finalizer was not marked: %+v", held.ObjectMeta)
	}
	free := held.DeepCopy()
	free.Finalizers = nil
	must[*corev1.ConfigMap](t)(client.Update(ctx, c, free))
	if _, err := client.Get[*corev1.ConfigMap](ctx, c, "default", "one"); !apierrors.IsNotFound(err) {
		t.Fatalf("object without finalizers stayed: %v", err)
	}
	fg := metav1.DeletePropagationForeground
	must[*corev1.ConfigMap](t)(client.Create(ctx, c, configMap("two")))
	if err := client.Delete[*corev1.ConfigMap](ctx, c, "default", "two", metav1.DeleteOptions{PropagationPolicy: &fg}); err != nil {
		t.Fatal(err)
	}
	two := must[*corev1.ConfigMap](t)(client.Get[*corev1.ConfigMap](ctx, c, "default", "two"))
	if len(two.Finalizers) != 1 || two.Finalizers[0] != metav1.FinalizerDeleteDependents {
		t.Fatalf("foreground deletion left finalizers %v", two.Finalizers)
	}
}

func generateName(t *testing.T, ctx context.Context, c client.Client) {
	seen := map[string]bool{}
	for range 10 {
		cm := configMap("")
		cm.GenerateName = "gen-"
		made := must[*corev1.ConfigMap](t)(client.Create(ctx, c, cm))
		if len(made.Name) != len("gen-")+5 || seen[made.Name] {
			t.Fatalf("generated name %q", made.Name)
		}
		seen[made.Name] = true
	}
}

func listSelectors(t *testing.T, ctx context.Context, c client.Client) {
	for _, name := range []string{"a", "b", "c"} {
		cm := configMap(name)
		cm.Labels = map[string]string{"name": name}
		must[*corev1.ConfigMap](t)(client.Create(ctx, c, cm))
	}
	d := object.Of[*corev1.ConfigMap](c.Scheme())
	for _, test := range []struct {
		label, field string
		want         int
	}{
		{"", "", 3}, {"name=a", "", 1}, {"name in (a,b)", "", 2}, {"!name", "", 0},
		{"", "metadata.name=b", 1}, {"", "metadata.name!=b", 2}, {"name=a", "metadata.name=b", 0}, {"", "metadata.namespace=default", 3},
	} {
		l, err := c.List(ctx, d, "default", client.ListOptions{LabelSelector: test.label, FieldSelector: test.field})
		if err != nil || len(l.Items) != test.want {
			t.Errorf("list %q %q: %d items, %v; want %d", test.label, test.field, len(l.Items), err, test.want)
		}
	}
	_, err := c.List(ctx, d, "default", client.ListOptions{FieldSelector: "spec.nothing=x"})
	if !apierrors.IsBadRequest(err) {
		t.Errorf("unknown field selector: %v", err)
	}
}

func gracefulDelete(t *testing.T, ctx context.Context, c client.Client) {
	must[*corev1.Pod](t)(client.Create(ctx, c, pod("one")))
	if err := client.Delete[*corev1.Pod](ctx, c, "default", "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get[*corev1.Pod](ctx, c, "default", "one"); !apierrors.IsNotFound(err) {
		t.Fatalf("a pod without a node is not deleted at once: %v", err)
	}
	must[*corev1.Pod](t)(client.Create(ctx, c, pod("two")))
	pods := object.Of[*corev1.Pod](c.Scheme())
	if _, err := c.CreateSubresource(ctx, pods, "default", "two", "binding", &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "two"}, Target: corev1.ObjectReference{Name: "n1"}}); err != nil {
		t.Fatal(err)
	}
	if err := client.Delete[*corev1.Pod](ctx, c, "default", "two", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p := must[*corev1.Pod](t)(client.Get[*corev1.Pod](ctx, c, "default", "two"))
	if p.DeletionTimestamp == nil || p.DeletionGracePeriodSeconds == nil || *p.DeletionGracePeriodSeconds != 30 {
		t.Fatalf("deleted pod: %+v", p.ObjectMeta)
	}
	if err := client.Delete[*corev1.Pod](ctx, c, "default", "two", metav1.DeleteOptions{GracePeriodSeconds: ptr(int64(0))}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get[*corev1.Pod](ctx, c, "default", "two"); !apierrors.IsNotFound(err) {
		t.Fatalf("a pod whose agent says it is gone stayed: %v", err)
	}
}
