package resource_test

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/client/direct"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// What components in this process share has no managed fields; what the API
// answers and what writes are based on has all of them, whether the record still
// keeps an object or not.
func TestSharedObjectsAreBare(t *testing.T) {
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	defer s.Close()
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Fields: object.NewFieldManagers()})
	ctx := t.Context()
	maker, reporter := direct.New(e, nil, "maker", nil), direct.New(e, nil, "reporter", nil)
	d := object.Of[*corev1.Pod](e.Scheme())
	e.Kind(d).Share()
	p := newPod("p")
	p.Namespace = "default"
	made, err := client.Create(ctx, maker, p)
	if err != nil {
		t.Fatal(err)
	}
	if len(made.ManagedFields) > 0 {
		t.Error("a component was given managed fields")
	}
	next := made.DeepCopy()
	next.Status.Phase = corev1.PodRunning
	if _, err := client.UpdateStatus(ctx, reporter, next); err != nil {
		t.Fatal(err)
	}
	target := resource.Target{Kind: e.Kind(d), Namespace: "default", Name: "p"}
	read := func() *corev1.Pod {
		t.Helper()
		it, err := e.Get(ctx, target, 0)
		if err != nil {
			t.Fatal(err)
		}
		o, err := it.Object()
		if err != nil {
			t.Fatal(err)
		}
		m, err := it.Meta()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(m.GetManagedFields(), o.GetManagedFields()) {
			t.Error("the metadata alone has other managed fields")
		}
		return o.(*corev1.Pod)
	}
	whole := read()
	if f := whole.ManagedFields; len(f) != 2 || f[0].Manager != "maker" || f[1].Manager != "reporter" || f[1].Subresource != "status" {
		t.Fatalf("managed fields %+v", f)
	}
	shared, err := client.Get[*corev1.Pod](ctx, maker, "default", "p")
	if err != nil {
		t.Fatal(err)
	}
	bare := *whole
	bare.ManagedFields = nil
	if !reflect.DeepEqual(shared, &bare) {
		t.Errorf("what is shared differs in more:\n%+v\n%+v", shared, whole)
	}
	rec, _, err := s.Get(ctx, "/registry/pods/default/p", 0)
	if err != nil {
		t.Fatal(err)
	}
	rec.SetMemo(nil)
	if again := read(); !reflect.DeepEqual(again.ManagedFields, whole.ManagedFields) {
		t.Errorf("decoded anew: %+v", again.ManagedFields)
	}
	if again, err := client.Get[*corev1.Pod](ctx, maker, "default", "p"); err != nil || len(again.ManagedFields) > 0 {
		t.Errorf("shared anew: %+v, %v", again.ManagedFields, err)
	}
}
