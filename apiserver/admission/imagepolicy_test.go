package admission_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	imagepolicyv1alpha1 "k8s.io/api/imagepolicy/v1alpha1"

	"sagong/apiserver/admission"
)

// imageService judges images: what holds "bad" is denied, "worse" without a
// reason, and "amiss" is answered with a fault.
type imageService struct {
	mu    sync.Mutex
	asked []imagepolicyv1alpha1.ImageReviewSpec
}

func (s *imageService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q imagepolicyv1alpha1.ImageReview
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.APIVersion != "imagepolicy.k8s.io/v1alpha1" || q.Kind != "ImageReview" || r.URL.Path != "/policy" {
		http.Error(w, "not a review", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, q.Spec)
	s.mu.Unlock()
	q.Status.Allowed = true
	for _, c := range q.Spec.Containers {
		switch {
		case strings.Contains(c.Image, "amiss"):
			http.Error(w, "fault", http.StatusNotFound)
			return
		case strings.Contains(c.Image, "bad"):
			q.Status = imagepolicyv1alpha1.ImageReviewStatus{Reason: c.Image + " is not trusted"}
		case strings.Contains(c.Image, "worse"):
			q.Status = imagepolicyv1alpha1.ImageReviewStatus{}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(q)
}

func imagePolicy(t *testing.T, s *imageService, rest string) *admission.ImagePolicy {
	t.Helper()
	srv := httptest.NewTLSServer(s)
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	ca, kc := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "kubeconfig")
	for file, data := range map[string]string{
		ca: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})),
		kc: "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: '" + srv.URL + "/policy', certificate-authority: '" + ca + "'}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n",
	} {
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := admission.NewImagePolicy([]byte("imagePolicy: {kubeConfigFile: '" + kc + "', retryBackoff: -1, " + rest + "}"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestImagePolicyWebhook(t *testing.T) {
	s := &imageService{}
	c := newClusterWith(t, admission.Deps{Images: imagePolicy(t, s, "allowTTL: 60, denyTTL: 60")}, "ImagePolicyWebhook")
	pod := func(name, image string) *corev1.Pod {
		return podIn("default", name, func(p *corev1.PodSpec) {
			p.Containers[0].Image = image
			p.InitContainers = []corev1.Container{{Name: "i", Image: "init"}}
		})
	}
	for _, name := range []string{"good", "again"} { // the second is known
		p := pod(name, "fine")
		p.Annotations = map[string]string{"x.image-policy.k8s.io/ticket": "1", "other": "2"}
		c.must(p)
	}
	if len(s.asked) != 1 {
		t.Fatalf("asked %+v", s.asked)
	}
	if q := s.asked[0]; q.Namespace != "default" || len(q.Containers) != 2 || q.Containers[0].Image != "fine" || q.Containers[1].Image != "init" || len(q.Annotations) != 1 {
		t.Errorf("asked %+v", q)
	}
	c.refused(c, pod("b", "bad"), `pods "b" is forbidden: image policy webhook backend denied one or more images: bad is not trusted`)
	c.refused(c, pod("w", "worse"), `pods "w" is forbidden: one or more images rejected by webhook backend`)
	c.refused(c, pod("a", "amiss"), `pods "a" is forbidden: the server could not find the requested resource`)
	c.must(&corev1.ConfigMap{ObjectMeta: podIn("default", "c", nil).ObjectMeta})
}

// When the service is amiss, pods are let in if it is configured so, and say it.
func TestImagePolicyThatAllowsWhenAmiss(t *testing.T) {
	c := newClusterWith(t, admission.Deps{Images: imagePolicy(t, &imageService{}, "defaultAllow: true")}, "ImagePolicyWebhook")
	p := c.must(podIn("default", "p", func(p *corev1.PodSpec) { p.Containers[0].Image = "amiss" }))
	if p.GetAnnotations()["alpha.image-policy.k8s.io/failed-open"] != "true" {
		t.Errorf("annotations %v", p.GetAnnotations())
	}
}

func TestImagePolicyConfiguration(t *testing.T) {
	for config, want := range map[string]string{
		"imagePolicy: {allowTTL: 1}":          "valid value is between 1s and 30m0s, got 1s",
		"imagePolicy: {denyTTL: 1801}":        "valid value is between 1s and 30m0s, got 30m1s",
		"imagePolicy: {retryBackoff: 300001}": "valid value is between 1ns and 5m0s, got 5m0.001s",
		"imagePolicy: {kubeConfigFile: none}": "no such file or directory",
		"imagePolicy: [":                      "yaml",
	} {
		if _, err := admission.NewImagePolicy([]byte(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}
