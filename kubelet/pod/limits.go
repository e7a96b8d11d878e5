package pod

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sagong/runtime"
)

const (
	minShares = 2
	maxShares = 262144
	minQuota  = 1000
	period    = 100000
)

// Capacity is what limits are derived from besides the pod.
type Capacity struct {
	// MemoryBytes of the node.
	MemoryBytes int64
	// Pids a pod may have; 0 is unlimited.
	PodPids int64
	// NoCPUQuota leaves CPU limits unenforced.
	NoCPUQuota bool
}

// CPUShares turns millicores into a relative weight.
func CPUShares(milli int64) uint64 {
	if milli == 0 {
		return minShares
	}
	return uint64(min(max(milli*1024/1000, minShares), maxShares))
}

// CPUQuota turns millicores into microseconds a period of 100 ms; 0 for none.
func CPUQuota(milli int64) int64 {
	if milli == 0 {
		return 0
	}
	return max(milli*period/1000, minQuota)
}

// ContainerLimits are the cgroup values of a container.
func ContainerLimits(p *corev1.Pod, m Member, c Capacity) runtime.Resources {
	var r runtime.Resources
	cpuReq, cpuLim := quantity(m.Resources.Requests, corev1.ResourceCPU), quantity(m.Resources.Limits, corev1.ResourceCPU)
	switch {
	case cpuReq != nil && !cpuReq.IsZero():
		r.CPUShares = CPUShares(cpuReq.MilliValue())
	case cpuReq == nil && cpuLim != nil:
		r.CPUShares = CPUShares(cpuLim.MilliValue())
	default:
		r.CPUShares = minShares
	}
	if cpuLim != nil && !c.NoCPUQuota {
		if q := CPUQuota(cpuLim.MilliValue()); q > 0 {
			r.CPUQuota, r.CPUPeriod = q, period
		}
	}
	if lim := quantity(m.Resources.Limits, corev1.ResourceMemory); lim != nil && lim.Value() > 0 {
		r.Memory, r.MemorySwap = lim.Value(), lim.Value()
	}
	r.HugePages = hugePages(m.Resources.Limits)
	return r
}

// PodLimits are the cgroup values of the pod as a whole.
func PodLimits(p *corev1.Pod, c Capacity) runtime.Resources {
	req, lim := Requests(p), Limits(p)
	var r runtime.Resources
	r.CPUShares = CPUShares(req.Cpu().MilliValue())
	if c.PodPids > 0 {
		r.Pids = c.PodPids
	}
	// A limit on the whole holds only when every part has one.
	cpuAll, memAll := true, true
	for _, m := range Members(p) {
		if m.Class == Ephemeral {
			continue
		}
		cpuAll = cpuAll && !m.Resources.Limits.Cpu().IsZero()
		memAll = memAll && !m.Resources.Limits.Memory().IsZero()
	}
	if pr := p.Spec.Resources; pr != nil {
		cpuAll = cpuAll || !pr.Limits.Cpu().IsZero()
		memAll = memAll || !pr.Limits.Memory().IsZero()
	}
	if q := CPUQuota(lim.Cpu().MilliValue()); cpuAll && q > 0 && !c.NoCPUQuota {
		r.CPUQuota, r.CPUPeriod = q, period
	}
	if v := lim.Memory().Value(); memAll && v > 0 {
		r.Memory = v
	}
	r.HugePages = hugePages(lim)
	if QOS(p) == corev1.PodQOSBestEffort {
		r.CPUShares = minShares
	}
	return r
}

func hugePages(l corev1.ResourceList) map[string]uint64 {
	var out map[string]uint64
	for n, q := range l {
		size, ok := strings.CutPrefix(string(n), corev1.ResourceHugePagesPrefix)
		if !ok {
			continue
		}
		if out == nil {
			out = map[string]uint64{}
		}
		// "2Mi" and "1Gi" are "2MB" and "1GB" to the kernel.
		out[strings.TrimSuffix(size, "i")+"B"] = uint64(q.Value())
	}
	return maps.Clone(out)
}

// CgroupParent is where a pod's cgroup lies below the runtime's root.
func CgroupParent(p *corev1.Pod) string {
	switch QOS(p) {
	case corev1.PodQOSGuaranteed:
		return "kubepods/pod" + string(p.UID)
	case corev1.PodQOSBurstable:
		return "kubepods/burstable/pod" + string(p.UID)
	}
	return "kubepods/besteffort/pod" + string(p.UID)
}

// OOMScoreAdj says how early the kernel may kill a container for want of
// memory: guaranteed last, best effort first, the others by their share.
func OOMScoreAdj(p *corev1.Pod, m Member, nodeMemory int64) int {
	if p.Spec.Priority != nil && *p.Spec.Priority >= 2000000000 {
		return -997
	}
	switch QOS(p) {
	case corev1.PodQOSGuaranteed:
		return -997
	case corev1.PodQOSBestEffort:
		return 1000
	}
	if nodeMemory <= 0 {
		return 999
	}
	request := m.Resources.Requests.Memory().Value()
	if pr := p.Spec.Resources; pr != nil && request == 0 {
		parts := int64(0)
		for _, o := range Members(p) {
			if o.Class == Main || o.Class == Sidecar {
				parts++
			}
		}
		if left := pr.Requests.Memory().Value(); left > 0 && parts > 0 {
			request = left / parts
		}
	}
	adj := 1000 - 1000*request/nodeMemory
	if m.Class == Sidecar {
		// A sidecar is killed no earlier than the hungriest main container.
		least := adj
		for _, o := range Members(p) {
			if o.Class == Main {
				least = min(least, 1000-1000*o.Resources.Requests.Memory().Value()/nodeMemory)
			}
		}
		adj = least
	}
	switch {
	case adj < 3:
		return 3
	case adj == 1000:
		return 999
	}
	return int(adj)
}
