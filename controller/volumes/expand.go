package volumes

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/kinds/storage"
	"sagong/object"
	"sagong/reconcile"
)

type expandController struct {
	claims  *reconcile.View[*corev1.PersistentVolumeClaim]
	volumes *reconcile.View[*corev1.PersistentVolume]
	events  client.Recorder
}

// NewExpand returns the controller that lets volumes of the built-in driver grow
// with their claims: it enlarges the volume object, and the node then its file
// system. Growing those of other drivers is for others.
func NewExpand(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	return &expandController{claims: claimView(h), volumes: volumeView(h), events: events}
}

func (e *expandController) Name() string { return "persistentvolume-expander" }

func (e *expandController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(e.claims, func(_, new *corev1.PersistentVolumeClaim, enqueue func(object.Key)) {
			if new != nil && grows(new) {
				enqueue(object.KeyOf(new))
			}
		}),
		// A claim may be heard of before the volume that is to grow.
		reconcile.On(e.volumes, func(_, new *corev1.PersistentVolume, enqueue func(object.Key)) {
			if new != nil && new.Spec.ClaimRef != nil {
				if c, ok := e.claims.Get(new.Spec.ClaimRef.Namespace, new.Spec.ClaimRef.Name); ok && grows(c) {
					enqueue(object.KeyOf(c))
				}
			}
		}),
	}
}

// grows says that a bound claim asks for more than it has.
func grows(c *corev1.PersistentVolumeClaim) bool {
	want, have := c.Spec.Resources.Requests[corev1.ResourceStorage], c.Status.Capacity[corev1.ResourceStorage]
	return c.Status.Phase == corev1.ClaimBound && want.Cmp(have) > 0
}

func (e *expandController) Outputs() []reconcile.Output {
	return []reconcile.Output{
		{Kind: e.volumes.Definition().GVK().GroupKind(), Field: "spec.capacity"},
		{Kind: e.claims.Definition().GVK().GroupKind(), Field: "status.allocatedResources"},
	}
}

func (e *expandController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	c, ok := e.claims.Get(key.Namespace, key.Name)
	if !ok || !grows(c) {
		return reconcile.Result{}, nil
	}
	v, ok := e.volumes.Get("", c.Spec.VolumeName)
	if !ok || v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID != c.UID {
		return reconcile.Result{}, nil
	}
	if v.Spec.CSI == nil || v.Spec.CSI.Driver != storage.LocalDriver {
		e.events.Eventf(c, corev1.EventTypeNormal, "ExternalExpanding", "waiting for an external controller to expand this PVC")
		return reconcile.Result{}, nil
	}
	want := size(c)
	if have := v.Spec.Capacity[corev1.ResourceStorage]; have.Cmp(want) < 0 {
		e.events.Eventf(c, corev1.EventTypeNormal, "Resizing", "External resizer is resizing volume %s", v.Name)
		next := v.DeepCopy()
		next.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: want}
		if _, err := client.Update(ctx, w, next); err != nil {
			return reconcile.Result{}, gone(fmt.Errorf("cannot enlarge volume %s: %w", v.Name, err))
		}
	}
	next := c.DeepCopy()
	s := &next.Status
	s.AllocatedResources = corev1.ResourceList{corev1.ResourceStorage: want.DeepCopy()}
	s.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{corev1.ResourceStorage: corev1.PersistentVolumeClaimNodeResizePending}
	pending := false
	for _, x := range s.Conditions {
		pending = pending || x.Type == corev1.PersistentVolumeClaimFileSystemResizePending && x.Status == corev1.ConditionTrue
	}
	if !pending {
		s.Conditions = append(s.Conditions, corev1.PersistentVolumeClaimCondition{
			Type: corev1.PersistentVolumeClaimFileSystemResizePending, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
			Message: "Waiting for user to (re-)start a pod to finish file system resize of volume on node.",
		})
	}
	if equality.Semantic.DeepEqual(c.Status, *s) {
		return reconcile.Result{}, nil
	}
	if _, err := client.UpdateStatus(ctx, w, next); err != nil {
		return reconcile.Result{}, gone(fmt.Errorf("cannot set status of claim %s: %w", key, err))
	}
	e.events.Eventf(c, corev1.EventTypeNormal, "FileSystemResizeRequired", "Require file system resize of volume on node")
	return reconcile.Result{}, nil
}
