package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

// ValidatePodResize checks a write to pods/resize, which may only change the
// cpu and memory of containers and of the pod.
func ValidatePodResize(p, old *corev1.Pod) field.ErrorList {
	errs := validatePod(p)
	if _, static := old.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "windows pods cannot be resized")}
	}
	was := old.Status.QOSClass
	if was == "" {
		was = podspec.QOS(&old.Spec)
	}
	if podspec.QOS(&p.Spec) != was {
		errs = append(errs, field.Invalid(specPath, p.Status.QOSClass, "Pod QOS Class may not change as a result of resizing"))
	}
	if !resizable(old) {
		errs = append(errs, field.Forbidden(specPath, "Pod running on node without support for resize"))
	}
	rest := p.Spec.DeepCopy()
	if hasResources(&old.Spec) || hasResources(&p.Spec) {
		errs = append(errs, resizedPod(rest, &p.Spec, &old.Spec)...)
	}
	if bad := sameContainers(p, old); len(bad) > 0 {
		return append(errs, bad...)
	}
	each := func(name string, now, was []corev1.Container) {
		for i := range was {
			path := specPath.Child(name).Index(i).Child("resources")
			if taken(now[i].Resources.Requests, was[i].Resources.Requests) {
				errs = append(errs, field.Forbidden(path.Child("requests"), "resource requests cannot be removed"))
			}
			if taken(now[i].Resources.Limits, was[i].Resources.Limits) {
				errs = append(errs, field.Forbidden(path.Child("limits"), "resource limits cannot be removed"))
			}
		}
	}
	each("initContainers", rest.InitContainers, old.Spec.InitContainers)
	each("containers", rest.Containers, old.Spec.Containers)
	for _, l := range [][2][]corev1.Container{{rest.Containers, old.Spec.Containers}, {rest.InitContainers, old.Spec.InitContainers}} {
		for i := range l[0] {
			now, was := &l[0][i].Resources, &l[1][i].Resources
			*now = corev1.ResourceRequirements{Limits: putBack(now.Limits, was.Limits), Requests: putBack(now.Requests, was.Requests)}
			if !equality.Semantic.DeepEqual(l[0][i], l[1][i]) {
				errs = append(errs, field.Forbidden(specPath, onlyResources))
			}
		}
	}
	if len(errs) == 0 && !equality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(specPath, onlyResources))
	}
	return errs
}

const onlyResources = "only cpu and memory resources are mutable"

// resizable says whether the pod's node can do it: it shows in what it says of
// containers that run.
func resizable(p *corev1.Pod) bool {
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Running != nil {
			return c.Resources != nil
		}
	}
	return true
}

func hasResources(s *corev1.PodSpec) bool {
	return s.Resources != nil && len(s.Resources.Requests)+len(s.Resources.Limits) > 0
}

// resizedPod checks the resources of the pod as a whole, and puts the old ones
// back into rest.
func resizedPod(rest, now, was *corev1.PodSpec) (errs field.ErrorList) {
	path := specPath.Child("resources")
	if was.Resources != nil {
		if now.Resources == nil {
			return field.ErrorList{field.Forbidden(path, "pod-level resources cannot be removed")}
		}
		if taken(now.Resources.Requests, was.Resources.Requests) {
			errs = append(errs, field.Forbidden(path.Child("requests"), "pod-level resource requests cannot be removed"))
		}
		if taken(now.Resources.Limits, was.Resources.Limits) {
			errs = append(errs, field.Forbidden(path.Child("limits"), "pod-level resource limits cannot be removed"))
		}
	}
	if r := rest.Resources; r != nil {
		old := was.Resources
		if old == nil {
			old = &corev1.ResourceRequirements{}
		}
		r.Requests, r.Limits = putBack(r.Requests, old.Requests), putBack(r.Limits, old.Limits)
		if was.Resources == nil && len(r.Requests)+len(r.Limits)+len(r.Claims) == 0 {
			rest.Resources = nil
		}
	}
	if !equality.Semantic.DeepEqual(rest.Resources, was.Resources) {
		errs = append(errs, field.Forbidden(specPath, onlyResources+" at pod-level"))
	}
	return errs
}

func sameContainers(p, old *corev1.Pod) (errs field.ErrorList) {
	for _, l := range []struct {
		name     string
		now, was []corev1.Container
	}{{"containers", p.Spec.Containers, old.Spec.Containers}, {"initContainers", p.Spec.InitContainers, old.Spec.InitContainers}} {
		path := specPath.Child(l.name)
		if len(l.now) != len(l.was) {
			errs = append(errs, field.Forbidden(path, l.name+" may not be added or removed on resize"))
			continue
		}
		for i := range l.was {
			if l.now[i].Name != l.was[i].Name {
				errs = append(errs, field.Forbidden(path.Index(i).Child("name"), l.name+" may not be renamed or reordered on resize"))
			}
		}
	}
	return errs
}

// taken says whether a resource is missing that was there.
func taken(now, was corev1.ResourceList) bool {
	for name := range was {
		if _, ok := now[name]; !ok {
			return true
		}
	}
	return false
}

// putBack gives a list the old cpu and memory.
func putBack(now, was corev1.ResourceList) corev1.ResourceList {
	if now == nil {
		if was == nil {
			return nil
		}
		now = corev1.ResourceList{}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		delete(now, name)
		if q, ok := was[name]; ok {
			now[name] = q
		}
	}
	return now
}
