package volumes

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
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
	return reconcile.Result{}, e.expand(ctx, w, c, v)
}

// expand enlarges a claim's volume: first the claim tells to what size, then the
// volume gets it, then the claim waits for its node. What a volume has it keeps,
// also when the claim asks for less again.
func (e *expandController) expand(ctx context.Context, w client.Client, c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) (err error) {
	want, have := size(c), v.Spec.Capacity[corev1.ResourceStorage]
	small := have.Cmp(want) < 0
	if !small {
		want = have
	}
	told, phase := c.Status.AllocatedResources[corev1.ResourceStorage], c.Status.AllocatedResourceStatuses[corev1.ResourceStorage]
	waits := phase == corev1.PersistentVolumeClaimNodeResizePending || phase == corev1.PersistentVolumeClaimNodeResizeInProgress
	if !small && waits && told.Cmp(want) == 0 {
		return nil // for its node, which may tell of failures meanwhile
	}
	if phase != corev1.PersistentVolumeClaimControllerResizeInProgress || told.Cmp(want) != 0 {
		c, err = e.tell(ctx, w, c, want, corev1.PersistentVolumeClaimControllerResizeInProgress, false, corev1.PersistentVolumeClaimCondition{
			Type: corev1.PersistentVolumeClaimResizing, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
		})
		if err != nil {
			return gone(err)
		}
	}
	if small {
		e.events.Eventf(c, corev1.EventTypeNormal, "Resizing", "External resizer is resizing volume %s", v.Name)
		next := v.DeepCopy()
		next.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: want}
		if _, err := client.Update(ctx, w, next); err != nil {
			return gone(fmt.Errorf("cannot enlarge volume %s: %w", v.Name, err))
		}
	}
	c, err = e.tell(ctx, w, c, want, corev1.PersistentVolumeClaimNodeResizePending, true, corev1.PersistentVolumeClaimCondition{
		Type: corev1.PersistentVolumeClaimFileSystemResizePending, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
		Message: "Waiting for user to (re-)start a pod to finish file system resize of volume on node.",
	})
	if err == nil {
		e.events.Eventf(c, corev1.EventTypeNormal, "FileSystemResizeRequired", "Require file system resize of volume on node")
	}
	return gone(err)
}

// tell writes how far a claim's expansion is.
func (e *expandController) tell(ctx context.Context, w client.Client, c *corev1.PersistentVolumeClaim, to resource.Quantity, phase corev1.ClaimResourceStatus, keep bool, now corev1.PersistentVolumeClaimCondition) (*corev1.PersistentVolumeClaim, error) {
	next := c.DeepCopy()
	s := &next.Status
	if s.AllocatedResources == nil {
		s.AllocatedResources = corev1.ResourceList{}
	}
	if s.AllocatedResourceStatuses == nil {
		s.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{}
	}
	s.AllocatedResources[corev1.ResourceStorage], s.AllocatedResourceStatuses[corev1.ResourceStorage] = to.DeepCopy(), phase
	s.Conditions = storage.MergeResizeConditions(s.Conditions, keep, now)
	written, err := client.UpdateStatus(ctx, w, next)
	if err != nil {
		return nil, fmt.Errorf("cannot set status of claim %s: %w", object.KeyOf(c), err)
	}
	return written, nil
}
