package crd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/warning"

	"sagong/object"
)

// lazy is what a version's schema becomes when it is first needed: a server with
// a hundred kinds starts without reading any of their schemas.
type lazy struct {
	shape func() (*structural.Structural, error)
	rules func() (*rules, error)
}

// rules judge objects of one version.
type rules struct {
	whole, status schemavalidation.SchemaValidator
	cel           *cel.Validator // nil without expressions
	// quantities is whether expressions may make texts quantities.
	quantities bool
}

func (l *lazy) init(r *revision) {
	l.shape = sync.OnceValues(r.makeShape)
	l.rules = sync.OnceValues(r.makeRules)
}

func (r *revision) makeShape() (*structural.Structural, error) {
	s, err := r.schemaOf()
	if err != nil || s == nil {
		return nil, err
	}
	ss, err := structural.NewStructural(s)
	if err != nil {
		if r.crd.Spec.PreserveUnknownFields {
			return nil, nil
		}
		return nil, fmt.Errorf("the schema of %s is not structural: %w", r.gvk, err)
	}
	if r.crd.Spec.PreserveUnknownFields {
		return ss, nil
	}
	ss = ss.DeepCopy()
	if err := defaulting.PruneDefaults(ss); err != nil {
		return nil, fmt.Errorf("cannot prune the defaults of %s: %w", r.gvk, err)
	}
	return ss, nil
}

func (r *revision) makeRules() (*rules, error) {
	s, err := r.schemaOf()
	if err != nil {
		return nil, err
	}
	out := &rules{}
	if out.whole, _, err = schemavalidation.NewSchemaValidator(s); err != nil {
		return nil, err
	}
	if s != nil && r.spec.Subresources != nil && r.spec.Subresources.Status != nil {
		if status, ok := s.Properties["status"]; ok {
			if out.status, _, err = schemavalidation.NewSchemaValidator(&status); err != nil {
				return nil, err
			}
		}
	}
	ss, err := r.shape()
	if err != nil {
		return nil, err
	}
	if ss != nil {
		out.cel = cel.NewValidator(ss, true, celconfig.PerCallLimit)
		text, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		out.quantities = bytes.Contains(text, []byte("uantity"))
	}
	return out, nil
}

// coerce removes what the schema does not know and returns its paths. lenient
// drops malformed metadata of embedded objects, which used to be stored.
func (r *revision) coerce(m map[string]any, track, lenient bool) (unknown []string, err error) {
	ss, err := r.shape()
	if err != nil {
		return nil, err
	}
	meta, hasMeta := m["metadata"]
	if !r.crd.Spec.PreserveUnknownFields {
		unknown = pruning.PruneWithOptions(m, ss, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: track})
		defaulting.PruneNonNullableNullsWithoutDefaults(m, ss)
	}
	if hasMeta {
		m["metadata"] = meta
	}
	wrong, more := objectmeta.CoerceWithOptions(nil, m, ss, false, objectmeta.CoerceOptions{DropInvalidFields: lenient, ReturnUnknownFieldPaths: track})
	if wrong != nil {
		return nil, wrong
	}
	return append(unknown, more...), nil
}

func (r *revision) prune(o object.Object) ([]string, error) {
	if k := o.GetObjectKind().GroupVersionKind(); k != r.gvk {
		return nil, nil // has no schema, and is refused
	}
	return r.coerce(content(o), true, false)
}

func (r *revision) fillIn(o object.Object) {
	if ss, err := r.shape(); err == nil && ss != nil && !r.crd.Spec.PreserveUnknownFields {
		defaulting.Default(content(o), ss)
	}
}

func (r *revision) prepareCreate(_ context.Context, o object.Object) {
	if r.def.Status {
		delete(content(o), "status")
	}
	o.SetGeneration(1)
}

// prepareUpdate counts the generation: whatever changes but metadata, and the
// status where it is a subresource, is a new wish.
func (r *revision) prepareUpdate(_ context.Context, o, old object.Object) {
	now, was := content(o), content(old)
	if !sameBut(now, was, "metadata") {
		o.SetGeneration(old.GetGeneration() + 1)
	}
}

func sameBut(a, b map[string]any, but string) bool {
	for _, pair := range [][2]map[string]any{{a, b}, {b, a}} {
		for k, v := range pair[0] {
			if k == but {
				continue
			}
			other, has := pair[1][k]
			if !has || !reflect.DeepEqual(v, other) {
				return false
			}
		}
	}
	return true
}

// prepareStatus lets a write to status change nothing of metadata but who manages
// which field.
func (r *revision) prepareStatus(_ context.Context, o, old object.Object) {
	managed, rv := o.GetManagedFields(), o.GetResourceVersion()
	meta := map[string]any{}
	if was, ok := content(old)["metadata"].(map[string]any); ok {
		for k, v := range was {
			meta[k] = v
		}
	}
	content(o)["metadata"] = meta
	o.SetManagedFields(managed)
	o.SetResourceVersion(rv)
}

// ready gives the compiled schema, or what to tell the client when it cannot be
// had: validation of the definition should have prevented that.
func (r *revision) ready() (*structural.Structural, *rules, field.ErrorList) {
	ss, err := r.shape()
	if err == nil {
		var ru *rules
		if ru, err = r.rules(); err == nil {
			return ss, ru, nil
		}
	}
	return nil, nil, field.ErrorList{field.InternalError(nil, fmt.Errorf("the server could not properly serve the CR schema: %w", err))}
}

func (r *revision) validate(o object.Object) field.ErrorList {
	ss, ru, failed := r.ready()
	if failed != nil {
		return failed
	}
	m := content(o)
	if errs := r.validateType(m); len(errs) > 0 {
		return errs
	}
	errs := schemavalidation.ValidateCustomResource(nil, m, ru.whole)
	errs = append(errs, r.validateScale(m, true)...)
	errs = append(errs, objectmeta.Validate(context.Background(), nil, m, ss, false)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, ss, m)...)
	return r.validateRules(context.Background(), ss, ru, errs, m, nil)
}

// warner tells the client of a write what the library warns of.
type warner func(...string)

// AddWarning implements warning.Recorder.
func (w warner) AddWarning(_, text string) { w(text) }

// validateChange implements object.Dynamic.ValidateUpdate.
func (r *revision) validateChange(o, old object.Object, status bool, warn func(...string)) field.ErrorList {
	ctx := warning.WithWarningRecorder(context.Background(), warner(warn))
	if status {
		return r.validateStatus(ctx, o, old)
	}
	return r.validateUpdate(ctx, o, old)
}

// validateUpdate checks a changed object. What is unchanged and wrong already
// stays: a schema may have become stricter since.
func (r *revision) validateUpdate(ctx context.Context, o, old object.Object) field.ErrorList {
	ss, ru, failed := r.ready()
	if failed != nil {
		return failed
	}
	m, was := content(o), content(old)
	if errs := r.validateType(m); len(errs) > 0 {
		return errs
	}
	pair := correlate(ss, m, was)
	errs := schemavalidation.ValidateCustomResourceUpdate(nil, m, was, ru.whole, ratchet(pair)...)
	errs = append(errs, r.validateScale(m, true)...)
	errs = append(errs, objectmeta.Validate(context.Background(), nil, m, ss, false)...)
	if len(listtype.ValidateListSetsAndMaps(nil, ss, was)) == 0 {
		errs = append(errs, listtype.ValidateListSetsAndMaps(nil, ss, m)...)
	}
	return r.validateRules(ctx, ss, ru, errs, m, was, celRatchet(pair)...)
}

func (r *revision) validateStatus(ctx context.Context, o, old object.Object) field.ErrorList {
	ss, ru, failed := r.ready()
	if failed != nil {
		return failed
	}
	m, was := content(o), content(old)
	if errs := r.validateType(m); len(errs) > 0 {
		return errs
	}
	pair := correlate(ss, m, was)
	var errs field.ErrorList
	if status, has := m["status"]; has && ru.status != nil {
		var options []schemavalidation.ValidationOption
		if pair != nil {
			options = ratchet(pair.Key("status"))
		}
		errs = append(errs, schemavalidation.ValidateCustomResourceUpdate(field.NewPath("status"), status, was["status"], ru.status, options...)...)
	}
	errs = append(errs, r.validateScale(m, false)...)
	if now := listtype.ValidateListSetsAndMaps(nil, ss, m); len(now) > 0 && len(listtype.ValidateListSetsAndMaps(nil, ss, was)) == 0 {
		errs = append(errs, now...)
	}
	return r.validateRules(ctx, ss, ru, errs, m, was, celRatchet(pair)...)
}

// correlate pairs the values of two states of an object; nil without a schema.
func correlate(ss *structural.Structural, now, was map[string]any) *common.CorrelatedObject {
	if ss == nil {
		return nil
	}
	return common.NewCorrelatedObject(now, was, &model.Structural{Structural: ss})
}

func ratchet(pair *common.CorrelatedObject) []schemavalidation.ValidationOption {
	if pair == nil {
		return nil
	}
	return []schemavalidation.ValidationOption{schemavalidation.WithRatcheting(pair)}
}

func celRatchet(pair *common.CorrelatedObject) []cel.Option {
	if pair == nil {
		return nil
	}
	return []cel.Option{cel.WithRatcheting(pair)}
}

// validateRules evaluates x-kubernetes-validations, unless the object is so wrong
// that expressions could not rely on its types.
func (r *revision) validateRules(ctx context.Context, ss *structural.Structural, ru *rules, errs field.ErrorList, m, was map[string]any, o ...cel.Option) field.ErrorList {
	if ru.cel == nil {
		return errs
	}
	for _, e := range errs {
		switch e.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return append(errs, field.Invalid(nil, nil, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"))
		}
	}
	if ru.quantities {
		seen := maps.Clone(m)
		if meta, ok := m["metadata"].(map[string]any); ok {
			seen["metadata"] = map[string]any{"name": meta["name"], "generateName": meta["generateName"]}
		}
		if path, text := longNumber(nil, seen); path != nil {
			return append(errs, field.Invalid(path, text, resource.ErrSuffix.Error()))
		}
	}
	var old any
	if was != nil {
		old = was
	}
	found, _ := ru.cel.Validate(ctx, nil, ss, m, old, celconfig.RuntimeCELCostBudget, o...)
	return append(errs, found...)
}

// longNumber finds a text that would keep an expression busy for ever, were it
// made a quantity: the cost limit does not know.
func longNumber(path *field.Path, v any) (*field.Path, string) {
	switch v := v.(type) {
	case map[string]any:
		for k, v := range v {
			if object.HasLongNumber(k) {
				return path.Child(k), k
			}
			if p, text := longNumber(path.Child(k), v); p != nil {
				return p, text
			}
		}
	case []any:
		for i, v := range v {
			if p, text := longNumber(path.Index(i), v); p != nil {
				return p, text
			}
		}
	case string:
		if object.HasLongNumber(v) {
			return path, v
		}
	}
	return nil, ""
}

func (r *revision) validateType(m map[string]any) (errs field.ErrorList) {
	if k, _ := m["kind"].(string); k != r.gvk.Kind {
		errs = append(errs, field.Invalid(field.NewPath("kind"), k, "must be "+r.gvk.Kind))
	}
	if v, _ := m["apiVersion"].(string); v != r.gvk.GroupVersion().String() {
		errs = append(errs, field.Invalid(field.NewPath("apiVersion"), v, "must be "+r.gvk.GroupVersion().String()))
	}
	return errs
}

// validateScale checks what the scale subresource reads.
func (r *revision) validateScale(m map[string]any, spec bool) (errs field.ErrorList) {
	if r.spec.Subresources == nil || r.spec.Subresources.Scale == nil {
		return nil
	}
	s := r.spec.Subresources.Scale
	count := func(path string) {
		n, _, err := unstructured.NestedInt64(m, steps(path)...)
		p := field.NewPath(path)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(p, n, err.Error()))
		case n < 0:
			errs = append(errs, field.Invalid(p, n, "should be a non-negative integer"))
		case n > math.MaxInt32:
			errs = append(errs, field.Invalid(p, n, fmt.Sprintf("should be less than or equal to %v", math.MaxInt32)))
		}
	}
	if spec {
		count(s.SpecReplicasPath)
	}
	count(s.StatusReplicasPath)
	if s.LabelSelectorPath != nil {
		if sel, _, err := unstructured.NestedString(m, steps(*s.LabelSelectorPath)...); err != nil {
			errs = append(errs, field.Invalid(field.NewPath(*s.LabelSelectorPath), sel, err.Error()))
		}
	}
	return errs
}

var standardFinalizers = sets.New(metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents, string(corev1.FinalizerKubernetes))

// finalizerWarnings are about new finalizers whose names may collide.
func finalizerWarnings(o, old object.Object) (out []string) {
	added := sets.New(o.GetFinalizers()...)
	if old != nil {
		added.Delete(old.GetFinalizers()...)
	}
	const at = "metadata.finalizers"
	for _, f := range sets.List(added) {
		for _, msg := range utilvalidation.IsQualifiedName(f) {
			out = append(out, fmt.Sprintf("%s: %q: %s", at, f, msg))
		}
		if strings.Contains(f, "/") || standardFinalizers.Has(f) {
			continue
		}
		path := ""
		if strings.Contains(f, ".") {
			path = " including a path (/)"
		}
		out = append(out, fmt.Sprintf("%s: %q: prefer a domain-qualified finalizer name%s to avoid accidental conflicts with other finalizer writers", at, f, path))
	}
	return out
}
