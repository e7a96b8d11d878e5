package object_test

import (
	"fmt"
	"math/rand"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"sagong/kinds"
	"sagong/object"
)

// filler makes random objects that validly merge: list keys are distinct.
func filler(seed int64) *randfill.Filler {
	f := randfill.NewWithSeed(seed).NilChance(0.5).NumElements(0, 2).MaxDepth(9)
	n := 0
	return f.Funcs(
		func(s *string, c randfill.Continue) { n++; *s = fmt.Sprintf("s%d", n) },
		func(v *int32, c randfill.Continue) { n++; *v = int32(n) },
		func(m *metav1.ObjectMeta, c randfill.Continue) {
			*m = metav1.ObjectMeta{Name: "name", Namespace: "ns", Labels: map[string]string{"a": "b"}}
			if c.Bool() {
				m.Annotations = map[string]string{"x": c.String(5)}
				m.Finalizers = []string{"example.org/f" + fmt.Sprint(c.Intn(3))}
			}
			if c.Bool() {
				m.OwnerReferences = []metav1.OwnerReference{{Kind: "K", Name: "n", UID: types.UID(fmt.Sprint(c.Intn(3)))}}
			}
		},
		func(t *metav1.TypeMeta, _ randfill.Continue) {},
		func(f *metav1.FieldsV1, _ randfill.Continue) {},
		func(r *metav1.Time, c randfill.Continue) { *r = metav1.Unix(int64(c.Intn(1000)), 0) },
		func(r *metav1.MicroTime, c randfill.Continue) {
			*r = metav1.MicroTime{Time: metav1.Unix(int64(c.Intn(1000)), 0).Time}
		},
		func(v *intstr.IntOrString, c randfill.Continue) { *v = intstr.FromInt32(int32(c.Intn(5))) },
		func(q *resource.Quantity, c randfill.Continue) { *q = *quantity(int64(c.Intn(5))) },
		func(r *runtime.RawExtension, c randfill.Continue) { r.Raw = fmt.Appendf(nil, `{"a":%d}`, c.Intn(3)) },
		func(q *corev1.ResourceList, c randfill.Continue) {
			*q = corev1.ResourceList{"cpu": *quantity(int64(c.Intn(5)))}
		},
	)
}

func withoutTimes(o object.Object) []metav1.ManagedFieldsEntry {
	out := make([]metav1.ManagedFieldsEntry, 0, 4)
	for _, e := range o.GetManagedFields() {
		e.Time = nil
		out = append(out, e)
	}
	return out
}

func TestTrackEqualsLibrary(t *testing.T) {
	fast := object.NewFieldManagers()
	tested := 0
	for _, d := range kinds.All() {
		if d.Virtual || d.Kind == "CustomResourceDefinition" || d.Kind == "APIService" {
			continue
		}
		c := object.NewCodec(d)
		for seed := range int64(6) {
			f := filler(seed + 1)
			old := d.New()
			f.Fill(old)
			old.GetObjectKind().SetGroupVersionKind(c.Storage().GroupVersionKind)
			clear := func(o object.Object) { o.GetObjectKind().SetGroupVersionKind(d.GVK().GroupVersion().WithKind("")) }
			clear(old)
			byLibrary := old.DeepCopyObject().(object.Object)
			used, err := object.Track(fast, c, "", d.New(), old, "creator")
			if err != nil {
				t.Fatal(err)
			}
			if err := object.ByLibrary(fast, c, "", d.New(), byLibrary, "creator"); err != nil {
				t.Fatal(err)
			}
			compare(t, d, seed, "create", used, old, byLibrary)
			again := old.DeepCopyObject().(object.Object)
			again.SetManagedFields(nil)
			again.SetName("again")
			if used, err = object.Track(fast, c, "", d.New(), again, "creator"); err != nil {
				t.Fatal(err)
			}
			compare(t, d, seed, "create of the same shape", used, again, byLibrary)
			// A near relative must not be taken for the same.
			near := again.DeepCopyObject().(object.Object)
			near.SetManagedFields(nil)
			mutate(near, filler(seed*7+3), rand.New(rand.NewSource(seed)))
			nearByLibrary := near.DeepCopyObject().(object.Object)
			if used, err = object.Track(fast, c, "", d.New(), near, "creator"); err != nil {
				t.Fatal(err)
			}
			if err := object.ByLibrary(fast, c, "", d.New(), nearByLibrary, "creator"); err != nil {
				t.Fatal(err)
			}
			compare(t, d, seed, "create of a relative", used, near, nearByLibrary)
			if used {
				tested++
			}
			old.SetUID("uid")
			state := old
			for step, who := range []string{"creator", "other", "third"} {
				next := state.DeepCopyObject().(object.Object)
				mutate(next, filler(seed*10+int64(step)+100), rand.New(rand.NewSource(seed+int64(step))))
				byLibrary := next.DeepCopyObject().(object.Object)
				sub := ""
				if step == 1 && d.Status {
					sub = "status"
				}
				used, err := object.Track(fast, c, sub, state, next, who)
				if err != nil {
					t.Fatal(err)
				}
				if err := object.ByLibrary(fast, c, sub, state, byLibrary, who); err != nil {
					t.Fatal(err)
				}
				compare(t, d, seed, who, used, next, byLibrary)
				if used {
					tested++
				}
				state = byLibrary
			}
		}
	}
	if tested < 500 {
		t.Errorf("only %d writes were tracked without the library", tested)
	}
}

func compare(t *testing.T, d *object.Definition, seed int64, step string, used bool, fast, library object.Object) {
	t.Helper()
	if !used {
		return
	}
	a, b := withoutTimes(fast), withoutTimes(library)
	if len(a) == len(b) {
		same := true
		for i := range a {
			same = same && a[i].Manager == b[i].Manager && a[i].Operation == b[i].Operation && a[i].Subresource == b[i].Subresource &&
				a[i].APIVersion == b[i].APIVersion && a[i].FieldsV1.Equal(*b[i].FieldsV1)
		}
		if same {
			return
		}
	}
	show := func(es []metav1.ManagedFieldsEntry) (s string) {
		for _, e := range es {
			s += fmt.Sprintf("\n  %s %s %s %s: %s", e.Manager, e.Operation, e.APIVersion, e.Subresource, e.FieldsV1.GetRawString())
		}
		return s
	}
	t.Errorf("%s, seed %d, %s:\nfast:%s\nlibrary:%s", d.Kind, seed, step, show(a), show(b))
}
