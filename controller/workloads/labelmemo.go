package workloads

import (
	"reflect"

	"k8s.io/apimachinery/pkg/labels"
)

// labelMemo asks a selector once for labels that many objects share: the API
// keeps one map for all pods of an owner. It belongs to one goroutine, and to
// the objects that its caller holds meanwhile.
type labelMemo struct {
	labels.Selector
	last    uintptr
	matched bool
}

func (s *labelMemo) matches(l map[string]string) bool {
	at := reflect.ValueOf(l).Pointer()
	if at == 0 || at != s.last {
		s.last, s.matched = at, s.Matches(labels.Set(l))
	}
	return s.matched
}
