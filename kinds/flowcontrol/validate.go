package flowcontrol

import (
	"fmt"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap"
	"k8s.io/apiserver/pkg/util/shufflesharding"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

var specPath = field.NewPath("spec")

const (
	maxPrecedence = 10000
	maxQueues     = 10_000_000
)

func validateFlowSchema(f *flowcontrolv1.FlowSchema) (errs field.ErrorList) {
	s := &f.Spec
	p := specPath.Child("matchingPrecedence")
	switch {
	case s.MatchingPrecedence <= 0:
		errs = append(errs, field.Invalid(p, s.MatchingPrecedence, "must be a positive value"))
	case s.MatchingPrecedence > maxPrecedence:
		errs = append(errs, field.Invalid(p, s.MatchingPrecedence, fmt.Sprintf("must not be greater than %v", maxPrecedence)))
	case s.MatchingPrecedence == 1 && f.Name != flowcontrolv1.FlowSchemaNameExempt:
		errs = append(errs, field.Invalid(p, s.MatchingPrecedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	if d := s.DistinguisherMethod; d != nil && len(check.OneOf(specPath, d.Type, methods...)) > 0 {
		errs = append(errs, field.NotSupported(specPath.Child("distinguisherMethod", "type"), d, methods)) // upstream shows the whole
	}
	p = specPath.Child("priorityLevelConfiguration", "name")
	if name := s.PriorityLevelConfiguration.Name; name == "" {
		errs = append(errs, field.Required(p, "must reference a priority level"))
	} else {
		errs = append(errs, check.Name(p, name, validation.NameIsDNSSubdomain)...)
	}
	for i := range s.Rules {
		errs = append(errs, validateFlowRule(&s.Rules[i], specPath.Child("rules").Index(i))...)
	}
	for _, fixed := range bootstrap.MandatoryFlowSchemas {
		if fixed.Name == f.Name && !equality.Semantic.DeepEqual(f.Spec, fixed.Spec) {
			errs = append(errs, field.Invalid(specPath, f.Spec, fmt.Sprintf("spec of '%s' must equal the fixed value", f.Name)))
		}
	}
	return append(errs, validateFlowSchemaStatus(&f.Status)...)
}

var methods = []flowcontrolv1.FlowDistinguisherMethodType{flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType}

func validateFlowSchemaStatus(s *flowcontrolv1.FlowSchemaStatus) field.ErrorList {
	var types []string
	for _, c := range s.Conditions {
		types = append(types, string(c.Type))
	}
	return validateConditionTypes(types)
}

func validateLevelStatus(s *flowcontrolv1.PriorityLevelConfigurationStatus) field.ErrorList {
	var types []string
	for _, c := range s.Conditions {
		types = append(types, string(c.Type))
	}
	return validateConditionTypes(types)
}

func validateConditionTypes(types []string) (errs field.ErrorList) {
	for i, t := range types {
		p := field.NewPath("status", "conditions").Index(i).Child("type")
		if slices.Contains(types[:i], t) {
			errs = append(errs, field.Duplicate(p, t))
		}
		errs = append(errs, check.Required(p, t, "must not be empty")...)
	}
	return errs
}

func validateFlowRule(r *flowcontrolv1.PolicyRulesWithSubjects, p *field.Path) (errs field.ErrorList) {
	if len(r.Subjects) == 0 {
		errs = append(errs, field.Required(p.Child("subjects"), "subjects must contain at least one value"))
	}
	for i := range r.Subjects {
		errs = append(errs, validateFlowSubject(&r.Subjects[i], p.Child("subjects").Index(i))...)
	}
	if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
		errs = append(errs, field.Required(p, "at least one of resourceRules and nonResourceRules has to be non-empty"))
	}
	for i, rule := range r.ResourceRules {
		p := p.Child("resourceRules").Index(i)
		errs = append(errs, validateVerbs(rule.Verbs, p.Child("verbs"))...)
		errs = append(errs, validateList(rule.APIGroups, p.Child("apiGroups"), "resource rules must supply at least one api group", "api groups")...)
		errs = append(errs, validateList(rule.Resources, p.Child("resources"), "resource rules must supply at least one resource", "resources")...)
		errs = append(errs, validateNamespaces(rule.Namespaces, rule.ClusterScope, p.Child("namespaces"))...)
	}
	for i, rule := range r.NonResourceRules {
		p := p.Child("nonResourceRules").Index(i)
		errs = append(errs, validateVerbs(rule.Verbs, p.Child("verbs"))...)
		p = p.Child("nonResourceURLs")
		errs = append(errs, validateList(rule.NonResourceURLs, p, "nonResourceURLs must contain at least one value", "non-resource URLs")...)
		if slices.Contains(rule.NonResourceURLs, "*") {
			continue
		}
		for j, u := range rule.NonResourceURLs {
			if msg := checkURLPath(u); msg != "" {
				errs = append(errs, field.Invalid(p.Index(j), u, msg))
			}
		}
	}
	return errs
}

// validateFlowSubject checks who is meant, and that nobody of another kind is named.
func validateFlowSubject(s *flowcontrolv1.Subject, p *field.Path) (errs field.ErrorList) {
	user, group, account := p.Child("user"), p.Child("group"), p.Child("serviceAccount")
	switch s.Kind {
	case flowcontrolv1.SubjectKindServiceAccount:
		if a := s.ServiceAccount; a == nil {
			errs = append(errs, field.Required(account, "serviceAccount is required when subject kind is 'ServiceAccount'"))
		} else {
			errs = append(errs, validateAccount(a, account)...)
		}
	case flowcontrolv1.SubjectKindUser:
		if s.User == nil {
			errs = append(errs, field.Required(user, "user is required when subject kind is 'User'"))
		} else {
			errs = append(errs, check.Required(user.Child("name"), s.User.Name, "")...)
		}
	case flowcontrolv1.SubjectKindGroup:
		if s.Group == nil {
			errs = append(errs, field.Required(group, "group is required when subject kind is 'Group'"))
		} else {
			errs = append(errs, check.Required(group.Child("name"), s.Group.Name, "")...)
		}
	default:
		return field.ErrorList{field.NotSupported(p.Child("kind"), s.Kind, []flowcontrolv1.SubjectKind{
			flowcontrolv1.SubjectKindGroup, flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindUser})}
	}
	if s.ServiceAccount != nil && s.Kind != flowcontrolv1.SubjectKindServiceAccount {
		errs = append(errs, field.Forbidden(account, "serviceAccount is forbidden when subject kind is not 'ServiceAccount'"))
	}
	if s.User != nil && s.Kind != flowcontrolv1.SubjectKindUser {
		errs = append(errs, field.Forbidden(user, "user is forbidden when subject kind is not 'User'"))
	}
	if s.Group != nil && s.Kind != flowcontrolv1.SubjectKindGroup {
		errs = append(errs, field.Forbidden(group, "group is forbidden when subject kind is not 'Group'"))
	}
	return errs
}

func validateAccount(a *flowcontrolv1.ServiceAccountSubject, p *field.Path) (errs field.ErrorList) {
	switch a.Name {
	case "":
		errs = append(errs, field.Required(p.Child("name"), ""))
	case flowcontrolv1.NameAll:
	default:
		errs = append(errs, check.Name(p.Child("name"), a.Name, validation.ValidateServiceAccountName)...)
	}
	if a.Namespace == "" {
		return append(errs, field.Required(p.Child("namespace"), "must specify namespace for service account"))
	}
	return append(errs, check.Name(p.Child("namespace"), a.Namespace, validation.ValidateNamespaceName)...)
}

// verbs are those that requests have.
var verbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"}

func validateVerbs(list []string, p *field.Path) field.ErrorList {
	known := func(v string) bool { return slices.Contains(verbs, v) }
	if len(list) > 0 && !slices.Contains(list, "*") && slices.ContainsFunc(list, func(v string) bool { return !known(v) }) {
		return field.ErrorList{field.NotSupported(p, list, verbs)}
	}
	return validateList(list, p, "verbs must contain at least one value", "verbs")
}

func validateNamespaces(list []string, cluster bool, p *field.Path) (errs field.ErrorList) {
	switch {
	case len(list) == 0 && !cluster:
		return field.ErrorList{field.Required(p, "resource rules that are not cluster scoped must supply at least one namespace")}
	case slices.Contains(list, "*"):
		return validateList(list, p, "", "namespaces")
	}
	for i, ns := range list {
		for _, msg := range validation.ValidateNamespaceName(ns, false) {
			errs = append(errs, field.Invalid(p.Index(i), ns, "each member of this list must be '*' or a DNS-1123 label; "+msg))
		}
	}
	return errs
}

// checkURLPath returns what is wrong with the path of a URL.
func checkURLPath(path string) string {
	stars := strings.Count(path, "*")
	switch {
	case path == "":
		return "must not be empty"
	case path == "/":
	case !strings.HasPrefix(path, "/"):
		return "must start with slash"
	case strings.Contains(path, " "):
		return "must not contain white-space"
	case strings.Contains(path, "//"):
		return "must not contain double slash"
	case stars > 1 || stars == 1 && !strings.HasSuffix(path, "/*"):
		return "wildcard can only do suffix matching"
	}
	return ""
}

func validateList(values []string, p *field.Path, empty, what string) (errs field.ErrorList) {
	switch {
	case len(values) == 0:
		errs = append(errs, field.Required(p, empty))
	case len(values) > 1 && slices.Contains(values, "*"):
		errs = append(errs, field.Invalid(p, values, "if '*' is present, must not specify other "+what))
	}
	return errs
}

func validatePriorityLevel(l *flowcontrolv1.PriorityLevelConfiguration) (errs field.ErrorList) {
	s := &l.Spec
	if (l.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt) != (s.Type == flowcontrolv1.PriorityLevelEnablementExempt) {
		errs = append(errs, field.Invalid(specPath.Child("type"), s.Type, "must be 'Exempt' if and only if `name` is 'exempt'"))
	}
	switch s.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if s.Limited != nil {
			errs = append(errs, field.Forbidden(specPath.Child("limited"), "must be nil if the type is not Limited"))
		}
		if e := s.Exempt; e != nil {
			if n := e.NominalConcurrencyShares; n != nil && *n < 0 {
				errs = append(errs, field.Invalid(specPath.Child("exempt", "nominalConcurrencyShares"), *n, "must be a non-negative integer"))
			}
			errs = append(errs, validateLendable(e.LendablePercent, specPath.Child("exempt", "lendablePercent"))...)
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if s.Exempt != nil {
			errs = append(errs, field.Forbidden(specPath.Child("exempt"), "must be nil if the type is Limited"))
		}
		if s.Limited != nil {
			errs = append(errs, validateLimited(s.Limited, specPath.Child("limited"))...)
		}
	case "":
	default:
		errs = append(errs, field.NotSupported(specPath.Child("type"), s.Type, []flowcontrolv1.PriorityLevelEnablement{flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited}))
	}
	errs = append(errs, validateFixedLevel(l)...)
	errs = append(errs, validateLevelStatus(&l.Status)...)
	return append(errs, validateDeclaredLevel(s)...)
}

// validateFixedLevel checks the levels that every cluster has, of which only how much
// the exempt lends may change.
func validateFixedLevel(l *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	for _, fixed := range bootstrap.MandatoryPriorityLevelConfigurations {
		if fixed.Name != l.Name {
			continue
		}
		want, except := fixed.Spec.DeepCopy(), ""
		if l.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt {
			want.Exempt, except = l.Spec.Exempt, " except the 'spec.exempt' field"
		}
		if !equality.Semantic.DeepEqual(&l.Spec, want) {
			return field.ErrorList{field.Invalid(specPath, l.Spec, fmt.Sprintf("spec of '%s'%s must equal the fixed value", l.Name, except))}
		}
	}
	return nil
}

// validateDeclaredLevel checks what upstream declares beside the type, which comes
// last.
func validateDeclaredLevel(s *flowcontrolv1.PriorityLevelConfigurationSpec) field.ErrorList {
	errs := check.Required(specPath.Child("type"), string(s.Type), "")
	limited := specPath.Child("limited")
	if s.Limited == nil {
		if s.Type == flowcontrolv1.PriorityLevelEnablementLimited {
			errs = append(errs, field.Required(limited, ""))
		}
		return errs
	}
	r, p := &s.Limited.LimitResponse, limited.Child("limitResponse")
	errs = append(errs, check.Required(p.Child("type"), string(r.Type), "")...)
	if r.Type == flowcontrolv1.LimitResponseTypeQueue && r.Queuing == nil {
		errs = append(errs, field.Required(p.Child("queuing"), ""))
	}
	return errs
}

func validateLendable(n *int32, p *field.Path) field.ErrorList {
	if n != nil && (*n < 0 || *n > 100) {
		return field.ErrorList{field.Invalid(p, *n, "must be between 0 and 100, inclusive")}
	}
	return nil
}

func validateLimited(l *flowcontrolv1.LimitedPriorityLevelConfiguration, p *field.Path) (errs field.ErrorList) {
	if n := l.NominalConcurrencyShares; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(p.Child("nominalConcurrencyShares"), *n, "must be a non-negative integer"))
	}
	errs = append(errs, validateResponse(&l.LimitResponse, p.Child("limitResponse"))...)
	errs = append(errs, validateLendable(l.LendablePercent, p.Child("lendablePercent"))...)
	if n := l.BorrowingLimitPercent; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(p.Child("borrowingLimitPercent"), *n, "if specified, must be a non-negative integer"))
	}
	return errs
}

func validateResponse(r *flowcontrolv1.LimitResponse, p *field.Path) (errs field.ErrorList) {
	switch r.Type {
	case flowcontrolv1.LimitResponseTypeReject:
		if r.Queuing != nil {
			errs = append(errs, field.Forbidden(p.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited"))
		}
	case flowcontrolv1.LimitResponseTypeQueue:
		q, p := r.Queuing, p.Child("queuing")
		if q == nil {
			return nil // said by validateDeclaredLevel
		}
		if q.QueueLengthLimit <= 0 {
			errs = append(errs, field.Invalid(p.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive"))
		}
		if q.Queues <= 0 {
			errs = append(errs, field.Invalid(p.Child("queues"), q.Queues, "must be positive"))
		} else if q.Queues > maxQueues {
			errs = append(errs, field.Invalid(p.Child("queues"), q.Queues, fmt.Sprintf("must not be greater than %d", maxQueues)))
		}
		if q.HandSize <= 0 {
			errs = append(errs, field.Invalid(p.Child("handSize"), q.HandSize, "must be positive"))
		} else if q.HandSize > q.Queues {
			errs = append(errs, field.Invalid(p.Child("handSize"), q.HandSize, fmt.Sprintf("should not be greater than queues (%d)", q.Queues)))
		} else if bits := shufflesharding.RequiredEntropyBits(int(q.Queues), int(q.HandSize)); bits > shufflesharding.MaxHashBits {
			errs = append(errs, field.Invalid(p.Child("handSize"), q.HandSize,
				fmt.Sprintf("required entropy bits of deckSize %d and handSize %d should not be greater than %d", q.Queues, q.HandSize, shufflesharding.MaxHashBits)))
		}
	case "":
	default:
		errs = append(errs, field.NotSupported(p.Child("type"), r.Type, []flowcontrolv1.LimitResponseType{flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject}))
	}
	return errs
}
