package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"sagong/kinds"
	"sagong/object"
)

// What a patch makes of the fields that it names is what it makes of the whole
// object: random pieces of one pod are patched into another.
func TestPatchNamedEqualsPatchWhole(t *testing.T) {
	scheme := object.NewScheme(kinds.All()...)
	def := scheme.ByKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	codec := object.NewCodec(def)
	v := codec.Storage()
	narrowed := 0
	for seed := range uint64(120) {
		r := rand.New(rand.NewPCG(seed, 2))
		old, other := randomPod(r), randomPod(r)
		asJSON, err := json.Marshal(other)
		if err != nil {
			t.Fatal(err)
		}
		var pieces map[string]any
		if err := json.Unmarshal(asJSON, &pieces); err != nil {
			t.Fatal(err)
		}
		thin(r, pieces, 0)
		data, err := json.Marshal(pieces)
		if err != nil {
			t.Fatal(err)
		}
		patches := []Patch{
			{Type: types.MergePatchType, Data: data}, {Type: types.StrategicMergePatchType, Data: data},
			{Type: types.JSONPatchType, Data: fmt.Appendf(nil, `[{"op":"add","path":"/metadata/annotations","value":{"a":"b"}},{"op":"add","path":"/spec/hostname","value":"h%d"},{"op":"test","path":"/metadata/name","value":"p"}]`, seed)},
			{Type: types.StrategicMergePatchType, Data: []byte(`{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"b","image":"x"},{"$patch":"delete","name":"c"}]}}`)},
			{Type: types.StrategicMergePatchType, Data: []byte(`{"metadata":{"$patch":"replace","labels":{"x":"y"},"name":"p","namespace":"n"}}`)},
			{Type: types.StrategicMergePatchType, Data: []byte(`{"spec":null,"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)},
		}
		for _, p := range patches {
			published := old.DeepCopy()
			got, ok := patchNamed(v, old, p)
			if !equality.Semantic.DeepEqual(old, published) {
				t.Fatalf("seed %d, %s: the old object was changed", seed, p.Data)
			}
			want, wantErr := patchWhole(v, old, p)
			if !ok {
				continue
			}
			narrowed++
			if wantErr != nil {
				t.Fatalf("seed %d, %s: carried out, though %v", seed, p.Data, wantErr)
			}
			a, _ := codec.Encode(got)
			b, _ := codec.Encode(want)
			if !bytes.Equal(a, b) {
				t.Fatalf("seed %d, %s %s:\ngot  %+v\nwant %+v", seed, p.Type, p.Data, got, want)
			}
		}
	}
	if narrowed < 300 {
		t.Errorf("only %d patches were narrowed", narrowed)
	}
}

func patchWhole(v *object.Version, old object.Object, p Patch) (object.Object, error) {
	before, err := wholeObject(v, old)
	if err != nil {
		return nil, err
	}
	after, _, err := applyPatch(v, before, p)
	if err != nil {
		return nil, err
	}
	obj, _, err := decodePatched(v, after, p)
	return obj, err
}

// thin takes away most fields, and makes some null.
func thin(r *rand.Rand, m map[string]any, depth int) {
	for _, k := range slices.Sorted(maps.Keys(m)) { // in an order that a seed repeats
		v := m[k]
		inside, ok := v.(map[string]any)
		switch {
		case r.IntN(3) == 0:
			delete(m, k)
		case r.IntN(10) == 0 && depth > 0:
			m[k] = nil
		case ok:
			thin(r, inside, depth+1)
		}
	}
}

func randomPod(r *rand.Rand) *corev1.Pod {
	f := randfill.NewWithSeed(r.Int64()).NilChance(.5).NumElements(1, 2).MaxDepth(12).Funcs(
		func(s *string, c randfill.Continue) { *s = string(rune('a' + c.Intn(3))) },
		func(q *resource.Quantity, c randfill.Continue) { *q = resource.MustParse(fmt.Sprint(c.Intn(100))) },
		func(v *intstr.IntOrString, c randfill.Continue) { *v = intstr.FromInt32(int32(c.Intn(100))) },
		func(v *metav1.Time, c randfill.Continue) { *v = metav1.Unix(int64(c.Intn(1<<30)), 0) },
		func(v *metav1.FieldsV1, c randfill.Continue) { v.Raw = []byte(`{"f:spec":{}}`) },
		func(v *metav1.TypeMeta, c randfill.Continue) {},
	)
	p := &corev1.Pod{}
	f.Fill(p)
	p.Name, p.Namespace, p.ResourceVersion = "p", "n", ""
	for i, name := range []string{"a", "b", "c"} {
		if i < len(p.Spec.Containers) {
			p.Spec.Containers[i].Name = name
		}
	}
	return p
}

// Server-side apply to the fields in question is apply to the whole object, for
// managers that take turns and give fields up.
func TestApplyToPartEqualsWhole(t *testing.T) {
	scheme := object.NewScheme(kinds.All()...)
	def := scheme.ByKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	codec := object.NewCodec(def)
	e := &Engine{fields: object.NewFieldManagers()}
	target := Target{Kind: &Kind{Definition: def, Codec: codec}, Name: "p", Namespace: "n"}
	manager, err := e.fields.For(codec, codec.Storage(), "")
	if err != nil {
		t.Fatal(err)
	}
	conflicts := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		var live object.Object = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n"}}
		for turn := range 8 {
			p := randomPod(r)
			p.ManagedFields, p.OwnerReferences, p.Status = nil, nil, corev1.PodStatus{}
			data, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			var pieces map[string]any
			if err := json.Unmarshal(data, &pieces); err != nil {
				t.Fatal(err)
			}
			thin(r, pieces, 0)
			meta, _ := pieces["metadata"].(map[string]any)
			if meta == nil {
				meta = map[string]any{}
			}
			meta["name"], meta["namespace"] = "p", "n"
			pieces["metadata"], pieces["apiVersion"], pieces["kind"] = meta, "v1", "Pod"
			if data, err = json.Marshal(pieces); err != nil {
				t.Fatal(err)
			}
			applied, _, err := object.DecodeApply(codec.Storage(), data, false)
			if err != nil {
				continue
			}
			who, force := string(rune('A'+r.IntN(3))), r.IntN(3) > 0
			want, wantErr := e.fields.Apply(codec, manager, live, applied.DeepCopy(), who, force)
			published := live.DeepCopyObject()
			got, err := e.applyTo(target, manager, live, applied, who, force)
			if !equality.Semantic.DeepEqual(published, live) {
				t.Fatalf("seed %d, turn %d: the live object was changed", seed, turn)
			}
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("seed %d, turn %d: error %v, want %v", seed, turn, err, wantErr)
			}
			if err != nil {
				conflicts++
				continue
			}
			for _, o := range []object.Object{got, want} {
				entries := o.GetManagedFields()
				for i := range entries {
					entries[i].Time = nil
				}
				o.SetManagedFields(entries)
			}
			a, _ := codec.Encode(got)
			b, _ := codec.Encode(want)
			if !bytes.Equal(a, b) {
				t.Fatalf("seed %d, turn %d, %s:\ngot  %s\nwant %s", seed, turn, data, asText(got), asText(want))
			}
			live = got
		}
	}
	if conflicts == 0 {
		t.Error("no conflict was met")
	}
}

func asText(o object.Object) string {
	b, _ := json.Marshal(o)
	return string(b)
}
