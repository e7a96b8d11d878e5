package object

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/randfill"
)

// awkward are strings that JSON writes in other ways than they are.
var awkward = []string{"", "plain", "<a href=\"x\">&amp;</a>", "사공", "line\nbreak\ttab\x00\x1f\x7f", "back\\slash", "\u2028\u2029", "\xff\xfe broken", "😀"}

func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(.3).NumElements(0, 3).MaxDepth(14).Funcs(
		func(s *string, c randfill.Continue) { *s = awkward[c.Intn(len(awkward))] },
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(1<<40), resource.DecimalSI)
		},
		func(v *intstr.IntOrString, c randfill.Continue) {
			*v = intstr.FromInt32(int32(c.Uint32()))
			if c.Bool() {
				*v = intstr.FromString(awkward[c.Intn(len(awkward))])
			}
		},
		func(r *runtime.RawExtension, c randfill.Continue) {
			r.Raw = []byte([]string{`null`, `{"a": [1, "<"]}`, `"x"`}[c.Intn(3)])
		},
		func(f *metav1.FieldsV1, c randfill.Continue) {
			f.Raw = []byte([]string{`{"f:metadata":{"f:labels":{}}}`, "{ \"f:spec\" : {} }", `{"k:{\"name\":\"<&>\"}":{}}`, `{"사":{}}`}[c.Intn(4)])
		},
	)
}

// What appendTyped writes is what json.Marshal writes, byte for byte.
func TestEncoderEqualsTheStandard(t *testing.T) {
	types := []any{
		corev1.Pod{}, corev1.Node{}, corev1.Service{}, corev1.Secret{}, corev1.ConfigMap{}, corev1.Event{}, corev1.PersistentVolume{},
		appsv1.Deployment{}, appsv1.StatefulSet{}, appsv1.ControllerRevision{}, batchv1.Job{}, autoscalingv2.HorizontalPodAutoscaler{},
		networkingv1.Ingress{}, networkingv1.NetworkPolicy{}, resourcev1.ResourceClaim{}, resourcev1.ResourceSlice{}, storagev1.CSINode{},
		auditv1.Event{}, eventsv1.Event{}, metav1.Status{}, metav1.PartialObjectMetadata{}, metav1.LabelSelector{}, metav1.List{},
	}
	for _, example := range types {
		typ := reflect.TypeOf(example)
		t.Run(typ.String(), func(t *testing.T) {
			for range 200 {
				seed := rand.Int64()
				v := reflect.New(typ).Interface()
				filler(seed).Fill(v)
				want, err := json.Marshal(v)
				if err != nil {
					continue // raw extensions of random objects
				}
				got, err := appendTyped([]byte("before"), v)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if !bytes.Equal(got[len("before"):], want) {
					t.Fatalf("seed %d:\n got %s\nwant %s", seed, got[len("before"):], want)
				}
			}
		})
	}
}

func FuzzAppendString(f *testing.F) {
	for _, s := range awkward {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, _ := json.Marshal(s)
		if got := appendString(nil, s); !bytes.Equal(got, want) {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	p := &corev1.Pod{}
	filler(7).Fill(p)
	b.Run("standard", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = json.Marshal(p)
		}
	})
	b.Run("compiled", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			buf, _ = appendTyped(buf[:0], p)
		}
	})
}
