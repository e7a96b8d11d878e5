package scheduler

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
	"sagong/scheduler/configuration"
	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

func configured(t *testing.T, text string) *configuration.Configuration {
	t.Helper()
	c, err := configuration.Read([]byte("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n" + text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Pods choose their profile by schedulerName: one packs, the other spreads.
func TestProfilesPlaceByTheirOwnRules(t *testing.T) {
	c := configured(t, `
profiles:
- schedulerName: default-scheduler
- schedulerName: packer
  plugins:
    filter: {disabled: [{name: TaintToleration}]}
    postFilter: {disabled: [{name: "*"}]}
    score: {disabled: [{name: NodeResourcesBalancedAllocation}]}
    preScore: {disabled: [{name: NodeResourcesBalancedAllocation}]}
  pluginConfig:
  - {name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated}}}
  - {name: NodeAffinity, args: {addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: NotIn, values: [n1]}]}]}}}}
`)
	objs := []object.Object{space(), node("n1"), node("n2"), node("n3", tainted)}
	for i := range 4 {
		objs = append(objs, testPod(fmt.Sprint("spread", i), requests("500m", "1Gi")))
		objs = append(objs, testPod(fmt.Sprint("packed", i), requests("1", "1Gi"), func(p *corev1.Pod) { p.Spec.SchedulerName = "packer" }))
	}
	_, v, _ := startWith(t, c, objs...)
	until(t, v, "all have nodes", func(all []*corev1.Pod) bool {
		return count(all, func(p *corev1.Pod) bool { return p.Spec.NodeName != "" }) == 8
	})
	packed := map[string]int{}
	for _, p := range v.All() {
		if p.Spec.SchedulerName == "packer" {
			packed[p.Spec.NodeName]++
		}
		if p.Spec.SchedulerName == Name && p.Spec.NodeName == "n3" {
			t.Errorf("%s on a tainted node", p.Name)
		}
	}
	if packed["n1"] != 0 || packed["n2"] != 4 && packed["n3"] == 0 {
		t.Errorf("packed: %v", packed)
	}
}

// Pods of a ReplicaSet that say nothing are spread over nodes and zones.
func TestPodsOfOneOwnerAreSpreadByDefault(t *testing.T) {
	zone := func(z, cpu string) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Labels[corev1.LabelTopologyZone] = z
			n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
	}
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "rs", UID: "rs"},
		Spec:       appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}},
	}
	// n3 alone has so much room that without spreading all pods would go there.
	objs := []object.Object{space(), rs, node("n1", zone("a", "4")), node("n2", zone("b", "4")), node("n3", zone("b", "64"))}
	for i := range 6 {
		objs = append(objs, testPod(fmt.Sprint("p", i), requests("100m", "100Mi"), func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "rs", UID: "rs", Controller: new(true)}}
		}))
	}
	_, v := start(t, objs...)
	until(t, v, "all have nodes", func(all []*corev1.Pod) bool {
		return count(all, func(p *corev1.Pod) bool { return p.Spec.NodeName != "" }) == 6
	})
	at := map[string]int{}
	for _, p := range v.All() {
		at[p.Spec.NodeName]++
	}
	if at["n1"] < 2 || at["n2"] == 0 || at["n3"] == 0 || at["n3"] > 3 {
		t.Errorf("pods by node: %v", at)
	}
}

// Placed pods that want a newcomer near, or would rather not, are heard.
func TestPreferencesOfPlacedPods(t *testing.T) {
	term := corev1.PodAffinityTerm{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "new"}}}
	soft := []corev1.WeightedPodAffinityTerm{{Weight: 100, PodAffinityTerm: term}}
	for name, x := range map[string]struct {
		affinity *corev1.Affinity
		args     string
		near     bool
	}{
		"would like it":    {&corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: soft}}, "", true},
		"would rather not": {&corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: soft}}, "", false},
		"requires it":      {&corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}}, "", true},
		"not heard":        {&corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: soft}}, "{ignorePreferredTermsOfExistingPods: true}", false},
		"requires in vain": {&corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}}, "{hardPodAffinityWeight: 0}", false},
	} {
		c := configuration.Default()
		if x.args != "" {
			c = configured(t, "profiles: [{pluginConfig: [{name: InterPodAffinity, args: "+x.args+"}]}]")
		}
		p, err := newProfile(&c.Profiles[0], plugins.Share(plugins.Deps{}))
		if err != nil {
			t.Fatal(err)
		}
		s := state.New()
		s.SetNode(node("n1"))
		s.SetNode(node("n2"))
		// Room speaks for the other node, so that only preference can win.
		s.Place(testPod("old", requests("1", "2Gi"), func(p *corev1.Pod) { p.Spec.Affinity = x.affinity }), "n1", false)
		class, err := plugins.NewClass(testPod("new", requests("500m", "1Gi"), func(p *corev1.Pod) { p.Labels = map[string]string{"app": "new"} }))
		if err != nil {
			t.Fatal(err)
		}
		pl, no := p.begin(class, s)
		if no != nil {
			t.Fatal(no.message())
		}
		pl.fill()
		if got := pl.pick().Name; (got == "n1") != x.near {
			t.Errorf("%s: put on %s", name, got)
		}
	}
}
