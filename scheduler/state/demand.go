package state

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
)

// Port is a port of the node that a pod holds.
type Port struct {
	Address  string // 0.0.0.0 for all
	Protocol corev1.Protocol
	Port     int32
}

// Ports returns the host ports a pod asks for.
func Ports(p *corev1.Pod) []Port {
	var ports []Port
	collect := func(c *corev1.Container) {
		for _, x := range c.Ports {
			if x.HostPort == 0 {
				continue
			}
			port := Port{Address: x.HostIP, Protocol: x.Protocol, Port: x.HostPort}
			if port.Address == "" || port.Address == "::" {
				port.Address = "0.0.0.0"
			}
			if port.Protocol == "" {
				port.Protocol = corev1.ProtocolTCP
			}
			if !slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
	}
	for i := range p.Spec.Containers {
		collect(&p.Spec.Containers[i])
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			collect(c)
		}
	}
	return ports
}

// Claim names a PersistentVolumeClaim.
type Claim struct{ Namespace, Name string }

// Claims returns the claims whose volumes a pod mounts, those of its ephemeral
// volumes among them.
func Claims(p *corev1.Pod) []Claim {
	var names []Claim
	for i := range p.Spec.Volumes {
		switch v := &p.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			names = append(names, Claim{p.Namespace, v.PersistentVolumeClaim.ClaimName})
		case v.Ephemeral != nil:
			names = append(names, Claim{p.Namespace, p.Name + "-" + v.Name})
		}
	}
	return names
}

// Demand is what a pod takes of its node. Pods that are alike share one.
type Demand struct {
	Hard, Compared Resources
	Priority       int32
	// Disks are volumes that some may have to themselves on a node.
	Disks  []corev1.Volume
	ports  []Port
	claims []Claim
}

// Claims are those whose volumes the pod mounts.
func (d *Demand) Claims() []Claim { return d.claims }

// DemandOf reads a pod.
func DemandOf(p *corev1.Pod) *Demand {
	d := &Demand{Priority: corev1helpers.PodPriority(p), ports: Ports(p), claims: Claims(p)}
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.GCEPersistentDisk != nil || v.AWSElasticBlockStore != nil || v.RBD != nil || v.ISCSI != nil {
			d.Disks = append(d.Disks, *v)
		}
	}
	d.Hard, d.Compared = Requests(p)
	return d
}

// same tells whether two demands count alike.
func (d *Demand) same(o *Demand) bool {
	return d == o || d.Hard.Equal(&o.Hard) && d.Compared.Equal(&o.Compared) && d.Priority == o.Priority &&
		slices.Equal(d.ports, o.ports) && slices.Equal(d.claims, o.claims)
}
