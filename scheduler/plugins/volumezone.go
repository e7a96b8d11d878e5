package plugins

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sagong/scheduler/state"
)

// VolumeZone keeps pods in the zones and regions that the labels of their
// volumes name.
type VolumeZone struct{ *Volumes }

// zoneLabels are the labels that count, each with its older name.
var zoneLabels = map[string]string{
	corev1.LabelTopologyZone: corev1.LabelFailureDomainBetaZone, corev1.LabelTopologyRegion: corev1.LabelFailureDomainBetaRegion,
	corev1.LabelFailureDomainBetaZone: corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
}

// Name implements Plugin.
func (VolumeZone) Name() string { return "VolumeZone" }

// Helps implements Plugin.
func (VolumeZone) Helps() Change { return NodeChanged | VolumeChanged }

type zones struct {
	z    VolumeZone
	want []zone
}

type zone struct {
	key    string
	values []string
}

// Begin implements PreFilter.
func (z VolumeZone) Begin(c *Class, _ *state.State) (NodeFilter, *No) {
	all := &zones{z: z}
	for _, key := range state.Claims(c.Pod) {
		claim, ok := z.claims.Get(key.Namespace, key.Name)
		if !ok || claim.Spec.VolumeName == "" {
			continue // VolumeBinding has a say in those
		}
		v, ok := z.volumes.Get("", claim.Spec.VolumeName)
		if !ok {
			continue
		}
		for label := range zoneLabels {
			if value, ok := v.Labels[label]; ok {
				all.want = append(all.want, zone{label, strings.Split(value, "__")})
			}
		}
	}
	if len(all.want) == 0 {
		return nil, nil
	}
	return all, nil
}

// Version implements NodeFilter.
func (z *zones) Version() uint64 { return z.z.version.Load() }

// Filter implements NodeFilter.
func (z *zones) Filter(n *state.Node) *No {
	has := false
	for label := range zoneLabels {
		_, ok := n.Object.Labels[label]
		has = has || ok
	}
	if !has {
		return nil // a node that knows no zones
	}
	for _, w := range z.want {
		have, ok := n.Object.Labels[w.key]
		if !ok {
			have, ok = n.Object.Labels[zoneLabels[w.key]]
		}
		if !ok || !slices.Contains(w.values, have) {
			return RefuseFinally("node(s) had no available volume zone")
		}
	}
	return nil
}
