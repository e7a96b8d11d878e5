package resource_test

import (
	"fmt"
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

// Records let go of the typed objects that nobody asked for in an age, and make
// them anew, the same for all who ask; what somebody asks for stays.
func TestRecordsLetGo(t *testing.T) {
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	defer s.Close()
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Fields: object.NewFieldManagers()})
	ctx := t.Context()
	c := direct.New(e, nil, "maker", nil)
	d := object.Of[*corev1.Pod](e.Scheme())
	k := e.Kind(d)
	k.Share()
	const pods = 4
	made := make([]*corev1.Pod, pods)
	for i := range pods {
		p := newPod(fmt.Sprint("p", i))
		p.Namespace = "default"
		var err error
		if made[i], err = client.Create(ctx, c, p); err != nil {
			t.Fatal(err)
		}
	}
	item := func(i int) resource.Item {
		t.Helper()
		it, err := e.Get(ctx, resource.Target{Kind: k, Namespace: "default", Name: made[i].Name}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return it
	}
	keeps := func(i int) bool { return item(i).Kept().(*store.Record).Memo() != nil }
	k.EndAge()
	for i := range pods {
		if !keeps(i) {
			t.Fatalf("p%d was let go of at once", i)
		}
	}
	// p0 is asked for in each age, p1 is changed, p2 has JSON that is kept.
	if _, err := item(2).JSON(k.Codec.Storage()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if o, err := item(0).Shared(); err != nil || o != object.Object(made[0]) {
			t.Errorf("an object in use changed: %v", err)
		}
		next := made[1].DeepCopy()
		next.Status.Message += "."
		var err error
		if made[1], err = client.UpdateStatus(ctx, c, next); err != nil {
			t.Fatal(err)
		}
		k.EndAge()
	}
	for i, want := range []bool{true, true, true, false} {
		if keeps(i) != want {
			t.Errorf("the record of p%d keeps its object: %v, want %v", i, !want, want)
		}
	}
	again := e.Kept(k, item(3).Kept())
	if again == object.Object(made[3]) || !reflect.DeepEqual(again, object.Object(made[3])) {
		t.Errorf("made anew:\n%v, want another\n%v", again, made[3])
	}
	if e.Kept(k, item(3).Kept()) != again {
		t.Error("two who ask get two objects")
	}
	whole, err := item(3).Object()
	if err != nil || len(whole.GetManagedFields()) != 1 {
		t.Errorf("the whole object has managed fields %v: %v", whole.GetManagedFields(), err)
	}
}
