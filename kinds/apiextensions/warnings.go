package apiextensions

import (
	"fmt"
	"slices"

	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// warnings names what a schema says and nothing heeds. Upstream's texts.
func warnings(c, old *apiextensionsv1.CustomResourceDefinition) []string {
	formats, sets := doubtful(c)
	if old != nil {
		oldFormats, oldSets := doubtful(old)
		formats = slices.DeleteFunc(formats, func(f string) bool { return slices.Contains(oldFormats, f) })
		sets = slices.DeleteFunc(sets, func(s string) bool { return slices.Contains(oldSets, s) })
	}
	out := make([]string, 0, len(formats)+len(sets))
	for _, f := range formats {
		out = append(out, fmt.Sprintf("unrecognized format %q", f))
	}
	return append(out, sets...)
}

// doubtful lists the formats nobody checks, and warnings about lists of type set
// whose items are no scalars.
func doubtful(c *apiextensionsv1.CustomResourceDefinition) (formats, sets []string) {
	in, err := toInternal(c)
	if err != nil {
		return nil, nil
	}
	for _, root := range schemasOf(&in.Spec) {
		anySchema(root, func(s *internal.JSONSchemaProps) bool {
			if s.Format != "" {
				one := &spec.Schema{SchemaProps: spec.SchemaProps{Format: s.Format, Type: []string{s.Type}}}
				formats = append(formats, schemavalidation.GetUnrecognizedFormats(one, environment.DefaultCompatibilityVersion())...)
			}
			if listType(s) == "set" && s.Items != nil && s.Items.Schema != nil {
				if t := s.Items.Schema.Type; t == "object" || t == "array" {
					sets = append(sets, fmt.Sprintf("x-kubernetes-list-type: set for items of type %q is not supported by server-side apply or CEL validation rules", t))
				}
			}
			return false
		})
	}
	slices.Sort(sets)
	return formats, slices.Compact(sets)
}
