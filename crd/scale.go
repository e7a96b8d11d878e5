package crd

import (
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"

	"sagong/object"
)

// scaleOf maps the paths of a definition to Scale.
func scaleOf(s *apiextensionsv1.CustomResourceSubresourceScale) *object.Scale {
	wanted, seen := steps(s.SpecReplicasPath), steps(s.StatusReplicasPath)
	return &object.Scale{
		Path: wanted,
		Missing: func(o object.Object) error {
			if _, has, err := unstructured.NestedInt64(content(o), wanted...); err != nil {
				return err
			} else if !has {
				return fmt.Errorf("the spec replicas field %q does not exist", s.SpecReplicasPath)
			}
			return nil
		},
		Get: func(o object.Object) *autoscalingv1.Scale {
			out := &autoscalingv1.Scale{}
			n, _, _ := unstructured.NestedInt64(content(o), wanted...)
			out.Spec.Replicas = int32(n)
			n, _, _ = unstructured.NestedInt64(content(o), seen...)
			out.Status.Replicas = int32(n)
			if s.LabelSelectorPath != nil {
				out.Status.Selector, _, _ = unstructured.NestedString(content(o), steps(*s.LabelSelectorPath)...)
			}
			return out
		},
		Set: func(o object.Object, n int32) {
			// Validation of the definition keeps the path under spec; where a part of it
			// is no object, validation of the object refuses the rest.
			_ = unstructured.SetNestedField(content(o), int64(n), wanted...)
		},
	}
}

// selectable makes the field selectors that a version lists.
func (r *revision) selectable(d *object.Definition) {
	if len(r.spec.SelectableFields) == 0 {
		return
	}
	paths := make([][]string, len(r.spec.SelectableFields))
	for i, f := range r.spec.SelectableFields {
		paths[i] = steps(f.JSONPath)
		d.FieldNames = append(d.FieldNames, f.JSONPath[1:])
	}
	d.Fields = func(o object.Object) fields.Set {
		set := make(fields.Set, len(paths))
		for i, p := range paths {
			value, has, err := unstructured.NestedFieldNoCopy(content(o), p...)
			if err == nil && has && value != nil {
				set[d.FieldNames[i]] = fmt.Sprint(value)
			} else {
				set[d.FieldNames[i]] = ""
			}
		}
		return set
	}
}
