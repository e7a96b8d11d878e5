package kubelet

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumehelper "k8s.io/component-helpers/storage/volume"

	"sagong/client"
	"sagong/kinds/storage"
)

// persistent finds what is behind the claims of this node's pods. Each is read
// when a pod starts, and no more after that.
type persistent Agent

// Claim implements volume.Storage.
func (s *persistent) Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	return client.Get[*corev1.PersistentVolumeClaim](ctx, s.dep.Client, namespace, name)
}

// Volume implements volume.Storage.
func (s *persistent) Volume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	return client.Get[*corev1.PersistentVolume](ctx, s.dep.Client, "", name)
}

// Fits implements volume.Storage.
func (s *persistent) Fits(v *corev1.PersistentVolume) error {
	if v.Spec.NodeAffinity == nil {
		return nil
	}
	node, ok := s.nodes.Get("", s.cfg.NodeName)
	if !ok {
		return fmt.Errorf("node %q is not known yet", s.cfg.NodeName)
	}
	return volumehelper.CheckNodeAffinity(v, node.Labels)
}

// Resized implements volume.Storage: the claim hears that its volume has grown.
// p is the pod that mounts it, nil when the volume grew under a running one.
func (s *persistent) Resized(ctx context.Context, p *corev1.Pod, c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) error {
	for {
		next := c.DeepCopy()
		if next.Status.Capacity == nil {
			next.Status.Capacity = corev1.ResourceList{}
		}
		next.Status.Capacity[corev1.ResourceStorage] = v.Spec.Capacity[corev1.ResourceStorage].DeepCopy()
		delete(next.Status.AllocatedResourceStatuses, corev1.ResourceStorage)
		next.Status.Conditions = storage.MergeResizeConditions(next.Status.Conditions, false)
		_, err := client.UpdateStatus(ctx, s.dep.Client, next)
		if apierrors.IsConflict(err) {
			if c, err = s.Claim(ctx, c.Namespace, c.Name); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		text := fmt.Sprintf("MountVolume.NodeExpandVolume succeeded for volume %q ", v.Name)
		s.dep.Recorder.Eventf(next, corev1.EventTypeNormal, "FileSystemResizeSuccessful", "%s", text)
		if p != nil {
			s.dep.Recorder.Eventf(p, corev1.EventTypeNormal, "FileSystemResizeSuccessful", "%s", text)
		}
		return nil
	}
}

// notResized has a claim tell why its volume could not grow, until it does. It says
// so once: the same claim is tried again and again.
func (s *persistent) notResized(ctx context.Context, c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume, cause error) error {
	s.dep.Recorder.Eventf(c, corev1.EventTypeWarning, "VolumeResizeFailed", "NodeExpandVolume failed for volume %q : %v", v.Name, cause)
	if slices.ContainsFunc(c.Status.Conditions, func(x corev1.PersistentVolumeClaimCondition) bool {
		return x.Type == corev1.PersistentVolumeClaimNodeResizeError && x.Status == corev1.ConditionTrue
	}) {
		return nil
	}
	next := c.DeepCopy()
	next.Status.Conditions = storage.MergeResizeConditions(next.Status.Conditions, true, corev1.PersistentVolumeClaimCondition{
		Type: corev1.PersistentVolumeClaimNodeResizeError, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
		Message: fmt.Sprintf("failed to expand pvc with %v", cause),
	})
	_, err := client.UpdateStatus(ctx, s.dep.Client, next)
	return err
}

// registerDriver tells, by the node's CSINode, that it has the built-in driver.
// Entries of other drivers stay.
func (a *Agent) registerDriver(ctx context.Context, node *corev1.Node) error {
	driver := storagev1.CSINodeDriver{Name: storage.LocalDriver, NodeID: a.cfg.NodeName, TopologyKeys: []string{corev1.LabelHostname}}
	have, err := client.Get[*storagev1.CSINode](ctx, a.dep.Client, "", a.cfg.NodeName)
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, a.dep.Client, &storagev1.CSINode{
			ObjectMeta: metav1.ObjectMeta{Name: a.cfg.NodeName, OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}},
			Spec:       storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{driver}},
		})
		if apierrors.IsAlreadyExists(err) {
			return a.registerDriver(ctx, node)
		}
	case err == nil && !slices.ContainsFunc(have.Spec.Drivers, func(d storagev1.CSINodeDriver) bool { return d.Name == driver.Name }):
		next := have.DeepCopy()
		next.Spec.Drivers = append(next.Spec.Drivers, driver)
		_, err = client.Update(ctx, a.dep.Client, next)
	}
	if err != nil {
		return fmt.Errorf("cannot register the driver of local volumes: %w", err)
	}
	return nil
}
