package reference

import (
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/lib/pki"
)

// Pods that refer to bundles are told of each change of any.
func TestFollowsTrustBundles(t *testing.T) {
	dir := t.TempDir()
	authorities := map[string]string{} // what a bundle holds, and what it is called here
	bundle := func(name, what string) *certificatesv1.ClusterTrustBundle {
		ca, err := pki.LoadOrCreateAuthority(dir, what, what, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		text := string(ca.CertPEM)
		authorities[text] = what
		return &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: certificatesv1.ClusterTrustBundleSpec{TrustBundle: text}}
	}
	s, api, changed := newStore(t, bundle("a", "1"))
	p := &corev1.Pod{Spec: corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}}},
	}}}}}}
	s.Register("u", Of(p))
	texts := func() string {
		t.Helper()
		all, err := s.TrustBundles(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, b := range all {
			out[b.Name] = authorities[b.Spec.TrustBundle]
		}
		return out["a"] + "," + out["b"]
	}
	if got := texts(); got != "1," {
		t.Errorf("at first: %s", got)
	}
	if _, err := client.Create(t.Context(), api, bundle("b", "2")); err != nil {
		t.Fatal(err)
	}
	expect(t, changed, "u")
	if got := texts(); got != "1,2" {
		t.Errorf("after another came: %s", got)
	}
	if err := client.Delete[*certificatesv1.ClusterTrustBundle](t.Context(), api, "", "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(t, changed, "u")
	if got := texts(); got != ",2" {
		t.Errorf("after one went: %s", got)
	}
	s.Unregister("u")
	s.Wait()
	if len(s.entries) != 0 {
		t.Errorf("left: %v", s.entries)
	}
}
