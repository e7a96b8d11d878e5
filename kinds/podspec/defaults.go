package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"sagong/kinds/fill"
)

// DefaultTemplate fills a pod template.
func DefaultTemplate(t *corev1.PodTemplateSpec) { Default(&t.Spec) }

// Default fills a pod's specification as it stands in templates too. What only
// a pod itself gets (requests from limits, service links, host ports) is in
// DefaultPod, so that templates hash alike across versions.
func Default(s *corev1.PodSpec) {
	dropDisabled(s)
	// The older name of the field always mirrors the newer.
	fill.Zero(&s.ServiceAccountName, s.DeprecatedServiceAccount)
	s.DeprecatedServiceAccount = s.ServiceAccountName
	fill.Zero(&s.DNSPolicy, corev1.DNSClusterFirst)
	fill.Zero(&s.RestartPolicy, corev1.RestartPolicyAlways)
	fill.Ptr(&s.SecurityContext, corev1.PodSecurityContext{})
	fill.Ptr(&s.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	fill.Zero(&s.SchedulerName, corev1.DefaultSchedulerName)
	RoundUp(s.Overhead)
	if s.Resources != nil {
		RoundUp(s.Resources.Limits)
		RoundUp(s.Resources.Requests)
	}
	for i := range s.Volumes {
		DefaultVolume(&s.Volumes[i].VolumeSource)
	}
	for i := range s.InitContainers {
		defaultContainer(&s.InitContainers[i])
	}
	for i := range s.Containers {
		defaultContainer(&s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		c := corev1.Container(s.EphemeralContainers[i].EphemeralContainerCommon)
		defaultContainer(&c)
		s.EphemeralContainers[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(c)
	}
}

// DefaultPod fills a pod.
func DefaultPod(p *corev1.Pod) {
	s := &p.Spec
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			r := &list[i].Resources
			for name, q := range r.Limits {
				if _, ok := r.Requests[name]; !ok {
					if r.Requests == nil {
						r.Requests = corev1.ResourceList{}
					}
					r.Requests[name] = q.DeepCopy()
				}
			}
		}
	}
	fill.Ptr(&s.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	if s.HostNetwork {
		hostPorts(s.InitContainers)
		hostPorts(s.Containers)
	}
	Default(s)
	defaultPodResources(s)
	DefaultPodIPs(&p.Status)
}

// DefaultPodIPs keeps the older single address equal to the first of the list.
func DefaultPodIPs(s *corev1.PodStatus) {
	if s.PodIP != "" && (len(s.PodIPs) == 0 || s.PodIPs[0].IP != s.PodIP) {
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	}
	if s.PodIP == "" && len(s.PodIPs) > 0 {
		s.PodIP = s.PodIPs[0].IP
	}
	if s.HostIP != "" && len(s.HostIPs) == 0 {
		s.HostIPs = []corev1.HostIP{{IP: s.HostIP}}
	}
}

func hostPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			p := &containers[i].Ports[j]
			fill.Zero(&p.HostPort, p.ContainerPort)
		}
	}
}

// defaultPodResources gives pod-level limits their requests: the sum of the
// containers' where they ask for any, else the limit.
func defaultPodResources(s *corev1.PodSpec) {
	r := s.Resources
	if r == nil || len(r.Limits) == 0 {
		return
	}
	sum := ContainerRequests(s)
	for name, limit := range r.Limits {
		if _, ok := r.Requests[name]; ok || !podLevelResource(name) {
			continue
		}
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		if q, ok := sum[name]; ok && !isHugePage(name) {
			r.Requests[name] = q.DeepCopy()
		} else {
			r.Requests[name] = limit.DeepCopy()
		}
	}
}

// ContainerRequests sums what containers ask for, with what init containers
// need before or beside them.
func ContainerRequests(s *corev1.PodSpec) corev1.ResourceList {
	total := corev1.ResourceList{}
	add := func(to, from corev1.ResourceList) {
		for name, q := range from {
			have := to[name]
			have.Add(q)
			to[name] = have
		}
	}
	raise := func(to, from corev1.ResourceList) {
		for name, q := range from {
			if have, ok := to[name]; !ok || q.Cmp(have) > 0 {
				to[name] = q.DeepCopy()
			}
		}
	}
	for i := range s.Containers {
		add(total, s.Containers[i].Resources.Requests)
	}
	sidecars, peak := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range s.InitContainers {
		c := &s.InitContainers[i]
		if IsSidecar(c) {
			add(total, c.Resources.Requests)
			add(sidecars, c.Resources.Requests)
			raise(peak, sidecars)
			continue
		}
		need := corev1.ResourceList{}
		add(need, sidecars)
		add(need, c.Resources.Requests)
		raise(peak, need)
	}
	raise(total, peak)
	return total
}

// IsSidecar says whether an init container runs beside the others.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func defaultContainer(c *corev1.Container) {
	fill.Zero(&c.ImagePullPolicy, pullPolicy(c.Image))
	fill.Zero(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	fill.Zero(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	RoundUp(c.Resources.Limits)
	RoundUp(c.Resources.Requests)
	for i := range c.Ports {
		fill.Zero(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil {
			if from.FieldRef != nil {
				fill.Zero(&from.FieldRef.APIVersion, "v1")
			}
			if from.FileKeyRef != nil {
				fill.Ptr(&from.FileKeyRef.Optional, false)
			}
		}
	}
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if p == nil {
			continue
		}
		fill.Zero(&p.TimeoutSeconds, 1)
		fill.Zero(&p.PeriodSeconds, 10)
		fill.Zero(&p.SuccessThreshold, 1)
		fill.Zero(&p.FailureThreshold, 3)
		defaultHTTP(p.HTTPGet)
		if p.GRPC != nil {
			fill.Ptr(&p.GRPC.Service, "")
		}
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				defaultHTTP(h.HTTPGet)
			}
		}
	}
}

func defaultHTTP(a *corev1.HTTPGetAction) {
	if a != nil {
		fill.Zero(&a.Path, "/")
		fill.Zero(&a.Scheme, corev1.URISchemeHTTP)
	}
}

// pullPolicy is Always for images that may change under their name: those
// tagged latest, or neither tagged nor pinned by digest.
func pullPolicy(image string) corev1.PullPolicy {
	name, _, pinned := strings.Cut(image, "@")
	tag := ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		tag = name[i+1:]
	} else if !pinned && name != "" {
		tag = "latest"
	}
	if tag == "latest" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

// RoundUp brings quantities to the precision of the API, thousandths, in their
// canonical form. A list that has it already is not touched: it may belong to a
// published object, whose status a write of the spec shares.
func RoundUp(l corev1.ResourceList) {
	for name, q := range l {
		was := q
		if exact := q.RoundUp(resource.Milli); !exact || q != was && q.String() != was.String() {
			l[name] = q
		}
	}
}

// DefaultVolume fills the source of a pod's volume.
func DefaultVolume(s *corev1.VolumeSource) {
	if *s == (corev1.VolumeSource{}) {
		s.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	const mode int32 = 0o644
	if v := s.Secret; v != nil {
		fill.Ptr(&v.DefaultMode, mode)
	}
	if v := s.ConfigMap; v != nil {
		fill.Ptr(&v.DefaultMode, mode)
	}
	if v := s.DownwardAPI; v != nil {
		fill.Ptr(&v.DefaultMode, mode)
		defaultDownward(v.Items)
	}
	if v := s.Projected; v != nil {
		fill.Ptr(&v.DefaultMode, mode)
		for i := range v.Sources {
			if t := v.Sources[i].ServiceAccountToken; t != nil {
				fill.Ptr(&t.ExpirationSeconds, int64(3600))
			}
			if d := v.Sources[i].DownwardAPI; d != nil {
				defaultDownward(d.Items)
			}
			if c := v.Sources[i].PodCertificate; c != nil {
				fill.Ptr(&c.MaxExpirationSeconds, int32(86400))
			}
		}
	}
	if v := s.HostPath; v != nil {
		fill.Ptr(&v.Type, corev1.HostPathUnset)
	}
	if v := s.ISCSI; v != nil {
		fill.Zero(&v.ISCSIInterface, "default")
	}
	if v := s.RBD; v != nil {
		fill.Zero(&v.RBDPool, "rbd")
		fill.Zero(&v.RadosUser, "admin")
		fill.Zero(&v.Keyring, "/etc/ceph/keyring")
	}
	if v := s.AzureDisk; v != nil {
		defaultAzureDisk(v)
	}
	if v := s.ScaleIO; v != nil {
		fill.Zero(&v.StorageMode, "ThinProvisioned")
		fill.Zero(&v.FSType, "xfs")
	}
	if v := s.Ephemeral; v != nil && v.VolumeClaimTemplate != nil {
		DefaultClaim(&v.VolumeClaimTemplate.Spec)
	}
	if v := s.Image; v != nil {
		fill.Zero(&v.PullPolicy, pullPolicy(v.Reference))
	}
}

func defaultDownward(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		if items[i].FieldRef != nil {
			fill.Zero(&items[i].FieldRef.APIVersion, "v1")
		}
	}
}

// DefaultPersistent fills the source of a volume and rounds its size, wherever the
// spec stands.
func DefaultPersistent(s *corev1.PersistentVolumeSpec) {
	RoundUp(s.Capacity)
	if v := s.HostPath; v != nil {
		fill.Ptr(&v.Type, corev1.HostPathUnset)
	}
	if v := s.ISCSI; v != nil {
		fill.Zero(&v.ISCSIInterface, "default")
	}
	if v := s.RBD; v != nil {
		fill.Zero(&v.RBDPool, "rbd")
		fill.Zero(&v.RadosUser, "admin")
		fill.Zero(&v.Keyring, "/etc/ceph/keyring")
	}
	if v := s.AzureDisk; v != nil {
		defaultAzureDisk(v)
	}
	if v := s.ScaleIO; v != nil {
		fill.Zero(&v.StorageMode, "ThinProvisioned")
		fill.Zero(&v.FSType, "xfs")
	}
}

// defaultAzureDisk fills the source that pods and volumes share.
func defaultAzureDisk(v *corev1.AzureDiskVolumeSource) {
	fill.Ptr(&v.CachingMode, corev1.AzureDataDiskCachingReadWrite)
	fill.Ptr(&v.Kind, corev1.AzureSharedBlobDisk)
	fill.Ptr(&v.FSType, "ext4")
	fill.Ptr(&v.ReadOnly, false)
}

// DefaultClaim fills the spec of a claim, standing alone or in a template.
func DefaultClaim(s *corev1.PersistentVolumeClaimSpec) {
	fill.Ptr(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
	RoundUp(s.Resources.Limits)
	RoundUp(s.Resources.Requests)
}
