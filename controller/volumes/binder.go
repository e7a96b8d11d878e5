package volumes

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/volume"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// binder brings claims and volumes together. Keys with a namespace are claims,
// those without are volumes. A volume is written before the claim it is bound
// to, so that a claim that says it is bound is; every step can be repeated.
type binder struct {
	claims  *reconcile.View[*corev1.PersistentVolumeClaim]
	volumes *reconcile.View[*corev1.PersistentVolume]
	classes *reconcile.View[*storagev1.StorageClass]
	pods    *reconcile.View[*corev1.Pod]
	events  client.Recorder
}

// NewBinder returns the controller that binds PersistentVolumeClaims to
// PersistentVolumes.
func NewBinder(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	b := &binder{
		claims: claimView(h), volumes: volumeView(h), classes: reconcile.ViewOf[*storagev1.StorageClass](h),
		pods: podView(h), events: events,
	}
	return b
}

// Indexes of the views that this package shares.
const (
	byWaiting = "volumes.waiting" // unbound claims by class
	byVolume  = "volumes.volume"  // claims by the volume they name
	byFree    = "volumes.free"    // volumes without claim by class
	byClaim   = "volumes.claim"   // volumes and pods by "namespace/claim"
)

// noClass is where byWaiting lists claims that name no class at all: they wait
// for a volume without class, and for a default class.
const noClass = "\x00"

func claimView(h *reconcile.Hub) *reconcile.View[*corev1.PersistentVolumeClaim] {
	v := reconcile.ViewOf[*corev1.PersistentVolumeClaim](h)
	v.Index(byWaiting, func(c *corev1.PersistentVolumeClaim) []string {
		switch {
		case c.Annotations[volume.AnnBindCompleted] != "":
			return nil
		case !volume.PersistentVolumeClaimHasClass(c):
			return []string{noClass, ""}
		}
		return []string{volume.GetPersistentVolumeClaimClass(c)}
	})
	v.Index(byVolume, func(c *corev1.PersistentVolumeClaim) []string {
		if c.Spec.VolumeName == "" {
			return nil
		}
		return []string{c.Spec.VolumeName}
	})
	return v
}

func volumeView(h *reconcile.Hub) *reconcile.View[*corev1.PersistentVolume] {
	v := reconcile.ViewOf[*corev1.PersistentVolume](h)
	v.Index(byFree, func(p *corev1.PersistentVolume) []string {
		if p.Spec.ClaimRef != nil {
			return nil
		}
		return []string{volume.GetPersistentVolumeClass(p)}
	})
	v.Index(byClaim, func(p *corev1.PersistentVolume) []string {
		if p.Spec.ClaimRef == nil {
			return nil
		}
		return []string{refKey(p).String()}
	})
	return v
}

func podView(h *reconcile.Hub) *reconcile.View[*corev1.Pod] {
	v := reconcile.ViewOf[*corev1.Pod](h)
	v.Index(byClaim, func(p *corev1.Pod) (keys []string) {
		for i := range p.Spec.Volumes {
			if name := claimOf(p, &p.Spec.Volumes[i]); name != "" {
				keys = append(keys, object.Key{Namespace: p.Namespace, Name: name}.String())
			}
		}
		return keys
	})
	return v
}

// claimOf is the name of the claim behind a pod's volume, or "".
func claimOf(p *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return p.Name + "-" + v.Name
	}
	return ""
}

// refKey is the claim that a volume with a claimRef belongs to.
func refKey(v *corev1.PersistentVolume) object.Key {
	return object.Key{Namespace: v.Spec.ClaimRef.Namespace, Name: v.Spec.ClaimRef.Name}
}

func (b *binder) Name() string { return "persistentvolume-binder" }

func (b *binder) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(b.claims, func(old, new *corev1.PersistentVolumeClaim, enqueue func(object.Key)) {
			c := new
			if c == nil {
				c = old
			}
			enqueue(object.KeyOf(c))
			for _, v := range b.volumes.By(byClaim, object.KeyOf(c).String()) {
				enqueue(object.KeyOf(v))
			}
			if c.Spec.VolumeName != "" {
				enqueue(object.Key{Name: c.Spec.VolumeName})
			}
		}),
		reconcile.On(b.volumes, func(old, new *corev1.PersistentVolume, enqueue func(object.Key)) {
			v := new
			if v == nil {
				v = old
			}
			enqueue(object.KeyOf(v))
			for _, c := range b.claims.By(byVolume, v.Name) {
				enqueue(object.KeyOf(c))
			}
			switch {
			case v.Spec.ClaimRef != nil:
				enqueue(refKey(v))
			case new != nil && new.Status.Phase == corev1.VolumeAvailable:
				for _, c := range b.claims.By(byWaiting, volume.GetPersistentVolumeClass(v)) {
					enqueue(object.KeyOf(c))
				}
			}
		}),
		reconcile.On(b.classes, func(_, new *storagev1.StorageClass, enqueue func(object.Key)) {
			if new == nil {
				return
			}
			for _, class := range []string{new.Name, noClass} {
				for _, c := range b.claims.By(byWaiting, class) {
					enqueue(object.KeyOf(c))
				}
			}
		}),
		reconcile.Reads(b.pods),
	}
}

func (b *binder) Outputs() []reconcile.Output {
	claim, pv := b.claims.Definition().GVK().GroupKind(), b.volumes.Definition().GVK().GroupKind()
	return []reconcile.Output{
		{Kind: claim, Field: "spec.volumeName"}, {Kind: claim, Field: "status.phase"},
		{Kind: pv, Field: "spec.claimRef"}, {Kind: pv, Field: "status"},
	}
}

func (b *binder) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	if key.Namespace == "" {
		v, ok := b.volumes.Get("", key.Name)
		if !ok {
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, b.volume(ctx, w, v)
	}
	c, ok := b.claims.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	if c.Annotations[volume.AnnBindCompleted] != "" {
		return reconcile.Result{}, b.boundClaim(ctx, w, c)
	}
	if c.DeletionTimestamp != nil {
		return reconcile.Result{}, nil // nobody waits for it any more
	}
	return reconcile.Result{}, b.unboundClaim(ctx, w, c)
}

// class is the StorageClass of a claim, nil when there is none.
func (b *binder) class(c *corev1.PersistentVolumeClaim) *storagev1.StorageClass {
	s, ok := b.classes.Get("", volume.GetPersistentVolumeClaimClass(c))
	if !ok {
		return nil
	}
	return s
}

// waits says that a class leaves binding to the scheduler, which knows the pod.
func waits(s *storagev1.StorageClass) bool {
	return s != nil && s.VolumeBindingMode != nil && *s.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// inTree says that a provisioner would be part of Kubernetes itself. None is.
func inTree(provisioner string) bool { return strings.HasPrefix(provisioner, "kubernetes.io/") }
