package object

import (
	"errors"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

var scaleKind = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

// ApplyScale merges an apply configuration of kind Scale into live, the Scale of
// the object parent. It gives the new Scale and the managed fields that the
// object then has. Conflicts are the API's error.
func (m *FieldManagers) ApplyScale(v *Version, s *Scale, parent Object, live *autoscalingv1.Scale, applied *unstructured.Unstructured, manager string, force bool) (*autoscalingv1.Scale, []metav1.ManagedFieldsEntry, error) {
	h := scaleHandlerOf(v, s, parent)
	live = live.DeepCopy()
	live.SetGroupVersionKind(scaleKind)
	var err error
	if live.ManagedFields, err = h.ToSubresource(); err != nil {
		return nil, nil, err
	}
	if v.codec.custom && len(live.ManagedFields) == 0 {
		// Upstream's converter of custom resources knows no Scale.
		return nil, nil, fmt.Errorf("failed to create manager for existing fields: failed to convert live object (/; %s) to proper version: request to convert CR to an invalid group/version: %s", scaleKind, scaleKind.GroupVersion())
	}
	f, err := m.scale()
	if err != nil {
		return nil, nil, err
	}
	out, err := f.Apply(live, applied, manager, force)
	if err != nil {
		return nil, nil, err
	}
	next, ok := out.(*autoscalingv1.Scale)
	if !ok {
		return nil, nil, fmt.Errorf("cannot apply: the result is a %T", out)
	}
	entries, err := h.ToParent(next.ManagedFields)
	if err != nil {
		return nil, nil, err
	}
	next = next.DeepCopy()
	next.TypeMeta, next.ManagedFields = metav1.TypeMeta{}, nil
	return next, entries, nil
}

// scaleHandlerOf moves the managed fields of an object to its Scale, and back.
func scaleHandlerOf(v *Version, s *Scale, parent Object) *managedfields.ScaleHandler {
	path := fieldpath.MakePathOrDie("spec", "replicas")
	if s.Path != nil {
		path = nil
		for _, step := range s.Path {
			path = append(path, fieldpath.PathElement{FieldName: &step})
		}
	}
	paths := managedfields.ResourcePathMappings{v.GroupVersion().String(): path}
	for _, e := range parent.GetManagedFields() {
		paths[e.APIVersion] = path
	}
	return managedfields.NewScaleHandler(parent.GetManagedFields(), v.GroupVersion(), paths)
}

// UpdateScale gives the managed fields that the object parent, a custom resource,
// has after manager has written next through the scale subresource. live is its
// Scale before. As upstream, what the Scale never had an owner for gets none, and
// the time of the write is not kept.
func (m *FieldManagers) UpdateScale(v *Version, s *Scale, parent Object, live, next *autoscalingv1.Scale, manager string) ([]metav1.ManagedFieldsEntry, error) {
	h := scaleHandlerOf(v, s, parent)
	live, next = live.DeepCopy(), next.DeepCopy()
	live.SetGroupVersionKind(scaleKind)
	next.SetGroupVersionKind(scaleKind)
	var err error
	if live.ManagedFields, err = h.ToSubresource(); err != nil {
		return nil, err
	}
	f, err := m.scale()
	if err != nil {
		return nil, err
	}
	out, ok := f.UpdateNoErrors(live, next, manager).(metav1.Object)
	if !ok {
		return nil, errors.New("cannot tell who owns what: the result is no object")
	}
	return h.ToParent(out.GetManagedFields())
}

// scaleSchema is how Scales are merged: they are no kind of the scheme, whose
// types the built-in schema has.
const scaleSchema typed.YAMLObject = `types:
- name: io.k8s.api.autoscaling.v1.Scale
  map:
    fields:
    - name: apiVersion
      type:
        scalar: string
    - name: kind
      type:
        scalar: string
    - name: metadata
      type:
        namedType: io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta
    - name: spec
      type:
        map:
          fields:
          - name: replicas
            type:
              scalar: numeric
    - name: status
      type:
        map:
          fields:
          - name: replicas
            type:
              scalar: numeric
          - name: selector
            type:
              scalar: string
`

// withScale adds the schema of Scale to that of the built-in kinds.
func withScale(p *typed.Parser) *typed.Parser {
	scale, err := typed.NewParser(scaleSchema)
	if err != nil {
		panic(fmt.Sprintf("object: cannot read the schema of Scale: %v", err))
	}
	p.Schema.Types = append(p.Schema.Types, scale.Schema.Types...)
	return p
}

// scale is the library's field manager of the scale subresources.
func (m *FieldManagers) scale() (*managedfields.FieldManager, error) {
	return managedfields.NewDefaultFieldManager(m.converter(), scales{}, scales{}, scales{}, scaleKind, scaleKind.GroupVersion(), "scale", nil)
}

// scales lets the managed fields library convert and make Scales, which have one
// version.
type scales struct{}

// ConvertToVersion implements runtime.ObjectConvertor.
func (scales) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return in, nil
	}
	s := &autoscalingv1.Scale{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Convert implements runtime.ObjectConvertor.
func (scales) Convert(in, out, _ any) error {
	return fmt.Errorf("cannot convert %T to %T", in, out)
}

// ConvertFieldLabel implements runtime.ObjectConvertor.
func (scales) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// Default implements runtime.ObjectDefaulter.
func (scales) Default(runtime.Object) {}

// New implements runtime.ObjectCreater.
func (scales) New(schema.GroupVersionKind) (runtime.Object, error) {
	s := &autoscalingv1.Scale{}
	s.SetGroupVersionKind(scaleKind)
	return s, nil
}

// DecodeApplyScale reads an apply configuration of kind Scale.
func DecodeApplyScale(data []byte, strict bool) (*unstructured.Unstructured, []error, error) {
	return decodeApplied(scaleKind.Kind, data, strict, func([]byte) error { return nil })
}
