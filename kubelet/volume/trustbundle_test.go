package volume

import (
	"context"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type fakeBundles []*certificatesv1.ClusterTrustBundle

func (f fakeBundles) TrustBundles(context.Context) ([]*certificatesv1.ClusterTrustBundle, error) {
	return f, nil
}

func TestTrustBundles(t *testing.T) {
	block := func(text string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(text)}))
	}
	bundle := func(name, signer, label string, texts ...string) *certificatesv1.ClusterTrustBundle {
		b := &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"track": label}}, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: signer}}
		for _, x := range texts {
			b.Spec.TrustBundle += "a comment\n" + block(x)
		}
		return b
	}
	all := fakeBundles{
		bundle("example.com:s:a", "example.com/s", "live", "2", "1"), bundle("example.com:s:b", "example.com/s", "live", "1", "3"),
		bundle("example.com:s:c", "example.com/s", "test", "4"), bundle("example.com:t:a", "example.com/t", "live", "5"), bundle("plain", "", "", "6"),
	}
	name, gone, signer, yes := "plain", "gone", "example.com/s", true
	type source = corev1.ClusterTrustBundleProjection
	for what, x := range map[string]struct {
		s         source
		want, err string
	}{
		"by name":             {source{Name: &name}, block("6"), ""},
		"no such name":        {source{Name: &gone}, "", `clustertrustbundle.certificates.k8s.io "gone" not found`},
		"no such name, maybe": {source{Name: &gone, Optional: &yes}, "", ""},
		"by signer":           {source{SignerName: &signer, LabelSelector: &metav1.LabelSelector{}}, block("1") + block("2") + block("3") + block("4"), ""},
		"by signer and label": {source{SignerName: &signer, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"track": "live"}}}, block("1") + block("2") + block("3"), ""},
		"no selector":         {source{SignerName: &signer}, "", "combination of signerName and labelSelector matched zero ClusterTrustBundles"},
		"no selector, maybe":  {source{SignerName: &signer, Optional: &yes}, "", ""},
	} {
		got, err := chosen(all, &x.s)
		if (err == nil) != (x.err == "" && x.s.Optional == nil) || x.err != "" && !strings.Contains(err.Error(), x.err) || string(authorities(got)) != x.want {
			t.Errorf("%s: %q, %v", what, authorities(got), err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("mounts a memory file system")
	}
	m, _ := newManager(t)
	m.Bundles = all
	p := podWith(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ClusterTrustBundle: &source{Name: &name, Path: "roots/ca.pem"}}, {ClusterTrustBundle: &source{Name: &gone, Path: "none.pem", Optional: &yes}},
	}}})
	paths, err := m.Mount(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"roots/ca.pem": block("6"), "none.pem": ""} {
		if got, err := os.ReadFile(filepath.Join(paths["v0"], file)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
}
