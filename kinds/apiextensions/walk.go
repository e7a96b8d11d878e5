package apiextensions

import (
	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
)

// schemasOf lists the schemas of a definition: the one of all versions, or each
// version's.
func schemasOf(s *internal.CustomResourceDefinitionSpec) []*internal.JSONSchemaProps {
	var all []*internal.JSONSchemaProps
	if s.Validation != nil && s.Validation.OpenAPIV3Schema != nil {
		all = append(all, s.Validation.OpenAPIV3Schema)
	}
	for i := range s.Versions {
		if v := s.Versions[i].Schema; v != nil && v.OpenAPIV3Schema != nil {
			all = append(all, v.OpenAPIV3Schema)
		}
	}
	return all
}

func anyOf(s *internal.CustomResourceDefinitionSpec, is func(*internal.JSONSchemaProps) bool) bool {
	for _, root := range schemasOf(s) {
		if anySchema(root, is) {
			return true
		}
	}
	return false
}

// anySchema reports whether a schema or one below it fulfils is, which is asked
// until it says yes.
func anySchema(s *internal.JSONSchemaProps, is func(*internal.JSONSchemaProps) bool) bool {
	if s == nil {
		return false
	}
	if is(s) || anySchema(s.Not, is) {
		return true
	}
	if s.Items != nil && (anySchema(s.Items.Schema, is) || anyIn(s.Items.JSONSchemas, is)) {
		return true
	}
	if anyIn(s.AllOf, is) || anyIn(s.AnyOf, is) || anyIn(s.OneOf, is) {
		return true
	}
	if anyNamed(s.Properties, is) || anyNamed(s.PatternProperties, is) || anyNamed(s.Definitions, is) {
		return true
	}
	if s.AdditionalProperties != nil && anySchema(s.AdditionalProperties.Schema, is) {
		return true
	}
	if s.AdditionalItems != nil && anySchema(s.AdditionalItems.Schema, is) {
		return true
	}
	for _, d := range s.Dependencies {
		if anySchema(d.Schema, is) {
			return true
		}
	}
	return false
}

func anyIn(all []internal.JSONSchemaProps, is func(*internal.JSONSchemaProps) bool) bool {
	for i := range all {
		if anySchema(&all[i], is) {
			return true
		}
	}
	return false
}

func anyNamed[M ~map[string]internal.JSONSchemaProps](all M, is func(*internal.JSONSchemaProps) bool) bool {
	for _, s := range all {
		if anySchema(&s, is) {
			return true
		}
	}
	return false
}

func listType(s *internal.JSONSchemaProps) string {
	if s.XListType == nil {
		return ""
	}
	return *s.XListType
}
