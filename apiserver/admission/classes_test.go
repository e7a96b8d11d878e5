package admission_test

import (
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/admission"
	"sagong/apiserver/authz"
	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/object"
)

// conformance: [sig-node] RuntimeClass should reject a Pod requesting a non-existent RuntimeClass [NodeConformance] [Conformance]
// conformance: [sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass and initialize its Overhead [NodeConformance] [Conformance]
func TestRuntimeClass(t *testing.T) {
	c := newCluster(t)
	named := func(class string, change ...func(*corev1.Pod)) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.RuntimeClassName = &class
			for _, f := range change {
				f(p)
			}
		}
	}
	c.must(&nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: "heavy"}, Handler: "h", Overhead: &nodev1.Overhead{PodFixed: list("cpu", "10m", "memory", "1Mi")},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"a": "b"}, Tolerations: []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}},
	})
	c.refused(c, pod("p", named("none")), `pods "p" is forbidden: pod rejected: RuntimeClass "none" not found`)
	p := c.must(pod("p", named("heavy", func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpEqual, Value: "v", Effect: corev1.TaintEffectNoSchedule}}
	}))).(*corev1.Pod)
	if p.Spec.Overhead.Cpu().String() != "10m" || p.Spec.NodeSelector["a"] != "b" {
		t.Errorf("overhead %v, selector %v", p.Spec.Overhead, p.Spec.NodeSelector)
	}
	var own []corev1.Toleration
	for _, t := range p.Spec.Tolerations {
		if t.Key == "k" {
			own = append(own, t)
		}
	}
	if len(own) != 1 || own[0].Operator != corev1.TolerationOpExists {
		t.Errorf("tolerations %v", p.Spec.Tolerations)
	}
	c.refused(c, pod("q", named("heavy", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "c"} })),
		`pods "q" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = c`)
	c.refused(c, pod("q", named("heavy", func(p *corev1.Pod) { p.Spec.Overhead = list("cpu", "1") })),
		`pods "q" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead`)
	c.refused(c, pod("q", func(p *corev1.Pod) { p.Spec.Overhead = list("cpu", "1") }),
		`pods "q" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead`)
}

func TestDefaultIngressClass(t *testing.T) {
	c := newCluster(t)
	ingress := func(name string) *networkingv1.Ingress {
		return &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: networkingv1.IngressSpec{
			DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "s", Port: networkingv1.ServiceBackendPort{Number: 80}}},
		}}
	}
	if i := c.must(ingress("a")).(*networkingv1.Ingress); i.Spec.IngressClassName != nil {
		t.Errorf("class %q, though there is none", *i.Spec.IngressClassName)
	}
	for _, name := range []string{"second", "first"} {
		c.must(&networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}}, Spec: networkingv1.IngressClassSpec{Controller: "example.com/c"}})
	}
	if i := c.must(ingress("b")).(*networkingv1.Ingress); i.Spec.IngressClassName == nil {
		t.Error("no class")
	}
	old := ingress("c")
	old.Annotations = map[string]string{"kubernetes.io/ingress.class": "x"}
	if i := c.must(old).(*networkingv1.Ingress); i.Spec.IngressClassName != nil {
		t.Errorf("class %q beside the annotation", *i.Spec.IngressClassName)
	}
}

func TestNodesAndWhatLandsOnThem(t *testing.T) {
	c := newCluster(t)
	n := c.must(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{
		corev1.LabelTopologyZone: "z", corev1.LabelTopologyRegion: "r", corev1.LabelOSStable: "linux",
	}}}).(*corev1.Node)
	if len(n.Spec.Taints) != 1 || n.Spec.Taints[0].Key != corev1.TaintNodeNotReady {
		t.Errorf("taints %v", n.Spec.Taints)
	}
	c.must(pod("q", asks(list("cpu", "100m"), nil)))
	pods := object.Of[*corev1.Pod](c.Scheme())
	if _, err := c.CreateSubresource(t.Context(), pods, "default", "q", "binding", &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}); err != nil {
		t.Fatal(err)
	}
	q, err := client.Get[*corev1.Pod](t.Context(), c, "default", "q")
	if err != nil || q.Labels[corev1.LabelTopologyZone] != "z" || q.Labels[corev1.LabelTopologyRegion] != "r" {
		t.Errorf("labels %v, %v", q.Labels, err)
	}
	next := q.DeepCopy()
	next.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list("cpu", "1")}
	if _, err := c.Update(t.Context(), pods, next, "resize"); err == nil || !strings.Contains(err.Error(), "Node didn't have enough allocatable resources: cpu, requested: 1000, allocatable: 0") {
		t.Errorf("a resize beyond the node: %v", err)
	}
}

// A pod is resized where its node declares that it can be.
func TestUpdatesNeedFeaturesOfTheNode(t *testing.T) {
	c := newCluster(t)
	able := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "able", Labels: map[string]string{corev1.LabelOSStable: "linux"}}}
	able.Status.Allocatable = list("cpu", "4")
	able.Status.DeclaredFeatures = []string{"Another", "InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers"}
	other := able.DeepCopy()
	other.Name, other.Status.DeclaredFeatures = "other", []string{"Another"}
	c.must(able)
	c.must(other)
	pods := object.Of[*corev1.Pod](c.Scheme())
	for name, change := range map[string]func(s *corev1.PodSpec, cpu string){
		"InPlacePodLevelResourcesVerticalScaling": func(s *corev1.PodSpec, cpu string) {
			s.Resources = &corev1.ResourceRequirements{Requests: list("cpu", cpu)}
		},
		"InPlacePodVerticalScalingInitContainers": func(s *corev1.PodSpec, cpu string) {
			s.InitContainers = []corev1.Container{{Name: "i", Image: "i", Resources: corev1.ResourceRequirements{Requests: list("cpu", cpu)}}}
		},
	} {
		resize := func(p *corev1.Pod, cpu string) error {
			next := p.DeepCopy()
			change(&next.Spec, cpu)
			_, err := c.Update(t.Context(), pods, next, "resize")
			return err
		}
		for _, node := range []string{"able", "other", "gone"} {
			p := pod(strings.ToLower(name)+"-"+node, asks(list("cpu", "100m"), nil))
			change(&p.Spec, "1")
			p.Spec.NodeName = node
			p = c.must(p).(*corev1.Pod)
			want := map[string]string{
				"other": "pod update requires features " + name + ` which are not available on node "other"`,
				"gone":  `node "gone" not found`,
			}[node]
			if err := resize(p, "2"); want == "" && err != nil || want != "" && (!apierrors.IsForbidden(err) || !strings.HasSuffix(err.Error(), want)) {
				t.Errorf("%s: %v", p.Name, err)
			}
			if err := resize(p, "1000m"); node != "able" && err != nil {
				t.Errorf("%s: the same, written differently: %v", p.Name, err)
			}
		}
	}
}

func TestTrustBundlesAreAttested(t *testing.T) {
	c := newCluster(t)
	bundle := &certificatesv1.ClusterTrustBundle{Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: "example.com/signer"}}
	rule := admission.ClusterTrustBundleAttest{Authorizer: authz.Masters{}}
	a := &resource.Attributes{Operation: resource.Create, Definition: object.Of[*certificatesv1.ClusterTrustBundle](c.Scheme()), Name: "b", Object: bundle, User: &user.DefaultInfo{Name: "someone"}}
	if err := rule.Validate(t.Context(), a); err == nil || !strings.Contains(err.Error(), `user not permitted to attest for signerName "example.com/signer"`) {
		t.Errorf("attested by anybody: %v", err)
	}
	a.User = &user.DefaultInfo{Name: "root", Groups: []string{user.SystemPrivilegedGroup}}
	if err := rule.Validate(t.Context(), a); err != nil {
		t.Error(err)
	}
}

func TestChoose(t *testing.T) {
	all := []admission.Plugin{admission.NotYet{}, admission.Priority{}, admission.OwnerReferencesPermissionEnforcement{}, admission.TaintNodesByCondition{}}
	for _, tc := range []struct {
		enable, disable []string
		want            string
	}{
		{nil, nil, "NotYet Priority TaintNodesByCondition"},
		{[]string{"OwnerReferencesPermissionEnforcement"}, []string{"Priority"}, "NotYet OwnerReferencesPermissionEnforcement TaintNodesByCondition"},
		{[]string{"Nothing"}, nil, `--enable-admission-plugins: admission plugin "Nothing" is unknown`},
		{nil, []string{"NotYet"}, `--disable-admission-plugins: "NotYet" is needed at all times`},
		{[]string{"Priority"}, []string{"Priority"}, `--enable-admission-plugins and --disable-admission-plugins both name "Priority"`},
	} {
		chosen, err := admission.Choose(all, tc.enable, tc.disable)
		var names []string
		for _, p := range chosen {
			names = append(names, p.Name())
		}
		got := strings.Join(names, " ")
		if err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("enable %v, disable %v: %s, want %s", tc.enable, tc.disable, got, tc.want)
		}
	}
}
