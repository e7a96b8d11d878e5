package admission

import (
	"context"
	"slices"

	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"

	"sagong/apiserver/resource"
)

// PodGroupProtection keeps groups of pods from vanishing while pods are in them:
// each is born with a finalizer that a controller takes away once none is.
type PodGroupProtection struct{}

// PodGroupFinalizer is that finalizer: upstream's.
const PodGroupFinalizer = "scheduling.k8s.io/podgroup-protection"

// Name implements Plugin.
func (PodGroupProtection) Name() string { return "PodGroupProtection" }

// Admit implements Mutator.
func (PodGroupProtection) Admit(_ context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create || !on(a, schedulingv1beta1.GroupName, "podgroups") {
		return nil
	}
	g := a.Object.(*schedulingv1beta1.PodGroup)
	if !slices.Contains(g.Finalizers, PodGroupFinalizer) {
		g.Finalizers = append(slices.Clone(g.Finalizers), PodGroupFinalizer)
	}
	return nil
}
