package authz

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// podUses lists the objects a pod's node must read for it.
func podUses(p *corev1.Pod) []string {
	if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; mirror || p.Spec.NodeName == "" {
		return nil // a node makes mirror pods itself: they open nothing to it
	}
	seen := map[string]bool{}
	References(p, func(resource, name string) {
		seen[useKey(p.Spec.NodeName, resource, p.Namespace, name)] = true
	})
	keys := make([]string, 0, len(seen))
	for k := range seen {
		keys = append(keys, k)
	}
	return keys
}

// References calls f with each object of its namespace that a pod's node must
// read for it; more than once for some.
func References(p *corev1.Pod, f func(resource, name string)) {
	use := func(resource, name string) {
		if name != "" {
			f(resource, name)
		}
	}
	use("serviceaccounts", p.Spec.ServiceAccountName)
	for _, s := range p.Spec.ImagePullSecrets {
		use("secrets", s.Name)
	}
	environment := func(env []corev1.EnvVar, from []corev1.EnvFromSource) {
		for _, e := range env {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				use("secrets", r.Name)
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				use("configmaps", r.Name)
			}
		}
		for _, f := range from {
			if f.SecretRef != nil {
				use("secrets", f.SecretRef.Name)
			}
			if f.ConfigMapRef != nil {
				use("configmaps", f.ConfigMapRef.Name)
			}
		}
	}
	for _, c := range p.Spec.InitContainers {
		environment(c.Env, c.EnvFrom)
	}
	for _, c := range p.Spec.Containers {
		environment(c.Env, c.EnvFrom)
	}
	for _, c := range p.Spec.EphemeralContainers {
		environment(c.Env, c.EnvFrom)
	}
	for _, v := range p.Spec.Volumes {
		switch {
		case v.Secret != nil:
			use("secrets", v.Secret.SecretName)
		case v.ConfigMap != nil:
			use("configmaps", v.ConfigMap.Name)
		case v.PersistentVolumeClaim != nil:
			use("persistentvolumeclaims", v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			use("persistentvolumeclaims", p.Name+"-"+v.Name)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.Secret != nil {
					use("secrets", s.Secret.Name)
				}
				if s.ConfigMap != nil {
					use("configmaps", s.ConfigMap.Name)
				}
			}
		default:
			use("secrets", driverSecret(v.VolumeSource))
		}
	}
	for _, c := range p.Spec.ResourceClaims {
		if c.ResourceClaimName != nil {
			use("resourceclaims", *c.ResourceClaimName)
		}
	}
	for _, c := range p.Status.ResourceClaimStatuses {
		if c.ResourceClaimName != nil {
			use("resourceclaims", *c.ResourceClaimName)
		}
	}
	if c := p.Status.ExtendedResourceClaimStatus; c != nil {
		use("resourceclaims", c.ResourceClaimName)
	}
}

// Referenced is what sort of object a pod refers to, "" when it refers to none.
// Nodes make none of those that do.
func Referenced(p *corev1.Pod) string {
	if p.Spec.ServiceAccountName != "" {
		return "serviceaccounts"
	}
	seen := map[string]bool{}
	References(p, func(resource, _ string) { seen[resource] = true })
	switch {
	case seen["secrets"]:
		return "secrets"
	case seen["configmaps"]:
		return "configmaps"
	case len(p.Spec.ResourceClaims) > 0:
		return "resourceclaims"
	}
	for _, v := range p.Spec.Volumes {
		switch {
		case v.ConfigMap != nil:
			return "configmaps (via configmap volumes)"
		case v.Secret != nil:
			return "secrets (via secret volumes)"
		case v.CSI != nil:
			return "csidrivers (via CSI volumes)"
		case v.Glusterfs != nil:
			return "endpoints (via glusterFS volumes)"
		case v.PersistentVolumeClaim != nil:
			return "persistentvolumeclaims"
		case v.Ephemeral != nil:
			return "persistentvolumeclaims (via ephemeral volumes)"
		case v.AzureFile != nil:
			return "secrets (via azureFile volumes)"
		case v.Projected == nil:
			continue
		}
		for _, s := range v.Projected.Sources {
			switch {
			case s.ConfigMap != nil:
				return "configmaps (via projected volumes)"
			case s.Secret != nil:
				return "secrets (via projected volumes)"
			case s.ServiceAccountToken != nil:
				return "serviceaccounts (via projected volumes)"
			case s.ClusterTrustBundle != nil:
				return "clustertrustbundles"
			case s.PodCertificate != nil:
				return "podcertificates"
			}
		}
	}
	return ""
}

// driverSecret is the Secret by which a volume in a pod is mounted.
func driverSecret(v corev1.VolumeSource) string {
	var ref *corev1.LocalObjectReference
	switch {
	case v.CSI != nil:
		ref = v.CSI.NodePublishSecretRef
	case v.AzureFile != nil:
		return v.AzureFile.SecretName
	case v.CephFS != nil:
		ref = v.CephFS.SecretRef
	case v.FlexVolume != nil:
		ref = v.FlexVolume.SecretRef
	case v.ISCSI != nil:
		ref = v.ISCSI.SecretRef
	case v.RBD != nil:
		ref = v.RBD.SecretRef
	case v.ScaleIO != nil:
		ref = v.ScaleIO.SecretRef
	case v.StorageOS != nil:
		ref = v.StorageOS.SecretRef
	}
	if ref == nil {
		return ""
	}
	return ref.Name
}

// volumeSecrets lists the Secrets by which a node mounts a volume, as
// "namespace/name".
func volumeSecrets(v *corev1.PersistentVolume) []string {
	var keys []string
	use := func(refs ...*corev1.SecretReference) {
		for _, r := range refs {
			if r == nil || r.Name == "" {
				continue
			}
			namespace := r.Namespace
			if namespace == "" && v.Spec.ClaimRef != nil {
				namespace = v.Spec.ClaimRef.Namespace
			}
			if key := namespace + "/" + r.Name; !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	switch s := v.Spec.PersistentVolumeSource; {
	case s.CSI != nil:
		use(s.CSI.NodePublishSecretRef, s.CSI.NodeStageSecretRef, s.CSI.NodeExpandSecretRef)
	case s.AzureFile != nil:
		r := &corev1.SecretReference{Name: s.AzureFile.SecretName}
		if s.AzureFile.SecretNamespace != nil {
			r.Namespace = *s.AzureFile.SecretNamespace
		}
		use(r)
	case s.CephFS != nil:
		use(s.CephFS.SecretRef)
	case s.FlexVolume != nil:
		use(s.FlexVolume.SecretRef)
	case s.ISCSI != nil:
		use(s.ISCSI.SecretRef)
	case s.RBD != nil:
		use(s.RBD.SecretRef)
	case s.ScaleIO != nil:
		use(s.ScaleIO.SecretRef)
	}
	return keys
}
