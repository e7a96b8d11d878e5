package equal

import (
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/randfill"
)

func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(.4).NumElements(0, 2).MaxDepth(12).Funcs(
		// Few values, so that there are equal ones.
		func(s *string, c randfill.Continue) { *s = []string{"", "a", "b"}[c.Intn(3)] },
		func(n *int32, c randfill.Continue) { *n = int32(c.Intn(2)) },
		func(n *int64, c randfill.Continue) { *n = int64(c.Intn(2)) },
		func(u *types.UID, c randfill.Continue) { *u = types.UID([]string{"", "a"}[c.Intn(2)]) },
		func(q *resource.Quantity, c randfill.Continue) {
			*q = resource.MustParse([]string{"1", "1000m", "1k", "0"}[c.Intn(4)])
			if c.Bool() {
				_ = q.String() // is remembered in it
			}
		},
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(int64(c.Intn(2)), 0) },
		func(f *metav1.FieldsV1, c randfill.Continue) { f.Raw = []byte([]string{`{}`, `{"f:a":{}}`}[c.Intn(2)]) },
		func(r *runtime.RawExtension, c randfill.Continue) {},
	)
}

// Semantic says what the library says, of values that differ in one place or in
// how they are written.
func TestSemantic(t *testing.T) {
	equal := 0
	for range 1000 {
		seed := rand.Int64()
		r := rand.New(rand.NewPCG(uint64(seed), 0))
		var a, b corev1.PodSpec
		filler(seed).Fill(&a)
		switch r.IntN(4) {
		case 0:
			b = *a.DeepCopy()
		case 1:
			b = a // shares all
		case 2:
			filler(seed + 1).Fill(&b)
		default: // one part of another
			b = *a.DeepCopy()
			var c corev1.PodSpec
			filler(seed + 1).Fill(&c)
			switch r.IntN(8) {
			case 0:
				b.Containers = c.Containers
			case 1:
				b.Overhead = c.Overhead
			case 2:
				b.NodeSelector = c.NodeSelector
			case 3:
				b.Affinity = c.Affinity
			case 4:
				b.Tolerations = c.Tolerations
			case 5:
				b.TerminationGracePeriodSeconds = c.TerminationGracePeriodSeconds
			case 6:
				if b.Tolerations == nil {
					b.Tolerations = []corev1.Toleration{}
				}
				if b.NodeSelector == nil {
					b.NodeSelector = map[string]string{}
				}
			case 7:
				b.Volumes = c.Volumes
			}
		}
		want := equality.Semantic.DeepEqual(a, b)
		if want {
			equal++
		}
		if got := Semantic(&a, &b); got != want {
			t.Fatalf("seed %d: %v, want %v", seed, got, want)
		}
	}
	if equal < 150 || equal > 850 {
		t.Fatalf("%d of 1000 were equal", equal)
	}
}

func BenchmarkSemantic(b *testing.B) {
	var x corev1.PodSpec
	filler(3).Fill(&x)
	y := x.DeepCopy()
	b.Run("library", func(b *testing.B) {
		for b.Loop() {
			equality.Semantic.DeepEqual(x, *y)
		}
	})
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			Semantic(&x, y)
		}
	})
}
