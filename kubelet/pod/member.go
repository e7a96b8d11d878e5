package pod

import corev1 "k8s.io/api/core/v1"

// Class says which part a container plays in its pod.
type Class int

// The classes of containers.
const (
	Main Class = iota
	// Init containers run to completion, one after the other.
	Init
	// Sidecar is an init container with restartPolicy Always: it stays.
	Sidecar
	// Ephemeral containers are added to a running pod and never restarted.
	Ephemeral
)

// Member is a container of a pod with its class.
type Member struct {
	*corev1.Container
	Class Class
	// FieldPath is how events name it: "spec.containers{web}".
	FieldPath string
	// Target is the container whose processes an ephemeral one wants to see.
	Target string
}

// Members lists the containers of a pod: init containers and sidecars in their
// order, then the main ones, then the ephemeral ones.
func Members(p *corev1.Pod) []Member {
	all := make([]Member, 0, len(p.Spec.InitContainers)+len(p.Spec.Containers)+len(p.Spec.EphemeralContainers))
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		class := Init
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			class = Sidecar
		}
		all = append(all, Member{Container: c, Class: class, FieldPath: "spec.initContainers{" + c.Name + "}"})
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		all = append(all, Member{Container: c, FieldPath: "spec.containers{" + c.Name + "}"})
	}
	for i := range p.Spec.EphemeralContainers {
		e := &p.Spec.EphemeralContainers[i]
		c := corev1.Container(e.EphemeralContainerCommon)
		all = append(all, Member{Container: &c, Class: Ephemeral, Target: e.TargetContainerName,
			FieldPath: "spec.ephemeralContainers{" + c.Name + "}"})
	}
	return all
}

// Find returns a container by name.
func Find(p *corev1.Pod, name string) (Member, bool) {
	for _, m := range Members(p) {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}
