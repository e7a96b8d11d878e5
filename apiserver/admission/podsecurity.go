package admission

import (
	"context"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	psa "k8s.io/pod-security-admission/admission"
	psaconfig "k8s.io/pod-security-admission/admission/api"
	psaapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/metrics"
	"k8s.io/pod-security-admission/policy"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/reconcile"
)

// PodSecurity holds pods to the Pod Security Standard that their namespace's
// labels name: it refuses, notes for the audit, or warns. Upstream's own library
// judges.
type PodSecurity struct{ judge *psa.Admission }

// NewPodSecurity makes the rule. A nil configuration is upstream's default:
// privileged in the newest version, nobody exempt. recorder counts decisions.
func NewPodSecurity(c client.Client, h *reconcile.Hub, cfg *psaconfig.PodSecurityConfiguration, recorder metrics.Recorder) (PodSecurity, error) {
	if cfg == nil {
		cfg = &psaconfig.PodSecurityConfiguration{Defaults: psaconfig.PodSecurityDefaults{
			Enforce: "privileged", EnforceVersion: "latest", Audit: "privileged", AuditVersion: "latest", Warn: "privileged", WarnVersion: "latest",
		}}
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return PodSecurity{}, fmt.Errorf("cannot make the checks of pod security: %w", err)
	}
	pods := reconcile.ViewOf[*corev1.Pod](h)
	pods.Index("namespace", func(p *corev1.Pod) []string { return []string{p.Namespace} })
	judge := &psa.Admission{
		Configuration: cfg, Evaluator: evaluator, Metrics: recorder, PodSpecExtractor: psa.DefaultPodSpecExtractor{},
		NamespaceGetter: namespaceGetter{c}, PodLister: podLister{pods},
	}
	if err := errors.Join(judge.CompleteConfiguration(), judge.ValidateConfiguration()); err != nil {
		return PodSecurity{}, fmt.Errorf("cannot use the configuration of pod security: %w", err)
	}
	return PodSecurity{judge}, nil
}

type namespaceGetter struct{ c client.Client }

func (g namespaceGetter) GetNamespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	return client.Get[*corev1.Namespace](ctx, g.c, "", name)
}

type podLister struct{ pods *reconcile.View[*corev1.Pod] }

func (l podLister) ListPods(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	if err := l.pods.Need(ctx); err != nil {
		return nil, err
	}
	return l.pods.By("namespace", namespace), nil
}

// Name implements Plugin.
func (PodSecurity) Name() string { return "PodSecurity" }

// Validate implements Validator.
func (p PodSecurity) Validate(ctx context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create && a.Operation != resource.Update {
		return nil
	}
	gr := a.Definition.GR()
	namespaces := gr == schema.GroupResource{Resource: "namespaces"}
	if !namespaces && !p.judge.PodSpecExtractor.HasPodSpec(gr) {
		return nil
	}
	in := &psaapi.AttributesRecord{
		Name: a.Name, Namespace: a.Namespace, Kind: a.Definition.GVK(), Resource: a.Definition.GVR(), Subresource: a.Subresource,
		Operation: admissionv1.Operation(a.Operation), Object: a.Object,
	}
	if a.Old != nil {
		in.OldObject = a.Old
	}
	if a.User != nil {
		in.Username = a.User.GetName()
	}
	if namespaces {
		in.Namespace = a.Name // a namespace counts as being in itself
	}
	out := p.judge.Validate(ctx, in)
	for _, w := range out.Warnings {
		a.Warn(w)
	}
	for k, v := range out.AuditAnnotations {
		a.Annotate(psaapi.AuditAnnotationPrefix+k, v)
	}
	if out.Allowed {
		return nil
	}
	no := apierrors.NewForbidden(gr, a.Name, errors.New("Not allowed by PodSecurity"))
	if r := out.Result; r != nil {
		if r.Message != "" {
			no.ErrStatus.Message = r.Message
		}
		if r.Reason != "" {
			no.ErrStatus.Reason = r.Reason
		}
		if r.Details != nil {
			no.ErrStatus.Details = r.Details
		}
		if r.Code != 0 {
			no.ErrStatus.Code = r.Code
		}
	}
	return no
}
