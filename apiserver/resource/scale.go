package resource

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/object"
)

// applyTries bounds how often an apply configuration is merged into a newer
// state before the caller hears of the conflict, as upstream does.
const applyTries = 5

// ApplyScale is server-side apply of a Scale: who applied the number of replicas
// owns that field of the whole object.
func (e *Engine) ApplyScale(ctx context.Context, c Caller, t Target, p Patch, o *metav1.PatchOptions) (*autoscalingv1.Scale, error) {
	applied, faults, err := readApplied(p, o, func() (*unstructured.Unstructured, []error, error) {
		return object.DecodeApplyScale(p.Data, p.strict())
	})
	if err != nil {
		return nil, err
	}
	main := t
	main.Subresource = ""
	for try := 0; ; try++ {
		_, present, err := e.read(ctx, main)
		if err != nil {
			return nil, err
		}
		live, err := scaleOf(t, present)
		if err != nil {
			return nil, err
		}
		s, managed, err := e.fields.ApplyScale(t.WireVersion(), t.Definition.Scale, present, live, applied.DeepCopy(), o.FieldManager, o.Force != nil && *o.Force)
		if err != nil {
			return nil, err
		}
		if err := p.judge(c, faults); err != nil {
			return nil, err
		}
		faults = nil
		if applied.GetResourceVersion() == "" {
			s.ResourceVersion = live.ResourceVersion
		}
		options := &metav1.UpdateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation}
		out, err := e.setScale(ctx, c, t, s, managed, options)
		if apierrors.IsConflict(err) && applied.GetResourceVersion() == "" && applied.GetUID() == "" && try < applyTries {
			continue
		}
		return out, err
	}
}

// setScale writes the number of replicas through the scale subresource. The
// write is tracked and checked as one of the whole object; managed, when not
// nil, are the managed fields that it leaves.
func (e *Engine) setScale(ctx context.Context, c Caller, t Target, s *autoscalingv1.Scale, managed []metav1.ManagedFieldsEntry, o *metav1.UpdateOptions) (*autoscalingv1.Scale, error) {
	switch s.Name {
	case t.Name:
	case "":
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", t.Name))
	default:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", s.Name, t.Name))
	}
	if s.Namespace != "" && s.Namespace != t.Namespace {
		return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	if s.Spec.Replicas == noReplicas && t.Custom() {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the spec replicas field %q cannot be empty", "."+strings.Join(t.Definition.Scale.Path, ".")))
	}
	// Objects of custom resources have a rule of their own for the field.
	if s.Spec.Replicas < 0 && !t.Custom() {
		return nil, apierrors.NewInvalid(autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind(), t.Name, field.ErrorList{
			field.Invalid(field.NewPath("spec", "replicas"), s.Spec.Replicas, "must be greater than or equal to 0"),
		})
	}
	main := t
	main.Subresource = ""
	_, present, err := e.read(ctx, main)
	if err != nil {
		return nil, err
	}
	was, err := scaleOf(t, present)
	if err != nil {
		return nil, err
	}
	a := e.attributes(c, t, Update, s, was, o, dryRun(o.DryRun))
	if err := e.admit(ctx, a); err != nil {
		return nil, err
	}
	if err := e.validateAdmission(ctx, a); err != nil {
		return nil, err
	}
	// Upstream tracks writes to custom resources as those of a Scale.
	byScale := managed == nil && t.Custom() && e.fields != nil
	ch := func(_ context.Context, old object.Object) (object.Object, error) {
		if s.UID != "" && s.UID != old.GetUID() {
			if t.Custom() {
				return nil, otherUID(t, s.UID, old.GetUID())
			}
			gr := t.gr()
			gr.Resource += "/scale"
			return nil, apierrors.NewConflict(gr, t.Name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", s.UID, old.GetUID()))
		}
		if s.ResourceVersion != "" && s.ResourceVersion != old.GetResourceVersion() {
			return nil, apierrors.NewConflict(t.gr(), t.Name, errors.New(modifiedText))
		}
		obj := old.DeepCopyObject().(object.Object)
		t.Definition.Scale.Set(obj, s.Spec.Replicas)
		entries := managed
		if byScale {
			live, err := scaleOf(t, old)
			if err != nil {
				return nil, err
			}
			if entries, err = e.fields.UpdateScale(t.WireVersion(), t.Definition.Scale, old, live, s, c.manager(o.FieldManager)); err != nil {
				return nil, apierrors.NewInternalError(err)
			}
		}
		if managed != nil || byScale {
			obj.SetManagedFields(entries)
			e.keepTimes(main, obj, old)
		}
		return obj, nil
	}
	r := e.run(ctx, e.change(c, main, ch, updateOptions{
		options: o, dryRun: dryRun(o.DryRun), fieldManager: o.FieldManager, scale: true, tracked: managed != nil || byScale, current: s.ResourceVersion == "",
	}, new(bool)))
	if r.err != nil {
		return nil, r.err
	}
	obj, err := r.item.Object()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return scaleOf(t, obj)
}

// noReplicas stands for a number that the object does not have while its Scale
// is changed.
const noReplicas = math.MinInt32

// getScale is scaleOf for readers, for whom there must be a number.
func getScale(t Target, obj object.Object) (*autoscalingv1.Scale, error) {
	if missing := t.Definition.Scale.Missing; missing != nil {
		if err := missing(obj); err != nil {
			return nil, apierrors.NewInternalError(err)
		}
	}
	return scaleOf(t, obj)
}

// scaleOf is an object's Scale with its metadata.
func scaleOf(t Target, obj object.Object) (*autoscalingv1.Scale, error) {
	s := t.Definition.Scale.Get(obj)
	if missing := t.Definition.Scale.Missing; missing != nil && missing(obj) != nil {
		s.Spec.Replicas = noReplicas
	}
	s.ObjectMeta = metav1.ObjectMeta{
		Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
	}
	return s, nil
}
