package admission_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
)

// CVE-2023-2728, CVE-2024-3177 and the class of CVE-2023-2727: a rule about
// containers holds for all of them, also for those added to a running pod, and
// for all ways to name a Secret.
func TestMountableSecrets(t *testing.T) {
	c := newCluster(t)
	c.must(&corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "bound", Annotations: map[string]string{"kubernetes.io/enforce-mountable-secrets": "true"}},
		Secrets:    []corev1.ObjectReference{{Name: "listed"}}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
	})
	key := func(secret string) []corev1.EnvVar {
		return []corev1.EnvVar{{Name: "E", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "k", LocalObjectReference: corev1.LocalObjectReference{Name: secret}}}}}
	}
	whole := func(secret string) []corev1.EnvFromSource {
		return []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: secret}}}}
	}
	const tail = ` is not allowed because service account bound does not reference that secret`
	n := 0
	for want, change := range map[string]func(p *corev1.Pod, secret string){
		`volume with secret.secretName="theirs"` + tail: func(p *corev1.Pod, s string) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: s}}}}
		},
		`container a with envVar E referencing secret.secretName="theirs"` + tail: func(p *corev1.Pod, s string) { p.Spec.Containers[0].Env = key(s) },
		`container a with envFrom referencing secret.secretName="theirs"` + tail:  func(p *corev1.Pod, s string) { p.Spec.Containers[0].EnvFrom = whole(s) },
		`init container i with envVar E referencing secret.secretName="theirs"` + tail: func(p *corev1.Pod, s string) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", Env: key(s)}}
		},
		`init container i with envFrom referencing secret.secretName="theirs"` + tail: func(p *corev1.Pod, s string) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", EnvFrom: whole(s)}}
		},
	} {
		n++
		for secret, ok := range map[string]bool{"listed": true, "theirs": false} {
			p := pod("p"+string(rune('a'+n))+secret, func(p *corev1.Pod) {
				p.Spec.ServiceAccountName = "bound"
				p.Spec.Containers[0].Name = "a"
				change(p, secret)
			})
			if ok {
				c.must(p)
			} else {
				c.refused(c, p, want)
			}
		}
	}
	c.refused(c, pod("pull", func(p *corev1.Pod) {
		p.Spec.ServiceAccountName = "bound"
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "theirs"}}
	}), `imagePullSecrets[0].name="theirs" is not allowed because service account bound does not reference that imagePullSecret`)

	c.must(pod("runs", func(p *corev1.Pod) { p.Spec.ServiceAccountName = "bound" }))
	for want, debug := range map[string]corev1.EphemeralContainerCommon{
		`ephemeral container d with envVar E referencing secret.secretName="theirs"` + tail: {Name: "d", Image: "i", Env: key("theirs")},
		`ephemeral container d with envFrom referencing secret.secretName="theirs"` + tail:  {Name: "d", Image: "i", EnvFrom: whole("theirs")},
	} {
		have, err := client.Get[*corev1.Pod](t.Context(), c, "default", "runs")
		if err != nil {
			t.Fatal(err)
		}
		have = have.DeepCopy()
		have.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: debug}}
		if _, err := c.Update(t.Context(), object.Of[*corev1.Pod](c.Scheme()), have, "ephemeralcontainers"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("added to a running pod: %v, want %q", err, want)
		}
	}
	have, err := client.Get[*corev1.Pod](t.Context(), c, "default", "runs")
	if err != nil {
		t.Fatal(err)
	}
	have = have.DeepCopy()
	have.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "d", Image: "i", EnvFrom: whole("listed")}}}
	if _, err := c.Update(t.Context(), object.Of[*corev1.Pod](c.Scheme()), have, "ephemeralcontainers"); err != nil {
		t.Errorf("a Secret that is listed: %v", err)
	}
}
