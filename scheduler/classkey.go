package scheduler

import (
	"encoding/binary"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// classKey is equal for pods that place alike: everything that any rule reads.
// Its first base bytes leave out what only rules which count pods read: labels
// and owner. Pods of a StatefulSet differ in these alone. claims is the
// same for pods whose resource claims place alike.
func classKey(p *corev1.Pod, claims string) (key string, base int) {
	hard, compared := state.Requests(p)
	b := make([]byte, 0, 256)
	num := func(ns ...int64) {
		for _, n := range ns {
			b = binary.AppendVarint(b, n)
		}
	}
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	texts := func(m map[string]string) {
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		num(int64(len(keys)))
		for _, k := range keys {
			text(k)
			text(m[k])
		}
	}
	// encoded adds what cannot fail to encode: plain data.
	encoded := func(m interface{ Marshal() ([]byte, error) }) {
		enc, _ := m.Marshal()
		text(string(enc))
	}
	text(p.Spec.SchedulerName)
	num(hard.MilliCPU, hard.Memory, hard.Ephemeral, compared.MilliCPU, compared.Memory, int64(corev1helpers.PodPriority(p)), int64(len(hard.Other)))
	if len(hard.Other) > 0 {
		other := map[string]string{}
		for k, v := range hard.Other {
			other[string(k)] = fmt.Sprint(v)
		}
		texts(other)
	}
	text(p.Namespace)
	texts(p.Spec.NodeSelector)
	text(p.Spec.NodeName)
	if p.Spec.Affinity != nil {
		encoded(p.Spec.Affinity)
	} else {
		text("")
	}
	num(int64(len(p.Spec.Tolerations)))
	for i := range p.Spec.Tolerations {
		encoded(&p.Spec.Tolerations[i])
	}
	num(int64(len(p.Spec.TopologySpreadConstraints)))
	for i := range p.Spec.TopologySpreadConstraints {
		encoded(&p.Spec.TopologySpreadConstraints[i])
	}
	ports := state.Ports(p)
	num(int64(len(ports)))
	for _, x := range ports {
		text(x.Address + "/" + string(x.Protocol))
		num(int64(x.Port))
	}
	num(int64(len(p.Spec.InitContainers)), int64(len(p.Spec.Containers)))
	for i := range p.Spec.InitContainers {
		text(p.Spec.InitContainers[i].Image)
	}
	for i := range p.Spec.Containers {
		text(p.Spec.Containers[i].Image)
	}
	if p.Spec.SchedulingGroup != nil {
		encoded(p.Spec.SchedulingGroup)
	} else {
		text("")
	}
	if needs := plugins.FeaturesOf(p); needs.IsEmpty() {
		text("")
	} else {
		text(needs.String())
	}
	text(claims)
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		switch {
		case v.Image != nil:
			text(v.Image.Reference)
			continue
		case v.Ephemeral != nil:
			text(p.Name) // its claim is its own
		case v.ConfigMap != nil, v.Secret != nil, v.EmptyDir != nil, v.Projected != nil, v.DownwardAPI != nil, v.HostPath != nil:
			continue // no rule of placement reads these
		}
		encoded(v)
	}
	base = len(b)
	texts(p.Labels)
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil && len(p.Spec.TopologySpreadConstraints) == 0 {
		text(ref.APIVersion + "/" + ref.Kind + "/" + ref.Name) // default spreading is among its pods
	} else {
		text("")
	}
	return string(b), base
}
