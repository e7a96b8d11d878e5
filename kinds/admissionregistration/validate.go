package admissionregistration

import (
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

// reviewVersions are those of AdmissionReview that webhooks can be sent.
var reviewVersions = []string{"v1", "v1beta1"}

// hook is what both sorts of webhook have in common.
type hook struct {
	name        string
	client      *admissionregistrationv1.WebhookClientConfig
	rules       []admissionregistrationv1.RuleWithOperations
	failure     *admissionregistrationv1.FailurePolicyType
	match       *admissionregistrationv1.MatchPolicyType
	sideEffects *admissionregistrationv1.SideEffectClass
	timeout     *int32
	versions    []string
	conditions  []admissionregistrationv1.MatchCondition
	namespaces  *metav1.LabelSelector
	objects     *metav1.LabelSelector
	again       *admissionregistrationv1.ReinvocationPolicyType // nil for those that validate
}

func validateHooks(hooks []hook, x *expressions) (errs field.ErrorList) {
	names := map[string]bool{}
	for i := range hooks {
		h, p := &hooks[i], field.NewPath("webhooks").Index(i)
		errs = append(errs, utilvalidation.IsFullyQualifiedName(p.Child("name").Upstream(), h.name)...)
		for j := range h.rules {
			errs = append(errs, validateRule(&h.rules[j], p.Child("rules").Index(j))...)
		}
		if h.failure != nil {
			errs = append(errs, check.OneOf(p.Child("failurePolicy"), *h.failure, admissionregistrationv1.Fail, admissionregistrationv1.Ignore)...)
		}
		if h.match != nil {
			errs = append(errs, check.OneOf(p.Child("matchPolicy"), *h.match, admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)...)
		}
		if h.sideEffects == nil {
			errs = append(errs, field.Required(p.Child("sideEffects"), fmt.Sprintf("must specify one of %v", "None, NoneOnDryRun")))
		} else {
			errs = append(errs, check.OneOf(p.Child("sideEffects"), *h.sideEffects, admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.SideEffectClassNoneOnDryRun)...)
		}
		if n := h.timeout; n != nil && (*n > 30 || *n < 1) {
			errs = append(errs, field.Invalid(p.Child("timeoutSeconds"), *n, "the timeout value must be between 1 and 30 seconds"))
		}
		errs = append(errs, metav1validation.ValidateLabelSelector(h.namespaces, metav1validation.LabelSelectorValidationOptions{}, p.Child("namespaceSelector").Upstream())...)
		errs = append(errs, metav1validation.ValidateLabelSelector(h.objects, metav1validation.LabelSelectorValidationOptions{}, p.Child("objectSelector").Upstream())...)
		if h.again != nil {
			errs = append(errs, check.OneOf(p.Child("reinvocationPolicy"), *h.again,
				admissionregistrationv1.NeverReinvocationPolicy, admissionregistrationv1.IfNeededReinvocationPolicy)...)
		}
		errs = append(errs, validateClient(h.client, p.Child("clientConfig"))...)
		errs = append(errs, validateConditions(h.conditions, p.Child("matchConditions"), x)...)
		errs = append(errs, validateVersions(h.versions, p.Child("admissionReviewVersions"))...)
		if names[h.name] {
			errs = append(errs, field.Duplicate(p.Child("name"), h.name))
		}
		names[h.name] = h.name != ""
	}
	return errs
}

func validateVersions(versions []string, p *field.Path) (errs field.ErrorList) {
	if len(versions) == 0 {
		return append(errs, field.Required(p, fmt.Sprintf("must specify one of %v", strings.Join(reviewVersions, ", "))))
	}
	known := false
	for i, v := range versions {
		if slices.Contains(versions[:i], v) {
			errs = append(errs, field.Invalid(p.Index(i), v, "duplicate version"))
			continue
		}
		errs = append(errs, check.Rule(p.Index(i), v, utilvalidation.IsDNS1035Label)...)
		known = known || slices.Contains(reviewVersions, v)
	}
	if !known {
		errs = append(errs, field.Invalid(p, versions, fmt.Sprintf("must include at least one of %v", strings.Join(reviewVersions, ", "))))
	}
	return errs
}

func validateClient(c *admissionregistrationv1.WebhookClientConfig, p *field.Path) (errs field.ErrorList) {
	switch {
	case (c.URL == nil) == (c.Service == nil):
		errs = append(errs, field.Required(p, "exactly one of url or service is required"))
	case c.URL != nil:
		errs = append(errs, check.WebhookURL(p.Child("url"), *c.URL)...)
	default:
		s := c.Service
		port := int32(443)
		if s.Port != nil {
			port = *s.Port
		}
		errs = append(errs, check.WebhookService(p.Child("service"), s.Namespace, s.Name, port, s.Path)...)
	}
	return errs
}

func validateRule(r *admissionregistrationv1.RuleWithOperations, p *field.Path) (errs field.ErrorList) {
	operations := p.Child("operations")
	if len(r.Operations) == 0 {
		errs = append(errs, field.Required(operations, ""))
	}
	if len(r.Operations) > 1 && slices.Contains(r.Operations, admissionregistrationv1.OperationAll) {
		errs = append(errs, field.Invalid(operations, r.Operations, "if '*' is present, must not specify other operations"))
	}
	for i, op := range r.Operations {
		errs = append(errs, check.OneOf(operations.Index(i), op, admissionregistrationv1.OperationAll, admissionregistrationv1.Create,
			admissionregistrationv1.Update, admissionregistrationv1.Delete, admissionregistrationv1.Connect)...)
	}
	list := func(name string, values []string, mayBeEmpty bool) {
		p := p.Child(name)
		if len(values) == 0 {
			errs = append(errs, field.Required(p, ""))
		}
		if len(values) > 1 && slices.Contains(values, "*") {
			errs = append(errs, field.Invalid(p, values, "if '*' is present, must not specify other "+map[string]string{"apiGroups": "API groups", "apiVersions": "API versions"}[name]))
		}
		for i, v := range values {
			if v == "" && !mayBeEmpty {
				errs = append(errs, field.Required(p.Index(i), ""))
			}
		}
	}
	list("apiGroups", r.APIGroups, true)
	list("apiVersions", r.APIVersions, false)
	errs = append(errs, validateResources(r.Resources, p.Child("resources"))...)
	if r.Scope != nil {
		errs = append(errs, check.OneOf(p.Child("scope"), *r.Scope,
			admissionregistrationv1.AllScopes, admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope)...)
	}
	return errs
}

func validateResources(resources []string, p *field.Path) (errs field.ErrorList) {
	if len(resources) == 0 {
		return append(errs, field.Required(p, ""))
	}
	// Upstream blames what comes after a wildcard, and lets the last resource without
	// a subresource stand for all of them.
	whole, everywhere := map[string]bool{}, map[string]bool{} // resource/*, */subresource
	named := false
	for i, s := range resources {
		if s == "" {
			errs = append(errs, field.Required(p.Index(i), ""))
			continue
		}
		name, sub, has := strings.Cut(s, "/")
		if !has {
			named = s != "*"
			continue
		}
		if whole[name] {
			errs = append(errs, field.Invalid(p.Index(i), s, fmt.Sprintf("if '%s/*' is present, must not specify %s", name, s)))
		}
		if everywhere[sub] {
			errs = append(errs, field.Invalid(p.Index(i), s, fmt.Sprintf("if '*/%s' is present, must not specify %s", sub, s)))
		}
		whole[name] = whole[name] || sub == "*"
		everywhere[sub] = everywhere[sub] || name == "*"
	}
	if len(resources) > 1 && slices.Contains(resources, "*/*") {
		errs = append(errs, field.Invalid(p, resources, "if '*/*' is present, must not specify other resources"))
	}
	if named && slices.Contains(resources, "*") {
		errs = append(errs, field.Invalid(p, resources, "if '*' is present, must not specify other resources without subresources"))
	}
	return errs
}

func validateValidatingWebhooks(c, old *admissionregistrationv1.ValidatingWebhookConfiguration) field.ErrorList {
	x := expressions{}
	if old != nil {
		for i := range old.Webhooks {
			x.storedConditions(old.Webhooks[i].MatchConditions)
		}
	}
	hooks := make([]hook, len(c.Webhooks))
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		hooks[i] = hook{w.Name, &w.ClientConfig, w.Rules, w.FailurePolicy, w.MatchPolicy, w.SideEffects, w.TimeoutSeconds, w.AdmissionReviewVersions, w.MatchConditions, w.NamespaceSelector, w.ObjectSelector, nil}
	}
	return validateHooks(hooks, &x)
}

func validateMutatingWebhooks(c, old *admissionregistrationv1.MutatingWebhookConfiguration) field.ErrorList {
	x := expressions{}
	if old != nil {
		for i := range old.Webhooks {
			x.storedConditions(old.Webhooks[i].MatchConditions)
		}
	}
	hooks := make([]hook, len(c.Webhooks))
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		hooks[i] = hook{w.Name, &w.ClientConfig, w.Rules, w.FailurePolicy, w.MatchPolicy, w.SideEffects, w.TimeoutSeconds, w.AdmissionReviewVersions, w.MatchConditions, w.NamespaceSelector, w.ObjectSelector, w.ReinvocationPolicy}
	}
	return validateHooks(hooks, &x)
}
