package plugins

import (
	"slices"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"

	"sagong/scheduler/state"
)

// VolumeRestrictions keeps pods apart whose volumes cannot be used by both: a
// claim for one pod only, and disks that one node can write to.
type VolumeRestrictions struct{ *Volumes }

// Name implements Plugin.
func (VolumeRestrictions) Name() string { return "VolumeRestrictions" }

// Helps implements Plugin.
func (VolumeRestrictions) Helps() Change { return PodGone | VolumeChanged | NodeChanged }

type restricted struct {
	state *state.State
	once  []state.Claim   // claims with ReadWriteOncePod
	disks []corev1.Volume // named in the pod itself
	asked atomic.Uint64
}

// Begin implements PreFilter.
func (r VolumeRestrictions) Begin(c *Class, s *state.State) (NodeFilter, *No) {
	all := &restricted{state: s}
	for _, key := range state.Claims(c.Pod) {
		if claim, ok := r.claims.Get(key.Namespace, key.Name); ok && slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
			all.once = append(all.once, key)
		}
	}
	for _, v := range c.Pod.Spec.Volumes {
		if isDisk(&v) {
			all.disks = append(all.disks, v)
		}
	}
	if len(all.once)+len(all.disks) == 0 {
		return nil, nil
	}
	return all, nil
}

func isDisk(v *corev1.Volume) bool {
	return v.GCEPersistentDisk != nil || v.AWSElasticBlockStore != nil || v.RBD != nil || v.ISCSI != nil
}

// Version implements NodeFilter. Users of a claim come and go on any node.
func (r *restricted) Version() uint64 { return r.asked.Add(1) }

// Filter implements NodeFilter.
func (r *restricted) Filter(n *state.Node) *No {
	for _, p := range n.Pods {
		for i := range p.Disks {
			if theirs := &p.Disks[i]; slices.ContainsFunc(r.disks, func(v corev1.Volume) bool { return clash(&v, theirs) }) {
				return Refuse("node(s) had no available disk")
			}
		}
	}
	for _, key := range r.once {
		for uid, p := range r.state.UsersOf(key) {
			// The node may be a copy from which pods were taken.
			if _, here := n.Pods[uid]; p.Node != n.Name || here {
				return Refuse("node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode")
			}
		}
	}
	return nil
}

// clash says whether two pods on one node cannot both use their disks.
func clash(a, b *corev1.Volume) bool {
	switch {
	case a.GCEPersistentDisk != nil && b.GCEPersistentDisk != nil:
		x, y := a.GCEPersistentDisk, b.GCEPersistentDisk
		return x.PDName == y.PDName && !(x.ReadOnly && y.ReadOnly)
	case a.AWSElasticBlockStore != nil && b.AWSElasticBlockStore != nil:
		return a.AWSElasticBlockStore.VolumeID == b.AWSElasticBlockStore.VolumeID
	case a.ISCSI != nil && b.ISCSI != nil:
		x, y := a.ISCSI, b.ISCSI
		return x.IQN == y.IQN && !(x.ReadOnly && y.ReadOnly)
	case a.RBD != nil && b.RBD != nil:
		x, y := a.RBD, b.RBD
		return x.RBDPool == y.RBDPool && x.RBDImage == y.RBDImage && !(x.ReadOnly && y.ReadOnly) &&
			slices.ContainsFunc(x.CephMonitors, func(m string) bool { return slices.Contains(y.CephMonitors, m) })
	}
	return false
}
