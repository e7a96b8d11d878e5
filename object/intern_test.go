package object_test

import (
	"reflect"
	"testing"
	"unsafe"

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

// TestInternShares: two pods decoded from the same bytes hold the same strings.
func TestInternShares(t *testing.T) {
	var def *object.Definition
	for _, d := range kinds.All() {
		if d.Kind == "Pod" {
			def = d
		}
	}
	c := object.NewCodec(def)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "a", Namespace: "default", Labels: map[string]string{"app": "shop"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}},
	}}
	p.Spec.Containers = []corev1.Container{{Name: "web", Image: "registry.example.org/team/application:v1.2.3", Args: []string{"--listen=0.0.0.0:8080"}}}
	raw, err := c.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	var n object.Interner
	var pods [2]*corev1.Pod
	for i := range pods {
		o, err := c.Decode(raw, 1)
		if err != nil {
			t.Fatal(err)
		}
		n.Intern(o)
		pods[i] = o.(*corev1.Pod)
	}
	a, b := pods[0], pods[1]
	for what, pair := range map[string][2]string{
		"image": {a.Spec.Containers[0].Image, b.Spec.Containers[0].Image}, "argument": {a.Spec.Containers[0].Args[0], b.Spec.Containers[0].Args[0]},
		"label": {a.Labels["app"], b.Labels["app"]}, "namespace": {a.Namespace, b.Namespace},
	} {
		if unsafe.StringData(pair[0]) != unsafe.StringData(pair[1]) {
			t.Errorf("the %s is held twice", what)
		}
	}
	if a.ManagedFields[0].FieldsV1 != b.ManagedFields[0].FieldsV1 {
		t.Error("the field set is held twice")
	}
}
