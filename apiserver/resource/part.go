package resource

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/certificates"
	"sagong/kinds/core"
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
	status := func(t Target) func(obj, old object.Object) field.ErrorList { return t.ValidateStatusUpdate }
	pod := func(rule func(p, old *corev1.Pod) field.ErrorList) func(Target) func(obj, old object.Object) field.ErrorList {
		return func(Target) func(obj, old object.Object) field.ErrorList {
			return func(obj, old object.Object) field.ErrorList { return rule(obj.(*corev1.Pod), old.(*corev1.Pod)) }
		}
	}
	return map[string]part{
		"status": {
			prepare: func(ctx context.Context, t Target, obj, old object.Object) {
				object.KeepAllButStatus(obj, old)
				if t.Definition.StatusKeepsMetadata {
					metav1.ResetObjectMetaForStatus(obj, old)
				}
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
				metav1.ResetObjectMetaForStatus(p, was)
			},
			rule: pod(core.ValidateEphemeralContainersUpdate),
		},
		"pods/resize": {
			prepare: func(_ context.Context, _ Target, obj, old object.Object) {
				prepareResize(obj.(*corev1.Pod), old.(*corev1.Pod))
			},
			rule: pod(core.ValidatePodResize),
		},
		"certificatesigningrequests/approval": {
			prepare: func(_ context.Context, _ Target, obj, old object.Object) {
				c, was := obj.(*certificatesv1.CertificateSigningRequest), old.(*certificatesv1.CertificateSigningRequest)
				conditions := c.Status.Conditions
				c.Spec = was.Spec
				c.Status = was.Status
				c.Status.Conditions = conditions
				certificates.StampConditions(c, was)
			},
			rule: func(Target) func(obj, old object.Object) field.ErrorList {
				return func(obj, old object.Object) field.ErrorList {
					return certificates.ValidateApproval(obj.(*certificatesv1.CertificateSigningRequest), old.(*certificatesv1.CertificateSigningRequest))
				}
			},
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
