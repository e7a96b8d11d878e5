package scheduler

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/scheduler/state"
)

func cpu(s string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(s)}
	}
}

func ofApp(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{"app": name} }
}

// started says how many minutes ago a pod did.
func started(minutes int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.StartTime = &metav1.Time{Time: epoch.Add(-time.Duration(minutes) * time.Minute)}
	}
}

func ending(by string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.DeletionTimestamp = &metav1.Time{Time: epoch}
		if by != "" {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: by}}
		}
	}
}

func budgetFor(app string, allowed int32, change ...func(*policyv1.PodDisruptionBudget)) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: app}}
	b.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
	b.Status.DisruptionsAllowed = allowed
	for _, f := range change {
		f(b)
	}
	return b
}

func affinityTo(app, key string, anti bool) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		terms := []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}}
		if p.Spec.Affinity = (&corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}}); anti {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}}
		}
	}
}

// askRoom is a pod that fits nowhere and may ask others to go.
func askRoom(t *testing.T, nodes []*corev1.Node, held []*corev1.Pod, nominees map[string]*corev1.Pod, budgets []*policyv1.PodDisruptionBudget, p *corev1.Pod) *preemptor {
	t.Helper()
	s := state.New()
	for _, n := range nodes {
		s.SetNode(n)
	}
	for _, q := range held {
		s.Place(q, q.Spec.NodeName, false)
	}
	for node, q := range nominees {
		s.Nominate(q, node)
	}
	sched := bare(t, s)
	for _, b := range budgets {
		sched.budgets.set(b)
	}
	x := &queued{pod: p, priority: *p.Spec.Priority}
	x.class, x.base = sched.queue.class(p)
	pl, no := sched.planFor(sched.profiles[Name], x)
	if no != nil {
		t.Fatal(no.message())
	}
	if n := pl.pick(); n != nil {
		t.Fatalf("it fits on %s as things are", n.Name)
	}
	return &preemptor{plan: pl, pod: p, budgets: &sched.budgets, now: epoch}
}

// Who goes, and where: the facts that upstream's tests of pre-emption state.
// Nodes have four processors.
func TestWhoGoes(t *testing.T) {
	n := func(names ...string) (all []*corev1.Node) {
		for _, name := range names {
			all = append(all, node(name, func(n *corev1.Node) { n.Labels["zone"] = "z" }))
		}
		return all
	}
	const lowest = -1 << 31
	for name, x := range map[string]struct {
		nodes    []*corev1.Node
		held     []*corev1.Pod
		nominees map[string]*corev1.Pod
		budgets  []*policyv1.PodDisruptionBudget
		pod      *corev1.Pod
		want     string // node, and victims, the most important first; or why not
	}{
		"the lowest of the highest": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(5)), held("b", "n2", cpu("2"), priority(4)), held("c", "n2", cpu("2"), priority(4))},
			pod: testPod("p", cpu("4"), priority(10)), want: "n2: b c"},
		"the lowest sum": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("2"), priority(5)), held("b", "n1", cpu("2"), priority(4)), held("c", "n2", cpu("2"), priority(5)), held("d", "n2", cpu("2"), priority(3))},
			pod: testPod("p", cpu("4"), priority(10)), want: "n2: c d"},
		"a sum of negative priorities is not less for being of more": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("2"), priority(-5)), held("b", "n1", cpu("2"), priority(-5)), held("c", "n2", cpu("4"), priority(-5))},
			pod: testPod("p", cpu("4"), priority(10)), want: "n2: c"},
		"the fewest": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("2"), priority(5)), held("b", "n1", cpu("2"), priority(lowest)), held("c", "n2", cpu("4"), priority(5))},
			pod: testPod("p", cpu("4"), priority(10)), want: "n2: c"},
		"what started last": {nodes: n("n1", "n2", "n3"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(5), started(9)), held("b", "n2", cpu("4"), priority(5), started(3)), held("c", "n3", cpu("4"), priority(5), started(6))},
			pod: testPod("p", cpu("4"), priority(10)), want: "n2: b"},
		"the first of the most important counts": {nodes: n("n1", "n2"), held: []*corev1.Pod{
			held("a", "n1", cpu("2"), priority(5), started(3)), held("b", "n1", cpu("2"), priority(1), started(99)),
			held("c", "n2", cpu("2"), priority(5), started(4)), held("d", "n2", cpu("2"), priority(1), started(1))},
			pod: testPod("p", cpu("4"), priority(10)), want: "n1: a b"},
		"the earliest of several as important": {nodes: n("n1", "n2"), held: []*corev1.Pod{
			held("a", "n1", cpu("2"), priority(5), started(1)), held("b", "n1", cpu("2"), priority(5), started(9)),
			held("c", "n2", cpu("2"), priority(5), started(8)), held("d", "n2", cpu("2"), priority(5), started(8))},
			pod: testPod("p", cpu("4"), priority(10)), want: "n2: c d"},

		"no more than must": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", cpu("1"), priority(3)), held("b", "n1", cpu("1"), priority(2)), held("c", "n1", cpu("1"), priority(1)), held("d", "n1", cpu("1"), priority(1), started(5))},
			pod: testPod("p", cpu("1"), priority(10)), want: "n1: c"},
		"the important stay as far as there is room": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", cpu("3"), priority(3)), held("b", "n1", cpu("1"), priority(2))},
			pod: testPod("p", cpu("2"), priority(10)), want: "n1: a"},
		"of equals, those that started first stay": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", cpu("2"), priority(1), started(1)), held("b", "n1", cpu("2"), priority(1), started(2))},
			pod: testPod("p", cpu("2"), priority(10)), want: "n1: a"},
		"pods as important stay": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", cpu("3"), priority(10)), held("b", "n1", cpu("1"), priority(1))},
			pod: testPod("p", cpu("2"), priority(10)), want: "0/1 nodes are available: 1 Insufficient cpu."},
		"nobody is less important": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(10)), held("b", "n2", cpu("4"), priority(11))},
			pod: testPod("p", cpu("2"), priority(10)), want: "0/2 nodes are available: 2 No preemption victims found for incoming pod."},
		"more than the node has": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(1))},
			pod: testPod("p", cpu("5"), priority(10)), want: "0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		"a place for a pod": {nodes: []*corev1.Node{node("n1", func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("1") })}, held: []*corev1.Pod{held("a", "n1", priority(1))},
			pod: testPod("p", priority(10)), want: "n1: a"},
		"a host port": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", priority(1), hostPort(80)), held("b", "n1", priority(0), hostPort(81))},
			pod: testPod("p", priority(10), hostPort(80)), want: "n1: a"},

		"fewer broken budgets": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(1), ofApp("web")), held("b", "n2", cpu("4"), priority(9))}, budgets: []*policyv1.PodDisruptionBudget{budgetFor("web", 0)},
			pod: testPod("p", cpu("4"), priority(10)), want: "n2: b"},
		"a budget that allows it": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(1), ofApp("web")), held("b", "n2", cpu("4"), priority(9))}, budgets: []*policyv1.PodDisruptionBudget{budgetFor("web", 1)},
			pod: testPod("p", cpu("4"), priority(10)), want: "n1: a"},
		"a budget that allows one of two": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("2"), priority(1), ofApp("web")), held("b", "n1", cpu("2"), priority(1), ofApp("web")), held("c", "n2", cpu("4"), priority(9))}, budgets: []*policyv1.PodDisruptionBudget{budgetFor("web", 1)},
			pod: testPod("p", cpu("4"), priority(10)), want: "n2: c"},
		"who is counted as disrupted": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(1), ofApp("web")), held("b", "n2", cpu("4"), priority(9))}, budgets: []*policyv1.PodDisruptionBudget{budgetFor("web", 0, func(b *policyv1.PodDisruptionBudget) {
			b.Status.DisruptedPods = map[string]metav1.Time{"a": {Time: epoch}}
		})}, pod: testPod("p", cpu("4"), priority(10)), want: "n1: a"},
		"a budget of another namespace": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(1), ofApp("web")), held("b", "n2", cpu("4"), priority(9))}, budgets: []*policyv1.PodDisruptionBudget{budgetFor("web", 0, func(b *policyv1.PodDisruptionBudget) {
			b.Namespace = "other"
		})}, pod: testPod("p", cpu("4"), priority(10)), want: "n1: a"},
		"a budget for everything is for nothing": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(1), ofApp("web")), held("b", "n2", cpu("4"), priority(9))}, budgets: []*policyv1.PodDisruptionBudget{budgetFor("web", 0, func(b *policyv1.PodDisruptionBudget) {
			b.Spec.Selector = &metav1.LabelSelector{}
		})}, pod: testPod("p", cpu("4"), priority(10)), want: "n1: a"},
		"two budgets, one spent": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(1), ofApp("web")), held("b", "n2", cpu("4"), priority(9))}, budgets: []*policyv1.PodDisruptionBudget{budgetFor("web", 5), budgetFor("web", 0, func(b *policyv1.PodDisruptionBudget) {
			b.Name = "second"
		})}, pod: testPod("p", cpu("4"), priority(10)), want: "n2: b"},
		"on one node too, the protected stay before the important": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", cpu("2"), priority(1), ofApp("web")), held("b", "n1", cpu("2"), priority(2))}, budgets: []*policyv1.PodDisruptionBudget{budgetFor("web", 0)},
			pod: testPod("p", cpu("2"), priority(10)), want: "n1: b"},

		"who does not want it near": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", cpu("1"), priority(2), affinityTo("x", corev1.LabelHostname, true)), held("b", "n1", cpu("1"), priority(1))},
			pod: testPod("p", cpu("1"), priority(10)), want: "n1: a"},
		"who does not want it near, from another node": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(20), affinityTo("x", "zone", true)), held("b", "n2", cpu("1"), priority(1))},
			pod: testPod("p", cpu("1"), priority(10)), want: "0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 node(s) didn't satisfy existing pods anti-affinity rules."},
		"whom it does not want near": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", cpu("1"), priority(2), ofApp("db")), held("b", "n1", cpu("1"), priority(1))},
			pod: testPod("p", cpu("1"), priority(10), affinityTo("db", "zone", true)), want: "n1: a"},
		"whom it needs near must not go": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(2), ofApp("db"))},
			pod: testPod("p", cpu("1"), priority(10), affinityTo("db", "zone", false)), want: "0/1 nodes are available: 1 node(s) didn't match pod affinity rules."},
		"where nobody is whom it needs": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", cpu("1"), priority(2))},
			pod: testPod("p", cpu("1"), priority(10), affinityTo("db", "zone", false)), want: "0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		"who is spread with it": {nodes: []*corev1.Node{node("n1", labelled("zone", "a")), node("n2", labelled("zone", "b"), cordoned)}, held: []*corev1.Pod{held("a", "n1", cpu("1"), priority(2)), held("b", "n1", cpu("1"), priority(1), ofApp("db"))},
			pod: testPod("p", cpu("1"), priority(10), func(p *corev1.Pod) {
				p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}}}
			}), want: "n1: a"},

		"room that one more important waits for": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(1)), held("b", "n2", cpu("4"), priority(2))}, nominees: map[string]*corev1.Pod{"n1": testPod("q", cpu("4"), priority(20))},
			pod: testPod("p", cpu("4"), priority(10)), want: "n2: b"},
		"room that one as important waits for": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(1))}, nominees: map[string]*corev1.Pod{"n1": testPod("q", cpu("4"), priority(10))},
			pod: testPod("p", cpu("4"), priority(10)), want: "0/1 nodes are available: 1 Insufficient cpu."},
		"room that one less important waits for": {nodes: n("n1"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(1))}, nominees: map[string]*corev1.Pod{"n1": testPod("q", cpu("4"), priority(9))},
			pod: testPod("p", cpu("4"), priority(10)), want: "n1: a"},
		"who is going already goes": {nodes: n("n1", "n2"), held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(1), ending("")), held("b", "n2", cpu("4"), priority(2))},
			pod: testPod("p", cpu("4"), priority(10)), want: "n1: a"},
		"nodes that are not for it": {nodes: []*corev1.Node{node("n1", tainted), node("n2", cordoned), node("n3")}, held: []*corev1.Pod{held("a", "n1", cpu("4"), priority(1)), held("b", "n2", cpu("4"), priority(1)), held("c", "n3", cpu("4"), priority(9))},
			pod: testPod("p", cpu("4"), priority(10)), want: "n3: c"},
	} {
		a := askRoom(t, x.nodes, x.held, x.nominees, x.budgets, x.pod)
		best, got := a.choose()
		if best != nil {
			var names []string
			for _, v := range best.victims {
				names = append(names, v.Object().Name)
			}
			got = best.node.Name + ": " + strings.Join(names, " ")
		}
		if got != x.want {
			t.Errorf("%s: %s, want %s", name, got, x.want)
		}
	}
}

// Whether a pod may ask others to go at all, having asked before.
func TestMayAskAgain(t *testing.T) {
	const not = "not eligible due to a terminating pod on the nominated node."
	for name, x := range map[string]struct {
		node   *corev1.Node
		held   []*corev1.Pod
		change func(*corev1.Pod)
		want   string
	}{
		"it has not asked":                 {node("n1"), []*corev1.Pod{held("a", "n1", cpu("4"), priority(1), ending(corev1.PodReasonPreemptionByScheduler))}, func(p *corev1.Pod) { p.Status.NominatedNodeName = "" }, ""},
		"those it asked are going":         {node("n1"), []*corev1.Pod{held("a", "n1", cpu("4"), priority(1), ending(corev1.PodReasonPreemptionByScheduler))}, nil, not},
		"somebody goes for another reason": {node("n1"), []*corev1.Pod{held("a", "n1", cpu("4"), priority(1), ending(corev1.PodReasonTerminationByKubelet))}, nil, ""},
		"somebody just goes":               {node("n1"), []*corev1.Pod{held("a", "n1", cpu("4"), priority(1), ending(""))}, nil, ""},
		"nobody goes":                      {node("n1"), []*corev1.Pod{held("a", "n1", cpu("4"), priority(1))}, nil, ""},
		"one as important goes":            {node("n1"), []*corev1.Pod{held("a", "n1", cpu("4"), priority(10), ending(corev1.PodReasonPreemptionByScheduler))}, nil, ""},
		"its node will not do any more":    {node("n1", tainted), []*corev1.Pod{held("a", "n1", cpu("4"), priority(1), ending(corev1.PodReasonPreemptionByScheduler))}, nil, ""},
		"never":                            {node("n1"), nil, func(p *corev1.Pod) { p.Spec.PreemptionPolicy = new(corev1.PreemptNever) }, "not eligible due to preemptionPolicy=Never."},
	} {
		p := testPod("p", cpu("4"), priority(10), func(p *corev1.Pod) { p.Status.NominatedNodeName = "n1" })
		if x.change != nil {
			x.change(p)
		}
		nominees := map[string]*corev1.Pod{}
		if p.Status.NominatedNodeName != "" {
			nominees["n1"] = p
		}
		a := askRoom(t, []*corev1.Node{x.node, node("n2")}, slices.Concat(x.held, []*corev1.Pod{held("full", "n2", cpu("4"), priority(50)), held("rest", "n1", priority(50), cpu("1m"))}), nominees, nil, p)
		if ok, got := a.eligible(); got != x.want || ok != (x.want == "") {
			t.Errorf("%s: %v %q, want %q", name, ok, got, x.want)
		}
	}
}
