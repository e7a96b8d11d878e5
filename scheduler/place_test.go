package scheduler

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

func node(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("10"),
	}
	for _, f := range change {
		f(n)
	}
	return n
}

func testPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "x"}},
		Spec:       corev1.PodSpec{SchedulerName: Name, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func requests(cpu, memory string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}
	}
}

func hostPort(n int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: n, HostPort: n}}
	}
}

func tainted(n *corev1.Node) {
	n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule})
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

// placeAll puts k pods like p on the nodes; it returns where they went and why
// the first of the rest did not.
func placeAll(t *testing.T, s *state.State, p *corev1.Pod, k int) (map[string]int, *unfit) {
	t.Helper()
	c, err := plugins.NewClass(p)
	if err != nil {
		t.Fatal(err)
	}
	where, i := map[string]int{}, 0
	no := newPlacer(plugins.All(plugins.Deps{})).place(c, s, k, func(n *state.Node) {
		q := p.DeepCopy()
		q.Name, q.UID = fmt.Sprintf("%s-%d", p.Name, i), types.UID(fmt.Sprintf("%s-%d", p.UID, i))
		i++
		s.Place(q, n.Name, true)
		where[n.Name]++
	})
	return where, no
}

func TestReasonsInUpstreamsWords(t *testing.T) {
	zone := func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"zone": "a"} }
	for name, c := range map[string]struct {
		nodes []*corev1.Node
		held  []*corev1.Pod // on node n1
		pod   *corev1.Pod
		want  string
	}{
		"no nodes":  {nil, nil, testPod("p"), "no nodes available to schedule pods"},
		"cpu":       {[]*corev1.Node{node("n1"), node("n2")}, nil, testPod("p", requests("5", "1Gi")), "0/2 nodes are available: 2 Insufficient cpu."},
		"both":      {[]*corev1.Node{node("n1")}, nil, testPod("p", requests("5", "9Gi")), "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory."},
		"taint":     {[]*corev1.Node{node("n1", tainted)}, nil, testPod("p"), "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}."},
		"cordon":    {[]*corev1.Node{node("n1", cordoned)}, nil, testPod("p"), "0/1 nodes are available: 1 node(s) were unschedulable."},
		"selector":  {[]*corev1.Node{node("n1"), node("n2", cordoned)}, nil, testPod("p", zone), "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) were unschedulable."},
		"host port": {[]*corev1.Node{node("n1")}, []*corev1.Pod{testPod("q", hostPort(80))}, testPod("p", hostPort(80)), "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."},
	} {
		s := state.New()
		for _, n := range c.nodes {
			s.SetNode(n)
		}
		for _, p := range c.held {
			s.Place(p, "n1", false)
		}
		where, no := placeAll(t, s, c.pod, 1)
		if no == nil {
			t.Errorf("%s: placed on %v", name, where)
		} else if no.message != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, no.message, c.want)
		}
	}
}

func TestPodsSpreadAndStopAtCapacity(t *testing.T) {
	s := state.New()
	for i := range 3 {
		s.SetNode(node(fmt.Sprint("n", i)))
	}
	where, no := placeAll(t, s, testPod("p", requests("1", "1Gi")), 20)
	for n, k := range where {
		if k != 4 {
			t.Errorf("%d pods on %s, want 4, one a CPU", k, n)
		}
	}
	if no == nil || no.message != "0/3 nodes are available: 3 Insufficient cpu." {
		t.Errorf("the 13th pod: %+v", no)
	}
}

func TestTopologySpreadHoldsAtEachStep(t *testing.T) {
	s := state.New()
	for i := range 6 {
		s.SetNode(node(fmt.Sprint("n", i), func(n *corev1.Node) { n.Labels["zone"] = fmt.Sprint(i % 3) }))
	}
	where, no := placeAll(t, s, testPod("p", func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}},
		}}
	}), 10)
	if no != nil {
		t.Fatal(no.message)
	}
	zones := map[int]int{}
	for n, k := range where {
		var i int
		fmt.Sscanf(n, "n%d", &i)
		zones[i%3] += k
	}
	for _, k := range zones {
		if k < 3 || k > 4 {
			t.Errorf("10 pods over 3 zones: %v", zones)
		}
	}
}

func TestAntiAffinityOnePodANode(t *testing.T) {
	s := state.New()
	for i := range 3 {
		s.SetNode(node(fmt.Sprint("n", i)))
	}
	where, no := placeAll(t, s, testPod("p", func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}},
		}}}}
	}), 4)
	if len(where) != 3 || no == nil || no.message != "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules." {
		t.Errorf("placed %v, then %+v", where, no)
	}
	// The placed pods speak against a newcomer that says nothing itself.
	_, no = placeAll(t, s, testPod("q"), 1)
	if no == nil || no.message != "0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules." {
		t.Errorf("a pod that others do not want near: %+v", no)
	}
}

// TestNoHardRuleIsEverBroken checks each placement in random clusters against
// the plain definition of the rules, and each refusal against a full search.
func TestNoHardRuleIsEverBroken(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := state.New()
		nodes := map[string]*corev1.Node{}
		for i := range 1 + r.IntN(6) {
			n := node(fmt.Sprint("n", i), func(n *corev1.Node) {
				if r.IntN(4) == 0 {
					tainted(n)
				}
				if r.IntN(5) == 0 {
					cordoned(n)
				}
				n.Labels["disk"] = []string{"ssd", "hdd"}[r.IntN(2)]
			})
			nodes[n.Name] = n
			s.SetNode(n)
		}
		for i := range 12 {
			p := testPod(fmt.Sprintf("p%d", i), requests(fmt.Sprintf("%dm", r.IntN(3000)), fmt.Sprintf("%dMi", r.IntN(5000))), func(p *corev1.Pod) {
				if r.IntN(3) == 0 {
					p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
				}
				if r.IntN(3) == 0 {
					p.Spec.Tolerations = []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists}}
				}
				if r.IntN(4) == 0 {
					hostPort(80)(p)
				}
			})
			where, no := placeAll(t, s, p, 1+r.IntN(3))
			for name := range where {
				if n := nodes[name]; n.Spec.Unschedulable || p.Spec.NodeSelector != nil && n.Labels["disk"] != "ssd" ||
					len(n.Spec.Taints) > 0 && len(p.Spec.Tolerations) == 0 {
					t.Fatalf("seed %d: pod %s on forbidden node %s", seed, p.Name, name)
				}
			}
			for _, n := range s.Nodes() {
				cpu, mem, ports := int64(0), int64(0), 0
				for _, q := range n.Pods {
					cpu += q.Object.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
					mem += q.Object.Spec.Containers[0].Resources.Requests.Memory().Value()
					if len(q.Object.Spec.Containers[0].Ports) > 0 {
						ports++
					}
				}
				if cpu > 4000 || mem > 8<<30 || len(n.Pods) > 10 || ports > 1 {
					t.Fatalf("seed %d: node %s holds %dm, %d bytes, %d pods, port 80 %d times", seed, n.Name, cpu, mem, len(n.Pods), ports)
				}
				if no != nil && plainFit(nodes[n.Name], n, p, cpu, mem, ports) {
					t.Fatalf("seed %d: pod %s would fit on %s, but: %s", seed, p.Name, n.Name, no.message)
				}
			}
		}
	}
}

func plainFit(n *corev1.Node, at *state.Node, p *corev1.Pod, cpu, mem int64, ports int) bool {
	return !n.Spec.Unschedulable && (p.Spec.NodeSelector == nil || n.Labels["disk"] == "ssd") &&
		(len(n.Spec.Taints) == 0 || len(p.Spec.Tolerations) > 0) && len(at.Pods) < 10 &&
		cpu+p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue() <= 4000 &&
		mem+p.Spec.Containers[0].Resources.Requests.Memory().Value() <= 8<<30 &&
		(ports == 0 || len(p.Spec.Containers[0].Ports) == 0)
}

func BenchmarkPlaceOneClass(b *testing.B) {
	s := state.New()
	for i := range 5000 {
		s.SetNode(node(fmt.Sprint("n", i), func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("100000") }))
	}
	c, _ := plugins.NewClass(testPod("p", requests("1m", "1Mi")))
	pl := newPlacer(plugins.All(plugins.Deps{}))
	b.ResetTimer()
	for i := 0; i < b.N; i += batchSize {
		n := 0
		pl.place(c, s, batchSize, func(at *state.Node) {
			n++
			s.Place(testPod(fmt.Sprintf("p-%d-%d", i, n), requests("1m", "1Mi")), at.Name, true)
		})
	}
}
