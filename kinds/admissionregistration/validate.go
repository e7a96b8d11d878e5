package admissionregistration

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
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
}

func validateHooks(hooks []hook) (errs field.ErrorList) {
	names := map[string]bool{}
	for i := range hooks {
		h, p := &hooks[i], field.NewPath("webhooks").Index(i)
		errs = append(errs, utilvalidation.IsFullyQualifiedName(p.Child("name"), h.name)...)
		if names[h.name] {
			errs = append(errs, field.Duplicate(p.Child("name"), h.name))
		}
		names[h.name] = true
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
		errs = append(errs, validateVersions(h.versions, p.Child("admissionReviewVersions"))...)
		errs = append(errs, validateClient(h.client, p.Child("clientConfig"))...)
		errs = append(errs, validateConditions(h.conditions, p.Child("matchConditions"))...)
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
	if len(errs) == 0 && !known {
		errs = append(errs, field.Invalid(p, versions, fmt.Sprintf("must include at least one of %v", strings.Join(reviewVersions, ", "))))
	}
	return errs
}

func validateClient(c *admissionregistrationv1.WebhookClientConfig, p *field.Path) (errs field.ErrorList) {
	switch {
	case (c.URL == nil) == (c.Service == nil):
		errs = append(errs, field.Required(p, "exactly one of url or service is required"))
	case c.URL != nil:
		const form = "; desired format: https://host[/path]"
		p := p.Child("url")
		u, err := url.Parse(*c.URL)
		if err != nil {
			return append(errs, field.Required(p, "url must be a valid URL: "+err.Error()+form))
		}
		if u.Scheme != "https" {
			errs = append(errs, field.Invalid(p, u.Scheme, "'https' is the only allowed URL scheme"+form))
		}
		if u.Host == "" {
			errs = append(errs, field.Invalid(p, u.Host, "host must be specified"+form))
		}
		if u.User != nil {
			errs = append(errs, field.Invalid(p, u.User.String(), "user information is not permitted in the URL"))
		}
		if u.Fragment != "" {
			errs = append(errs, field.Invalid(p, u.Fragment, "fragments are not permitted in the URL"))
		}
		if u.RawQuery != "" {
			errs = append(errs, field.Invalid(p, u.RawQuery, "query parameters are not permitted in the URL"))
		}
	default:
		p := p.Child("service")
		errs = append(errs, check.Required(p.Child("name"), c.Service.Name, "service name is required")...)
		errs = append(errs, check.Required(p.Child("namespace"), c.Service.Namespace, "service namespace is required")...)
		if c.Service.Port != nil {
			for _, msg := range utilvalidation.IsValidPortNum(int(*c.Service.Port)) {
				errs = append(errs, field.Invalid(p.Child("port"), *c.Service.Port, "port is not valid: "+msg))
			}
		}
		if path := c.Service.Path; path != nil && *path != "" && *path != "/" {
			if !strings.HasPrefix(*path, "/") {
				errs = append(errs, field.Invalid(p.Child("path"), *path, "must start with a '/'"))
			}
			steps := strings.Split(strings.TrimPrefix(strings.TrimSuffix(*path, "/"), "/"), "/")
			for i, step := range steps {
				if step == "" {
					errs = append(errs, field.Invalid(p.Child("path"), *path, fmt.Sprintf("segment[%d] may not be empty", i)))
					continue
				}
				for _, msg := range utilvalidation.IsDNS1123Subdomain(step) {
					errs = append(errs, field.Invalid(p.Child("path"), *path, fmt.Sprintf("segment[%d]: %v", i, msg)))
				}
			}
		}
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
	for i, s := range resources {
		if s == "" {
			errs = append(errs, field.Required(p.Index(i), ""))
			continue
		}
		name, sub, _ := strings.Cut(s, "/")
		others := func(match func(name, sub string) bool) bool {
			return slices.ContainsFunc(resources, func(o string) bool {
				n, s2, has := strings.Cut(o, "/")
				return o != s && has == (sub != "") && match(n, s2)
			})
		}
		if name == "*" && sub != "" && sub != "*" && others(func(_, s2 string) bool { return s2 == sub }) {
			errs = append(errs, field.Invalid(p.Index(i), s, fmt.Sprintf("if '%s' is present, must not specify %s", s, "<resource>/"+sub)))
		}
		if name != "*" && sub == "*" && others(func(n, _ string) bool { return n == name }) {
			errs = append(errs, field.Invalid(p.Index(i), s, fmt.Sprintf("if '%s' is present, must not specify %s", s, name+"/<subresource>")))
		}
	}
	if len(resources) > 1 && slices.Contains(resources, "*/*") {
		errs = append(errs, field.Invalid(p, resources, "if '*/*' is present, must not specify other resources"))
	}
	if slices.Contains(resources, "*") && slices.ContainsFunc(resources, func(s string) bool { return s != "*" && !strings.Contains(s, "/") }) {
		errs = append(errs, field.Invalid(p, resources, "if '*' is present, must not specify other resources without subresources"))
	}
	return errs
}

// validateConditions checks all but the expressions themselves, which whoever
// evaluates them compiles.
func validateConditions(list []admissionregistrationv1.MatchCondition, p *field.Path) (errs field.ErrorList) {
	const most = 64
	if len(list) > most {
		errs = append(errs, field.TooMany(p, len(list), most))
	}
	names := map[string]bool{}
	for i, c := range list {
		p := p.Index(i)
		if strings.TrimSpace(c.Expression) == "" {
			errs = append(errs, field.Required(p.Child("expression"), ""))
		}
		errs = append(errs, check.RequiredName(p.Child("name"), c.Name, utilvalidation.IsQualifiedName)...)
		if names[c.Name] && c.Name != "" {
			errs = append(errs, field.Duplicate(p.Child("name"), c.Name))
		}
		names[c.Name] = true
	}
	return errs
}

func validateValidatingWebhooks(c *admissionregistrationv1.ValidatingWebhookConfiguration) field.ErrorList {
	hooks := make([]hook, len(c.Webhooks))
	var errs field.ErrorList
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		hooks[i] = hook{w.Name, &w.ClientConfig, w.Rules, w.FailurePolicy, w.MatchPolicy, w.SideEffects, w.TimeoutSeconds, w.AdmissionReviewVersions, w.MatchConditions}
		p := field.NewPath("webhooks").Index(i)
		errs = append(errs, metav1validation.ValidateLabelSelector(w.NamespaceSelector, metav1validation.LabelSelectorValidationOptions{}, p.Child("namespaceSelector"))...)
		errs = append(errs, metav1validation.ValidateLabelSelector(w.ObjectSelector, metav1validation.LabelSelectorValidationOptions{}, p.Child("objectSelector"))...)
	}
	return append(validateHooks(hooks), errs...)
}

func validateMutatingWebhooks(c *admissionregistrationv1.MutatingWebhookConfiguration) field.ErrorList {
	hooks := make([]hook, len(c.Webhooks))
	var errs field.ErrorList
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		hooks[i] = hook{w.Name, &w.ClientConfig, w.Rules, w.FailurePolicy, w.MatchPolicy, w.SideEffects, w.TimeoutSeconds, w.AdmissionReviewVersions, w.MatchConditions}
		p := field.NewPath("webhooks").Index(i)
		errs = append(errs, metav1validation.ValidateLabelSelector(w.NamespaceSelector, metav1validation.LabelSelectorValidationOptions{}, p.Child("namespaceSelector"))...)
		errs = append(errs, metav1validation.ValidateLabelSelector(w.ObjectSelector, metav1validation.LabelSelectorValidationOptions{}, p.Child("objectSelector"))...)
		if w.ReinvocationPolicy != nil {
			errs = append(errs, check.OneOf(p.Child("reinvocationPolicy"), *w.ReinvocationPolicy,
				admissionregistrationv1.NeverReinvocationPolicy, admissionregistrationv1.IfNeededReinvocationPolicy)...)
		}
	}
	return append(validateHooks(hooks), errs...)
}

func validateMatch(m *admissionregistrationv1.MatchResources, p *field.Path) (errs field.ErrorList) {
	if m.MatchPolicy != nil {
		errs = append(errs, check.OneOf(p.Child("matchPolicy"), *m.MatchPolicy, admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)...)
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(m.NamespaceSelector, metav1validation.LabelSelectorValidationOptions{}, p.Child("namespaceSelector"))...)
	errs = append(errs, metav1validation.ValidateLabelSelector(m.ObjectSelector, metav1validation.LabelSelectorValidationOptions{}, p.Child("objectSelector"))...)
	for _, l := range []struct {
		name  string
		rules []admissionregistrationv1.NamedRuleWithOperations
	}{{"resourceRules", m.ResourceRules}, {"excludeResourceRules", m.ExcludeResourceRules}} {
		for i := range l.rules {
			p := p.Child(l.name).Index(i)
			errs = append(errs, validateRule(&l.rules[i].RuleWithOperations, p)...)
			for j, name := range l.rules[i].ResourceNames {
				if slices.Contains(l.rules[i].ResourceNames[:j], name) {
					errs = append(errs, field.Duplicate(p.Child("resourceNames").Index(j), name))
				}
			}
		}
	}
	return errs
}

func validateParamKind(k *admissionregistrationv1.ParamKind, p *field.Path) (errs field.ErrorList) {
	if k == nil {
		return nil
	}
	if k.APIVersion == "" {
		errs = append(errs, field.Required(p.Child("apiVersion"), ""))
	} else if gv, err := schema.ParseGroupVersion(k.APIVersion); err != nil {
		errs = append(errs, field.Invalid(p.Child("apiVersion"), k.APIVersion, err.Error()))
	} else {
		if gv.Group != "" {
			errs = append(errs, check.Rule(p.Child("apiVersion"), gv.Group, utilvalidation.IsDNS1123Subdomain)...)
		}
		errs = append(errs, check.Rule(p.Child("apiVersion"), gv.Version, utilvalidation.IsDNS1035Label)...)
	}
	if k.Kind == "" {
		return append(errs, field.Required(p.Child("kind"), ""))
	}
	return append(errs, check.Rule(p.Child("kind"), strings.ToLower(k.Kind), utilvalidation.IsDNS1035Label)...)
}

func validateParamRef(r *admissionregistrationv1.ParamRef, p *field.Path) (errs field.ErrorList) {
	if r == nil {
		return nil
	}
	if r.Name != "" {
		errs = append(errs, check.Name(p.Child("name"), r.Name, validation.NameIsDNSSubdomain)...)
		if r.Selector != nil {
			errs = append(errs, field.Forbidden(p.Child("name"), "name and selector are mutually exclusive"))
		}
	} else if r.Selector == nil {
		errs = append(errs, field.Required(p, "one of name or selector must be specified"))
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(r.Selector, metav1validation.LabelSelectorValidationOptions{}, p.Child("selector"))...)
	if r.ParameterNotFoundAction == nil {
		return append(errs, field.Required(p.Child("parameterNotFoundAction"), ""))
	}
	return append(errs, check.OneOf(p.Child("parameterNotFoundAction"), *r.ParameterNotFoundAction, admissionregistrationv1.AllowAction, admissionregistrationv1.DenyAction)...)
}

func validateVariables(list []admissionregistrationv1.Variable, p *field.Path) (errs field.ErrorList) {
	for i, v := range list {
		errs = append(errs, check.Required(p.Index(i).Child("name"), v.Name, "name is not specified")...)
		if strings.TrimSpace(v.Expression) == "" {
			errs = append(errs, field.Required(p.Index(i).Child("expression"), "expression is not specified"))
		}
	}
	return errs
}

func validateValidatingPolicy(policy *admissionregistrationv1.ValidatingAdmissionPolicy) (errs field.ErrorList) {
	s, p := &policy.Spec, field.NewPath("spec")
	if s.FailurePolicy == nil {
		errs = append(errs, field.Required(p.Child("failurePolicy"), ""))
	} else {
		errs = append(errs, check.OneOf(p.Child("failurePolicy"), *s.FailurePolicy, admissionregistrationv1.Fail, admissionregistrationv1.Ignore)...)
	}
	errs = append(errs, validateParamKind(s.ParamKind, p.Child("paramKind"))...)
	errs = append(errs, validateConstraints(s.MatchConstraints, p.Child("matchConstraints"))...)
	errs = append(errs, validateConditions(s.MatchConditions, p.Child("matchConditions"))...)
	errs = append(errs, validateVariables(s.Variables, p.Child("variables"))...)
	if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
		errs = append(errs, field.Required(p.Child("validations"), "validations or auditAnnotations must contain at least one item"),
			field.Required(p.Child("auditAnnotations"), "validations or auditAnnotations must contain at least one item"))
	}
	for i, v := range s.Validations {
		p := p.Child("validations").Index(i)
		if strings.TrimSpace(v.Expression) == "" {
			errs = append(errs, field.Required(p.Child("expression"), "expression is not specified"))
		}
		message := strings.TrimSpace(v.Message)
		if v.Message != "" && message == "" {
			errs = append(errs, field.Invalid(p.Child("message"), v.Message, "message must be non-empty if specified"))
		}
		if strings.Contains(message, "\n") {
			errs = append(errs, field.Invalid(p.Child("message"), v.Message, "message must not contain line breaks"))
		}
		if v.MessageExpression != "" && strings.TrimSpace(v.MessageExpression) == "" {
			errs = append(errs, field.Invalid(p.Child("messageExpression"), v.MessageExpression, "must be non-empty if specified"))
		}
	}
	keys := map[string]bool{}
	for i, a := range s.AuditAnnotations {
		p := p.Child("auditAnnotations").Index(i)
		errs = append(errs, check.Required(p.Child("key"), a.Key, "")...)
		if keys[a.Key] {
			errs = append(errs, field.Duplicate(p.Child("key"), a.Key))
		}
		keys[a.Key] = true
		if strings.TrimSpace(a.ValueExpression) == "" {
			errs = append(errs, field.Required(p.Child("valueExpression"), "valueExpression is not specified"))
		}
	}
	return errs
}

func validateConstraints(m *admissionregistrationv1.MatchResources, p *field.Path) (errs field.ErrorList) {
	if m == nil {
		return append(errs, field.Required(p, ""))
	}
	errs = append(errs, validateMatch(m, p)...)
	if len(m.ResourceRules) == 0 {
		errs = append(errs, field.Required(p.Child("resourceRules"), ""))
	}
	return errs
}

func validateMutatingPolicy(policy *admissionregistrationv1.MutatingAdmissionPolicy) (errs field.ErrorList) {
	s, p := &policy.Spec, field.NewPath("spec")
	if s.FailurePolicy == nil {
		errs = append(errs, field.Required(p.Child("failurePolicy"), ""))
	} else {
		errs = append(errs, check.OneOf(p.Child("failurePolicy"), *s.FailurePolicy, admissionregistrationv1.Fail, admissionregistrationv1.Ignore)...)
	}
	errs = append(errs, validateParamKind(s.ParamKind, p.Child("paramKind"))...)
	errs = append(errs, validateConstraints(s.MatchConstraints, p.Child("matchConstraints"))...)
	errs = append(errs, validateConditions(s.MatchConditions, p.Child("matchConditions"))...)
	errs = append(errs, validateVariables(s.Variables, p.Child("variables"))...)
	errs = append(errs, check.RequiredOneOf(p.Child("reinvocationPolicy"), s.ReinvocationPolicy,
		admissionregistrationv1.NeverReinvocationPolicy, admissionregistrationv1.IfNeededReinvocationPolicy)...)
	if len(s.Mutations) == 0 {
		errs = append(errs, field.Required(p.Child("mutations"), "mutations must contain at least one item"))
	}
	for i, m := range s.Mutations {
		p := p.Child("mutations").Index(i)
		switch m.PatchType {
		case admissionregistrationv1.PatchTypeApplyConfiguration:
			if m.ApplyConfiguration == nil {
				errs = append(errs, field.Required(p.Child("applyConfiguration"), "must be specified when patchType is ApplyConfiguration"))
			}
		case admissionregistrationv1.PatchTypeJSONPatch:
			if m.JSONPatch == nil {
				errs = append(errs, field.Required(p.Child("jsonPatch"), "must be specified when patchType is JSONPatch"))
			}
		default:
			errs = append(errs, check.RequiredOneOf(p.Child("patchType"), m.PatchType, admissionregistrationv1.PatchTypeApplyConfiguration, admissionregistrationv1.PatchTypeJSONPatch)...)
		}
	}
	return errs
}

func validatePolicyBinding(policy string, r *admissionregistrationv1.ParamRef, m *admissionregistrationv1.MatchResources) field.ErrorList {
	p := field.NewPath("spec")
	errs := check.RequiredName(p.Child("policyName"), policy, utilvalidation.IsDNS1123Subdomain)
	errs = append(errs, validateParamRef(r, p.Child("paramRef"))...)
	if m != nil {
		errs = append(errs, validateMatch(m, p.Child("matchResources"))...)
	}
	return errs
}

func validateValidatingBinding(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
	errs := validatePolicyBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources)
	p := field.NewPath("spec", "validationActions")
	if len(b.Spec.ValidationActions) == 0 {
		errs = append(errs, field.Required(p, ""))
	}
	for i, a := range b.Spec.ValidationActions {
		errs = append(errs, check.OneOf(p.Index(i), a, admissionregistrationv1.Audit, admissionregistrationv1.Deny, admissionregistrationv1.Warn)...)
		if slices.Contains(b.Spec.ValidationActions[:i], a) {
			errs = append(errs, field.Duplicate(p.Index(i), a))
		}
	}
	if slices.Contains(b.Spec.ValidationActions, admissionregistrationv1.Deny) && slices.Contains(b.Spec.ValidationActions, admissionregistrationv1.Warn) {
		errs = append(errs, field.Invalid(p, b.Spec.ValidationActions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"))
	}
	return errs
}

func validateMutatingBinding(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) field.ErrorList {
	return validatePolicyBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources)
}
