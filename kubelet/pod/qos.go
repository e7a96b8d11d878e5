package pod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func unix(sec int64) metav1.Time { return metav1.Unix(sec, 0) }

// QOS is the quality of service class that the requests and limits of a pod
// amount to. Once status holds one, that is final.
func QOS(p *corev1.Pod) corev1.PodQOSClass {
	if p.Status.QOSClass != "" {
		return p.Status.QOSClass
	}
	compute := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}
	if r := p.Spec.Resources; r != nil && (len(r.Requests) > 0 || len(r.Limits) > 0) {
		return qosOf([]corev1.ResourceRequirements{*r}, compute)
	}
	var all []corev1.ResourceRequirements
	for _, m := range Members(p) {
		if m.Class != Ephemeral {
			all = append(all, m.Resources)
		}
	}
	return qosOf(all, compute)
}

func qosOf(all []corev1.ResourceRequirements, compute []corev1.ResourceName) corev1.PodQOSClass {
	guaranteed, any := true, false
	for _, r := range all {
		for _, n := range compute {
			req, lim := r.Requests[n], r.Limits[n]
			if !req.IsZero() || !lim.IsZero() {
				any = true
			}
			if lim.IsZero() || !req.IsZero() && req.Cmp(lim) != 0 {
				guaranteed = false
			}
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// Requests is what a pod takes of a node: the larger of what its containers
// and sidecars ask for together and of what any init container needs with the
// sidecars before it, or what the pod as a whole asks for; plus the overhead.
func Requests(p *corev1.Pod) corev1.ResourceList {
	return total(p, func(r corev1.ResourceRequirements) corev1.ResourceList { return r.Requests })
}

// Limits is the same for limits. A resource that some container leaves
// unlimited is counted with what the others have.
func Limits(p *corev1.Pod) corev1.ResourceList {
	return total(p, func(r corev1.ResourceRequirements) corev1.ResourceList { return r.Limits })
}

func total(p *corev1.Pod, of func(corev1.ResourceRequirements) corev1.ResourceList) corev1.ResourceList {
	sum, side, peak := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for _, m := range Members(p) {
		l := of(m.Resources)
		switch m.Class {
		case Main:
			add(sum, l)
		case Sidecar:
			add(sum, l)
			add(side, l)
			maximise(peak, side)
		case Init:
			with := side.DeepCopy()
			if with == nil {
				with = corev1.ResourceList{}
			}
			add(with, l)
			maximise(peak, with)
		}
	}
	maximise(sum, peak)
	if p.Spec.Resources != nil {
		for n, q := range of(*p.Spec.Resources) {
			sum[n] = q
		}
	}
	add(sum, p.Spec.Overhead)
	return sum
}

func add(to, l corev1.ResourceList) {
	for n, q := range l {
		v := to[n].DeepCopy()
		v.Add(q)
		to[n] = v
	}
}

func maximise(to, l corev1.ResourceList) {
	for n, q := range l {
		if v, ok := to[n]; !ok || v.Cmp(q) < 0 {
			to[n] = q.DeepCopy()
		}
	}
}

// quantity reads a resource of a list, nil when it is not there.
func quantity(l corev1.ResourceList, n corev1.ResourceName) *resource.Quantity {
	q, ok := l[n]
	if !ok {
		return nil
	}
	return &q
}
