package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/apiserver/resource"
	"sagong/client"
)

// Priority turns the name of the priority class of a pod, or of a group of pods,
// into its number.
type Priority struct{ Client client.Client }

// Name implements Plugin.
func (Priority) Name() string { return "Priority" }

// Admit implements Mutator.
func (p Priority) Admit(ctx context.Context, a *resource.Attributes) error {
	if a.Operation == resource.Create && on(a, schedulingv1.GroupName, "podgroups") {
		return p.admitGroup(ctx, a)
	}
	if !onPodCreate(a) {
		return nil
	}
	pod := a.Object.(*corev1.Pod)
	class, err := p.class(ctx, pod.Spec.PriorityClassName)
	if apierrors.IsNotFound(err) {
		return forbidden(a, "no PriorityClass with name %v was found", pod.Spec.PriorityClassName)
	}
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("cannot read the priority classes: %w", err))
	}
	value, policy := int32(0), corev1.PreemptLowerPriority
	if class != nil {
		pod.Spec.PriorityClassName, value = class.Name, class.Value
		if class.PreemptionPolicy != nil {
			policy = *class.PreemptionPolicy
		}
	}
	if pod.Spec.Priority != nil && *pod.Spec.Priority != value {
		return forbidden(a, "the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *pod.Spec.Priority, value)
	}
	if pod.Spec.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy != policy {
		return forbidden(a, "the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *pod.Spec.PreemptionPolicy, policy)
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}

func (p Priority) admitGroup(ctx context.Context, a *resource.Attributes) error {
	s := &a.Object.(*schedulingv1beta1.PodGroup).Spec
	class, err := p.class(ctx, s.PriorityClassName)
	if apierrors.IsNotFound(err) {
		return forbidden(a, "no PriorityClass with name %v was found", s.PriorityClassName)
	}
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("cannot read the priority classes: %w", err))
	}
	value := int32(0)
	if class != nil {
		s.PriorityClassName, value = class.Name, class.Value
	}
	if s.Priority != nil && *s.Priority != value {
		return forbidden(a, "the integer value of priority (%d) must not be provided in pod group spec; priority admission controller computed %d from the given PriorityClass name", *s.Priority, value)
	}
	s.Priority = &value
	return nil
}

// class finds the named class, or the global default (nil when there is none).
func (p Priority) class(ctx context.Context, name string) (*schedulingv1.PriorityClass, error) {
	if name != "" {
		return client.Get[*schedulingv1.PriorityClass](ctx, p.Client, "", name)
	}
	all, _, err := client.ListOf[*schedulingv1.PriorityClass](ctx, p.Client, "", client.ListOptions{})
	if err != nil {
		return nil, err
	}
	// Of several defaults the lowest counts, so that marking a second one by
	// mistake pre-empts nobody.
	var def *schedulingv1.PriorityClass
	for _, c := range all {
		if c.GlobalDefault && (def == nil || c.Value < def.Value) {
			def = c
		}
	}
	return def, nil
}

// Validate implements Validator: one global default at most.
func (p Priority) Validate(ctx context.Context, a *resource.Attributes) error {
	if !on(a, schedulingv1.GroupName, "priorityclasses") || a.Operation == resource.Delete {
		return nil
	}
	class := a.Object.(*schedulingv1.PriorityClass)
	if !class.GlobalDefault {
		return nil
	}
	def, err := p.class(ctx, "")
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("cannot read the priority classes: %w", err))
	}
	if def != nil && def.Name != class.Name {
		return forbidden(a, "PriorityClass %v is already marked as default. Only one default can exist", def.Name)
	}
	return nil
}
