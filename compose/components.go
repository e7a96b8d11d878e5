package compose

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
)

// components answers for ComponentStatuses under upstream's names. All live in
// this process: while it answers they run, and the store alone can have failed.
type components struct{ store func() error }

var componentNames = []string{"controller-manager", "etcd-0", "scheduler"}

// Get implements resource.Source.
func (c components) Get(_ context.Context, _, name string) (object.Object, error) {
	for _, n := range componentNames {
		if n == name {
			return c.status(name), nil
		}
	}
	return nil, nil
}

// List implements resource.Source.
func (c components) List(_ context.Context, _ string, s object.Selector) ([]object.Object, error) {
	var out []object.Object
	for _, n := range componentNames {
		if o := c.status(n); s.MatchesMeta(o) {
			out = append(out, o)
		}
	}
	return out, nil
}

func (c components) status(name string) *corev1.ComponentStatus {
	healthy := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}
	if name == "etcd-0" {
		if err := c.store(); err != nil {
			healthy.Status, healthy.Message, healthy.Error = corev1.ConditionFalse, "", err.Error()
		}
	}
	return &corev1.ComponentStatus{ObjectMeta: metav1.ObjectMeta{Name: name}, Conditions: []corev1.ComponentCondition{healthy}}
}
