package podspec

import corev1 "k8s.io/api/core/v1"

// QOS returns a pod's quality of service class: Guaranteed when every container
// (or the pod as a whole) limits cpu and memory to what it requests, BestEffort
// when nothing is said of either, Burstable otherwise.
func QOS(s *corev1.PodSpec) corev1.PodQOSClass {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	add := func(to, from corev1.ResourceList) (both bool) {
		n := 0
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if q, ok := from[name]; ok && q.Sign() > 0 {
				have := to[name]
				have.Add(q)
				to[name] = have
				n++
			}
		}
		return n == 2
	}
	guaranteed := true
	if r := s.Resources; r != nil && (len(r.Requests) > 0 || len(r.Limits) > 0) {
		add(requests, r.Requests)
		guaranteed = add(limits, r.Limits)
	} else {
		for _, list := range [][]corev1.Container{s.Containers, s.InitContainers} {
			for i := range list {
				add(requests, list[i].Resources.Requests)
				if !add(limits, list[i].Resources.Limits) {
					guaranteed = false
				}
			}
		}
	}
	if len(requests) == 0 && len(limits) == 0 {
		return corev1.PodQOSBestEffort
	}
	if guaranteed && len(requests) == len(limits) {
		for name, q := range requests {
			if limit, ok := limits[name]; !ok || limit.Cmp(q) != 0 {
				guaranteed = false
			}
		}
		if guaranteed {
			return corev1.PodQOSGuaranteed
		}
	}
	return corev1.PodQOSBurstable
}
