package crd

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	openapiv2 "k8s.io/apiextensions-apiserver/pkg/controller/openapi/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/builder3/util"
	"k8s.io/kube-openapi/pkg/schemamutation"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"sagong/object"
)

const (
	metaPrefix = "io.k8s.apimachinery.pkg.apis.meta.v1."
	refPrefix  = "#/components/schemas/"
)

var (
	typeDoc = metav1.TypeMeta{}.SwaggerDoc()
	metaDoc = metav1.PartialObjectMetadata{}.SwaggerDoc()["metadata"]
	listDoc = metav1.PartialObjectMetadataList{}.SwaggerDoc()["metadata"]
)

// modelName is io.example.v1.Widget for Widget of example.io/v1.
func (r *revision) modelName(kind string) string {
	parts := strings.Split(r.gvk.Group, ".")
	slices.Reverse(parts)
	return strings.Join(parts, ".") + "." + r.gvk.Version + "." + kind
}

// model describes the version to clients.
func (r *revision) model() (object.Model, error) {
	m := object.Model{Name: r.modelName(r.gvk.Kind), List: r.modelName(r.names.ListKind)}
	var err error
	marshal := func(s *spec.Schema) json.RawMessage {
		b, failed := json.Marshal(s)
		if failed != nil && err == nil {
			err = failed
		}
		return b
	}
	for _, v2 := range []bool{false, true} {
		whole, failed := r.openAPI(v2)
		if failed != nil {
			return m, failed
		}
		list := r.listSchema()
		r.addSelectable(list)
		if v2 {
			m.V2, m.ListV2 = marshal(withoutDefaults(whole)), marshal(list)
		} else {
			m.V3, m.ListV3 = marshal(util.WrapRefs(whole)), marshal(util.WrapRefs(list))
		}
	}
	return m, err
}

// openAPI is the schema of an object. Clients of v2 take what is not described
// for forbidden, so less is said there where anything goes.
func (r *revision) openAPI(v2 bool) (*spec.Schema, error) {
	s, err := r.schemaOf()
	if err != nil {
		return nil, err
	}
	out := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}}}
	if ss := structuralOf(s); ss != nil {
		ss = ss.Unfold()
		if !v2 || !ss.XPreserveUnknownFields && !r.crd.Spec.PreserveUnknownFields {
			if v2 {
				ss = openapiv2.ToStructuralOpenAPIV2(ss)
			}
			out = ss.ToKubeOpenAPI()
			out.SetProperty("metadata", *reference("ObjectMeta").WithDescription(metaDoc))
			addTypeMeta(out, typeDoc["apiVersion"], typeDoc["kind"])
			addEmbedded(out, v2)
		}
	}
	out.AddExtension("x-kubernetes-group-version-kind", []any{map[string]any{"group": r.gvk.Group, "version": r.gvk.Version, "kind": r.gvk.Kind}})
	r.addSelectable(out)
	return out, nil
}

// withoutDefaults is the form of a schema for clients of v2, which do not expect them.
func withoutDefaults(s *spec.Schema) *spec.Schema {
	w := schemamutation.Walker{RefCallback: schemamutation.RefCallbackNoop, SchemaCallback: func(s *spec.Schema) *spec.Schema {
		if s.Default == nil {
			return s
		}
		plain := *s
		plain.Default = nil
		return &plain
	}}
	return w.WalkSchema(s)
}

// addSelectable tells clients by which fields they may select.
func (r *revision) addSelectable(s *spec.Schema) {
	if len(r.spec.SelectableFields) == 0 {
		return
	}
	all := make([]any, len(r.spec.SelectableFields))
	for i, f := range r.spec.SelectableFields {
		all[i] = map[string]any{"fieldPath": strings.TrimPrefix(f.JSONPath, ".")}
	}
	s.AddExtension("x-kubernetes-selectable-fields", all)
}

// structuralOf is nil for a schema that is not structural: it is not published.
func structuralOf(s *apiextensions.JSONSchemaProps) *structural.Structural {
	if s == nil {
		return nil
	}
	ss, err := structural.NewStructural(s)
	if err != nil || len(structural.ValidateStructural(nil, ss)) > 0 {
		return nil
	}
	return ss
}

func reference(model string) *spec.Schema { return spec.RefSchema(refPrefix + metaPrefix + model) }

func addTypeMeta(s *spec.Schema, apiVersion, kind string) {
	s.SetProperty("apiVersion", *spec.StringProperty().WithDescription(apiVersion))
	s.SetProperty("kind", *spec.StringProperty().WithDescription(kind))
}

// addEmbedded describes the metadata of embedded resources.
func addEmbedded(s *spec.Schema, v2 bool) {
	if s == nil {
		return
	}
	for k, v := range s.Properties {
		addEmbedded(&v, v2)
		s.Properties[k] = v
	}
	if s.Items != nil {
		addEmbedded(s.Items.Schema, v2)
	}
	if s.AdditionalProperties != nil {
		addEmbedded(s.AdditionalProperties.Schema, v2)
	}
	if preserves, _ := s.Extensions.GetBool("x-kubernetes-preserve-unknown-fields"); preserves && v2 {
		return
	}
	if embedded, _ := s.Extensions.GetBool("x-kubernetes-embedded-resource"); !embedded {
		return
	}
	addTypeMeta(s,
		"apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources",
		"kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds")
	s.SetProperty("metadata", *reference("ObjectMeta").WithDescription(metaDoc))
	for _, name := range []string{"kind", "apiVersion"} {
		if !slices.Contains(s.Required, name) {
			s.Required = append(s.Required, name)
		}
	}
}

func (r *revision) listSchema() *spec.Schema {
	s := new(spec.Schema).Typed("object", "").
		WithDescription(fmt.Sprintf("%s is a list of %s", r.names.ListKind, r.gvk.Kind)).
		WithRequired("items").
		SetProperty("items", *spec.ArrayProperty(spec.RefSchema(refPrefix + r.modelName(r.gvk.Kind))).
			WithDescription(fmt.Sprintf("List of %s. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", r.names.Plural))).
		SetProperty("metadata", *reference("ListMeta").WithDescription(listDoc))
	addTypeMeta(s, typeDoc["apiVersion"], typeDoc["kind"])
	s.AddExtension("x-kubernetes-group-version-kind", []any{map[string]any{"group": r.gvk.Group, "version": r.gvk.Version, "kind": r.names.ListKind}})
	return s
}

// metadataSchemas are ObjectMeta and what it refers to: how metadata merges. A
// test holds it equal to the published schemas, descriptions aside.
//
//go:embed metadata.json
var metadataSchemas []byte

var metadataModels = sync.OnceValues(func() (map[string]*spec.Schema, error) {
	var out map[string]*spec.Schema
	err := json.Unmarshal(metadataSchemas, &out)
	return out, err
})

// fields says how the versions of the kind merge in server-side apply.
func (k *kind) fields() (managedfields.TypeConverter, error) {
	models, err := metadataModels()
	if err != nil {
		return nil, err
	}
	all := make(map[string]*spec.Schema, len(models)+len(k.versions))
	for name, s := range models {
		all[name] = s
	}
	for _, r := range k.versions {
		s, err := r.openAPI(false)
		if err != nil {
			return nil, err
		}
		all[r.modelName(r.gvk.Kind)] = s
	}
	return managedfields.NewTypeConverter(all, k.crd.Spec.PreserveUnknownFields)
}
