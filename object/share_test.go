package object_test

import (
	"math/rand"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/randfill"

	"sagong/kinds"
	"sagong/object"
)

func sharedPod(name string) *corev1.Pod {
	yes := true
	at := metav1.NewTime(time.Unix(1000, 0))
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}, CreationTimestamp: at,
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", Controller: &yes}},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "m", Time: &at, FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("100m")}}}},
			NodeSelector: map[string]string{"disk": "fast"},
		},
		Status: corev1.PodStatus{PodIP: "10.0.0." + name},
	}
}

func TestShareJoinsWhatIsEqual(t *testing.T) {
	var s object.Sharer
	known, fresh := sharedPod("1"), sharedPod("2")
	before, want := known.DeepCopy(), fresh.DeepCopy()
	fresh.Spec.NodeSelector["disk"], want.Spec.NodeSelector["disk"] = "slow", "slow"
	s.Share(fresh, known, true)
	if !reflect.DeepEqual(fresh, want) || !reflect.DeepEqual(known, before) {
		t.Fatalf("values changed:\n%+v\n%+v", fresh, known)
	}
	if &fresh.Spec.Containers[0] != &known.Spec.Containers[0] || &fresh.OwnerReferences[0] != &known.OwnerReferences[0] ||
		&fresh.ManagedFields[0] != &known.ManagedFields[0] || reflect.ValueOf(fresh.Labels).Pointer() != reflect.ValueOf(known.Labels).Pointer() {
		t.Fatal("equal parts are not shared")
	}
	if reflect.ValueOf(fresh.Spec.NodeSelector).Pointer() == reflect.ValueOf(known.Spec.NodeSelector).Pointer() {
		t.Fatal("different maps are shared")
	}
}

func TestShareGoesInsideWhatDiffers(t *testing.T) {
	var s object.Sharer
	known, fresh := sharedPod("1"), sharedPod("2")
	fresh.Spec.Containers[0].Image = "other"
	s.Share(fresh, known, true)
	if &fresh.Spec.Containers[0] == &known.Spec.Containers[0] || fresh.Spec.Containers[0].Image != "other" || known.Spec.Containers[0].Image != "i" {
		t.Fatal("containers that differ are shared")
	}
	a, b := fresh.Spec.Containers[0].Resources.Requests, known.Spec.Containers[0].Resources.Requests
	if reflect.ValueOf(a).Pointer() != reflect.ValueOf(b).Pointer() {
		t.Fatal("their equal requests are not")
	}
}

// What fresh refers to may be published: lists that are equal in parts are
// replaced by copies, and nothing is written to.
func TestShareCopiesWhatOthersMayHave(t *testing.T) {
	var s object.Sharer
	known, others := sharedPod("1"), sharedPod("2")
	others.Spec.Containers[0].Image = "other"
	fresh, before, want := *others, others.DeepCopy(), others.DeepCopy()
	s.Share(&fresh, known, false)
	if !reflect.DeepEqual(&fresh, want) || !reflect.DeepEqual(others, before) {
		t.Fatal("values changed")
	}
	if &fresh.Spec.Containers[0] == &others.Spec.Containers[0] {
		t.Fatal("the list of containers is not a copy")
	}
	requests := func(p *corev1.Pod) uintptr {
		return reflect.ValueOf(p.Spec.Containers[0].Resources.Requests).Pointer()
	}
	if requests(&fresh) != requests(known) || requests(others) == requests(known) {
		t.Fatal("the copy's equal requests are not shared, or others' are")
	}
}

// TestShareChangesNothing: random objects of every kind stay what they are,
// whatever they share.
func TestShareChangesNothing(t *testing.T) {
	var s object.Sharer
	for _, d := range kinds.All() {
		if d.Virtual || d.Kind == "CustomResourceDefinition" || d.Kind == "APIService" {
			continue
		}
		for seed := range int64(8) {
			fill := func(seed int64) object.Object {
				o := d.New()
				randfill.NewWithSeed(seed).NilChance(0.3).NumElements(1, 2).MaxDepth(9).Funcs(func(q *resource.Quantity, c randfill.Continue) {
					*q = *quantity(c.Int63n(5))
				}, func(f *metav1.FieldsV1, c randfill.Continue) {
					*f = *metav1.NewFieldsV1(`{"f:spec":{}}`)
				}, func(*runtime.RawExtension, randfill.Continue) {}).Fill(o)
				return o
			}
			known, fresh := fill(seed), fill(seed)
			mutate(fresh, randfill.NewWithSeed(seed+100).NilChance(0.5).NumElements(1, 2).MaxDepth(4).Funcs(func(*runtime.RawExtension, randfill.Continue) {}), rand.New(rand.NewSource(seed)))
			want, before := fresh.DeepCopyObject(), known.DeepCopyObject()
			mine := object.ShallowCopy(fresh)
			s.Share(mine, known, false)
			if !reflect.DeepEqual(mine, want) || !reflect.DeepEqual(fresh, want) || !reflect.DeepEqual(known, before) {
				t.Fatalf("%s changed where others have parts of it", d.Kind)
			}
			s.Share(fresh, known, true)
			if !reflect.DeepEqual(fresh, want) || !reflect.DeepEqual(known, before) {
				t.Fatalf("%s changed", d.Kind)
			}
		}
	}
}

func BenchmarkShare(b *testing.B) {
	var s object.Sharer
	known, fresh := sharedPod("1"), sharedPod("2")
	for b.Loop() {
		p := *fresh
		s.Share(&p, known, true)
	}
}
