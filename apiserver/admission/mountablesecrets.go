package admission

import (
	corev1 "k8s.io/api/core/v1"

	"sagong/apiserver/resource"
)

// enforceMountableSecrets on an account limits its pods to the Secrets that the
// account lists: https://kubernetes.io/docs/concepts/security/service-accounts/#enforce-mountable-secrets
const enforceMountableSecrets = "kubernetes.io/enforce-mountable-secrets"

// mountableSecrets refuses a pod that uses a Secret its account does not list, in
// whichever of its containers: those added to a running pod count as well
// (CVE-2023-2728), and so does the whole of a Secret as environment
// (CVE-2024-3177).
func mountableSecrets(a *resource.Attributes, sa *corev1.ServiceAccount, pod *corev1.Pod) error {
	listed := map[string]bool{}
	for _, r := range sa.Secrets {
		listed[r.Name] = true
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil && !listed[v.Secret.SecretName] {
			return forbidden(a, `volume with secret.secretName="%s" is not allowed because service account %s does not reference that secret`, v.Secret.SecretName, sa.Name)
		}
	}
	environment := func(kind, name string, env []corev1.EnvVar, from []corev1.EnvFromSource) error {
		for _, e := range env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !listed[e.ValueFrom.SecretKeyRef.Name] {
				return forbidden(a, `%s %s with envVar %s referencing secret.secretName="%s" is not allowed because service account %s does not reference that secret`,
					kind, name, e.Name, e.ValueFrom.SecretKeyRef.Name, sa.Name)
			}
		}
		for _, f := range from {
			if f.SecretRef != nil && !listed[f.SecretRef.Name] {
				return forbidden(a, `%s %s with envFrom referencing secret.secretName="%s" is not allowed because service account %s does not reference that secret`,
					kind, name, f.SecretRef.Name, sa.Name)
			}
		}
		return nil
	}
	for _, c := range pod.Spec.InitContainers {
		if err := environment("init container", c.Name, c.Env, c.EnvFrom); err != nil {
			return err
		}
	}
	for _, c := range pod.Spec.Containers {
		if err := environment("container", c.Name, c.Env, c.EnvFrom); err != nil {
			return err
		}
	}
	for _, c := range pod.Spec.EphemeralContainers {
		if err := environment("ephemeral container", c.Name, c.Env, c.EnvFrom); err != nil {
			return err
		}
	}
	pull := map[string]bool{}
	for _, r := range sa.ImagePullSecrets {
		pull[r.Name] = true
	}
	for i, r := range pod.Spec.ImagePullSecrets {
		if !pull[r.Name] {
			return forbidden(a, `imagePullSecrets[%d].name="%s" is not allowed because service account %s does not reference that imagePullSecret`, i, r.Name, sa.Name)
		}
	}
	return nil
}
