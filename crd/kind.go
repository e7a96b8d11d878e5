// Package crd serves the kinds that CustomResourceDefinitions define: it turns
// each into the row that a built-in kind has, with rules made of its schemas,
// and looks after the definitions' conditions and their end.
package crd

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"sagong/object"
)

// kind is one definition while it is served. It never changes: a changed
// definition is a new kind.
type kind struct {
	crd      *apiextensionsv1.CustomResourceDefinition // shared and immutable
	names    apiextensionsv1.CustomResourceDefinitionNames
	storage  *revision
	versions []*revision // all that the definition lists, served or not
	convert  converter
	life     context.Context
	end      context.CancelFunc
	// row is what the scheme holds; nil when no version is served.
	row *object.Definition
}

// revision is one version of a kind.
type revision struct {
	*kind
	spec *apiextensionsv1.CustomResourceDefinitionVersion
	gvk  schema.GroupVersionKind
	def  *object.Definition
	lazy
}

// newKind prepares a definition under the names it has. Nothing of its schemas
// is looked at before somebody uses the kind.
func newKind(crd *apiextensionsv1.CustomResourceDefinition, names apiextensionsv1.CustomResourceDefinitionNames, w webhooks) *kind {
	k := &kind{crd: crd, names: names}
	k.life, k.end = context.WithCancel(context.Background())
	k.convert = newConverter(k, w)
	var served []*object.Definition
	for i := range crd.Spec.Versions {
		spec := &crd.Spec.Versions[i]
		r := &revision{kind: k, spec: spec, gvk: schema.GroupVersionKind{Group: crd.Spec.Group, Version: spec.Name, Kind: names.Kind}}
		r.lazy.init(r)
		k.versions = append(k.versions, r)
		if spec.Storage {
			k.storage = r
		}
	}
	if k.storage == nil {
		return k
	}
	listed := make([]*object.Definition, len(k.versions))
	for i, r := range k.versions {
		r.define()
		r.def.Dynamic.Listed, listed[i] = listed, r.def
		if !r.spec.Served {
			continue
		}
		if r.spec.Storage {
			served = slices.Insert(served, 0, r.def)
		} else {
			served = append(served, r.def)
		}
	}
	if len(served) > 0 {
		k.row = served[0]
		k.row.Others = served[1:]
		for _, d := range k.row.Others {
			d.Dynamic.Alias = true
		}
	}
	return k
}

func (k *kind) version(name string) *revision {
	for _, r := range k.versions {
		if r.spec.Name == name {
			return r
		}
	}
	return nil
}

// define makes the row of a version.
func (r *revision) define() {
	terminating := apihelpers.IsCRDConditionTrue(r.crd, apiextensionsv1.Terminating)
	d := &object.Definition{
		Group: r.gvk.Group, Version: r.gvk.Version, Kind: r.gvk.Kind,
		Resource: r.names.Plural, Singular: r.names.Singular, ShortNames: r.names.ShortNames, Categories: r.names.Categories,
		Namespaced: r.crd.Spec.Scope == apiextensionsv1.NamespaceScoped,
		New: func() object.Object {
			return &unstructured.Unstructured{Object: map[string]any{"apiVersion": r.gvk.GroupVersion().String(), "kind": r.gvk.Kind}}
		},
		NewList: func() runtime.Object { return &unstructured.UnstructuredList{} },
		Columns: r.columns(),
		Dynamic: &object.Dynamic{
			Life: r.life, Storage: r.storage.spec.Name, ListKind: r.names.ListKind, Terminating: terminating, Deprecation: r.deprecation(),
			Digest: r.digest(), Decode: r.decode, DecodeAll: r.decodeAll, Encode: r.encode, Converts: r.convert.changesMetadata(), Convert: r.convertFields,
			ValidateUpdate: r.validateChange, Fields: r.fields, Model: r.model,
		},
	}
	if sub := r.spec.Subresources; sub != nil {
		d.Status = sub.Status != nil
		if sub.Scale != nil {
			d.Scale = scaleOf(sub.Scale)
		}
	}
	r.selectable(d)
	d.Hooks = object.Hooks{
		Default: r.fillIn, Prune: r.prune, PrepareCreate: r.prepareCreate, PrepareUpdate: r.prepareUpdate, PrepareStatusUpdate: r.prepareStatus,
		Validate: r.validate, Warnings: finalizerWarnings,
		RefuseUnconditionalUpdate: true,
	}
	r.def = d
}

// digest changes with what clients are told of a version.
func (r *revision) digest() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %v %s", r.crd.UID, r.crd.Generation, r.names, r.gvk.Version))
	return fmt.Sprintf("%x", sum[:8])
}

// deprecation is the warning for requests in a deprecated version: the author's,
// or one that names the best version to use instead.
func (r *revision) deprecation() string {
	if !r.spec.Deprecated {
		return ""
	}
	if r.spec.DeprecationWarning != nil {
		return *r.spec.DeprecationWarning
	}
	text := fmt.Sprintf("%s/%s %s is deprecated", r.gvk.Group, r.gvk.Version, r.crd.Spec.Names.Kind)
	best := ""
	for _, v := range r.crd.Spec.Versions {
		if v.Served && !v.Deprecated && version.CompareKubeAwareVersionStrings(r.gvk.Version, v.Name) < 0 &&
			(best == "" || version.CompareKubeAwareVersionStrings(best, v.Name) < 0) {
			best = v.Name
		}
	}
	if best == "" {
		return text
	}
	return fmt.Sprintf("%s; use %s/%s %s", text, r.gvk.Group, best, r.crd.Spec.Names.Kind)
}

// schemaOf is the internal form of a version's schema; nil when it has none.
func (r *revision) schemaOf() (*internal.JSONSchemaProps, error) {
	if r.spec.Schema == nil || r.spec.Schema.OpenAPIV3Schema == nil {
		return nil, nil
	}
	out := &internal.CustomResourceValidation{}
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(r.spec.Schema.DeepCopy(), out, nil); err != nil {
		return nil, fmt.Errorf("cannot read the schema of %s: %w", r.gvk, err)
	}
	return out.OpenAPIV3Schema, nil
}

// steps takes a simple JSON path apart: ".spec.size" is spec, size.
func steps(path string) []string { return strings.Split(strings.TrimPrefix(path, "."), ".") }

func content(o object.Object) map[string]any { return o.(*unstructured.Unstructured).Object }
