package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"sagong/apiserver/resource"
)

// LimitPodHardAntiAffinityTopology keeps pods from claiming more than a node for
// themselves. It is off unless asked for.
type LimitPodHardAntiAffinityTopology struct{}

// Name implements Plugin.
func (LimitPodHardAntiAffinityTopology) Name() string { return "LimitPodHardAntiAffinityTopology" }

// Validate implements Validator.
func (LimitPodHardAntiAffinityTopology) Validate(_ context.Context, a *resource.Attributes) error {
	p := onPodWrite(a)
	if p == nil || p.Spec.Affinity == nil || p.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	for _, t := range p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		if t.TopologyKey != corev1.LabelHostname {
			return refuse(a, fmt.Errorf("affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey %v but only key %v is allowed", t.TopologyKey, corev1.LabelHostname))
		}
	}
	return nil
}
