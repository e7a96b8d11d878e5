package admissionregistration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/admission/plugin/cel"

	"sagong/kinds/check"
	"sagong/kinds/expression"
	"sagong/kinds/field"
)

func validateMatch(m *admissionregistrationv1.MatchResources, p *field.Path) (errs field.ErrorList) {
	if m.MatchPolicy != nil {
		errs = append(errs, check.OneOf(p.Child("matchPolicy"), *m.MatchPolicy, admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)...)
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(m.NamespaceSelector, metav1validation.LabelSelectorValidationOptions{}, p.Child("namespaceSelector").Upstream())...)
	errs = append(errs, metav1validation.ValidateLabelSelector(m.ObjectSelector, metav1validation.LabelSelectorValidationOptions{}, p.Child("objectSelector").Upstream())...)
	for _, l := range []struct {
		name  string
		rules []admissionregistrationv1.NamedRuleWithOperations
	}{{"resourceRules", m.ResourceRules}, {"excludeResourceRules", m.ExcludeResourceRules}} {
		for i := range l.rules {
			p := p.Child(l.name).Index(i)
			for j, name := range l.rules[i].ResourceNames {
				for _, msg := range path.ValidatePathSegmentName(name, false) {
					errs = append(errs, field.Invalid(p.Child("resourceNames").Index(j), name, msg))
				}
				if slices.Contains(l.rules[i].ResourceNames[:j], name) {
					errs = append(errs, field.Duplicate(p.Child("resourceNames").Index(j), name))
				}
			}
			errs = append(errs, validateRule(&l.rules[i].RuleWithOperations, p)...)
		}
	}
	return errs
}

func validateParamKind(k *admissionregistrationv1.ParamKind, p *field.Path) (errs field.ErrorList) {
	if k == nil {
		return nil
	}
	version := p.Child("apiVersion")
	gv, err := schema.ParseGroupVersion(k.APIVersion)
	switch {
	case k.APIVersion == "":
		errs = append(errs, field.Required(version, ""))
	case err != nil:
		errs = append(errs, field.Invalid(version, k.APIVersion, err.Error()))
	default:
		if msgs := utilvalidation.IsDNS1123Subdomain(gv.Group); gv.Group != "" && len(msgs) > 0 {
			errs = append(errs, field.Invalid(version, gv.Group, strings.Join(msgs, ",")))
		}
		if gv.Version == "" {
			errs = append(errs, field.Invalid(version, k.APIVersion, "version must be specified"))
		} else if msgs := utilvalidation.IsDNS1035Label(gv.Version); len(msgs) > 0 {
			errs = append(errs, field.Invalid(version, gv.Version, strings.Join(msgs, ",")))
		}
	}
	if k.Kind == "" {
		return append(errs, field.Required(p.Child("kind"), ""))
	}
	if msgs := utilvalidation.IsDNS1035Label(strings.ToLower(k.Kind)); len(msgs) > 0 {
		errs = append(errs, field.Invalid(p.Child("kind"), k.Kind, "may have mixed case, but should otherwise match: "+strings.Join(msgs, ",")))
	}
	return errs
}

func validateParamRef(r *admissionregistrationv1.ParamRef, p *field.Path) (errs field.ErrorList) {
	if r == nil {
		return nil
	}
	const exclusive = "name and selector are mutually exclusive"
	if r.Name != "" {
		for _, msg := range path.ValidatePathSegmentName(r.Name, false) {
			errs = append(errs, field.Invalid(p.Child("name"), r.Name, msg))
		}
		if r.Selector != nil {
			errs = append(errs, field.Forbidden(p.Child("name"), exclusive))
		}
	}
	if r.Selector != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(r.Selector, metav1validation.LabelSelectorValidationOptions{}, p.Child("selector").Upstream())...)
		if r.Name != "" {
			errs = append(errs, field.Forbidden(p.Child("selector"), exclusive))
		}
	}
	if r.Name == "" && r.Selector == nil {
		errs = append(errs, field.Required(p, "one of name or selector must be specified"))
	}
	if r.ParameterNotFoundAction == nil || *r.ParameterNotFoundAction == "" {
		return append(errs, field.Required(p.Child("parameterNotFoundAction"), ""))
	}
	if a := *r.ParameterNotFoundAction; a != admissionregistrationv1.DenyAction && a != admissionregistrationv1.AllowAction {
		// In upstream's order, which is not that of the names.
		errs = append(errs, field.NotSupported(p.Child("parameterNotFoundAction"), a, []admissionregistrationv1.ParameterNotFoundActionType{admissionregistrationv1.DenyAction, admissionregistrationv1.AllowAction}))
	}
	return errs
}

// identifier is a name in CEL.
var identifier = regexp.MustCompile("^[_a-zA-Z][_a-zA-Z0-9]*$")

var reserved = []string{
	"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
	"loop", "package", "namespace", "return", "var", "void", "while",
}

// validateVariables checks variables in order: each may use those before it.
func validateVariables(list []admissionregistrationv1.Variable, p *field.Path, x *expressions) (errs field.ErrorList) {
	for i := range list {
		v, p := &list[i], p.Index(i)
		if strings.TrimSpace(v.Name) == "" {
			errs = append(errs, field.Required(p.Child("name"), "name is not specified"))
		} else if !identifier.MatchString(v.Name) || slices.Contains(reserved, v.Name) {
			errs = append(errs, field.Invalid(p.Child("name"), v.Name, "name is not a valid CEL identifier"))
		}
		if strings.TrimSpace(v.Expression) == "" {
			errs = append(errs, field.Required(p.Child("expression"), "expression is not specified"))
			continue
		}
		errs = append(errs, x.variable((*expression.Variable)(v), p.Child("expression"))...)
	}
	return errs
}

const (
	maxAuditAnnotations      = 20
	maxAuditAnnotationLength = 5 << 10 // of an expression, in bytes
)

func validateValidatingPolicy(policy, old *admissionregistrationv1.ValidatingAdmissionPolicy) (errs field.ErrorList) {
	s, p := &policy.Spec, field.NewPath("spec")
	x := expressions{params: s.ParamKind != nil, composed: len(s.Variables) > 0}
	if old != nil {
		x.storedConditions(old.Spec.MatchConditions)
		x.storedVariables(old.Spec.Variables)
		for _, v := range old.Spec.Validations {
			x.storedBefore(v.Expression, v.MessageExpression)
		}
		for _, a := range old.Spec.AuditAnnotations {
			x.storedBefore(a.ValueExpression)
		}
	}
	errs = append(errs, validateFailurePolicy(s.FailurePolicy, p.Child("failurePolicy"))...)
	errs = append(errs, validateParamKind(s.ParamKind, p.Child("paramKind"))...)
	errs = append(errs, validateConstraints(s.MatchConstraints, p.Child("matchConstraints"))...)
	errs = append(errs, validateConditions(s.MatchConditions, p.Child("matchConditions"), &x)...)
	errs = append(errs, validateVariables(s.Variables, p.Child("variables"), &x)...)
	if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
		const text = "validations or auditAnnotations must contain at least one item"
		return append(errs, field.Required(p.Child("validations"), text), field.Required(p.Child("auditAnnotations"), text))
	}
	for i := range s.Validations {
		errs = append(errs, validateValidation(&s.Validations[i], p.Child("validations").Index(i), &x)...)
	}
	return append(errs, validateAuditAnnotations(policy.Name, s.AuditAnnotations, p.Child("auditAnnotations"), &x)...)
}

func validateFailurePolicy(f *admissionregistrationv1.FailurePolicyType, p *field.Path) field.ErrorList {
	if f == nil {
		return field.ErrorList{field.Required(p, "")}
	}
	return check.OneOf(p, *f, admissionregistrationv1.Fail, admissionregistrationv1.Ignore)
}

func validateValidation(v *admissionregistrationv1.Validation, p *field.Path, x *expressions) (errs field.ErrorList) {
	if strings.TrimSpace(v.Expression) == "" {
		errs = append(errs, field.Required(p.Child("expression"), "expression is not specified"))
	} else {
		errs = append(errs, x.check((*expression.Validation)(v), true, false, p.Child("expression"))...)
	}
	switch text := strings.TrimSpace(v.MessageExpression); {
	case text != "":
		errs = append(errs, x.check(expression.Message(v.MessageExpression), false, false, p.Child("messageExpression"))...)
	case v.MessageExpression != "":
		errs = append(errs, field.Invalid(p.Child("messageExpression"), v.MessageExpression, "must be non-empty if specified"))
	}
	message := strings.TrimSpace(v.Message)
	if v.Message != "" && message == "" {
		errs = append(errs, field.Invalid(p.Child("message"), v.Message, "message must be non-empty if specified"))
	} else if strings.ContainsAny(message, "\n\r") {
		errs = append(errs, field.Invalid(p.Child("message"), v.Message, "message must not contain line breaks"))
	}
	if v.Reason != nil {
		errs = append(errs, check.OneOf(p.Child("reason"), *v.Reason, metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge)...)
	}
	return errs
}

func validateAuditAnnotations(policy string, list []admissionregistrationv1.AuditAnnotation, p *field.Path, x *expressions) (errs field.ErrorList) {
	if len(list) > maxAuditAnnotations {
		errs = append(errs, field.Invalid(p, list, fmt.Sprintf("must not have more than %d auditAnnotations", maxAuditAnnotations)))
	}
	keys := map[string]bool{}
	for i := range list {
		a, p := list[i], p.Index(i)
		if policy == "" {
			errs = append(errs, field.Invalid(p.Child("key"), a.Key, "requires metadata.name be non-empty"))
		} else {
			errs = append(errs, check.Rule(p.Child("key"), policy+"/"+a.Key, utilvalidation.IsQualifiedName)...)
		}
		switch a.ValueExpression = strings.TrimSpace(a.ValueExpression); {
		case a.ValueExpression == "":
			errs = append(errs, field.Required(p.Child("valueExpression"), "valueExpression is not specified"))
		case len(a.ValueExpression) > maxAuditAnnotationLength:
			errs = append(errs, field.Required(p.Child("valueExpression"), fmt.Sprintf("must not exceed %d bytes in length", maxAuditAnnotationLength)))
		default:
			errs = append(errs, x.check((*expression.AuditAnnotation)(&a), true, false, p.Child("valueExpression"))...)
		}
		if keys[a.Key] {
			errs = append(errs, field.Duplicate(p.Child("key"), a.Key))
		}
		keys[a.Key] = true
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

func validateMutatingPolicy(policy, old *admissionregistrationv1.MutatingAdmissionPolicy) (errs field.ErrorList) {
	s, p := &policy.Spec, field.NewPath("spec")
	x := expressions{params: s.ParamKind != nil, composed: len(s.Variables) > 0}
	if old != nil {
		x.storedConditions(old.Spec.MatchConditions)
		x.storedVariables(old.Spec.Variables)
		for _, m := range old.Spec.Mutations {
			if m.ApplyConfiguration != nil {
				x.storedBefore(m.ApplyConfiguration.Expression)
			}
			if m.JSONPatch != nil {
				x.storedBefore(m.JSONPatch.Expression)
			}
		}
	}
	errs = append(errs, validateFailurePolicy(s.FailurePolicy, p.Child("failurePolicy"))...)
	errs = append(errs, validateParamKind(s.ParamKind, p.Child("paramKind"))...)
	errs = append(errs, validateConstraints(s.MatchConstraints, p.Child("matchConstraints"))...)
	errs = append(errs, validateMutable(s.MatchConstraints, p.Child("matchConstraints"))...)
	errs = append(errs, validateConditions(s.MatchConditions, p.Child("matchConditions"), &x)...)
	errs = append(errs, validateVariables(s.Variables, p.Child("variables"), &x)...)
	if len(s.Mutations) == 0 {
		errs = append(errs, field.Required(p.Child("mutations"), "mutations must contain at least one item"))
	}
	for i := range s.Mutations {
		errs = append(errs, validateMutation(&s.Mutations[i], p.Child("mutations").Index(i), &x)...)
	}
	return append(errs, check.RequiredOneOf(p.Child("reinvocationPolicy"), s.ReinvocationPolicy,
		admissionregistrationv1.NeverReinvocationPolicy, admissionregistrationv1.IfNeededReinvocationPolicy)...)
}

// validateMutable refuses deletions, which leave nothing to change.
func validateMutable(m *admissionregistrationv1.MatchResources, p *field.Path) (errs field.ErrorList) {
	if m == nil {
		return nil
	}
	for _, r := range m.ResourceRules {
		for _, op := range r.Operations {
			errs = append(errs, check.OneOf(p.Child("resourceRules", "operations"), op, admissionregistrationv1.OperationAll,
				admissionregistrationv1.Connect, admissionregistrationv1.Create, admissionregistrationv1.Update)...)
		}
	}
	return errs
}

func validateMutation(m *admissionregistrationv1.Mutation, p *field.Path, x *expressions) (errs field.ErrorList) {
	apply, patch := p.Child("applyConfiguration"), p.Child("jsonPatch")
	compiled := func(text string, a cel.ExpressionAccessor, p *field.Path) field.ErrorList {
		if text == "" {
			return field.ErrorList{field.Required(p, "")}
		}
		return x.check(a, true, true, p)
	}
	switch m.PatchType {
	case admissionregistrationv1.PatchTypeApplyConfiguration:
		if m.ApplyConfiguration == nil {
			errs = append(errs, field.Required(apply, "must be specified when patchType is ApplyConfiguration"))
		} else {
			text := strings.TrimSpace(m.ApplyConfiguration.Expression)
			errs = append(errs, compiled(text, &expression.ApplyConfiguration{Expression: text}, apply.Child("expression"))...)
		}
		if m.JSONPatch != nil {
			errs = append(errs, field.Invalid(patch, "{jsonPatch}", "must not be specified when patchType is ApplyConfiguration"))
		}
	case admissionregistrationv1.PatchTypeJSONPatch:
		if m.JSONPatch == nil {
			errs = append(errs, field.Required(patch, "must be specified when patchType is JSONPatch"))
		} else {
			text := strings.TrimSpace(m.JSONPatch.Expression)
			errs = append(errs, compiled(text, &expression.JSONPatch{Expression: text}, patch.Child("expression"))...)
		}
		if m.ApplyConfiguration != nil {
			errs = append(errs, field.Invalid(apply, "{applyConfiguration}", "must not be specified when patchType is JSONPatch"))
		}
	default:
		errs = append(errs, check.RequiredOneOf(p.Child("patchType"), m.PatchType, admissionregistrationv1.PatchTypeApplyConfiguration, admissionregistrationv1.PatchTypeJSONPatch)...)
	}
	return errs
}
