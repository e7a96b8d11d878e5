package apiextensions

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	_ "sagong/kinds/expression" // bounds the quantities of rules
	"sagong/kinds/field"
)

// rootFields may be used at the root of a schema with a status subresource, which
// takes its own schema out of properties[status].
var rootFields = []string{
	"Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength", "MinLength",
	"Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties", "ExternalDocs", "Example",
	"XPreserveUnknownFields", "XValidations",
}

func hasExtension(s *internal.JSONSchemaProps) bool {
	return s.XEmbeddedResource || s.XPreserveUnknownFields != nil || s.XIntOrString || len(s.XListMapKeys) > 0 || s.XListType != nil || len(s.XValidations) > 0
}

// validateValidation checks one schema as a whole.
func validateValidation(v *internal.CustomResourceValidation, status bool, l lenience, p *field.Path) (errs field.ErrorList) {
	if v == nil {
		return nil
	}
	s, at := v.OpenAPIV3Schema, p.Child("openAPIV3Schema")
	if s != nil {
		if status {
			errs = append(errs, validateRoot(s, p)...)
		}
		if s.Nullable {
			errs = append(errs, field.Forbidden(p.Child("openAPIV3Schema.nullable"), "nullable cannot be true at the root"))
		}
		var root *place
		var notStructural field.ErrorList
		if !l.nonStructural {
			ss, err := structural.NewStructural(s)
			if err != nil {
				// It overlaps with what is found below, which says more.
				notStructural = field.ErrorList{field.Invalid(at, "", err.Error())}
			} else if wrong := structural.ValidateStructural(at.Upstream(), ss); len(wrong) > 0 {
				errs = append(errs, wrong...)
			} else if wrong, err := defaulting.ValidateDefaults(context.Background(), at.Upstream(), ss, true, !l.unprunedDefaults); err != nil {
				errs = append(errs, field.Invalid(at, "", err.Error()))
			} else if len(wrong) > 0 {
				errs = append(errs, wrong...)
			} else {
				root = rootPlace(s)
			}
		}
		w := walker{l: l, allowDefaults: true}
		schemaErrs, celErrs := w.walk(s, at, true, root)
		errs = append(append(errs, schemaErrs...), celErrs...)
		if len(errs) == 0 {
			errs = append(errs, notStructural...)
		}
		if root != nil {
			errs = append(errs, root.total.check(at)...)
		}
	}
	if len(errs) == 0 {
		if _, _, err := schemavalidation.NewSchemaValidator(s); err != nil {
			errs = append(errs, field.Invalid(p, "", fmt.Sprintf("error building validator: %v", err)))
		}
	}
	return errs
}

func validateRoot(s *internal.JSONSchemaProps, p *field.Path) field.ErrorList {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			continue
		}
		name := v.Type().Field(i).Name
		if name == "Type" && s.Type != "object" {
			return field.ErrorList{field.Invalid(p.Child("openAPIV3Schema.type"), s.Type, `only "object" is allowed as the type at the root of the schema if the status subresource is enabled`)}
		}
		if !slices.Contains(rootFields, name) {
			return field.ErrorList{field.Invalid(p.Child("openAPIV3Schema"), *s, fmt.Sprintf("only %v fields are allowed at the root of the schema if the status subresource is enabled", rootFields))}
		}
	}
	return nil
}

// walker carries what holds below a node of a schema.
type walker struct {
	l              lenience
	allowDefaults  bool
	defaultsReason string
	inMeta         bool // within apiVersion, kind or metadata of a resource
	// uncorrelated is the first ancestor whose old and new values cannot be paired;
	// nil when all can.
	uncorrelated *field.Path
}

func (w walker) forbidDefaults(reason string) walker {
	w.allowDefaults, w.defaultsReason = false, reason
	return w
}

func (w walker) cannotPair(p *field.Path) walker {
	if w.uncorrelated == nil {
		w.uncorrelated = p
	}
	return w
}

// walk checks a schema and all below it. Faults of expressions are kept apart:
// they mean nothing while the schema has others.
func (w walker) walk(s *internal.JSONSchemaProps, p *field.Path, root bool, at *place) (errs, celErrs field.ErrorList) {
	if s == nil {
		return nil, nil
	}
	errs = append(errs, w.validateNode(s, p)...)
	below := func(w walker, s *internal.JSONSchemaProps, p *field.Path, at *place) {
		e, c := w.walk(s, p, false, at)
		errs, celErrs = append(errs, e...), append(celErrs, c...)
	}
	if s.UniqueItems {
		errs = append(errs, field.Forbidden(p.Child("uniqueItems"), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"))
	}
	if a := s.AdditionalProperties; a != nil {
		if len(s.Properties) != 0 && (!a.Allows || a.Schema != nil) {
			errs = append(errs, field.Forbidden(p.Child("additionalProperties"), "additionalProperties and properties are mutual exclusive"))
		}
		sub := w
		if w.inMeta {
			sub = w.forbidDefaults("inside additionalProperties applying to object metadata")
		}
		below(sub, a.Schema, p.Child("additionalProperties"), at.values(a.Schema))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		prop, sub := s.Properties[name], w
		if !cel.MapIsCorrelatable(s.XMapType) {
			sub = sub.cannotPair(p)
		}
		if (root || s.XEmbeddedResource) && (name == "metadata" || name == "kind" || name == "apiVersion") {
			sub.inMeta = true
			if root {
				sub = sub.forbidDefaults("in top-level " + name)
			}
		}
		below(sub, &prop, p.Child("properties").Key(name), at.property(&prop, name))
	}
	below(w, s.Not, p.Child("not"), nil)
	for _, j := range []struct {
		name string
		all  []internal.JSONSchemaProps
	}{{"allOf", s.AllOf}, {"oneOf", s.OneOf}, {"anyOf", s.AnyOf}} {
		for i := range j.all {
			below(w, &j.all[i], p.Child(j.name).Index(i), nil)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Definitions)) {
		d := s.Definitions[name]
		below(w, &d, p.Child("definitions").Key(name), nil)
	}
	if s.Items != nil {
		sub := w
		if listType(s) != "map" {
			sub = sub.cannotPair(p)
		}
		below(sub, s.Items.Schema, p.Child("items"), at.items(s.Items.Schema))
		for i := range s.Items.JSONSchemas {
			below(sub, &s.Items.JSONSchemas[i], p.Child("items").Index(i), at.items(&s.Items.JSONSchemas[i]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Dependencies)) {
		below(w, s.Dependencies[name].Schema, p.Child("dependencies").Key(name), nil)
	}
	errs = append(errs, w.validateLists(s, p)...)
	if !w.l.looseListKeys {
		errs = append(errs, validateListKeys(s, p)...)
	}
	for i := range s.XValidations {
		errs = append(errs, validateRule(s, &s.XValidations[i], p.Child("x-kubernetes-validations").Index(i))...)
	}
	if len(errs) == 0 && at != nil && len(s.XValidations) > 0 {
		celErrs = append(celErrs, w.compileRules(s, p.Child("x-kubernetes-validations"), at)...)
	}
	return errs, celErrs
}

// validateNode refuses what JSON schema has and OpenAPI v3 of custom resources
// has not.
func (w walker) validateNode(s *internal.JSONSchemaProps, p *field.Path) (errs field.ErrorList) {
	forbid := func(bad bool, name, text string) {
		if bad {
			errs = append(errs, field.Forbidden(p.Child(name), text))
		}
	}
	if !w.l.anyType && s.Type != "" && !slices.Contains(propertyTypes, s.Type) {
		errs = append(errs, field.NotSupported(p.Child("type"), s.Type, propertyTypes))
	}
	detail := "must not be set"
	if w.defaultsReason != "" {
		detail += " " + w.defaultsReason
	}
	forbid(s.Default != nil && !w.allowDefaults, "default", detail)
	forbid(s.ID != "", "id", "id is not supported")
	forbid(s.AdditionalItems != nil, "additionalItems", "additionalItems is not supported")
	forbid(len(s.PatternProperties) != 0, "patternProperties", "patternProperties is not supported")
	forbid(len(s.Definitions) != 0, "definitions", "definitions is not supported")
	forbid(s.Dependencies != nil, "dependencies", "dependencies is not supported")
	forbid(s.Ref != nil, "$ref", "$ref is not supported")
	forbid(s.Type == "null", "type", "type cannot be set to null, use nullable as an alternative")
	forbid(s.Items != nil && len(s.Items.JSONSchemas) != 0, "items", "items must be a schema object and not an array")
	forbid(w.inMeta && s.XEmbeddedResource, "x-kubernetes-embedded-resource", "must not be used inside of resource meta")
	return errs
}

// validateLists checks the extensions that say how values merge.
func (w walker) validateLists(s *internal.JSONSchemaProps, p *field.Path) (errs field.ErrorList) {
	if x := s.XPreserveUnknownFields; x != nil && !*x {
		errs = append(errs, field.Invalid(p.Child("x-kubernetes-preserve-unknown-fields"), *x, "must be true or undefined"))
	}
	needs := func(want, extension string) {
		text := "must be " + want + " if " + extension + " is specified"
		if s.Type == "" {
			errs = append(errs, field.Required(p.Child("type"), text))
		} else {
			errs = append(errs, field.Invalid(p.Child("type"), s.Type, text))
		}
	}
	if s.XMapType != nil && s.Type != "object" {
		needs("object", "x-kubernetes-map-type")
	}
	if s.XMapType != nil && *s.XMapType != "atomic" && *s.XMapType != "granular" {
		errs = append(errs, field.NotSupported(p.Child("x-kubernetes-map-type"), *s.XMapType, []string{"atomic", "granular"}))
	}
	if s.XListType != nil && s.Type != "array" {
		needs("array", "x-kubernetes-list-type")
	} else if !w.l.nonAtomicSets && nonAtomicSet(s) {
		name := "x-kubernetes-list-type"
		if s.Items.Schema.Type == "object" {
			name = "x-kubernetes-map-type"
		}
		errs = append(errs, field.Invalid(p.Child("items").Child(name), s.Items.Schema.XListType, "must be atomic as item of a list with x-kubernetes-list-type=set"))
	}
	kind := listType(s)
	if s.XListType != nil && kind != "atomic" && kind != "set" && kind != "map" {
		errs = append(errs, field.NotSupported(p.Child("x-kubernetes-list-type"), kind, []string{"atomic", "set", "map"}))
	}
	if len(s.XListMapKeys) > 0 && kind != "map" {
		const text = "must be map if x-kubernetes-list-map-keys is non-empty"
		if s.XListType == nil {
			errs = append(errs, field.Required(p.Child("x-kubernetes-list-type"), text))
		} else {
			errs = append(errs, field.Invalid(p.Child("x-kubernetes-list-type"), kind, text))
		}
	}
	if kind != "map" {
		return errs
	}
	keys := p.Child("x-kubernetes-list-map-keys")
	if len(s.XListMapKeys) == 0 {
		errs = append(errs, field.Required(keys, "must not be empty if x-kubernetes-list-type is map"))
	}
	switch {
	case s.Items == nil:
		return append(errs, field.Required(p.Child("items"), "must have a schema if x-kubernetes-list-type is map"))
	case s.Items.Schema == nil:
		return append(errs, field.Invalid(p.Child("items"), s.Items, "must only have a single schema if x-kubernetes-list-type is map"))
	case s.Items.Schema.Type != "object":
		return append(errs, field.Invalid(p.Child("items").Child("type"), s.Items.Schema.Type, "must be object if parent array's x-kubernetes-list-type is map"))
	}
	for i, k := range s.XListMapKeys {
		if prop, ok := s.Items.Schema.Properties[k]; !ok {
			errs = append(errs, field.Invalid(keys, s.XListMapKeys, "entries must all be names of item properties"))
		} else if prop.Type == "array" || prop.Type == "object" {
			errs = append(errs, field.Invalid(p.Child("items").Child("properties").Key(k).Child("type"), s.Items.Schema.Type, "must be a scalar type if parent array's x-kubernetes-list-type is map"))
		}
		if slices.Contains(s.XListMapKeys[:i], k) {
			errs = append(errs, field.Invalid(keys, s.XListMapKeys, "must not contain duplicate entries"))
		}
	}
	return errs
}

// validateListKeys checks that items of sets and maps have an identity.
func validateListKeys(s *internal.JSONSchemaProps, p *field.Path) (errs field.ErrorList) {
	kind := listType(s)
	if s.Items == nil || s.Items.Schema == nil || kind != "set" && kind != "map" {
		return nil
	}
	items := s.Items.Schema
	if items.Nullable {
		errs = append(errs, field.Forbidden(p.Child("items").Child("nullable"), "cannot be nullable when x-kubernetes-list-type is "+kind))
	}
	if kind == "set" {
		return errs
	}
	for _, k := range s.XListMapKeys {
		prop, ok := items.Properties[k]
		if !ok {
			continue
		}
		at := p.Child("items").Child("properties").Key(k)
		if !slices.Contains(items.Required, k) && prop.Default == nil {
			errs = append(errs, field.Required(at.Child("default"), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"))
		}
		if prop.Nullable {
			errs = append(errs, field.Forbidden(at.Child("nullable"), "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"))
		}
	}
	return errs
}

func hasLineBreak(s string) bool { return strings.ContainsAny(s, "\n\r") }

var reasons = []string{
	string(internal.FieldValueDuplicate), string(internal.FieldValueForbidden), string(internal.FieldValueInvalid), string(internal.FieldValueRequired),
}

func validateRule(s *internal.JSONSchemaProps, r *internal.ValidationRule, p *field.Path) (errs field.ErrorList) {
	rule, message := strings.TrimSpace(r.Rule), strings.TrimSpace(r.Message)
	switch {
	case rule == "":
		errs = append(errs, field.Required(p.Child("rule"), "rule is not specified"))
	case r.Message != "" && message == "":
		errs = append(errs, field.Invalid(p.Child("message"), r.Message, "must be non-empty if specified"))
	case hasLineBreak(message):
		errs = append(errs, field.Invalid(p.Child("message"), r.Message, "must not contain line breaks"))
	case hasLineBreak(rule) && message == "":
		errs = append(errs, field.Required(p.Child("message"), "message must be specified if rule contains line breaks"))
	}
	if r.MessageExpression != "" && strings.TrimSpace(r.MessageExpression) == "" {
		errs = append(errs, field.Required(p.Child("messageExpression"), "messageExpression must be non-empty if specified"))
	}
	if r.Reason != nil && !slices.Contains(reasons, string(*r.Reason)) {
		errs = append(errs, field.NotSupported(p.Child("reason"), *r.Reason, reasons))
	}
	if r.FieldPath == "" {
		return errs
	}
	if strings.TrimSpace(r.FieldPath) == "" {
		errs = append(errs, field.Invalid(p.Child("fieldPath"), r.FieldPath, "must be non-empty if specified"))
	}
	if hasLineBreak(r.FieldPath) {
		errs = append(errs, field.Invalid(p.Child("fieldPath"), r.FieldPath, "must not contain line breaks"))
	}
	if ss, err := structural.NewStructural(s); err == nil {
		if _, _, err := cel.ValidFieldPath(r.FieldPath, ss); err != nil {
			errs = append(errs, field.Invalid(p.Child("fieldPath"), r.FieldPath, "must be a valid path"))
		}
	}
	return errs
}

// compileRules compiles the expressions of one node and adds up what they cost.
func (w walker) compileRules(s *internal.JSONSchemaProps, p *field.Path, at *place) (errs field.ErrorList) {
	t, err := at.typ()
	if err != nil {
		return field.ErrorList{field.InternalError(p, fmt.Errorf("internal error: failed to construct type information for x-kubernetes-validations rules: %s", err))}
	}
	if t == nil {
		return field.ErrorList{field.InternalError(p, fmt.Errorf("internal error: failed to retrieve type information for x-kubernetes-validations"))}
	}
	compiled, err := cel.Compile(t.schema, t.decl, celconfig.PerCallLimit, environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()), w.l)
	if err != nil {
		return field.ErrorList{field.InternalError(p, err)}
	}
	for i, r := range compiled {
		rule, message := p.Index(i).Child("rule"), p.Index(i).Child("messageExpression")
		cost := at.cost(r)
		if !w.l.sameCost && cost > ruleCostLimit {
			errs = append(errs, field.Forbidden(rule, tooExpensive("estimated rule cost", cost, ruleCostLimit)))
		}
		at.total.add(rule, cost)
		if e := r.Error; e != nil {
			if e.Type == apiservercel.ErrorTypeRequired {
				errs = append(errs, field.Required(rule, e.Detail))
			} else {
				errs = append(errs, field.Invalid(rule, s.XValidations[i], e.Detail))
			}
		}
		if e := r.MessageExpressionError; e != nil {
			errs = append(errs, field.Invalid(message, s.XValidations[i], e.Detail))
		} else if r.MessageExpression != nil {
			if !w.l.sameCost && r.MessageExpressionMaxCost > ruleCostLimit {
				errs = append(errs, field.Forbidden(message, tooExpensive("estimated messageExpression cost", r.MessageExpressionMaxCost, ruleCostLimit)))
			}
			at.total.add(message, r.MessageExpressionMaxCost)
		}
		switch optional := s.XValidations[i].OptionalOldSelf; {
		case r.UsesOldSelf && w.uncorrelated != nil:
			errs = append(errs, field.Invalid(rule, s.XValidations[i].Rule, fmt.Sprintf("oldSelf cannot be used on the uncorrelatable portion of the schema within %v", w.uncorrelated)))
		case !r.UsesOldSelf && optional != nil:
			errs = append(errs, field.Invalid(p.Index(i).Child("optionalOldSelf"), *optional, "may not be set if oldSelf is not used in rule"))
		}
	}
	return errs
}
