package flowcontrol

import (
	"fmt"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
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
	if d := s.DistinguisherMethod; d != nil {
		errs = append(errs, check.OneOf(specPath.Child("distinguisherMethod", "type"), d.Type,
			flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType)...)
	}
	errs = append(errs, check.RequiredName(specPath.Child("priorityLevelConfiguration", "name"), s.PriorityLevelConfiguration.Name, utilvalidation.IsDNS1123Subdomain)...)
	for i, r := range s.Rules {
		errs = append(errs, validateFlowRule(&r, specPath.Child("rules").Index(i))...)
	}
	return errs
}

func validateFlowRule(r *flowcontrolv1.PolicyRulesWithSubjects, p *field.Path) (errs field.ErrorList) {
	if len(r.Subjects) == 0 {
		errs = append(errs, field.Required(p.Child("subjects"), "subjects must contain at least one value"))
	}
	for i, s := range r.Subjects {
		p := p.Child("subjects").Index(i)
		switch s.Kind {
		case flowcontrolv1.SubjectKindUser:
			if s.User == nil {
				errs = append(errs, field.Required(p.Child("user"), "user is required when subject kind is 'User'"))
			} else {
				errs = append(errs, check.Required(p.Child("user", "name"), s.User.Name, "")...)
			}
		case flowcontrolv1.SubjectKindGroup:
			if s.Group == nil {
				errs = append(errs, field.Required(p.Child("group"), "group is required when subject kind is 'Group'"))
			} else {
				errs = append(errs, check.Required(p.Child("group", "name"), s.Group.Name, "")...)
			}
		case flowcontrolv1.SubjectKindServiceAccount:
			if s.ServiceAccount == nil {
				errs = append(errs, field.Required(p.Child("serviceAccount"), "serviceAccount is required when subject kind is 'ServiceAccount'"))
			} else {
				errs = append(errs, check.Required(p.Child("serviceAccount", "name"), s.ServiceAccount.Name, "")...)
				errs = append(errs, check.Required(p.Child("serviceAccount", "namespace"), s.ServiceAccount.Namespace, "must specify namespace for service account")...)
			}
		default:
			errs = append(errs, field.NotSupported(p.Child("kind"), s.Kind, []flowcontrolv1.SubjectKind{
				flowcontrolv1.SubjectKindGroup, flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindUser}))
		}
	}
	if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
		errs = append(errs, field.Required(p, "at least one of resourceRules and nonResourceRules has to be non-empty"))
	}
	for i, rule := range r.ResourceRules {
		p := p.Child("resourceRules").Index(i)
		errs = append(errs, validateList(rule.Verbs, p.Child("verbs"), "verbs must contain at least one value", "verbs")...)
		errs = append(errs, validateList(rule.APIGroups, p.Child("apiGroups"), "resource rules must supply at least one api group", "api groups")...)
		errs = append(errs, validateList(rule.Resources, p.Child("resources"), "resource rules must supply at least one resource", "resources")...)
		if len(rule.Namespaces) == 0 && !rule.ClusterScope {
			errs = append(errs, field.Required(p.Child("namespaces"), "resource rules that are not cluster scoped must supply at least one namespace"))
		}
	}
	for i, rule := range r.NonResourceRules {
		p := p.Child("nonResourceRules").Index(i)
		errs = append(errs, validateList(rule.Verbs, p.Child("verbs"), "verbs must contain at least one value", "verbs")...)
		errs = append(errs, validateList(rule.NonResourceURLs, p.Child("nonResourceURLs"), "nonResourceURLs must contain at least one value", "non-resource URLs")...)
		for j, u := range rule.NonResourceURLs {
			switch {
			case u == "*":
			case !strings.HasPrefix(u, "/"):
				errs = append(errs, field.Invalid(p.Child("nonResourceURLs").Index(j), u, "must start with slash"))
			case strings.Contains(strings.TrimSuffix(u, "*"), "*"):
				errs = append(errs, field.Invalid(p.Child("nonResourceURLs").Index(j), u, "wildcard can only do suffix matching"))
			}
		}
	}
	return errs
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
		errs = append(errs, field.Invalid(specPath.Child("type"), s.Type, "type must be 'Exempt' if and only if name is 'exempt'"))
	}
	switch s.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if s.Limited != nil {
			errs = append(errs, field.Forbidden(specPath.Child("limited"), "must be nil if the type is not Limited"))
		}
		if s.Exempt == nil {
			errs = append(errs, field.Required(specPath.Child("exempt"), "must not be empty when type is Exempt"))
			break
		}
		errs = append(errs, check.NonnegativePtr(specPath.Child("exempt", "nominalConcurrencyShares"), s.Exempt.NominalConcurrencyShares)...)
		errs = append(errs, validateLendable(s.Exempt.LendablePercent, specPath.Child("exempt", "lendablePercent"))...)
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if s.Exempt != nil {
			errs = append(errs, field.Forbidden(specPath.Child("exempt"), "must be nil if the type is Limited"))
		}
		if s.Limited == nil {
			errs = append(errs, field.Required(specPath.Child("limited"), "must not be empty when type is Limited"))
			break
		}
		errs = append(errs, validateLimited(s.Limited, specPath.Child("limited"))...)
	default:
		errs = append(errs, field.NotSupported(specPath.Child("type"), s.Type, []flowcontrolv1.PriorityLevelEnablement{flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited}))
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
	errs = append(errs, validateLendable(l.LendablePercent, p.Child("lendablePercent"))...)
	if n := l.BorrowingLimitPercent; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(p.Child("borrowingLimitPercent"), *n, "if specified, must be a non-negative integer"))
	}
	p = p.Child("limitResponse")
	switch l.LimitResponse.Type {
	case flowcontrolv1.LimitResponseTypeReject:
		if l.LimitResponse.Queuing != nil {
			errs = append(errs, field.Forbidden(p.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited"))
		}
	case flowcontrolv1.LimitResponseTypeQueue:
		q, p := l.LimitResponse.Queuing, p.Child("queuing")
		if q == nil {
			return append(errs, field.Required(p, "must not be empty if limited.limitResponse.type is Limited"))
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
		}
	default:
		errs = append(errs, field.NotSupported(p.Child("type"), l.LimitResponse.Type, []flowcontrolv1.LimitResponseType{flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject}))
	}
	return errs
}
