package reference

import corev1 "k8s.io/api/core/v1"

// Of lists the ConfigMaps and Secrets that a pod refers to.
func Of(p *corev1.Pod) []Key {
	var keys []Key
	add := func(secret bool, name string) {
		if name != "" {
			keys = append(keys, Key{Secret: secret, Namespace: p.Namespace, Name: name})
		}
	}
	for _, v := range p.Spec.Volumes {
		switch {
		case v.ConfigMap != nil:
			add(false, v.ConfigMap.Name)
		case v.Secret != nil:
			add(true, v.Secret.SecretName)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					add(false, s.ConfigMap.Name)
				}
				if s.Secret != nil {
					add(true, s.Secret.Name)
				}
				if s.ClusterTrustBundle != nil {
					keys = append(keys, Key{Bundles: true})
				}
			}
		}
	}
	env := func(from []corev1.EnvFromSource, vars []corev1.EnvVar) {
		for _, f := range from {
			if f.ConfigMapRef != nil {
				add(false, f.ConfigMapRef.Name)
			}
			if f.SecretRef != nil {
				add(true, f.SecretRef.Name)
			}
		}
		for _, v := range vars {
			if v.ValueFrom == nil {
				continue
			}
			if r := v.ValueFrom.ConfigMapKeyRef; r != nil {
				add(false, r.Name)
			}
			if r := v.ValueFrom.SecretKeyRef; r != nil {
				add(true, r.Name)
			}
		}
	}
	for i := range p.Spec.InitContainers {
		env(p.Spec.InitContainers[i].EnvFrom, p.Spec.InitContainers[i].Env)
	}
	for i := range p.Spec.Containers {
		env(p.Spec.Containers[i].EnvFrom, p.Spec.Containers[i].Env)
	}
	for i := range p.Spec.EphemeralContainers {
		env(p.Spec.EphemeralContainers[i].EnvFrom, p.Spec.EphemeralContainers[i].Env)
	}
	for _, s := range p.Spec.ImagePullSecrets {
		add(true, s.Name)
	}
	return keys
}
