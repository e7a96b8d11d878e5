package simulate

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	kubelet "sagong/kubelet/pod"
	"sagong/object"
)

// shape is what the fleet needs of a pod's spec. Pods made from one template
// share it.
type shape struct {
	init, main  []container
	restart     corev1.RestartPolicy
	hostNetwork bool
	qos         corev1.PodQOSClass
	needs       [resources]int64
	resources   *corev1.ResourceRequirements // of the pod as a whole
}

type container struct {
	name, image string
	sidecar     bool
	resources   *corev1.ResourceRequirements
	mounts      []corev1.VolumeMountStatus
}

// shapeOf finds or makes the shape of a pod. f.mu is held.
func (f *Fleet) shapeOf(p *corev1.Pod) *shape {
	key, err := object.Marshal(&corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: bare(p.Spec.InitContainers), Containers: bare(p.Spec.Containers),
		RestartPolicy: p.Spec.RestartPolicy, HostNetwork: p.Spec.HostNetwork,
		Resources: p.Spec.Resources, Overhead: p.Spec.Overhead,
	}})
	if s := f.shapes[string(key)]; err == nil && s != nil {
		return s
	}
	s := &shape{
		init: containers(p.Spec.InitContainers), main: containers(p.Spec.Containers), restart: p.Spec.RestartPolicy,
		hostNetwork: p.Spec.HostNetwork, qos: kubelet.QOS(p), needs: needs(&p.Spec), resources: p.Spec.Resources.DeepCopy(),
	}
	if err == nil {
		f.shapes[string(key)] = s
	}
	return s
}

// tokenVolume begins the name of the volume of the service account's token,
// which is another one in each pod.
const tokenVolume = "kube-api-access-"

// bare keeps of containers what a status shows, without what differs between
// the pods of one template.
func bare(all []corev1.Container) []corev1.Container {
	out := make([]corev1.Container, len(all))
	for i := range all {
		c := &all[i]
		out[i] = corev1.Container{Name: c.Name, Image: c.Image, Resources: c.Resources, RestartPolicy: c.RestartPolicy}
		for _, m := range c.VolumeMounts {
			if strings.HasPrefix(m.Name, tokenVolume) {
				m.Name = tokenVolume
			}
			out[i].VolumeMounts = append(out[i].VolumeMounts, m)
		}
	}
	return out
}

func containers(all []corev1.Container) []container {
	out := make([]container, len(all))
	for i := range all {
		c := &all[i]
		out[i] = container{
			name: strings.Clone(c.Name), image: strings.Clone(c.Image), resources: c.Resources.DeepCopy(),
			sidecar: c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways,
		}
		for _, m := range c.VolumeMounts {
			if strings.HasPrefix(m.Name, tokenVolume) {
				m.Name = tokenVolume
			}
			s := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
			if m.ReadOnly {
				mode := corev1.RecursiveReadOnlyDisabled
				s.RecursiveReadOnly = &mode
			}
			out[i].mounts = append(out[i].mounts, s)
		}
	}
	return out
}

// needs is what a pod requests, as the scheduler counts it: its containers and
// sidecars together, or more where an init container needs more before they
// run.
func needs(spec *corev1.PodSpec) (n [resources]int64) {
	of := func(r corev1.ResourceList) (v [resources]int64) {
		v[cpu], v[memory] = r.Cpu().MilliValue(), r.Memory().Value()
		return v
	}
	var sidecars, most [resources]int64
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		v := of(c.Resources.Requests)
		restarts := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		for r := range n {
			if restarts {
				sidecars[r] += v[r]
				v[r] = 0
			}
			most[r] = max(most[r], sidecars[r]+v[r])
		}
	}
	for i := range spec.Containers {
		v := of(spec.Containers[i].Resources.Requests)
		for r := range n {
			n[r] += v[r]
		}
	}
	overhead := of(spec.Overhead)
	for r := range n {
		n[r] = max(n[r]+sidecars[r], most[r])
	}
	if spec.Resources != nil {
		whole := of(spec.Resources.Requests)
		for r := range n {
			n[r] = max(n[r], whole[r])
		}
	}
	for r := range n {
		n[r] += overhead[r]
	}
	n[pods] = 1
	return n
}
