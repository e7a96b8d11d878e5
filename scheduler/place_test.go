package scheduler

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"sagong/client"
	"sagong/scheduler/configuration"
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

// bare is a scheduler without an API: what it decides stays in its state.
func bare(t testing.TB, s *state.State) *Scheduler {
	t.Helper()
	c := configuration.Default()
	p, err := newProfile(&c.Profiles[0], plugins.Share(plugins.Deps{}))
	if err != nil {
		t.Fatal(err)
	}
	return &Scheduler{
		cfg: Config{Now: func() time.Time { return epoch }}, profiles: map[string]*profile{p.name: p},
		events: map[string]client.Recorder{p.name: noEvents{}}, queue: newQueue(c.InitialBackoff, c.MaxBackoff), state: s, freed: map[string]bool{},
		writes: make(chan []write, 1<<16),
	}
}

// placeAll puts k pods like p on the nodes; it returns where they went and why
// the first of the rest did not.
func placeAll(t testing.TB, s *state.State, p *corev1.Pod, k int) (map[string]int, *unfit) {
	t.Helper()
	where := map[string]int{}
	sched := bare(t, s)
	for i := range k {
		q := p.DeepCopy()
		q.Name, q.UID = fmt.Sprintf("%s-%d", p.Name, i), types.UID(fmt.Sprintf("%s-%d", p.UID, i))
		n, no := sched.placeOne(q)
		if no != nil {
			return where, no
		}
		where[n.Name]++
	}
	return where, nil
}

// placeOne finds a pod's node and counts it there.
func (s *Scheduler) placeOne(p *corev1.Pod) (*state.Node, *unfit) {
	x := &queued{pod: p, priority: corev1helpers.PodPriority(p)}
	x.class, x.base = s.queue.class(p)
	pr := s.profiles[p.Spec.SchedulerName]
	pl, no := s.planFor(pr, x)
	if no != nil {
		return nil, no
	}
	n, pl, no := s.find(pr, pl, x)
	if no != nil {
		return nil, no
	}
	if n == nil {
		return nil, pl.why()
	}
	s.state.Place(p, n.Name, true)
	return n, nil
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
		"taint":     {[]*corev1.Node{node("n1", tainted)}, nil, testPod("p"), "0/1 nodes are available: 1 node(s) had untolerated taint(s)."},
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
		} else if no.message() != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, no.message(), c.want)
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
	if no == nil || no.message() != "0/3 nodes are available: 3 Insufficient cpu." {
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
		t.Fatal(no.message())
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
	if len(where) != 3 || no == nil || no.message() != "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules." {
		t.Errorf("placed %v, then %+v", where, no)
	}
	// The placed pods speak against a newcomer that says nothing itself.
	_, no = placeAll(t, s, testPod("q"), 1)
	if no == nil || no.message() != "0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules." {
		t.Errorf("a pod that others do not want near: %+v", no)
	}
}
