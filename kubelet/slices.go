package kubelet

import (
	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
	"sagong/runtime"
)

// Slices are the cgroups that the pods of a quality of service class lie in,
// relative to the runtime's root.
type Slices interface {
	// CreateParent makes a cgroup, or finds it there.
	CreateParent(path string) error
	Apply(path string, r runtime.Resources) error
}

// weighSlices gives the classes their weights: best effort the least there is,
// burstable what its pods ask for together. Guaranteed pods stand beside them.
// last is the weight applied before, so that nothing is written twice.
func (a *Agent) weighSlices(last uint64) uint64 {
	if a.dep.Slices == nil {
		return last
	}
	var milli int64
	a.mu.Lock()
	all := make([]*entry, 0, len(a.entries))
	for _, e := range a.entries {
		all = append(all, e)
	}
	a.mu.Unlock()
	for _, e := range all {
		e.mu.Lock()
		p, booked := e.pod, e.booked
		e.mu.Unlock()
		if booked && pod.QOS(p) == corev1.PodQOSBurstable {
			r := pod.Requests(p)
			milli += r.Cpu().MilliValue()
		}
	}
	shares := pod.CPUShares(milli)
	if shares == last {
		return last
	}
	for path, s := range map[string]uint64{"kubepods/besteffort": pod.CPUShares(0), "kubepods/burstable": shares} {
		err := a.dep.Slices.CreateParent(path)
		if err == nil {
			err = a.dep.Slices.Apply(path, runtime.Resources{CPUShares: s})
		}
		if err != nil {
			a.log.Warn("cannot weigh a class of pods", "cgroup", path, "err", err)
			return last
		}
	}
	return shares
}
