package resource

import (
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/object"
)

func semanticEqual(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

// prepareResize keeps everything of a pod but what pods/resize may change: the
// resources and resize policies of containers.
func prepareResize(p, was *corev1.Pod) {
	containers, inits := p.Spec.Containers, p.Spec.InitContainers
	p.Spec = *was.Spec.DeepCopy()
	p.Status = was.Status
	take := func(into, from []corev1.Container) {
		for i := range into {
			for _, f := range from {
				if f.Name == into[i].Name {
					into[i].Resources, into[i].ResizePolicy = f.Resources, f.ResizePolicy
				}
			}
		}
	}
	take(p.Spec.Containers, containers)
	take(p.Spec.InitContainers, inits)
	p.Labels, p.Annotations, p.OwnerReferences, p.Finalizers = was.Labels, was.Annotations, was.OwnerReferences, was.Finalizers
}

// validateResize refuses what a running pod cannot take: another QoS class, or
// resources other than cpu and memory.
func validateResize(obj, old object.Object) field.ErrorList {
	p, was := obj.(*corev1.Pod), old.(*corev1.Pod)
	path := field.NewPath("spec")
	var errs field.ErrorList
	check := func(path *field.Path, now, before []corev1.Container) {
		for i := range now {
			if i >= len(before) || semanticEqual(now[i].Resources, before[i].Resources) {
				continue
			}
			for _, pair := range []struct {
				name     string
				now, was corev1.ResourceList
			}{
				{"limits", now[i].Resources.Limits, before[i].Resources.Limits},
				{"requests", now[i].Resources.Requests, before[i].Resources.Requests},
			} {
				at := path.Index(i).Child("resources", pair.name)
				for r, q := range pair.now {
					if b, ok := pair.was[r]; (!ok || b.Cmp(q) != 0) && r != corev1.ResourceCPU && r != corev1.ResourceMemory {
						errs = append(errs, field.Forbidden(path, "only cpu and memory resources are mutable"))
					}
					if q.Sign() < 0 {
						errs = append(errs, field.Invalid(at.Key(string(r)), q.String(), "must be greater than or equal to 0"))
					}
				}
				for r := range pair.was {
					if _, ok := pair.now[r]; !ok {
						errs = append(errs, field.Forbidden(at, fmt.Sprintf("resource %s cannot be removed", r)))
					}
				}
			}
			for r, limit := range now[i].Resources.Limits {
				if q, ok := now[i].Resources.Requests[r]; ok && q.Cmp(limit) > 0 {
					errs = append(errs, field.Invalid(path.Index(i).Child("resources", "requests"), q.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", r, limit.String())))
				}
			}
		}
	}
	check(path.Child("containers"), p.Spec.Containers, was.Spec.Containers)
	check(path.Child("initContainers"), p.Spec.InitContainers, was.Spec.InitContainers)
	if now, before := qos(p), qos(was); now != before {
		errs = append(errs, field.Invalid(path, now, "Pod QOS Class may not change as a result of resizing"))
	}
	return errs
}

// qos computes a pod's quality of service class.
func qos(p *corev1.Pod) corev1.PodQOSClass {
	any, guaranteed := false, true
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for _, c := range list {
			for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				limit, request := c.Resources.Limits[r], c.Resources.Requests[r]
				if !limit.IsZero() || !request.IsZero() {
					any = true
				}
				if limit.IsZero() || !request.IsZero() && limit.Cmp(request) != 0 {
					guaranteed = false
				}
			}
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// stampApproval gives new and changed conditions of a signing request their
// times.
func stampApproval(now, before []certificatesv1.CertificateSigningRequestCondition) []certificatesv1.CertificateSigningRequestCondition {
	at := metav1.Now()
	for i := range now {
		c := &now[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = at
		}
		if c.LastTransitionTime.IsZero() {
			c.LastTransitionTime = at
			for _, b := range before {
				if b.Type == c.Type && b.Status == c.Status {
					c.LastTransitionTime = b.LastTransitionTime
				}
			}
		}
	}
	return now
}
