package podspec

import corev1 "k8s.io/api/core/v1"

// dropDisabled takes away the fields whose features are alpha, and off, in the
// version of Kubernetes that this is, as upstream does: nobody is to believe that
// they have an effect.
func dropDisabled(s *corev1.PodSpec) {
	s.EvictionResponders = nil
	for i := range s.Volumes {
		dropDisabledVolume(&s.Volumes[i].VolumeSource)
	}
	for i := range s.InitContainers {
		dropDisabledContainer(&s.InitContainers[i])
	}
	for i := range s.Containers {
		dropDisabledContainer(&s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		dropDisabledMounts(s.EphemeralContainers[i].VolumeMounts)
	}
}

func dropDisabledVolume(v *corev1.VolumeSource) {
	if v.EmptyDir != nil {
		v.EmptyDir.Mode = nil
	}
	if v.Secret != nil {
		v.Secret.DefaultUser = nil
		dropUsers(v.Secret.Items)
	}
	if v.ConfigMap != nil {
		v.ConfigMap.DefaultUser = nil
		dropUsers(v.ConfigMap.Items)
	}
	if v.DownwardAPI != nil {
		v.DownwardAPI.DefaultUser = nil
		dropFileUsers(v.DownwardAPI.Items)
	}
	if v.Projected == nil {
		return
	}
	v.Projected.DefaultUser = nil
	for i := range v.Projected.Sources {
		p := &v.Projected.Sources[i]
		if p.Secret != nil {
			dropUsers(p.Secret.Items)
		}
		if p.ConfigMap != nil {
			dropUsers(p.ConfigMap.Items)
		}
		if p.DownwardAPI != nil {
			dropFileUsers(p.DownwardAPI.Items)
		}
		if p.ServiceAccountToken != nil {
			p.ServiceAccountToken.User = nil
		}
		if p.ClusterTrustBundle != nil {
			p.ClusterTrustBundle.User = nil
		}
		if p.PodCertificate != nil {
			p.PodCertificate.User = nil
		}
	}
}

func dropUsers(items []corev1.KeyToPath) {
	for i := range items {
		items[i].User = nil
	}
}

func dropFileUsers(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		items[i].User = nil
	}
}

func dropDisabledContainer(c *corev1.Container) {
	dropDisabledMounts(c.VolumeMounts)
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if p == nil {
			continue
		}
		dropProtocol(p.HTTPGet)
		if p.GRPC != nil {
			p.GRPC.Mode = nil
		}
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				dropProtocol(h.HTTPGet)
			}
		}
	}
}

func dropProtocol(a *corev1.HTTPGetAction) {
	if a != nil {
		a.Protocol = nil
	}
}

func dropDisabledMounts(mounts []corev1.VolumeMount) {
	for i := range mounts {
		mounts[i].BindMountOptions = nil
	}
}
