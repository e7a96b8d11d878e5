package kubelet

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/client"
	"sagong/kinds/storage"
	"sagong/kubelet/timing"
	"sagong/kubelet/volume"
	"sagong/reconcile"
)

// localVolumes does for the objects of the built-in driver's volumes on this node
// what no pod's start does: it enlarges those that run, and removes the data of
// those that were deleted.
type localVolumes struct {
	a     *Agent
	view  *reconcile.View[*corev1.PersistentVolume]
	queue *timing.Queue[string]
}

func newLocalVolumes(a *Agent) *localVolumes {
	only := labels.Set{storage.LocalNodeLabel: a.cfg.NodeName}.String()
	return &localVolumes{
		a: a, queue: timing.NewQueue[string](),
		view: reconcile.NewView[*corev1.PersistentVolume](a.dep.Client, a.log, client.ListOptions{LabelSelector: only}),
	}
}

// run follows the node's volumes until ctx ends.
func (l *localVolumes) run(ctx context.Context) {
	if err := l.view.Synced(ctx); err != nil {
		return
	}
	defer l.view.OnChange(func(old, new *corev1.PersistentVolume) {
		if new != nil && (new.DeletionTimestamp != nil || old == nil || old.Spec.Capacity.Storage().Cmp(*new.Spec.Capacity.Storage()) < 0) {
			l.queue.Add(new.Name)
		}
	})()
	stop := context.AfterFunc(ctx, l.queue.Close)
	defer stop()
	for {
		name, ok := l.queue.Next()
		if !ok {
			return
		}
		if v, known := l.view.Get("", name); known {
			if err := l.handle(ctx, v); err != nil && ctx.Err() == nil {
				l.a.log.Warn("cannot handle local volume, trying again", "volume", name, "err", err)
				l.a.timers.Set(volumeRetry(name), time.Now().Add(retryVolume), func() { l.queue.Add(name) })
			}
		}
		l.queue.Done(name)
	}
}

// retryVolume is how long a volume that could not be removed or enlarged waits.
const retryVolume = 2 * time.Second

// volumeRetry names the alarm of a volume.
type volumeRetry string

func (l *localVolumes) handle(ctx context.Context, v *corev1.PersistentVolume) error {
	if v.Spec.CSI == nil || v.Spec.CSI.Driver != storage.LocalDriver {
		return nil
	}
	if v.DeletionTimestamp == nil {
		return l.grow(ctx, v)
	}
	if !slices.Contains(v.Finalizers, storage.LocalFinalizer) || slices.Contains(v.Finalizers, "kubernetes.io/pv-protection") {
		return nil
	}
	// Who deletes a volume that is to be retained deletes the object alone.
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
		if err := l.a.volumes.Disk.Remove(ctx, v.Spec.CSI.VolumeHandle); err != nil {
			return err
		}
	}
	next := v.DeepCopy()
	next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == storage.LocalFinalizer })
	_, err := client.Update(ctx, l.a.dep.Client, next)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or the view is about to show another state
	}
	return err
}

// grow enlarges a volume under the pods that use it. Where that cannot be, it is
// enlarged when the next pod mounts it.
func (l *localVolumes) grow(ctx context.Context, v *corev1.PersistentVolume) error {
	if v.Spec.ClaimRef == nil {
		return nil
	}
	s := (*persistent)(l.a)
	c, err := s.Claim(ctx, v.Spec.ClaimRef.Namespace, v.Spec.ClaimRef.Name)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return nil // no pod of this node uses it
	case err != nil:
		return err
	case c.UID != v.Spec.ClaimRef.UID || c.Status.Phase != corev1.ClaimBound || c.Status.Capacity.Storage().Cmp(*v.Spec.Capacity.Storage()) >= 0:
		return nil
	}
	err = l.a.volumes.Disk.Grow(v.Spec.CSI.VolumeHandle, v.Spec.Capacity.Storage().Value())
	if errors.Is(err, volume.ErrInUse) {
		l.a.log.Info("volume grows when its pod starts anew: the kernel does not let this process enlarge one in use", "volume", v.Name)
		return nil
	}
	if err != nil {
		return errors.Join(err, s.notResized(ctx, c, v, err))
	}
	return s.Resized(ctx, nil, c, v)
}
