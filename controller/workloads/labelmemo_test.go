package workloads

import (
	"testing"

	"k8s.io/apimachinery/pkg/labels"
)

func TestLabelMemo(t *testing.T) {
	s := labelMemo{Selector: labels.SelectorFromSet(labels.Set{"a": "1"})}
	yes, no := map[string]string{"a": "1"}, map[string]string{"a": "2"}
	for i, step := range []struct {
		labels map[string]string
		want   bool
	}{{nil, false}, {yes, true}, {yes, true}, {no, false}, {nil, false}, {yes, true}, {map[string]string{"a": "1"}, true}, {no, false}} {
		if s.matches(step.labels) != step.want {
			t.Errorf("step %d", i)
		}
	}
}
