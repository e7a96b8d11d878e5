package apiextensions

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/lib/pki"
)

const maxSelectableFields = 8

var (
	columnTypes   = []string{"boolean", "date", "integer", "number", "string"}
	columnFormats = []string{"byte", "date", "date-time", "double", "float", "int32", "int64", "password"}
	propertyTypes = []string{"array", "boolean", "integer", "number", "object", "string"}
)

func validateDefinition(c *apiextensionsv1.CustomResourceDefinition) (errs field.ErrorList) {
	if want := c.Spec.Names.Plural + "." + c.Spec.Group; c.Name != "" && c.Name != want {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, `must be spec.names.plural+"."+spec.group`))
	}
	in, err := toInternal(c)
	if err != nil {
		return append(errs, field.Invalid(field.NewPath("spec"), "", err.Error()))
	}
	errs = append(errs, validateSpec(&in.Spec, lenience{}, field.NewPath("spec"))...)
	return append(errs, validateRest(in, nil)...)
}

func validateDefinitionUpdate(c, old *apiextensionsv1.CustomResourceDefinition) (errs field.ErrorList) {
	in, err := toInternal(c)
	if err != nil {
		return append(errs, field.Invalid(field.NewPath("spec"), "", err.Error()))
	}
	was, err := toInternal(old)
	if err != nil {
		return append(errs, field.InternalError(field.NewPath("spec"), err))
	}
	l, p := lenienceOf(in, was), field.NewPath("spec")
	errs = append(errs, validateSpec(&in.Spec, l, p)...)
	if l.immutableNames {
		// These are in the keys of stored objects, and in clients' memory.
		errs = append(errs, validation.ValidateImmutableField(in.Spec.Scope, was.Spec.Scope, p.Child("scope").Upstream())...)
		errs = append(errs, validation.ValidateImmutableField(in.Spec.Names.Kind, was.Spec.Names.Kind, p.Child("names", "kind").Upstream())...)
	}
	errs = append(errs, validation.ValidateImmutableField(in.Spec.Group, was.Spec.Group, p.Child("group").Upstream())...)
	errs = append(errs, validation.ValidateImmutableField(in.Spec.Names.Plural, was.Spec.Names.Plural, p.Child("names", "plural").Upstream())...)
	return append(errs, validateRest(in, was)...)
}

// validateRest checks what creates and updates have in common besides the spec.
func validateRest(c, old *internal.CustomResourceDefinition) (errs field.ErrorList) {
	errs = append(errs, validateNames(&c.Status.AcceptedNames, field.NewPath("status", "acceptedNames"))...)
	errs = append(errs, validateStoredVersions(c.Status.StoredVersions, c.Spec.Versions, field.NewPath("status", "storedVersions"))...)
	errs = append(errs, validateApproval(c, old)...)
	preserves := func(c *internal.CustomResourceDefinition) bool {
		return c != nil && c.Spec.PreserveUnknownFields != nil && *c.Spec.PreserveUnknownFields
	}
	if preserves(c) && !preserves(old) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "preserveUnknownFields"), c.Spec.PreserveUnknownFields, "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"))
	}
	return errs
}

func validateStoredVersions(stored []string, versions []internal.CustomResourceDefinitionVersion, p *field.Path) (errs field.ErrorList) {
	if len(stored) == 0 {
		return field.ErrorList{field.Invalid(p, stored, "must have at least one stored version")}
	}
	// Of versions that share a name the first alone counts as stored.
	left := map[string]int{}
	for i, v := range stored {
		left[v] = i
	}
	for _, v := range versions {
		if _, ok := left[v.Name]; v.Storage && !ok {
			errs = append(errs, field.Invalid(p, stored, "must have the storage version "+v.Name))
		}
		delete(left, v.Name)
	}
	for i, v := range stored {
		if at, ok := left[v]; ok && at == i {
			errs = append(errs, field.Invalid(p.Index(i), v, fmt.Sprintf("missing from spec.versions; %[1]s was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in %[1]s and removes %[1]s from status.storedVersions", v)))
		}
	}
	return errs
}

// validateApproval guards the groups of the Kubernetes project. Who had no
// approval before need not get one to change something else.
func validateApproval(c, old *internal.CustomResourceDefinition) field.ErrorList {
	if !apihelpers.IsProtectedCommunityGroup(c.Spec.Group) {
		return nil
	}
	state, reason := apihelpers.GetAPIApprovalState(c.Annotations)
	if old != nil {
		if was, _ := apihelpers.GetAPIApprovalState(old.Annotations); was == state {
			return nil
		}
	}
	p := field.NewPath("metadata", "annotations").Key(apiextensionsv1.KubeAPIApprovedAnnotation)
	switch state {
	case apihelpers.APIApproved, apihelpers.APIApprovalBypassed:
		return nil
	case apihelpers.APIApprovalMissing:
		return field.ErrorList{field.Required(p, reason)}
	}
	return field.ErrorList{field.Invalid(p, c.Annotations[apiextensionsv1.KubeAPIApprovedAnnotation], reason)}
}

func validateSpec(s *internal.CustomResourceDefinitionSpec, l lenience, p *field.Path) (errs field.ErrorList) {
	if s.Group == "" {
		errs = append(errs, field.Required(p.Child("group"), ""))
	} else if msgs := utilvalidation.IsDNS1123Subdomain(s.Group); len(msgs) > 0 {
		errs = append(errs, field.Invalid(p.Child("group"), s.Group, strings.Join(msgs, ",")))
	} else if !strings.Contains(s.Group, ".") {
		errs = append(errs, field.Invalid(p.Child("group"), s.Group, "should be a domain with at least one dot"))
	}
	errs = append(errs, oneOf(p.Child("scope"), string(s.Scope), string(internal.ClusterScoped), string(internal.NamespaceScoped))...)

	prunes := s.PreserveUnknownFields == nil || !*s.PreserveUnknownFields
	if prunes || anyOf(s, hasDefault) || anyOf(s, hasExtension) {
		l.nonStructural = false
	}
	if s.Validation == nil || s.Validation.OpenAPIV3Schema == nil {
		for i, v := range s.Versions {
			if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
				continue
			}
			at := p.Child("versions").Index(i).Child("schema", "openAPIV3Schema")
			switch {
			case !l.noSchema:
				errs = append(errs, field.Required(at, ""))
			case prunes && v.Served:
				errs = append(errs, field.Required(at, "because otherwise all fields are pruned"))
			}
		}
	}
	if anyOf(s, hasDefault) && (s.PreserveUnknownFields == nil || *s.PreserveUnknownFields) {
		errs = append(errs, field.Invalid(p.Child("preserveUnknownFields"), true, "must be false in order to use defaults in the schema"))
	}
	storage, names := 0, sets.New[string]()
	for i := range s.Versions {
		v := &s.Versions[i]
		if v.Storage {
			storage++
		}
		names.Insert(v.Name)
		at := p.Child("versions").Index(i)
		errs = append(errs, label(at.Child("name"), v.Name)...)
		errs = append(errs, validateVersion(v, at, hasStatus(subresourcesOf(s, v)), l)...)
	}
	errs = append(errs, validatePlaces(s, p)...)
	if names.Len() < len(s.Versions) {
		errs = append(errs, field.Invalid(p.Child("versions"), s.Versions, "must contain unique version names"))
	}
	if storage != 1 {
		errs = append(errs, field.Invalid(p.Child("versions"), s.Versions, "must have exactly one version marked as storage version"))
	}
	if s.Version != "" {
		errs = append(errs, label(p.Child("version"), s.Version)...)
		if len(s.Versions) >= 1 && s.Versions[0].Name != s.Version {
			errs = append(errs, field.Invalid(p.Child("version"), s.Version, "must match the first version in spec.versions"))
		}
	}
	for _, n := range []struct{ name, value string }{{"plural", s.Names.Plural}, {"singular", s.Names.Singular}, {"kind", s.Names.Kind}, {"listKind", s.Names.ListKind}} {
		errs = append(errs, check.Required(p.Child("names", n.name), n.value, "")...)
	}
	errs = append(errs, validateNames(&s.Names, p.Child("names"))...)
	anyStatus := hasStatus(s.Subresources) || slices.ContainsFunc(s.Versions, func(v internal.CustomResourceDefinitionVersion) bool { return hasStatus(v.Subresources) })
	errs = append(errs, validateValidation(s.Validation, anyStatus, l.forVersion(s.Version), p.Child("validation"))...)
	errs = append(errs, validateSubresources(s.Subresources, p.Child("subresources"))...)
	for i := range s.AdditionalPrinterColumns {
		errs = append(errs, validateColumn(&s.AdditionalPrinterColumns[i], p.Child("additionalPrinterColumns").Index(i))...)
	}
	if len(s.SelectableFields) > 0 {
		if s.Validation == nil {
			errs = append(errs, field.Invalid(p.Child("selectableFields"), "", "may only be set when validations.schema is included"))
		} else {
			errs = append(errs, validateSelectable(s.SelectableFields, s.Validation.OpenAPIV3Schema, p, l, "")...)
		}
	}
	if s.Conversion != nil && s.Conversion.Strategy != internal.NoneConverter && (s.PreserveUnknownFields == nil || *s.PreserveUnknownFields) {
		errs = append(errs, field.Invalid(p.Child("conversion", "strategy"), s.Conversion.Strategy, "must be None if spec.preserveUnknownFields is true"))
	}
	return append(errs, validateConversion(s.Conversion, l, p.Child("conversion"))...)
}

// validatePlaces checks that what may be said for all versions or for each is
// not said both ways.
func validatePlaces(s *internal.CustomResourceDefinitionSpec, p *field.Path) (errs field.ErrorList) {
	for _, f := range []struct {
		top, each, all string
		set            bool
		of             func(*internal.CustomResourceDefinitionVersion) (value any, set bool)
	}{
		{"validation", "schemas", "validation", s.Validation != nil, func(v *internal.CustomResourceDefinitionVersion) (any, bool) { return v.Schema, v.Schema != nil }},
		{"subresources", "subresources", "subresources", s.Subresources != nil, func(v *internal.CustomResourceDefinitionVersion) (any, bool) {
			return v.Subresources, v.Subresources != nil
		}},
		{"additionalPrinterColumns", "additionalPrinterColumns", "additionalPrinterColumns", len(s.AdditionalPrinterColumns) > 0, func(v *internal.CustomResourceDefinitionVersion) (any, bool) {
			return v.AdditionalPrinterColumns, len(v.AdditionalPrinterColumns) > 0
		}},
	} {
		any, identical := false, len(s.Versions) > 0
		for i := range s.Versions {
			first, _ := f.of(&s.Versions[0])
			value, set := f.of(&s.Versions[i])
			any = any || set
			identical = identical && set && apiequality.Semantic.DeepEqual(value, first)
		}
		if f.set && any {
			errs = append(errs, field.Forbidden(p.Child(f.top), fmt.Sprintf("top-level and per-version %s are mutually exclusive", f.each)))
		}
		if identical {
			errs = append(errs, field.Invalid(p.Child("versions"), s.Versions, fmt.Sprintf("per-version %s may not all be set to identical values (top-level %s should be used instead)", f.each, f.all)))
		}
	}
	return errs
}

func subresourcesOf(s *internal.CustomResourceDefinitionSpec, v *internal.CustomResourceDefinitionVersion) *internal.CustomResourceSubresources {
	if slices.ContainsFunc(s.Versions, func(v internal.CustomResourceDefinitionVersion) bool { return v.Subresources != nil }) {
		return v.Subresources
	}
	return s.Subresources
}

func hasStatus(s *internal.CustomResourceSubresources) bool { return s != nil && s.Status != nil }

func oneOf(p *field.Path, value string, accepted ...string) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(p, "")}
	case !slices.Contains(accepted, value):
		return field.ErrorList{field.NotSupported(p, value, accepted)}
	}
	return nil
}

// label checks a DNS label; all that is wrong is one error.
func label(p *field.Path, value string) field.ErrorList {
	if msgs := utilvalidation.IsDNS1035Label(value); len(msgs) > 0 {
		return field.ErrorList{field.Invalid(p, value, strings.Join(msgs, ","))}
	}
	return nil
}

func validateNames(n *internal.CustomResourceDefinitionNames, p *field.Path) (errs field.ErrorList) {
	if n.Plural != "" {
		errs = append(errs, label(p.Child("plural"), n.Plural)...)
	}
	if n.Singular != "" {
		errs = append(errs, label(p.Child("singular"), n.Singular)...)
	}
	for _, k := range []struct{ name, value string }{{"kind", n.Kind}, {"listKind", n.ListKind}} {
		if msgs := utilvalidation.IsDNS1035Label(strings.ToLower(k.value)); k.value != "" && len(msgs) > 0 {
			errs = append(errs, field.Invalid(p.Child(k.name), k.value, "may have mixed case, but should otherwise match: "+strings.Join(msgs, ",")))
		}
	}
	for i, s := range n.ShortNames {
		errs = append(errs, label(p.Child("shortNames").Index(i), s)...)
	}
	if n.Kind != "" && n.Kind == n.ListKind {
		errs = append(errs, field.Invalid(p.Child("listKind"), n.ListKind, "kind and listKind may not be the same"))
	}
	for i, c := range n.Categories {
		errs = append(errs, label(p.Child("categories").Index(i), c)...)
	}
	return errs
}

func validateVersion(v *internal.CustomResourceDefinitionVersion, p *field.Path, status bool, l lenience) (errs field.ErrorList) {
	for _, msg := range deprecationFaults(v.Deprecated, v.DeprecationWarning) {
		errs = append(errs, field.Invalid(p.Child("deprecationWarning"), v.DeprecationWarning, msg))
	}
	errs = append(errs, validateValidation(v.Schema, status, l.forVersion(v.Name), p.Child("schema"))...)
	errs = append(errs, validateSubresources(v.Subresources, p.Child("subresources"))...)
	for i := range v.AdditionalPrinterColumns {
		errs = append(errs, validateColumn(&v.AdditionalPrinterColumns[i], p.Child("additionalPrinterColumns").Index(i))...)
	}
	if len(v.SelectableFields) > 0 {
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			errs = append(errs, field.Invalid(p.Child("selectableFields"), "", "may only be set when `version.schema.openAPIV3Schema` is not included"))
		} else {
			errs = append(errs, validateSelectable(v.SelectableFields, v.Schema.OpenAPIV3Schema, p, l, v.Name)...)
		}
	}
	return errs
}

func deprecationFaults(deprecated bool, warning *string) (msgs []string) {
	switch {
	case warning == nil:
		return nil
	case !deprecated:
		return []string{"can only be set for deprecated versions"}
	}
	if len(*warning) > 256 {
		msgs = append(msgs, "must be <= 256 characters long")
	}
	if *warning == "" {
		msgs = append(msgs, "must not be an empty string")
	}
	for i, r := range *warning {
		if !unicode.IsPrint(r) {
			msgs = append(msgs, fmt.Sprintf("must only contain printable UTF-8 characters; non-printable character found at index %d", i))
			break
		}
	}
	if !utf8.ValidString(*warning) {
		msgs = append(msgs, "must only contain printable UTF-8 characters")
	}
	return msgs
}

func validateColumn(c *internal.CustomResourceColumnDefinition, p *field.Path) (errs field.ErrorList) {
	errs = append(errs, check.Required(p.Child("name"), c.Name, "")...)
	types := "must be one of " + strings.Join(columnTypes, ",")
	switch {
	case c.Type == "":
		errs = append(errs, field.Required(p.Child("type"), types))
	case !slices.Contains(columnTypes, c.Type):
		errs = append(errs, field.Invalid(p.Child("type"), c.Type, types))
	}
	if c.Format != "" && !slices.Contains(columnFormats, c.Format) {
		errs = append(errs, field.Invalid(p.Child("format"), c.Format, "must be one of "+strings.Join(columnFormats, ",")))
	}
	if c.JSONPath == "" {
		return append(errs, field.Required(p.Child("JSONPath"), ""))
	}
	return append(errs, simplePath(c.JSONPath, p.Child("JSONPath"))...)
}

func simplePath(s string, p *field.Path) field.ErrorList {
	switch {
	case s == "":
		return field.ErrorList{field.Invalid(p, s, "must not be empty")}
	case s[0] != '.':
		return field.ErrorList{field.Invalid(p, s, "must be a simple json path starting with .")}
	}
	return nil
}

func validateSubresources(s *internal.CustomResourceSubresources, p *field.Path) (errs field.ErrorList) {
	if s == nil || s.Scale == nil {
		return nil
	}
	for _, f := range []struct{ name, value, prefix, want string }{
		{"scale.specReplicasPath", s.Scale.SpecReplicasPath, ".spec.", "should be a json path under .spec"},
		{"scale.statusReplicasPath", s.Scale.StatusReplicasPath, ".status.", "should be a json path under .status"},
	} {
		at := p.Child(f.name)
		switch wrong := simplePath(f.value, at); {
		case f.value == "":
			errs = append(errs, field.Required(at, ""))
		case len(wrong) > 0:
			errs = append(errs, wrong...)
		case !strings.HasPrefix(f.value, f.prefix):
			errs = append(errs, field.Invalid(at, f.value, f.want))
		}
	}
	if sel := s.Scale.LabelSelectorPath; sel != nil && *sel != "" {
		at := p.Child("scale.labelSelectorPath")
		if wrong := simplePath(*sel, at); len(wrong) > 0 {
			errs = append(errs, wrong...)
		} else if !strings.HasPrefix(*sel, ".spec.") && !strings.HasPrefix(*sel, ".status.") {
			errs = append(errs, field.Invalid(at, sel, "should be a json path under either .spec or .status"))
		}
	}
	return errs
}

func validateSelectable(all []internal.SelectableField, schema *internal.JSONSchemaProps, parent *field.Path, l lenience, version string) (errs field.ErrorList) {
	p := parent.Child("selectableFields")
	ss, err := structural.NewStructural(schema)
	if err != nil {
		return field.ErrorList{field.Invalid(parent.Child("schema.openAPIV3Schema"), "", err.Error())}
	}
	if ss == nil {
		return nil // a schema is missed elsewhere; upstream panics
	}
	seen := sets.New[string]()
	for i, f := range all {
		at := p.Index(i).Child("jsonPath")
		if f.JSONPath == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		path, found, err := cel.ValidFieldPath(f.JSONPath, ss, cel.WithFieldPathAllowArrayNotation(false))
		if err != nil {
			errs = append(errs, field.Invalid(at, f.JSONPath, fmt.Sprintf("is an invalid path: %v", err)))
			continue
		}
		if path.Root().String() == "metadata" {
			errs = append(errs, field.Invalid(at, f.JSONPath, "must not point to fields in metadata"))
		}
		if found == nil || found.Type != "string" && found.Type != "boolean" && found.Type != "integer" {
			errs = append(errs, field.Invalid(at, f.JSONPath, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."))
		}
		if seen.Has(path.String()) {
			errs = append(errs, field.Duplicate(at, f.JSONPath))
		}
		seen.Insert(path.String())
	}
	if seen.Len() > maxSelectableFields && !l.manyFields.Has(version) {
		errs = append(errs, field.TooMany(p, seen.Len(), maxSelectableFields))
	}
	return errs
}

func isReviewVersion(v string) bool { return v == "v1" || v == "v1beta1" }

func validateConversion(c *internal.CustomResourceConversion, l lenience, p *field.Path) (errs field.ErrorList) {
	if c == nil {
		return nil
	}
	errs = append(errs, oneOf(p.Child("strategy"), string(c.Strategy), string(internal.NoneConverter), string(internal.WebhookConverter))...)
	at := p.Child("webhookClientConfig")
	if c.Strategy != internal.WebhookConverter {
		if c.WebhookClientConfig != nil {
			errs = append(errs, field.Forbidden(at, "should not be set when strategy is not set to Webhook"))
		}
		if len(c.ConversionReviewVersions) > 0 {
			errs = append(errs, field.Forbidden(p.Child("conversionReviewVersions"), "should not be set when strategy is not set to Webhook"))
		}
		return errs
	}
	if w := c.WebhookClientConfig; w == nil {
		errs = append(errs, field.Required(at, "required when strategy is set to Webhook"))
	} else {
		switch {
		case (w.URL == nil) == (w.Service == nil):
			errs = append(errs, field.Required(at, "exactly one of url or service is required"))
		case w.URL != nil:
			errs = append(errs, check.WebhookURL(at.Child("url"), *w.URL)...)
		default:
			errs = append(errs, check.WebhookService(at.Child("service"), w.Service.Namespace, w.Service.Name, w.Service.Port, w.Service.Path)...)
		}
		if len(w.CABundle) > 0 && l.checkBundle {
			if _, err := pki.Roots(w.CABundle); err != nil {
				errs = append(errs, field.Invalid(at.Child("caBundle"), w.CABundle, err.Error()))
			}
		}
	}
	return append(errs, validateReviewVersions(c.ConversionReviewVersions, l, p.Child("conversionReviewVersions"))...)
}

func validateReviewVersions(all []string, l lenience, p *field.Path) (errs field.ErrorList) {
	if len(all) == 0 {
		return field.ErrorList{field.Required(p, "")}
	}
	for i, v := range all {
		if slices.Contains(all[:i], v) {
			errs = append(errs, field.Invalid(p.Index(i), v, "duplicate version"))
			continue
		}
		errs = append(errs, check.Rule(p.Index(i), v, utilvalidation.IsDNS1035Label)...)
	}
	if !l.reviewVersions && !slices.ContainsFunc(all, isReviewVersion) {
		errs = append(errs, field.Invalid(p, all, "must include at least one of v1, v1beta1"))
	}
	return errs
}
