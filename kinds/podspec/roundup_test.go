package podspec

import (
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestRoundUp(t *testing.T) {
	l := corev1.ResourceList{"a": resource.MustParse("0.1"), "b": resource.MustParse("1500u"), "c": resource.MustParse("1Gi"), "d": resource.MustParse("2.5")}
	RoundUp(l)
	for name, want := range map[corev1.ResourceName]string{"a": "100m", "b": "2m", "c": "1Gi", "d": "2500m"} {
		if q := l[name]; q.String() != want {
			t.Errorf("%s is %s, want %s", name, q.String(), want)
		}
	}
	// What is rounded already may be read by others: the race detector looks.
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() { RoundUp(l) })
	}
	wait.Wait()
}
