package resource_test

import (
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/client/direct"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// Components that ask for the same long list at once share its objects, each
// decoded once.
func TestLongListsAreDecodedOnce(t *testing.T) {
	const n = 3000
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	defer s.Close()
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...)})
	d := object.Of[*corev1.ConfigMap](e.Scheme())
	ops := make([]store.Op, n)
	for i := range ops {
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("m%04d", i)}, Data: map[string]string{"n": fmt.Sprint(i)}}
		value, err := e.Kind(d).Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		ops[i] = store.Op{Key: "/registry/configmaps/default/" + m.Name, Value: value}
	}
	for _, r := range s.Commit(t.Context(), ops) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	var wg sync.WaitGroup
	lists := make([]client.List, 4)
	errs := make([]error, len(lists))
	for i := range lists {
		wg.Go(func() {
			lists[i], errs[i] = direct.New(e, nil, "tester", nil).List(t.Context(), d, "", client.ListOptions{})
		})
	}
	wg.Wait()
	for i, l := range lists {
		if errs[i] != nil || len(l.Items) != n {
			t.Fatalf("%d objects, %v", len(l.Items), errs[i])
		}
		for j, o := range l.Items {
			if o != lists[0].Items[j] {
				t.Fatalf("list %d has another object of %s", i, o.GetName())
			}
			if got := o.(*corev1.ConfigMap).Data["n"]; got != fmt.Sprint(j) {
				t.Fatalf("object %d is %s", j, got)
			}
		}
	}
}
