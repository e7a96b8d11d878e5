package workloads

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/dump"

	"sagong/object/equal"
)

// templateHash is upstream's pod-template-hash: FNV-1a over the printed form of
// the template and the collision count.
func templateHash(t *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%v", dump.ForHash(*t))
	if collisions != nil {
		b := make([]byte, 8)
		binary.LittleEndian.PutUint32(b, uint32(*collisions))
		h.Write(b)
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

// sameTemplate compares two templates but for the hash label that the
// controller itself adds.
func sameTemplate(a, b *corev1.PodTemplateSpec, hashLabel string) bool {
	if !sameLabels(a.Labels, b.Labels, hashLabel) {
		return false
	}
	x, y := *a, *b // shallow: only the label maps differ
	x.Labels, y.Labels = nil, nil
	return equal.Semantic(&x, &y)
}

func sameLabels(a, b map[string]string, except string) bool {
	n := 0
	for k, v := range a {
		if k == except {
			continue
		}
		if w, ok := b[k]; !ok || w != v {
			return false
		}
		n++
	}
	for k := range b {
		if k != except {
			n--
		}
	}
	return n == 0
}
