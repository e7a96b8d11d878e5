package apiextensions

import (
	"reflect"
	"slices"

	celgo "github.com/google/cel-go/cel"
	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/cel/environment"

	"crypto/x509"

	"sagong/kinds/field"
)

// lenience says which rules an update need not keep, because the object breaks
// them already. The zero value is for new objects: every rule holds, but for the
// bundle of certificates, which matters once the kind is served.
type lenience struct {
	reviewVersions, noSchema, anyType, nonStructural, unprunedDefaults bool
	nonAtomicSets, looseListKeys                                       bool
	immutableNames                                                     bool // not lenient: names are in use
	checkBundle                                                        bool
	unchanged                                                          sets.Set[string] // versions whose schema is the same
	manyFields                                                         sets.Set[string] // versions ("": all) that had too many selectable fields
	rules, messages                                                    sets.Set[string] // CEL expressions in use already
	sameCost                                                           bool             // the version at hand is unchanged
}

// RuleEnv implements the library's EnvLoader: what is stored may use what new
// expressions may not yet.
func (l lenience) RuleEnv(e *environment.EnvSet, expression string) *celgo.Env {
	if l.rules.Has(expression) {
		return e.StoredExpressionsEnv()
	}
	return e.NewExpressionsEnv()
}

// MessageExpressionEnv implements the library's EnvLoader.
func (l lenience) MessageExpressionEnv(e *environment.EnvSet, expression string) *celgo.Env {
	if l.messages.Has(expression) {
		return e.StoredExpressionsEnv()
	}
	return e.NewExpressionsEnv()
}

func (l lenience) forVersion(name string) lenience {
	l.sameCost = l.unchanged.Has(name)
	return l
}

// lenienceOf judges the object as it is.
func lenienceOf(c, old *internal.CustomResourceDefinition) lenience {
	s := &old.Spec
	l := lenience{
		immutableNames: internal.IsCRDConditionTrue(old, internal.Established),
		noSchema:       lacksSchema(s),
		anyType:        anyOf(s, func(j *internal.JSONSchemaProps) bool { return j.Type != "" && !slices.Contains(propertyTypes, j.Type) }),
		nonAtomicSets:  anyOf(s, nonAtomicSet),
		looseListKeys:  anyOf(s, func(j *internal.JSONSchemaProps) bool { return len(validateListKeys(j, field.NewPath(""))) > 0 }),
		unchanged:      sets.New[string](), manyFields: sets.New[string](), rules: sets.New[string](), messages: sets.New[string](),
	}
	if v := old.Spec.Conversion; v != nil && len(v.ConversionReviewVersions) > 0 {
		l.reviewVersions = !slices.ContainsFunc(v.ConversionReviewVersions, isReviewVersion)
	}
	l.checkBundle = l.immutableNames
	if v := old.Spec.Conversion; l.checkBundle && v != nil && v.WebhookClientConfig != nil {
		l.checkBundle = len(v.WebhookClientConfig.CABundle) == 0 || x509.NewCertPool().AppendCertsFromPEM(v.WebhookClientConfig.CABundle)
	}
	for _, root := range schemasOf(s) {
		l.nonStructural = l.nonStructural || isNonStructural(root)
		l.unprunedDefaults = l.unprunedDefaults || hasUnprunedDefaults(root)
		anySchema(root, func(j *internal.JSONSchemaProps) bool {
			for _, v := range j.XValidations {
				l.rules.Insert(v.Rule)
				if v.MessageExpression != "" {
					l.messages.Insert(v.MessageExpression)
				}
			}
			return false
		})
	}
	for _, v := range c.Spec.Versions {
		now, err1 := internal.GetSchemaForVersion(c, v.Name)
		was, err2 := internal.GetSchemaForVersion(old, v.Name)
		if err1 == nil && err2 == nil && apiequality.Semantic.DeepEqual(now, was) {
			l.unchanged.Insert(v.Name)
		}
	}
	if f := s.SelectableFields; len(f) > maxSelectableFields && apiequality.Semantic.DeepEqual(f, c.Spec.SelectableFields) {
		l.manyFields.Insert("")
	}
	for _, was := range s.Versions {
		for _, v := range c.Spec.Versions {
			if v.Name == was.Name && len(was.SelectableFields) > maxSelectableFields && apiequality.Semantic.DeepEqual(v.SelectableFields, was.SelectableFields) {
				l.manyFields.Insert(v.Name)
			}
		}
	}
	return l
}

func lacksSchema(s *internal.CustomResourceDefinitionSpec) bool {
	if s.Validation != nil && s.Validation.OpenAPIV3Schema != nil {
		return false
	}
	return slices.ContainsFunc(s.Versions, func(v internal.CustomResourceDefinitionVersion) bool {
		return v.Schema == nil || v.Schema.OpenAPIV3Schema == nil
	})
}

func isNonStructural(s *internal.JSONSchemaProps) bool {
	ss, err := structural.NewStructural(s)
	return err != nil || len(structural.ValidateStructural(nil, ss)) > 0
}

func hasDefault(s *internal.JSONSchemaProps) bool { return s.Default != nil }

func hasUnprunedDefaults(s *internal.JSONSchemaProps) bool {
	if !anySchema(s, hasDefault) || isNonStructural(s) {
		return false
	}
	ss, err := structural.NewStructural(s)
	if err != nil {
		return false
	}
	pruned := ss.DeepCopy()
	return defaulting.PruneDefaults(pruned) == nil && !reflect.DeepEqual(ss, pruned)
}

func nonAtomicSet(s *internal.JSONSchemaProps) bool {
	if listType(s) != "set" || s.Items == nil || s.Items.Schema == nil {
		return false
	}
	switch is := s.Items.Schema; is.Type {
	case "array":
		return is.XListType != nil && *is.XListType != "atomic"
	case "object":
		return is.XMapType == nil || *is.XMapType != "atomic"
	}
	return false
}
