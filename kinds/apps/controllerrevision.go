package apps

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/object"
)

// ControllerRevision defines apps/v1 ControllerRevision.
func ControllerRevision() *object.Definition {
	return object.Kind[*appsv1.ControllerRevision]{
		Group: "apps", Version: "v1", Kind: "ControllerRevision", Resource: "controllerrevisions", Namespaced: true,
		New:     func() *appsv1.ControllerRevision { return &appsv1.ControllerRevision{} },
		NewList: func() runtime.Object { return &appsv1.ControllerRevisionList{} },
		Columns: []object.TypedColumn[*appsv1.ControllerRevision]{
			object.NameColumn[*appsv1.ControllerRevision](),
			object.StringColumn("Controller", "Controller of the object", func(r *appsv1.ControllerRevision) string {
				ref := metav1.GetControllerOf(r)
				if ref == nil {
					return "<none>"
				}
				gk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind()
				return strings.ToLower(gk.String()) + "/" + ref.Name
			}),
			object.IntColumn("Revision", appsv1.ControllerRevision{}.SwaggerDoc()["revision"], func(r *appsv1.ControllerRevision) int64 { return r.Revision }).Text(),
			object.AgeColumn[*appsv1.ControllerRevision](),
		},
		Validate:       validateControllerRevision,
		ValidateUpdate: validateControllerRevisionUpdate,
	}.Definition()
}

func validateControllerRevision(r *appsv1.ControllerRevision) field.ErrorList {
	var errs field.ErrorList
	if len(r.Data.Raw) == 0 && r.Data.Object == nil {
		errs = append(errs, field.Required(field.NewPath("data"), "data is mandatory"))
	}
	return append(errs, check.Nonnegative(field.NewPath("revision"), r.Revision)...)
}

func validateControllerRevisionUpdate(r, old *appsv1.ControllerRevision) field.ErrorList {
	errs := validateControllerRevision(r)
	if !sameJSON(r.Data.Raw, old.Data.Raw) {
		errs = append(errs, field.Invalid(field.NewPath("data"), r.Data, "field is immutable"))
	}
	return errs
}

// sameJSON compares values, not how they are written down.
func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
