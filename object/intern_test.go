package object_test

import (
	"reflect"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/kinds"
	"sagong/object"
)

// TestInternChangesNothing: an object is equal before and after.
func TestInternChangesNothing(t *testing.T) {
	var n object.Interner
	for _, d := range kinds.All() {
		if d.Virtual || d.Kind == "CustomResourceDefinition" || d.Kind == "APIService" {
			continue
		}
		for seed := range int64(4) {
			o := d.New()
			filler(seed).Fill(o)
			want := o.DeepCopyObject()
			n.Intern(o)
			if !reflect.DeepEqual(o, want) {
				t.Fatalf("%s, seed %d, changed", d.Kind, seed)
			}
		}
	}
}

// TestInternSaves: pods decoded from one template's bytes shrink.
func TestInternSaves(t *testing.T) {
	var def *object.Definition
	for _, d := range kinds.All() {
		if d.Kind == "Pod" {
			def = d
		}
	}
	c := object.NewCodec(def)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default", Labels: map[string]string{"app.kubernetes.io/name": "shop", "app.kubernetes.io/component": "front"}}}
	for _, name := range []string{"first", "second", "third"} {
		k := corev1.Container{Name: name, Image: "registry.example.org/team/application:v1.2.3", Args: []string{"--listen=0.0.0.0:8080", "--database=db.shop.svc.cluster.local"}}
		for _, e := range []string{"ONE_SETTING", "ANOTHER_SETTING", "A_THIRD_SETTING", "AND_ONE_MORE"} {
			k.Env = append(k.Env, corev1.EnvVar{Name: e, Value: "the value of " + e})
		}
		p.Spec.Containers = append(p.Spec.Containers, k)
	}
	raw, err := c.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	measure := func(intern bool) uint64 {
		var n object.Interner
		all := make([]object.Object, 2000)
		before := heapAlloc()
		for i := range all {
			if all[i], err = c.Decode(raw, 1); err != nil {
				t.Fatal(err)
			}
			if intern {
				n.Intern(all[i])
			}
		}
		used := heapAlloc() - before
		runtime.KeepAlive(all)
		return used / uint64(len(all))
	}
	without, with := measure(false), measure(true)
	t.Logf("%d bytes a pod become %d", without, with)
	if with*100 > without*88 {
		t.Errorf("%d bytes a pod became %d", without, with)
	}
}

func heapAlloc() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
