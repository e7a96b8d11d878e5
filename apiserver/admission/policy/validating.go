package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/admission/match"
	"sagong/apiserver/resource"
	"sagong/reconcile"
)

// Validating judges writes by ValidatingAdmissionPolicies.
type Validating struct {
	Options
	rules    rules[*checks]
	policies *reconcile.View[*admissionregistrationv1.ValidatingAdmissionPolicy]
	bindings *reconcile.View[*admissionregistrationv1.ValidatingAdmissionPolicyBinding]
}

// NewValidating follows the policies in the hub.
func NewValidating(hub *reconcile.Hub, o Options) *Validating {
	v := &Validating{
		Options: o, policies: reconcile.ViewOf[*admissionregistrationv1.ValidatingAdmissionPolicy](hub),
		bindings: reconcile.ViewOf[*admissionregistrationv1.ValidatingAdmissionPolicyBinding](hub),
	}
	v.rules.scheme = o.Client.Scheme()
	v.policies.OnChange(func(old, now *admissionregistrationv1.ValidatingAdmissionPolicy) {
		if now == nil {
			v.rules.setPolicy(old.Name, nil)
			return
		}
		if old != nil && old.Generation == now.Generation && old.UID == now.UID {
			return // the status alone
		}
		v.rules.setPolicy(now.Name, &rule[*checks]{
			name: now.Name, constraints: newCriteria(now.Spec.MatchConstraints), params: newParamKind(now.Spec.ParamKind), ignore: match.Ignores(now.Spec.FailurePolicy),
			evaluator: sync.OnceValues(func() (*checks, error) { return compileChecks(now.Name, &now.Spec, o.Conditions) }),
		})
	})
	v.bindings.OnChange(func(old, now *admissionregistrationv1.ValidatingAdmissionPolicyBinding) {
		if now == nil {
			v.rules.setBinding(old.Name, "", nil)
			return
		}
		v.rules.setBinding(now.Name, now.Spec.PolicyName, &binding{
			name: now.Name, params: now.Spec.ParamRef, match: newCriteria(now.Spec.MatchResources), actions: now.Spec.ValidationActions,
		})
	})
	return v
}

// Name implements admission.Plugin.
func (v *Validating) Name() string { return "ValidatingAdmissionPolicy" }

// Synced waits until all policies are known.
func (v *Validating) Synced(ctx context.Context) error {
	return errors.Join(v.policies.Need(ctx), v.bindings.Need(ctx))
}

// verdict collects what the policies say about one write.
type verdict struct {
	*match.Request
	denied   *apierrors.StatusError
	failures []validationFailure
	versions map[match.Target]*admission.VersionedAttributes
	ns       *corev1.Namespace
	authz    authorizer.UnconditionalAuthorizer
}

// validationFailure is an item of the audit annotation of failed validations.
type validationFailure struct {
	Message           string                                     `json:"message"`
	Policy            string                                     `json:"policy"`
	Binding           string                                     `json:"binding"`
	ExpressionIndex   int                                        `json:"expressionIndex"`
	ValidationActions []admissionregistrationv1.ValidationAction `json:"validationActions"`
}

const (
	maxValidationFailures = 50       // in one annotation
	maxAnnotation         = 10 << 10 // bytes of one value
)

// Validate implements admission.Validator.
func (v *Validating) Validate(ctx context.Context, a *resource.Attributes) error {
	all := v.rules.now.Load()
	if all == nil {
		return nil
	}
	r, ok := match.New(v.Client.Scheme(), a, match.Policies)
	if !ok {
		return nil
	}
	w := &verdict{Request: r, versions: map[match.Target]*admission.VersionedAttributes{}, authz: v.asked()}
	for _, p := range *all {
		if err := v.judge(ctx, p, w); err != nil {
			return err
		}
	}
	if n := len(w.failures); n > 0 {
		text, err := json.Marshal(w.failures[:min(n, maxValidationFailures)])
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		a.Annotate("validation.policy.admission.k8s.io/validation_failure", string(text))
	}
	if w.denied != nil {
		return w.denied
	}
	return nil
}

// judge asks one policy, once for each binding and param.
func (v *Validating) judge(ctx context.Context, p *rule[*checks], w *verdict) error {
	t, ok, err := p.constraints.match(ctx, v.Client, w.Request)
	if err != nil {
		w.misconfigured(p, nil, err)
		return nil
	}
	if !ok {
		return nil
	}
	if p.params != nil {
		if _, _, err := p.params.find(v.Client.Scheme()); err != nil {
			w.misconfigured(p, nil, err)
			return nil
		}
	}
	notes := map[string][]string{}
	for _, b := range p.bindings {
		_, ok, err := b.match.match(ctx, v.Client, w.Request)
		if err != nil {
			w.misconfigured(p, b, err)
			continue
		}
		if !ok {
			continue
		}
		list, err := params(ctx, v.Client, p.params, b.params, w.Namespace, true)
		if err != nil {
			w.misconfigured(p, b, err)
			continue
		}
		if len(list) == 0 {
			continue
		}
		c, err := p.evaluator()
		if err != nil {
			w.misconfigured(p, b, err)
			continue
		}
		write, err := w.in(t)
		if err != nil {
			w.misconfigured(p, b, fmt.Errorf("failed to convert object version: %w", err))
			continue
		}
		ns, err := w.namespace(ctx, v.Options)
		if err != nil {
			return err
		}
		for _, param := range list {
			e := &evaluation{checks: c, ignore: p.ignore, target: t, write: write, param: param, namespace: ns, authz: w.authz}
			decisions, said := e.run(ctx)
			v.enforce(p, b, w, decisions)
			v.annotate(p, b, w, said, notes)
		}
	}
	for key, values := range notes {
		w.Annotate(p.name+"/"+key, strings.Join(values, ", "))
	}
	return nil
}

// enforce does what a binding wants done about decisions.
func (v *Validating) enforce(p *rule[*checks], b *binding, w *verdict, decisions []decision) {
	for _, d := range decisions {
		if !d.deny {
			if d.failed {
				v.Metrics.validating(p.name, b.name, errorType(d), "allow", d.took)
			}
			continue
		}
		for _, action := range b.actions {
			switch action {
			case admissionregistrationv1.Deny:
				w.deny(p, b, d.message, d.reason)
				v.Metrics.validating(p.name, b.name, errorType(d), "deny", d.took)
			case admissionregistrationv1.Audit:
				w.failures = append(w.failures, validationFailure{d.message, p.name, b.name, d.index, b.actions})
				v.Metrics.validating(p.name, b.name, errorType(d), "audit", d.took)
			case admissionregistrationv1.Warn:
				w.Warn(fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", p.name, b.name, d.message))
				v.Metrics.validating(p.name, b.name, errorType(d), "warn", d.took)
			}
		}
	}
}

func (v *Validating) annotate(p *rule[*checks], b *binding, w *verdict, said []note, notes map[string][]string) {
	for _, n := range said {
		switch {
		case n.err != "":
			w.deny(p, b, n.err, "")
			v.Metrics.validating(p.name, b.name, errorType(decision{deny: true, failed: true, message: n.err}), "deny", n.took)
		case n.value != "":
			value := n.value[:min(len(n.value), maxAnnotation)]
			if !slices.Contains(notes[n.key], value) {
				notes[n.key] = append(notes[n.key], value)
			}
		}
	}
}

// in is the write in a version, made once.
func (w *verdict) in(t match.Target) (*admission.VersionedAttributes, error) {
	if v := w.versions[t]; v != nil {
		return v, nil
	}
	v, err := w.Versioned(t)
	if err == nil {
		w.versions[t] = v
	}
	return v, err
}

// namespace is that of the write; nil for what is cluster-wide.
func (w *verdict) namespace(ctx context.Context, o Options) (_ *corev1.Namespace, err error) {
	if w.ns == nil {
		w.ns, err = namespaceOf(ctx, o, w.Request)
	}
	return w.ns, err
}

func namespaceOf(ctx context.Context, o Options, r *match.Request) (*corev1.Namespace, error) {
	if r.Attributes.Namespace == "" || r.Resource.Group == "" && r.Resource.Resource == "namespaces" {
		return nil, nil
	}
	return match.Namespace(ctx, o.Client, r.Attributes.Namespace)
}

// misconfigured denies a write by a policy that cannot be put to use, unless it
// is to be ignored then.
func (w *verdict) misconfigured(p *rule[*checks], b *binding, err error) {
	if !p.ignore {
		w.deny(p, b, configuration(b, err).Error(), "")
	}
}

// deny keeps the first denial, which is what the client is told.
func (w *verdict) deny(p *rule[*checks], b *binding, text string, reason metav1.StatusReason) {
	if w.denied != nil {
		return
	}
	by := ""
	if b != nil {
		by = fmt.Sprintf(" with binding '%s'", b.name)
	}
	text = fmt.Sprintf("ValidatingAdmissionPolicy '%s'%s denied request: %s", p.name, by, text)
	if reason == "" {
		reason = metav1.StatusReasonInvalid
	}
	w.denied = apierrors.NewForbidden(w.Resource.GroupResource(), w.ObjectName(), errors.New(text))
	s := &w.denied.ErrStatus
	s.Reason, s.Code = reason, codeOf(reason)
	s.Details.Causes = append(s.Details.Causes, metav1.StatusCause{Message: text})
}

func codeOf(r metav1.StatusReason) int32 {
	switch r {
	case metav1.StatusReasonForbidden:
		return http.StatusForbidden
	case metav1.StatusReasonRequestEntityTooLarge:
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusUnprocessableEntity
}
