package resource

import (
	"context"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/object"
)

// part is a subresource through which one part of the object itself is written:
// the body is the whole object, and prepare puts all else back.
type part struct {
	prepare func(ctx context.Context, t Target, obj, old object.Object)
	// rule chooses the validation.
	rule func(t Target) func(obj, old object.Object) field.ErrorList
}

// parts are the subresources that are parts of an object: "status" of any kind,
// others by resource.
func parts() map[string]part {
	main := func(t Target) func(obj, old object.Object) field.ErrorList { return t.ValidateUpdate }
	status := func(t Target) func(obj, old object.Object) field.ErrorList { return t.ValidateStatusUpdate }
	return map[string]part{
		"status": {
			prepare: func(ctx context.Context, t Target, obj, old object.Object) {
				object.KeepAllButStatus(obj, old)
				if t.PrepareStatusUpdate != nil {
					t.PrepareStatusUpdate(ctx, obj, old)
				}
			},
			rule: status,
		},
		"namespaces/finalize": {
			prepare: func(_ context.Context, _ Target, obj, old object.Object) {
				object.KeepStatus(obj, old)
			},
			rule: func(Target) func(obj, old object.Object) field.ErrorList { return nil },
		},
		"pods/ephemeralcontainers": {
			prepare: func(_ context.Context, _ Target, obj, old object.Object) {
				p, was := obj.(*corev1.Pod), old.(*corev1.Pod)
				added := p.Spec.EphemeralContainers
				p.Spec = was.Spec
				p.Spec.EphemeralContainers = added
				p.Status = was.Status
			},
			rule: func(t Target) func(obj, old object.Object) field.ErrorList { return validateEphemeral },
		},
		"pods/resize": {
			prepare: func(_ context.Context, _ Target, obj, old object.Object) {
				prepareResize(obj.(*corev1.Pod), old.(*corev1.Pod))
			},
			rule: func(t Target) func(obj, old object.Object) field.ErrorList { return validateResize },
		},
		"certificatesigningrequests/approval": {
			prepare: func(_ context.Context, _ Target, obj, old object.Object) {
				c, was := obj.(*certificatesv1.CertificateSigningRequest), old.(*certificatesv1.CertificateSigningRequest)
				conditions := c.Status.Conditions
				c.Spec = was.Spec
				c.Status = was.Status
				c.Status.Conditions = stampApproval(conditions, was.Status.Conditions)
			},
			rule: main,
		},
	}
}

func (t Target) partName() string {
	if t.Subresource == "status" {
		if !t.Status {
			return ""
		}
		return "status"
	}
	return t.Resource + "/" + t.Subresource
}

// IsPart reports whether the target's subresource is read and written as the
// whole object.
func (e *Engine) IsPart(t Target) bool {
	_, ok := e.parts[t.partName()]
	return ok
}

// namespaceFinalizers are those of a Namespace's spec; none for other kinds.
func namespaceFinalizers(o object.Object) []corev1.FinalizerName {
	if ns, ok := o.(*corev1.Namespace); ok {
		return ns.Spec.Finalizers
	}
	return nil
}

// validateEphemeral lets ephemeral containers be added, and nothing else.
func validateEphemeral(obj, old object.Object) field.ErrorList {
	p, was := obj.(*corev1.Pod), old.(*corev1.Pod)
	path := field.NewPath("spec", "ephemeralContainers")
	var errs field.ErrorList
	taken := map[string]bool{}
	for _, c := range p.Spec.InitContainers {
		taken[c.Name] = true
	}
	for _, c := range p.Spec.Containers {
		taken[c.Name] = true
	}
	present := map[string]bool{}
	for i, c := range p.Spec.EphemeralContainers {
		at := path.Index(i)
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else if taken[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		taken[c.Name], present[c.Name] = true, true
		if c.Image == "" {
			errs = append(errs, field.Required(at.Child("image"), ""))
		}
		if c.TargetContainerName != "" && !slices.ContainsFunc(p.Spec.Containers, func(o corev1.Container) bool { return o.Name == c.TargetContainerName }) &&
			!slices.ContainsFunc(p.Spec.InitContainers, func(o corev1.Container) bool { return o.Name == c.TargetContainerName }) {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), c.TargetContainerName))
		}
		for name, bad := range map[string]bool{
			"ports": len(c.Ports) > 0, "livenessProbe": c.LivenessProbe != nil, "readinessProbe": c.ReadinessProbe != nil,
			"startupProbe": c.StartupProbe != nil, "lifecycle": c.Lifecycle != nil,
			"resources": len(c.Resources.Limits)+len(c.Resources.Requests) > 0,
		} {
			if bad {
				errs = append(errs, field.Forbidden(at.Child(name), "cannot be set for an Ephemeral Container"))
			}
		}
	}
	for i, c := range was.Spec.EphemeralContainers {
		if !present[c.Name] {
			errs = append(errs, field.Forbidden(path, "existing ephemeral containers \""+c.Name+"\" may not be removed\n"))
			continue
		}
		n := slices.IndexFunc(p.Spec.EphemeralContainers, func(o corev1.EphemeralContainer) bool { return o.Name == c.Name })
		if !semanticEqual(p.Spec.EphemeralContainers[n], was.Spec.EphemeralContainers[i]) {
			errs = append(errs, field.Forbidden(path, "existing ephemeral containers \""+c.Name+"\" may not be changed\n"))
		}
	}
	return errs
}
