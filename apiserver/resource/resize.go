package resource

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// prepareResize keeps everything of a pod but what pods/resize may change: the
// resources of the pod and of its containers, and their resize policies. What
// has other containers is left for the validation to refuse.
func prepareResize(p, was *corev1.Pod) {
	containers, ok := resized(p.Spec.Containers, was.Spec.Containers)
	inits, too := resized(p.Spec.InitContainers, was.Spec.InitContainers)
	if ok && too {
		whole := p.Spec.Resources
		p.Spec = *was.Spec.DeepCopy()
		p.Spec.Resources, p.Spec.Containers, p.Spec.InitContainers = whole, containers, inits
	}
	p.Status = was.Status
	p.Labels, p.Annotations, p.OwnerReferences, p.Finalizers = was.Labels, was.Annotations, was.OwnerReferences, was.Finalizers
}

// resized are containers as they were, with the resources of others of the same
// names in the same order; false when those are not.
func resized(now, was []corev1.Container) ([]corev1.Container, bool) {
	if !slices.EqualFunc(now, was, func(a, b corev1.Container) bool { return a.Name == b.Name }) {
		return nil, false
	}
	out := slices.Clone(was)
	for i := range out {
		out[i].Resources, out[i].ResizePolicy = now[i].Resources, now[i].ResizePolicy
	}
	return out, true
}
