package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/apiserver/resource"
)

// AlwaysPullImages has every image pulled anew, so that only pods whose
// credentials suffice get what lies on a node. It is off unless asked for.
type AlwaysPullImages struct{}

// Name implements Plugin.
func (AlwaysPullImages) Name() string { return "AlwaysPullImages" }

// Admit implements Mutator.
func (AlwaysPullImages) Admit(_ context.Context, a *resource.Attributes) error {
	p := withNewImages(a)
	if p == nil {
		return nil
	}
	for i := range p.Spec.InitContainers {
		p.Spec.InitContainers[i].ImagePullPolicy = corev1.PullAlways
	}
	for i := range p.Spec.Containers {
		p.Spec.Containers[i].ImagePullPolicy = corev1.PullAlways
	}
	for i := range p.Spec.EphemeralContainers {
		p.Spec.EphemeralContainers[i].ImagePullPolicy = corev1.PullAlways
	}
	for i := range p.Spec.Volumes {
		if image := p.Spec.Volumes[i].Image; image != nil {
			image.PullPolicy = corev1.PullAlways
		}
	}
	return nil
}

// Validate implements Validator: no later rule changed that.
func (AlwaysPullImages) Validate(_ context.Context, a *resource.Attributes) error {
	p := withNewImages(a)
	if p == nil {
		return nil
	}
	var errs []error
	judge := func(policy corev1.PullPolicy, path *field.Path) {
		if policy != corev1.PullAlways {
			errs = append(errs, refuse(a, field.NotSupported(path, policy, []string{string(corev1.PullAlways)})))
		}
	}
	spec := field.NewPath("spec")
	for i := range p.Spec.InitContainers {
		judge(p.Spec.InitContainers[i].ImagePullPolicy, spec.Child("initContainers").Index(i).Child("imagePullPolicy"))
	}
	for i := range p.Spec.Containers {
		judge(p.Spec.Containers[i].ImagePullPolicy, spec.Child("containers").Index(i).Child("imagePullPolicy"))
	}
	for i := range p.Spec.EphemeralContainers {
		judge(p.Spec.EphemeralContainers[i].ImagePullPolicy, spec.Child("ephemeralContainers").Index(i).Child("imagePullPolicy"))
	}
	for i := range p.Spec.Volumes {
		if image := p.Spec.Volumes[i].Image; image != nil {
			judge(image.PullPolicy, spec.Child("volumes").Index(i).Child("image", "pullPolicy"))
		}
	}
	return utilerrors.NewAggregate(errs)
}

// withNewImages is the pod of a write, nil when it brings no image that the pod
// did not have: the policies of one that runs cannot be changed.
func withNewImages(a *resource.Attributes) *corev1.Pod {
	p := onPodWrite(a)
	if p == nil || a.Old == nil {
		return p
	}
	if before, ok := a.Old.(*corev1.Pod); ok && images(before).IsSuperset(images(p)) {
		return nil
	}
	return p
}

func images(p *corev1.Pod) sets.Set[string] {
	all := sets.Set[string]{}
	for i := range p.Spec.InitContainers {
		all.Insert(p.Spec.InitContainers[i].Image)
	}
	for i := range p.Spec.Containers {
		all.Insert(p.Spec.Containers[i].Image)
	}
	for i := range p.Spec.EphemeralContainers {
		all.Insert(p.Spec.EphemeralContainers[i].Image)
	}
	for i := range p.Spec.Volumes {
		if image := p.Spec.Volumes[i].Image; image != nil {
			all.Insert(image.Reference)
		}
	}
	return all
}
