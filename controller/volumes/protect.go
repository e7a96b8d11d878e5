package volumes

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/ephemeral"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

const (
	claimFinalizer  = "kubernetes.io/pvc-protection"
	volumeFinalizer = "kubernetes.io/pv-protection"
	classFinalizer  = "kubernetes.io/vac-protection"
)

// protector keeps objects of one kind that are in use: each has a finalizer,
// which goes when the object is to be deleted and nobody uses it.
type protector[T object.Object] struct {
	name, finalizer string
	view            *reconcile.View[T]
	inputs          []reconcile.Input
	used            func(ctx context.Context, w client.Client, o T) (bool, error)
}

func (p *protector[T]) Name() string { return p.name }

func (p *protector[T]) Inputs() []reconcile.Input {
	return append([]reconcile.Input{reconcile.On(p.view, func(_, new T, enqueue func(object.Key)) {
		var none T
		if any(new) != any(none) && (new.GetDeletionTimestamp() != nil) == slices.Contains(new.GetFinalizers(), p.finalizer) {
			enqueue(object.KeyOf(new))
		}
	})}, p.inputs...)
}

func (p *protector[T]) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: p.view.Definition().GVK().GroupKind(), Field: "finalizer " + p.finalizer}}
}

func (p *protector[T]) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	o, ok := p.view.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	has := slices.Contains(o.GetFinalizers(), p.finalizer)
	finalizers := slices.Clone(o.GetFinalizers())
	switch {
	case o.GetDeletionTimestamp() == nil && !has:
		finalizers = append(finalizers, p.finalizer) // from before admission added it
	case o.GetDeletionTimestamp() != nil && has:
		used, err := p.used(ctx, w, o)
		if used || err != nil {
			return reconcile.Result{}, err
		}
		finalizers = slices.DeleteFunc(finalizers, func(f string) bool { return f == p.finalizer })
	default:
		return reconcile.Result{}, nil
	}
	next := o.DeepCopyObject().(T)
	next.SetFinalizers(finalizers)
	_, err := client.Update(ctx, w, next)
	return reconcile.Result{}, gone(err)
}

// NewClaimProtection returns the controller that keeps claims that pods use.
func NewClaimProtection(h *reconcile.Hub) reconcile.Controller {
	pods := podView(h)
	return &protector[*corev1.PersistentVolumeClaim]{
		name: "pvc-protection", finalizer: claimFinalizer, view: claimView(h),
		inputs: []reconcile.Input{reconcile.On(pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			p := new
			switch {
			case new == nil:
				p = old
			case !finished(new) && new.Spec.NodeName != "" && !shutDown(new):
				return // it can only go on using what it uses
			}
			for i := range p.Spec.Volumes {
				if name := claimOf(p, &p.Spec.Volumes[i]); name != "" {
					enqueue(object.Key{Namespace: p.Namespace, Name: name})
				}
			}
		})},
		used: func(ctx context.Context, w client.Client, c *corev1.PersistentVolumeClaim) (bool, error) {
			if slices.ContainsFunc(pods.By(byClaim, object.KeyOf(c).String()), func(p *corev1.Pod) bool { return podUses(p, c) }) {
				return true, nil
			}
			// A pod that the view has not heard of yet may use it.
			all, _, err := client.ListOf[*corev1.Pod](ctx, w, c.Namespace, client.ListOptions{})
			return slices.ContainsFunc(all, func(p *corev1.Pod) bool { return podUses(p, c) }), err
		},
	}
}

// podUses says whether a pod's node may have a claim's volume mounted. One that
// is not bound to a node has not, and will not start with a claim that goes.
func podUses(p *corev1.Pod, c *corev1.PersistentVolumeClaim) bool {
	if p.Spec.NodeName == "" {
		return false
	}
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		if s := v.PersistentVolumeClaim; s != nil {
			return s.ClaimName == c.Name
		}
		return v.Ephemeral != nil && !shutDown(p) && claimOf(p, &v) == c.Name && ephemeral.VolumeIsForPod(p, c) == nil
	})
}

// shutDown says that the node is done with a pod, or that it was deleted by force.
func shutDown(p *corev1.Pod) bool {
	return p.DeletionTimestamp != nil && p.DeletionGracePeriodSeconds != nil && *p.DeletionGracePeriodSeconds == 0
}

func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// NewVolumeProtection returns the controller that keeps volumes that are bound.
func NewVolumeProtection(h *reconcile.Hub) reconcile.Controller {
	return &protector[*corev1.PersistentVolume]{
		name: "pv-protection", finalizer: volumeFinalizer, view: volumeView(h),
		used: func(_ context.Context, _ client.Client, v *corev1.PersistentVolume) (bool, error) {
			return v.Status.Phase == corev1.VolumeBound, nil
		},
	}
}

// NewAttributesClassProtection returns the controller that keeps classes of
// volume attributes that claims or volumes name.
func NewAttributesClassProtection(h *reconcile.Hub) reconcile.Controller {
	const byAttributes = "volumes.attributes"
	claims, volumes := claimView(h), volumeView(h)
	classes := reconcile.ViewOf[*storagev1.VolumeAttributesClass](h)
	names := func(all ...*string) (out []string) {
		for _, n := range all {
			if n != nil && *n != "" && !slices.Contains(out, *n) {
				out = append(out, *n)
			}
		}
		return out
	}
	ofClaim := func(c *corev1.PersistentVolumeClaim) []string {
		all := []*string{c.Spec.VolumeAttributesClassName, c.Status.CurrentVolumeAttributesClassName}
		if m := c.Status.ModifyVolumeStatus; m != nil {
			all = append(all, &m.TargetVolumeAttributesClassName)
		}
		return names(all...)
	}
	ofVolume := func(v *corev1.PersistentVolume) []string { return names(v.Spec.VolumeAttributesClassName) }
	claims.Index(byAttributes, ofClaim)
	volumes.Index(byAttributes, ofVolume)
	return &protector[*storagev1.VolumeAttributesClass]{
		name: "vac-protection", finalizer: classFinalizer, view: classes,
		inputs: []reconcile.Input{
			reconcile.On(claims, func(old, _ *corev1.PersistentVolumeClaim, enqueue func(object.Key)) {
				if old != nil {
					for _, n := range ofClaim(old) {
						enqueue(object.Key{Name: n})
					}
				}
			}),
			reconcile.On(volumes, func(old, _ *corev1.PersistentVolume, enqueue func(object.Key)) {
				if old != nil {
					for _, n := range ofVolume(old) {
						enqueue(object.Key{Name: n})
					}
				}
			}),
		},
		used: func(ctx context.Context, w client.Client, c *storagev1.VolumeAttributesClass) (bool, error) {
			if len(claims.By(byAttributes, c.Name))+len(volumes.By(byAttributes, c.Name)) > 0 {
				return true, nil
			}
			// Those that the views have not heard of yet may name it.
			newClaims, _, err := client.ListOf[*corev1.PersistentVolumeClaim](ctx, w, "", client.ListOptions{})
			if err != nil || slices.ContainsFunc(newClaims, func(x *corev1.PersistentVolumeClaim) bool { return slices.Contains(ofClaim(x), c.Name) }) {
				return true, err
			}
			newVolumes, _, err := client.ListOf[*corev1.PersistentVolume](ctx, w, "", client.ListOptions{})
			return slices.ContainsFunc(newVolumes, func(x *corev1.PersistentVolume) bool { return slices.Contains(ofVolume(x), c.Name) }), err
		},
	}
}
