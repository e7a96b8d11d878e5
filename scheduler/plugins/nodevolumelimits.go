package plugins

import (
	"slices"

	storagev1 "k8s.io/api/storage/v1"

	"sagong/scheduler/state"
)

// NodeVolumeLimits keeps the volumes of each driver on a node below the number
// that the driver says the node can have.
type NodeVolumeLimits struct{ *Volumes }

// Name implements Plugin.
func (NodeVolumeLimits) Name() string { return "NodeVolumeLimits" }

// Helps implements Plugin.
func (NodeVolumeLimits) Helps() Change { return NodeChanged | VolumeChanged | PodGone }

// driven is a volume of a driver: its handle, or the claim it will be made for.
type driven struct{ driver, volume string }

// volumesOf are the volumes of drivers behind claims.
func (l NodeVolumeLimits) volumesOf(claims []state.Claim) (all []driven) {
	for _, key := range claims {
		c, ok := l.claims.Get(key.Namespace, key.Name)
		if !ok {
			continue
		}
		if v, ok := l.volumes.Get("", c.Spec.VolumeName); ok {
			if s := v.Spec.CSI; s != nil {
				all = append(all, driven{s.Driver, "handle/" + s.VolumeHandle})
			}
			continue
		}
		if s := l.class(c); s != nil {
			all = append(all, driven{s.Provisioner, "claim/" + key.Namespace + "/" + key.Name})
		}
	}
	return all
}

type volumeCount struct {
	l   NodeVolumeLimits
	all []driven
}

// Begin implements PreFilter.
func (l NodeVolumeLimits) Begin(c *Class, _ *state.State) (NodeFilter, *No) {
	all := l.volumesOf(state.Claims(c.Pod))
	if len(all) == 0 {
		return nil, nil
	}
	return &volumeCount{l, all}, nil
}

// Version implements NodeFilter.
func (v *volumeCount) Version() uint64 { return v.l.version.Load() }

// Filter implements NodeFilter.
func (v *volumeCount) Filter(n *state.Node) *No {
	node, ok := v.l.nodes.Get("", n.Name)
	for _, d := range v.all {
		has := ok && slices.ContainsFunc(node.Spec.Drivers, func(x storagev1.CSINodeDriver) bool { return x.Name == d.driver })
		if o, known := v.l.drivers.Get("", d.driver); !has && known && o.Spec.PreventPodSchedulingIfMissing != nil && *o.Spec.PreventPodSchedulingIfMissing {
			return Refuse(d.driver + " CSI driver is not installed on the node")
		}
	}
	if !ok {
		return nil
	}
	limits := map[string]int{}
	for _, d := range node.Spec.Drivers {
		if d.Allocatable != nil && d.Allocatable.Count != nil {
			limits[d.Name] = int(*d.Allocatable.Count)
		}
	}
	if len(limits) == 0 {
		return nil
	}
	there := map[driven]bool{}
	for _, p := range n.Pods {
		for _, d := range v.l.volumesOf(p.Claims()) {
			there[d] = true
		}
	}
	for _, a := range v.l.attached.By(attachedTo, n.Name) { // those that no pod here uses any more, or yet
		if a.Spec.Source.PersistentVolumeName == nil {
			continue
		}
		if p, ok := v.l.volumes.Get("", *a.Spec.Source.PersistentVolumeName); ok && p.Spec.CSI != nil {
			there[driven{a.Spec.Attacher, "handle/" + p.Spec.CSI.VolumeHandle}] = true
		}
	}
	count := map[string]int{}
	for d := range there {
		count[d.driver]++
	}
	for _, d := range v.all {
		if there[d] {
			continue
		}
		there[d] = true
		if limit, ok := limits[d.driver]; ok && count[d.driver]+1 > limit {
			return Refuse("node(s) exceed max volume count")
		}
		count[d.driver]++
	}
	return nil
}
