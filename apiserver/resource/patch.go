package resource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"sagong/object"
)

// Patch is a change in one of the API's patch forms.
type Patch struct {
	Type types.PatchType
	Data []byte
	// Validation is fieldValidation: what to do about unknown fields.
	Validation string
}

// strict reports whether the patch itself is read strictly.
func (p Patch) strict() bool { return p.Validation != metav1.FieldValidationIgnore }

// jsonPatchOp is one operation of a JSON patch: what strict reading knows.
type jsonPatchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

// maxPatchOperations and maxPatchCopies, in bytes, bound a JSON patch, as
// upstream does: copies of copies would grow without end.
const (
	maxPatchOperations = 10000
	maxPatchCopies     = 3 << 20
)

// boundCopies sets what the library has no other way to be told.
var boundCopies = sync.OnceFunc(func() { jsonpatch.AccumulatedCopySizeLimit = maxPatchCopies })

// Patch changes an object. An apply patch creates it when it is missing; created
// reports that.
func (e *Engine) Patch(ctx context.Context, c Caller, t Target, p Patch, o *metav1.PatchOptions) (it Item, created bool, err error) {
	if p.Type == types.ApplyYAMLPatchType {
		a, err := e.apply(c, t, p, o, &created)
		if err != nil {
			return Item{}, false, err
		}
		r := e.run(ctx, a)
		return r.item, created, r.err
	}
	r := e.run(ctx, e.patch(c, t, p, o, &created))
	return r.item, created, r.err
}

func (e *Engine) patch(c Caller, t Target, p Patch, o *metav1.PatchOptions, created *bool) attempt {
	warned := false
	ch := func(_ context.Context, old object.Object) (object.Object, error) {
		v := t.WireVersion()
		if !t.Custom() {
			if obj, ok := patchNamed(v, old, p); ok {
				if t.Default != nil {
					t.Default(obj)
				}
				return obj, nil
			}
		}
		before, err := wholeObject(v, old)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		after, repeated, err := applyPatch(v, before, p)
		if err != nil {
			return nil, err
		}
		obj, unknown, err := decodePatched(v, after, p)
		if err != nil {
			return nil, err
		}
		if unknown = append(repeated, unknown...); len(unknown) > 0 {
			if p.Validation == metav1.FieldValidationStrict {
				return nil, p.invalid(after, runtime.NewStrictDecodingError(unknown))
			}
			if !warned {
				for _, u := range unknown {
					c.warn(u.Error())
				}
				warned = true
			}
		}
		if t.Default != nil {
			t.Default(obj)
		}
		return obj, nil
	}
	return e.change(c, t, ch, updateOptions{options: o, dryRun: dryRun(o.DryRun), fieldManager: o.FieldManager, current: true, patch: true}, created)
}

// wholeObject is an object's JSON in version v, with kind and apiVersion.
func wholeObject(v *object.Version, o object.Object) ([]byte, error) {
	bare, err := v.AppendJSON(nil, o)
	if err != nil {
		return nil, err
	}
	return v.WholeJSON(nil, bare), nil
}

// applyPatch gives the patched object and what the patch itself says twice or
// beyond its form, when that is asked for.
func applyPatch(v *object.Version, before []byte, p Patch) (after []byte, faults []error, err error) {
	switch p.Type {
	case types.JSONPatchType:
		if p.strict() {
			var ops []jsonPatchOp
			if faults, err = kjson.UnmarshalStrict(p.Data, &ops); err != nil {
				// Upstream's type is of another package, which the text names.
				return nil, nil, apierrors.NewBadRequest("error decoding patch: " + strings.ReplaceAll(err.Error(), "resource.jsonPatchOp", "handlers.jsonPatchOp"))
			}
			for i, f := range faults {
				faults[i] = fmt.Errorf("json patch %w", f)
			}
		}
		patch, err := jsonpatch.DecodePatch(p.Data)
		if err != nil {
			return nil, nil, apierrors.NewBadRequest(err.Error())
		}
		if len(patch) > maxPatchOperations {
			return nil, nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOperations, len(patch)))
		}
		if after, err = patch.Apply(before); err != nil {
			return nil, nil, unprocessable(err)
		}
		return after, faults, nil
	case types.MergePatchType:
		if p.strict() {
			var fields map[string]any
			if faults, err = kjson.UnmarshalStrict(p.Data, &fields); err != nil {
				return nil, nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
			}
		}
		if after, err = jsonpatch.MergePatch(before, p.Data); err != nil {
			return nil, nil, apierrors.NewBadRequest(err.Error())
		}
		return after, faults, nil
	case types.StrategicMergePatchType:
		into := v.New()
		if _, custom := into.(runtime.Unstructured); custom {
			return nil, nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "patch", schema.GroupResource{}, "",
				"the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml", 0, false)
		}
		fields, faults, err := p.fields()
		if err != nil {
			return nil, nil, apierrors.NewBadRequest(err.Error())
		}
		if after, err = strategic(before, fields, into); err != nil {
			return nil, nil, err
		}
		return after, faults, nil
	}
	return nil, nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "patch", schema.GroupResource{}, "", "unknown patch type "+string(p.Type), 0, false)
}

// fields reads a merge patch, and gives what it says twice when that is asked for.
func (p Patch) fields() (fields map[string]any, faults []error, err error) {
	if p.strict() {
		faults, err = kjson.UnmarshalStrict(p.Data, &fields)
	} else {
		err = kjson.UnmarshalCaseSensitivePreserveInts(p.Data, &fields)
	}
	return fields, faults, err
}

// strategic makes a strategic merge patch, which is its own after, with the errors
// of upstream.
func strategic(before []byte, patch map[string]any, into runtime.Object) ([]byte, error) {
	var fields map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(before, &fields); err != nil {
		return nil, apierrors.NewBadRequest(mergepatch.ErrBadJSONDoc.Error())
	}
	merged, err := strategicpatch.StrategicMergeMapPatch(fields, patch, into)
	switch err {
	case nil:
		return json.Marshal(merged)
	case mergepatch.ErrBadPatchFormatForPrimitiveList, mergepatch.ErrBadPatchFormatForRetainKeys,
		mergepatch.ErrBadPatchFormatForSetElementOrderList, mergepatch.ErrUnsupportedStrategicMergePatchFormat:
		return nil, apierrors.NewBadRequest(err.Error())
	case mergepatch.ErrNoListOfLists, mergepatch.ErrPatchContentNotMatchRetainKeys:
		return nil, unprocessable(err)
	}
	return nil, err // upstream answers 500 with the bare text
}

// invalid is the error of a patch whose result cannot be read. It shows what
// upstream has at hand: of a strategic patch the patch, else the result.
func (p Patch) invalid(after []byte, err error) error {
	shown := string(after)
	if p.Type == types.StrategicMergePatchType {
		var fields map[string]any
		if err := kjson.UnmarshalCaseSensitivePreserveInts(p.Data, &fields); err == nil {
			shown = fmt.Sprintf("%+v", fields)
		}
	}
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), shown, err.Error())})
}

func unprocessable(err error) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
}

// decodePatched reads the result of a patch as an object of the storage version,
// and lists the fields that its kind does not have.
func decodePatched(v *object.Version, data []byte, p Patch) (object.Object, []error, error) {
	into := v.New()
	d, err := object.DecodeInto(into, data, object.JSON, p.strict())
	if p.Type == types.StrategicMergePatchType && (err != nil || len(d.Strict) > 0) {
		d.Strict, err = object.MapFaults(v, data, p.strict(), d.Strict, err)
	}
	if err != nil {
		return nil, nil, p.invalid(data, err)
	}
	switch {
	case v.Definition().Dynamic != nil:
		if err := p.saysKind(into.(*unstructured.Unstructured), data); err != nil {
			return nil, nil, err
		}
	case d.GVK.Kind != v.Kind && d.GVK.Kind != "":
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("the kind in the patched object (%s) does not match the kind of the resource (%s)", d.GVK.Kind, v.Kind))
	}
	obj, err := v.ToStorage(into)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	unknown, err := object.Prune(v.Definition(), obj)
	if err != nil {
		return nil, nil, p.invalid(data, err)
	}
	return obj, append(d.Strict, unknown...), nil
}

// saysKind makes sure that the result of a patch, which is data, says of which
// kind it is. Another kind is for validation to refuse.
func (p Patch) saysKind(u *unstructured.Unstructured, data []byte) error {
	gvk, err := object.KindOf(data, object.JSON)
	switch apiVersion, has := u.Object["apiVersion"]; {
	case err != nil:
		return p.invalid(data, err)
	case gvk.Kind == "":
		return p.invalid(data, runtime.NewMissingKindErr(string(data)))
	case has && apiVersion == nil:
		return p.invalid(data, errors.New(".apiVersion accessor error: <nil> is of the type <nil>, expected string"))
	case gvk.Version == "":
		return apierrors.NewInternalError(runtime.NewMissingVersionErr("object has no apiVersion field"))
	}
	return nil
}

// apply is server-side apply.
func (e *Engine) apply(c Caller, t Target, p Patch, o *metav1.PatchOptions, created *bool) (attempt, error) {
	if e.fields == nil {
		return nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "patch", t.gr(), t.Name, "server-side apply is not configured", 0, false)
	}
	applied, faults, err := readApplied(p, o, func() (*unstructured.Unstructured, []error, error) {
		return object.DecodeApply(t.WireVersion(), p.Data, p.strict())
	})
	if err != nil {
		return nil, err
	}
	if applied.GetName() == "" {
		applied.SetName(t.Name)
	}
	// Of another kind, upstream says that first.
	if applied.GetName() != t.Name && applied.GroupVersionKind() == t.WireVersion().GroupVersionKind {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", applied.GetName(), t.Name))
	}
	manager, err := e.fields.For(t.Codec, t.WireVersion(), t.Subresource)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	force := o.Force != nil && *o.Force
	ch := func(_ context.Context, old object.Object) (object.Object, error) {
		var live object.Object
		if old == nil {
			live = t.New()
			live.SetName(t.Name)
			live.SetNamespace(t.Namespace)
		} else {
			live = old
		}
		obj, err := e.applyTo(t, manager, live, applied, o.FieldManager, force)
		if err != nil {
			var status apierrors.APIStatus
			if errors.As(err, &status) {
				return nil, err
			}
			// A field the schema does not know, or a value of the wrong type: upstream
			// answers with the bare text.
			if strings.Contains(err.Error(), "failed to create typed patch object") {
				return nil, err
			}
			return nil, apierrors.NewInternalError(err)
		}
		if err := p.judge(c, faults); err != nil {
			return nil, err
		}
		faults = nil
		if _, err := object.Prune(t.Definition, obj); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		switch rv := applied.GetResourceVersion(); {
		case rv != "":
			obj.SetResourceVersion(rv)
		case old != nil:
			obj.SetResourceVersion(old.GetResourceVersion())
		default:
			obj.SetResourceVersion("")
		}
		if old != nil && applied.GetUID() == "" {
			obj.SetUID(old.GetUID())
		}
		if old != nil {
			e.keepTimes(t, obj, old)
		}
		return obj, nil
	}
	return e.change(c, t, ch, updateOptions{
		options: o, dryRun: dryRun(o.DryRun), fieldManager: o.FieldManager,
		create: t.Subresource == "", tracked: true, current: true, patch: true, uid: applied.GetUID(),
	}, created), nil
}

// readApplied reads an apply configuration, and lists what it says twice.
func readApplied(p Patch, o *metav1.PatchOptions, read func() (*unstructured.Unstructured, []error, error)) (*unstructured.Unstructured, []error, error) {
	if o.FieldManager == "" {
		return nil, nil, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "PatchOptions"}, "", field.ErrorList{
			field.Required(field.NewPath("fieldManager"), "is required for apply patch"),
		})
	}
	applied, faults, err := read()
	switch {
	case err == nil:
		return applied, faults, nil
	case apierrors.IsBadRequest(err):
		return nil, nil, err
	}
	if _, unreadable := yaml.YAMLToJSON(p.Data); unreadable != nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error encoding patch: %v", unreadable))
	}
	return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
}

// judge refuses an apply configuration for its faults, or warns of them.
func (p Patch) judge(c Caller, faults []error) error {
	for _, f := range faults {
		if p.Validation == metav1.FieldValidationStrict {
			return apierrors.NewBadRequest("error strict decoding patch: " + f.Error())
		}
		c.warn(f.Error())
	}
	return nil
}

// keepTimes puts back the old managed fields when nothing changed but their
// times, so that applying the same again writes nothing.
func (e *Engine) keepTimes(t Target, obj, old object.Object) {
	now, was := obj.GetManagedFields(), old.GetManagedFields()
	if len(now) != len(was) {
		return
	}
	for i := range now {
		a, b := now[i], was[i]
		a.Time, b.Time = nil, nil
		if !equality.Semantic.DeepEqual(a, b) {
			return
		}
	}
	obj.SetManagedFields(was)
	value, err := t.Form(withoutRevision(obj))
	if err != nil {
		return
	}
	before, err := t.Form(withoutRevision(old))
	if err != nil || string(value) != string(before) {
		obj.SetManagedFields(now)
	}
}

func withoutRevision(o object.Object) object.Object {
	c := object.ShallowCopy(o)
	c.SetResourceVersion("")
	return c
}

// PatchOther patches a small object that is not of a stored kind, such as a
// Scale, and reads the result into an empty one. now must say its kind; scheme is
// named by the error for another. It lists
// what the patch and its result have beyond the kind; where that is refused, it
// is the error.
func PatchOther(now, into runtime.Object, p Patch, scheme string) (runtime.Object, []error, error) {
	before, err := json.Marshal(now)
	if err != nil {
		return nil, nil, apierrors.NewInternalError(err)
	}
	var after []byte
	var faults []error
	switch p.Type {
	case types.StrategicMergePatchType:
		var fields map[string]any
		if err := kjson.UnmarshalCaseSensitivePreserveInts(p.Data, &fields); err != nil {
			return nil, nil, apierrors.NewBadRequest(mergepatch.ErrBadJSONDoc.Error())
		}
		after, err = strategic(before, fields, into)
	case types.ApplyYAMLPatchType:
		return nil, nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "patch", schema.GroupResource{}, "", "server-side apply is not possible here", 0, false)
	default:
		after, faults, err = applyPatch(nil, before, p)
	}
	if err != nil {
		return nil, nil, err
	}
	kind := now.GetObjectKind().GroupVersionKind()
	if gvk, err := object.KindOf(after, object.JSON); err == nil && gvk != kind && gvk.Kind != "" {
		return nil, nil, p.invalid(after, runtime.NewNotRegisteredErrForKind(scheme, gvk))
	}
	d, err := object.DecodeInto(into, after, object.JSON, p.strict())
	if err != nil {
		return nil, nil, p.invalid(after, err)
	}
	if faults = append(faults, d.Strict...); len(faults) > 0 && p.Validation == metav1.FieldValidationStrict {
		return nil, nil, p.invalid(after, runtime.NewStrictDecodingError(faults))
	}
	return into, faults, nil
}
