package resource

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/object"
)

// bind is pods/binding: it gives a pod its node, once.
func (e *Engine) bind(c Caller, t Target, b *corev1.Binding, o *metav1.CreateOptions) attempt {
	ch := func(_ context.Context, old object.Object) (object.Object, error) {
		pod := old.(*corev1.Pod)
		if pod.DeletionTimestamp != nil {
			return nil, apierrors.NewConflict(corev1.Resource("pods/binding"), t.Name, fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", pod.Name))
		}
		if pod.Spec.NodeName != "" {
			return nil, apierrors.NewConflict(corev1.Resource("pods/binding"), t.Name, fmt.Errorf("pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName))
		}
		if len(pod.Spec.SchedulingGates) != 0 {
			return nil, apierrors.NewConflict(corev1.Resource("pods/binding"), t.Name, fmt.Errorf("pod %v has non-empty .spec.schedulingGates", pod.Name))
		}
		if uid := b.UID; uid != "" && uid != pod.UID {
			return nil, apierrors.NewConflict(corev1.Resource("pods/binding"), t.Name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, pod.UID))
		}
		if rv := b.ResourceVersion; rv != "" && rv != pod.ResourceVersion {
			return nil, apierrors.NewConflict(corev1.Resource("pods/binding"), t.Name, fmt.Errorf("%s", modifiedText))
		}
		return e.bound(pod, b), nil
	}
	checked := false
	return func(ctx context.Context) (step, error) {
		if !checked {
			a := e.attributes(c, t, Create, b, nil, o, dryRun(o.DryRun))
			if err := e.admit(ctx, a); err != nil {
				return step{}, err
			}
			if b.Name != t.Name {
				return step{}, apierrors.NewBadRequest("name in URL does not match name in Binding object")
			}
			if err := validateBinding(b); err != nil {
				return step{}, err
			}
			if err := e.validateAdmission(ctx, a); err != nil {
				return step{}, err
			}
			checked = true
		}
		return e.rewrite(t, ch, dryRun(o.DryRun))(ctx)
	}
}

// bound is the pod with its node: a copy that shares all it does not change.
func (e *Engine) bound(pod *corev1.Pod, b *corev1.Binding) *corev1.Pod {
	p := *pod
	p.Spec.NodeName = b.Target.Name
	p.Status.NominatedNodeName = "" // whatever it waited for
	if len(b.Labels) > 0 {
		p.Labels = mergeMaps(pod.Labels, b.Labels)
	}
	if len(b.Annotations) > 0 {
		p.Annotations = mergeMaps(pod.Annotations, b.Annotations)
	}
	p.Status.Conditions = slices.Clone(pod.Status.Conditions)
	now := metav1.Unix(e.now().Unix(), 0)
	at := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
	if at < 0 {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodScheduled, LastTransitionTime: now})
		at = len(p.Status.Conditions) - 1
	}
	cond := &p.Status.Conditions[at]
	if cond.Status != corev1.ConditionTrue {
		cond.LastTransitionTime = now
	}
	cond.Status, cond.Reason, cond.Message = corev1.ConditionTrue, "", ""
	cond.ObservedGeneration = pod.Generation
	return &p
}

func mergeMaps(a, b map[string]string) map[string]string {
	m := make(map[string]string, len(a)+len(b))
	for k, v := range a {
		m[k] = v
	}
	for k, v := range b {
		m[k] = v
	}
	return m
}

// validateBinding gives the bare list of what is wrong, as upstream does, which makes
// no Invalid error of it.
func validateBinding(b *corev1.Binding) error {
	var errs field.ErrorList
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(field.NewPath("target", "kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(field.NewPath("target", "name"), ""))
	}
	if len(errs) > 0 {
		return bare(errs.ToAggregate().Error())
	}
	return nil
}

// Bind assigns a pod to a node.
func (e *Engine) Bind(ctx context.Context, c Caller, t Target, b *corev1.Binding, o *metav1.CreateOptions) (runtime.Object, error) {
	if r := e.run(ctx, e.bind(c, t, b, o)); r.err != nil {
		return nil, r.err
	}
	return &metav1.Status{Status: metav1.StatusSuccess, Code: 201}, nil
}
