package admission_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/admission"
	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/kinds"
	"sagong/object"
)

func podIn(namespace, name string, change func(*corev1.PodSpec)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: "a.example/b:1", ImagePullPolicy: corev1.PullNever}},
	}}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

// The order is upstream's, of those that are off by default as well.
func TestOrderOfAll(t *testing.T) {
	var names []string
	c := newCluster(t)
	for _, p := range admission.All(admission.Deps{Hub: c.hub, Client: c, Engine: c.engine, FirstNodePort: 30000, LastNodePort: 30009}) {
		names = append(names, p.Name())
	}
	at := -1
	for _, n := range []string{
		"AlwaysAdmit", "NamespaceAutoProvision", "NamespaceLifecycle", "NamespaceExists", "LimitPodHardAntiAffinityTopology", "LimitRanger", "ServiceAccount",
		"NodeRestriction", "TaintNodesByCondition", "AlwaysPullImages", "ImagePolicyWebhook", "PodNodeSelector", "Priority", "DefaultTolerationSeconds", "PodTolerationRestriction",
		"EventRateLimit", "ExtendedResourceToleration", "DefaultStorageClass", "StorageObjectInUseProtection", "OwnerReferencesPermissionEnforcement",
		"PersistentVolumeClaimResize", "RuntimeClass", "CertificateApproval", "ClusterTrustBundleAttest", "CertificateSubjectRestriction", "DefaultIngressClass",
		"DenyServiceExternalIPs", "PodTopologyLabels", "AlwaysDeny",
	} {
		i := slices.Index(names, n)
		if i <= at {
			t.Errorf("%s is at %d, after %d", n, i, at)
		}
		at = i
	}
}

func TestAlwaysPullImages(t *testing.T) {
	c := newClusterWith(t, admission.Deps{}, "AlwaysPullImages")
	p := c.must(podIn("default", "p", func(s *corev1.PodSpec) {
		s.InitContainers = []corev1.Container{{Name: "i", Image: "x"}}
		s.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "y", PullPolicy: corev1.PullNever}}}}
	})).(*corev1.Pod)
	for _, policy := range []corev1.PullPolicy{p.Spec.Containers[0].ImagePullPolicy, p.Spec.InitContainers[0].ImagePullPolicy, p.Spec.Volumes[0].Image.PullPolicy} {
		if policy != corev1.PullAlways {
			t.Errorf("%+v", p.Spec)
		}
	}
}

func TestNamespaceAutoProvision(t *testing.T) {
	c := newClusterWith(t, admission.Deps{}, "NamespaceAutoProvision", "NamespaceExists")
	c.must(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "new", Name: "m"}})
	if _, err := client.Get[*corev1.Namespace](t.Context(), c, "", "new"); err != nil {
		t.Error(err)
	}
	plain := newClusterWith(t, admission.Deps{}, "NamespaceExists")
	plain.refused(plain, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "new", Name: "m"}}, `namespaces "new" not found`)
}

func TestLimitPodHardAntiAffinityTopology(t *testing.T) {
	c := newClusterWith(t, admission.Deps{}, "LimitPodHardAntiAffinityTopology")
	apart := func(key string) *corev1.Pod {
		return podIn("default", strings.ReplaceAll(key, "/", "-"), func(s *corev1.PodSpec) {
			s.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: &metav1.LabelSelector{}}}}}
		})
	}
	c.must(apart(corev1.LabelHostname))
	c.refused(c, apart("zone"), `pods "zone" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only key kubernetes.io/hostname is allowed`)
}

func TestDenyServiceExternalIPs(t *testing.T) {
	plain := newCluster(t)
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}, ExternalIPs: []string{"192.0.2.1"}}}
	plain.must(s.DeepCopy())
	c := newClusterWith(t, admission.Deps{}, "DenyServiceExternalIPs")
	c.refused(c, s.DeepCopy(), `services "s" is forbidden: Use of external IPs is denied by admission control`)
	s.Spec.ExternalIPs = nil
	c.must(s)
}

func TestExtendedResourceToleration(t *testing.T) {
	c := newClusterWith(t, admission.Deps{}, "ExtendedResourceToleration")
	p := c.must(podIn("default", "p", func(s *corev1.PodSpec) {
		s.Containers[0].Resources.Limits = corev1.ResourceList{"example.com/b": kresource.MustParse("1"), "example.com/a": kresource.MustParse("1"), "cpu": kresource.MustParse("1")}
		s.Tolerations = []corev1.Toleration{{Key: "example.com/a", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
	})).(*corev1.Pod)
	var keys []string
	for _, o := range p.Spec.Tolerations {
		if strings.HasPrefix(o.Key, "example.com/") && o.Operator == corev1.TolerationOpExists && o.Effect == corev1.TaintEffectNoSchedule {
			keys = append(keys, o.Key)
		}
	}
	if !slices.Equal(keys, []string{"example.com/a", "example.com/b"}) {
		t.Errorf("%+v", p.Spec.Tolerations)
	}
}

func TestPodNodeSelector(t *testing.T) {
	c := newClusterWith(t, admission.Deps{NodeSelectors: map[string]string{"clusterDefaultNodeSelector": "env=prod", "team": "env=test,disk=ssd"}}, "PodNodeSelector")
	c.must(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team", Annotations: map[string]string{"scheduler.alpha.kubernetes.io/node-selector": "env=test"}}})
	c.must(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "default"}})
	with := func(namespace string, selector map[string]string) *corev1.Pod {
		return podIn(namespace, "p", func(s *corev1.PodSpec) { s.NodeSelector = selector })
	}
	if p := c.must(with("default", nil)).(*corev1.Pod); fmt.Sprint(p.Spec.NodeSelector) != "map[env:prod]" {
		t.Error(p.Spec.NodeSelector)
	}
	if p := c.must(with("team", map[string]string{"disk": "ssd"})).(*corev1.Pod); fmt.Sprint(p.Spec.NodeSelector) != "map[disk:ssd env:test]" {
		t.Error(p.Spec.NodeSelector)
	}
	c.refused(c, with("team", map[string]string{"env": "prod"}), `pods "p" is forbidden: pod node label selector conflicts with its namespace node label selector`)
	c.refused(c, with("team", map[string]string{"zone": "a"}), `pods "p" is forbidden: pod node label selector labels conflict with its namespace whitelist`)
}

func TestPodTolerationRestriction(t *testing.T) {
	own := corev1.Toleration{Key: "own", Operator: corev1.TolerationOpExists}
	c := newClusterWith(t, admission.Deps{Tolerations: admission.TolerationRules{Default: []corev1.Toleration{own}}}, "PodTolerationRestriction")
	c.must(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team", Annotations: map[string]string{
		"scheduler.alpha.kubernetes.io/defaultTolerations":   `[{"key": "a", "operator": "Exists"}]`,
		"scheduler.alpha.kubernetes.io/tolerationsWhitelist": `[{"key": "a", "operator": "Exists"}, {"key": "node.kubernetes.io/not-ready", "operator": "Exists"}, {"key": "node.kubernetes.io/unreachable", "operator": "Exists"}]`,
	}}})
	c.must(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "default"}})
	has := func(p *corev1.Pod, key string) bool {
		return slices.ContainsFunc(p.Spec.Tolerations, func(o corev1.Toleration) bool { return o.Key == key })
	}
	if p := c.must(podIn("default", "p", nil)).(*corev1.Pod); !has(p, "own") || has(p, corev1.TaintNodeMemoryPressure) {
		t.Error(p.Spec.Tolerations)
	}
	if p := c.must(podIn("team", "p", nil)).(*corev1.Pod); !has(p, "a") || has(p, "own") {
		t.Error(p.Spec.Tolerations)
	}
	const no = "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist"
	c.refused(c, podIn("team", "q", func(s *corev1.PodSpec) { s.Tolerations = []corev1.Toleration{own} }), no)
	// Any but the least class of pods also tolerates that memory is short.
	c.refused(c, podIn("team", "q", func(s *corev1.PodSpec) {
		s.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": kresource.MustParse("1")}
	}), no)
}

func TestEventRateLimit(t *testing.T) {
	now := time.Now()
	scheme := object.NewScheme(kinds.All()...)
	r := admission.NewEventRateLimit([]admission.EventLimit{
		{Type: "Server", QPS: 1, Burst: 5}, {Type: "SourceAndObject", QPS: 1, Burst: 2, CacheSize: 1},
	}, func() time.Time { return now })
	write := func(o object.Object, dry bool) error {
		return r.Validate(t.Context(), &resource.Attributes{Operation: resource.Create, Definition: scheme.ByObject(o), Namespace: "ns", Name: o.GetName(), Object: o, DryRun: dry})
	}
	event := func(about string) *corev1.Event {
		return &corev1.Event{Source: corev1.EventSource{Component: "test"}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: "ns", Name: about}}
	}
	const source, server = "Too many requests: limit reached on type SourceAndObject for key testPodnspv1", "Too many requests: limit reached on type Server for key "
	for i, want := range []string{"", "", source, source, source, source} {
		err := write(event("p"), false)
		if got := fmt.Sprint(err); want == "" && err != nil || want != "" && (got != want || !apierrors.IsTooManyRequests(err)) {
			t.Errorf("event %d: %v, want %q", i, err, want)
		}
	}
	// Each limit counts what another refuses.
	if err := write(event("q"), false); err == nil || err.Error() != server {
		t.Error(err)
	}
	if err := write(event("q"), true); err != nil {
		t.Error("what is only tried counts:", err)
	}
	if err := write(&corev1.ConfigMap{}, false); err != nil {
		t.Error(err)
	}
	now = now.Add(5 * time.Second)
	// The first object was forgotten over the second.
	for range 2 {
		if err := write(event("p"), false); err != nil {
			t.Error(err)
		}
	}
}

func TestAlwaysDeny(t *testing.T) {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "m"}}
	a := &resource.Attributes{Operation: resource.Create, Definition: object.NewScheme(kinds.All()...).ByObject(m), Namespace: "ns", Name: "m", Object: m}
	for name, no := range map[string]bool{"jane": true, "system:apiserver": false} {
		a.User = &user.DefaultInfo{Name: name}
		if err := (admission.AlwaysDeny{}).Admit(t.Context(), a); (err != nil) != no || no && err.Error() != `configmaps "m" is forbidden: admission control is denying all modifications` {
			t.Errorf("%s: %v", name, err)
		}
	}
}
