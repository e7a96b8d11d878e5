// Package flows tells in the status of FlowSchemas what becomes of them.
package flows

import (
	"context"
	"fmt"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

type controller struct {
	schemas *reconcile.View[*flowcontrolv1.FlowSchema]
	levels  *reconcile.View[*flowcontrolv1.PriorityLevelConfiguration]
}

// New returns the controller that keeps the condition Dangling of each
// FlowSchema: whether the priority level that it names is missing.
func New(h *reconcile.Hub) reconcile.Controller {
	return &controller{reconcile.ViewOf[*flowcontrolv1.FlowSchema](h), reconcile.ViewOf[*flowcontrolv1.PriorityLevelConfiguration](h)}
}

func (c *controller) Name() string { return "flow-schema" }

func (c *controller) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.Self(c.schemas),
		reconcile.On(c.levels, func(old, now *flowcontrolv1.PriorityLevelConfiguration, enqueue func(object.Key)) {
			if old != nil && now != nil {
				return
			}
			for _, f := range c.schemas.All() {
				if name := f.Spec.PriorityLevelConfiguration.Name; old != nil && name == old.Name || now != nil && name == now.Name {
					enqueue(object.KeyOf(f))
				}
			}
		}),
	}
}

func (c *controller) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: flowcontrolv1.SchemeGroupVersion.WithKind("FlowSchema").GroupKind(), Field: "status"}}
}

func (c *controller) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	f, ok := c.schemas.Get(key.Namespace, key.Name)
	if !ok || f.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	level := f.Spec.PriorityLevelConfiguration.Name
	want := flowcontrolv1.FlowSchemaCondition{
		Type: flowcontrolv1.FlowSchemaConditionDangling, Status: flowcontrolv1.ConditionFalse, Reason: "Found",
		Message: fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q and it exists", level),
	}
	if _, ok := c.levels.Get("", level); !ok {
		want.Status, want.Reason = flowcontrolv1.ConditionTrue, "NotFound"
		want.Message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q but there is no such object", level)
	}
	f = f.DeepCopy()
	at := -1
	for i, have := range f.Status.Conditions {
		if have.Type == want.Type {
			at = i
			want.LastTransitionTime = have.LastTransitionTime
			if have == want {
				return reconcile.Result{}, nil
			}
			if have.Status == want.Status {
				break
			}
			want.LastTransitionTime = metav1.Now()
		}
	}
	if at < 0 {
		want.LastTransitionTime = metav1.Now()
		f.Status.Conditions = append(f.Status.Conditions, want)
	} else {
		f.Status.Conditions[at] = want
	}
	_, err := client.UpdateStatus(ctx, w, f)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		err = nil // the watch brings what is newer
	}
	return reconcile.Result{}, err
}
