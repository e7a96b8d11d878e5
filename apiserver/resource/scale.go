package resource

import (
	"context"
	"errors"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/object"
)

// setScale writes the number of replicas through the scale subresource. The
// write is tracked and checked as one of the whole object.
func (e *Engine) setScale(ctx context.Context, c Caller, t Target, s *autoscalingv1.Scale, o *metav1.UpdateOptions) (*autoscalingv1.Scale, error) {
	if s.Name == "" {
		s.Name = t.Name
	}
	if s.Name != t.Name {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", s.Name, t.Name))
	}
	if s.Namespace != "" && s.Namespace != t.Namespace {
		return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	if s.Spec.Replicas < 0 {
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
	ch := func(_ context.Context, old object.Object) (object.Object, error) {
		if s.UID != "" && s.UID != old.GetUID() {
			gr := t.gr()
			gr.Resource += "/scale"
			return nil, apierrors.NewConflict(gr, t.Name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", s.UID, old.GetUID()))
		}
		if s.ResourceVersion != "" && s.ResourceVersion != old.GetResourceVersion() {
			return nil, apierrors.NewConflict(t.gr(), t.Name, errors.New(modifiedText))
		}
		obj := old.DeepCopyObject().(object.Object)
		t.Definition.Scale.Set(obj, s.Spec.Replicas)
		return obj, nil
	}
	r := e.run(ctx, e.change(c, main, ch, updateOptions{options: o, dryRun: dryRun(o.DryRun), fieldManager: o.FieldManager, scale: true, current: s.ResourceVersion == ""}, new(bool)))
	if r.err != nil {
		return nil, r.err
	}
	obj, err := r.item.Object()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return scaleOf(t, obj)
}

// scaleOf is an object's Scale with its metadata.
func scaleOf(t Target, obj object.Object) (*autoscalingv1.Scale, error) {
	if missing := t.Definition.Scale.Missing; missing != nil {
		if err := missing(obj); err != nil {
			return nil, apierrors.NewInternalError(err)
		}
	}
	s := t.Definition.Scale.Get(obj)
	s.ObjectMeta = metav1.ObjectMeta{
		Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
	}
	return s, nil
}
