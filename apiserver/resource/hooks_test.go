package resource_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"sagong/apiserver/resource"
	"sagong/client/direct"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// TestHooksLeaveOldAlone fills every kind at random and updates it through every
// part: no default, preparation or validation may touch the published object.
func TestHooksLeaveOldAlone(t *testing.T) {
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	defer s.Close()
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Fields: object.NewFieldManagers()})
	c := direct.New(e, nil, "tester", nil)
	ctx := t.Context()
	for _, d := range kinds.All() {
		if d.Virtual || d.Kind == "CustomResourceDefinition" || d.Kind == "APIService" {
			continue
		}
		for seed := range int64(8) {
			f := randfill.NewWithSeed(seed).NilChance(0.3).NumElements(1, 3).MaxDepth(9).Funcs(
				func(m *metav1.ObjectMeta, _ randfill.Continue) { *m = metav1.ObjectMeta{} },
				func(*metav1.TypeMeta, randfill.Continue) {},
				func(v *metav1.Time, r randfill.Continue) { *v = metav1.Unix(int64(r.Intn(1000)), 0) },
				func(v *metav1.MicroTime, r randfill.Continue) {
					*v = metav1.NewMicroTime(metav1.Unix(int64(r.Intn(1000)), 0).Time)
				},
				func(v *intstr.IntOrString, r randfill.Continue) { *v = intstr.FromInt32(int32(r.Intn(100))) },
				func(v *kresource.Quantity, r randfill.Continue) {
					*v = *kresource.NewQuantity(int64(r.Intn(100)), kresource.DecimalSI)
				},
				func(v *runtime.RawExtension, _ randfill.Continue) { v.Raw = []byte(`{"a":1}`) },
				func(v *corev1.ResourceList, r randfill.Continue) {
					*v = corev1.ResourceList{"cpu": kresource.MustParse("1")}
				},
			)
			o := d.New()
			f.Fill(o)
			o.SetName(fmt.Sprintf("n%d", seed))
			if d.Namespaced {
				o.SetNamespace("default")
			}
			e.Kind(d).Share()
			if err := e.Seed(ctx, d, o); err != nil {
				t.Fatal(err)
			}
			old, err := c.Get(ctx, d, o.GetNamespace(), o.GetName())
			if err != nil {
				t.Fatal(err)
			}
			was := hash(t, old)
			subresources := []string{""}
			if d.Status {
				subresources = append(subresources, "status")
			}
			switch d.Resource {
			case "pods":
				subresources = append(subresources, "ephemeralcontainers", "resize")
			case "certificatesigningrequests":
				subresources = append(subresources, "approval")
			case "namespaces":
				subresources = append(subresources, "finalize")
			}
			for _, sub := range subresources {
				next := old.DeepCopyObject().(object.Object)
				next.SetLabels(map[string]string{"a": "b"})
				// Most random objects are invalid; what counts is what ran until then.
				_, _ = c.Update(ctx, d, next, sub)
				_ = c.Delete(ctx, d, old.GetNamespace(), old.GetName(), metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
				if hash(t, old) != was {
					t.Errorf("%s, seed %d: an update of %q touched the published object", d.Kind, seed, sub)
					break
				}
			}
		}
	}
}
