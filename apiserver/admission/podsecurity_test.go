package admission_test

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	psatest "k8s.io/pod-security-admission/test"

	"sagong/apiserver"
	"sagong/apiserver/resource"
	"sagong/object"
	"sagong/reconcile"
)

// TestPodSecurityFixtures runs all of upstream's own cases against this server
// over HTTP: pods that each level in each version must let in or keep out, and
// Deployments of them that must or must not be warned of.
func TestPodSecurityFixtures(t *testing.T) {
	c := newCluster(t)
	api := apiserver.New(apiserver.Options{Engine: c.engine})
	server := httptest.NewServer(api)
	t.Cleanup(func() {
		server.Close()
		if err := api.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	psatest.Run(t, psatest.Options{ClientConfig: &rest.Config{Host: server.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"}}})
}

// caller records what a user is told beside the answer.
func (c *cluster) caller(warnings *[]string, annotations map[string]string) resource.Caller {
	return resource.Caller{
		User: &user.DefaultInfo{Name: "someone"}, Warn: func(s string) { *warnings = append(*warnings, s) },
		Annotate: func(k, v string) { annotations[k] = v },
	}
}

func TestPodSecurityOfNamespaces(t *testing.T) {
	c := newCluster(t)
	ns := func(labels ...string) *corev1.Namespace {
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{}}}
		for i := 0; i < len(labels); i += 2 {
			n.Labels["pod-security.kubernetes.io/"+labels[i]] = labels[i+1]
		}
		return n
	}
	var warnings []string
	annotations := map[string]string{}
	update := func(n *corev1.Namespace) error {
		warnings = nil
		kind := c.engine.Kind(object.Of[*corev1.Namespace](c.Scheme()))
		_, _, err := c.engine.Update(t.Context(), c.caller(&warnings, annotations), resource.Target{Kind: kind, Name: n.Name}, n, &metav1.UpdateOptions{})
		return err
	}
	err := update(ns("enforce", "strict", "warn-version", "newest"))
	for _, want := range []string{
		`Namespace "default" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted`,
		`metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "newest": must be "latest" or "v1.x"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("labels without meaning: %v, want %q", err, want)
		}
	}
	privileged := func(p *corev1.Pod) {
		yes := true
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes}
	}
	c.must(pod("old", privileged))
	c.synced("old")
	if err := update(ns("enforce", "baseline", "warn", "restricted", "audit", "restricted")); err != nil {
		t.Fatal(err)
	}
	want := []string{`existing pods in namespace "default" violate the new PodSecurity enforce level "baseline:latest"`, `old: privileged`}
	if !slices.Equal(warnings, want) {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
	c.refused(c, pod("p", privileged), `pods "p" is forbidden: violates PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)`)
	warnings = nil
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "d"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: pod("x", privileged).Spec},
	}}
	kind := c.engine.Kind(object.Of[*appsv1.Deployment](c.Scheme()))
	if _, err := c.engine.Create(t.Context(), c.caller(&warnings, annotations), resource.Target{Kind: kind, Namespace: "default"}, d, &metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], `would violate PodSecurity "restricted:latest": privileged (container "c" must not set securityContext.privileged=true), allowPrivilegeEscalation != false`) {
		t.Errorf("warnings of a Deployment: %q", warnings)
	}
	if a := annotations["pod-security.kubernetes.io/audit-violations"]; !strings.HasPrefix(a, `would violate PodSecurity "restricted:latest"`) {
		t.Errorf("annotations %v", annotations)
	}
}

// synced waits until the views show a pod.
func (c *cluster) synced(name string) {
	c.Helper()
	pods := c.pods()
	o, err := c.Get(c.Context(), pods.Definition(), "default", name)
	if err != nil {
		c.Fatal(err)
	}
	if err := pods.WaitRevision(c.Context(), object.RevisionOf(o)); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) pods() *reconcile.View[*corev1.Pod] { return reconcile.ViewOf[*corev1.Pod](c.hub) }
