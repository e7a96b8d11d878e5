package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"sagong/apiserver/resource"
	"sagong/kinds/podspec"
)

// ExtendedResourceToleration lets pods that ask for extended resources onto nodes
// tainted with the names of these. It is off unless asked for.
type ExtendedResourceToleration struct{}

// Name implements Plugin.
func (ExtendedResourceToleration) Name() string { return "ExtendedResourceToleration" }

// Admit implements Mutator.
func (ExtendedResourceToleration) Admit(_ context.Context, a *resource.Attributes) error {
	p := onPodWrite(a)
	if p == nil {
		return nil
	}
	names := sets.Set[string]{}
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			for name := range list[i].Resources.Requests {
				if podspec.ValidExtended(string(name)) {
					names.Insert(string(name))
				}
			}
		}
	}
	for _, name := range sets.List(names) {
		t := corev1.Toleration{Key: name, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}
		i := slices.IndexFunc(p.Spec.Tolerations, func(o corev1.Toleration) bool { return o.MatchToleration(&t) })
		if i >= 0 {
			p.Spec.Tolerations[i] = t
		} else {
			p.Spec.Tolerations = append(p.Spec.Tolerations, t)
		}
	}
	return nil
}
