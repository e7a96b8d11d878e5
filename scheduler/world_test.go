package scheduler

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/scheduler/configuration"
	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// world is a random cluster twice: as the scheduler keeps it and as plain facts.
type world struct {
	*rand.Rand
	t     *testing.T
	s     *Scheduler
	plain *cluster
	n     int
}

func newWorld(t *testing.T, seed uint64, change ...func(*plugins.Shared)) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 7)), t: t, plain: &cluster{
		pods: map[string]*corev1.Pod{}, at: map[string]string{}, nominees: map[string]*corev1.Pod{},
		namespaces: map[string]map[string]string{"a": {"team": "x"}, "b": {"team": "y"}, "c": {"team": "x"}},
	}}
	c := configuration.Default()
	shared := plugins.Share(plugins.Deps{})
	shared.Namespaces = func(name string) labels.Set { return w.plain.namespaces[name] }
	for _, f := range change {
		f(shared)
	}
	c.Profiles[0].Args.Devices.FilterTimeout.Duration = 0
	p, err := newProfile(&c.Profiles[0], shared)
	if err != nil {
		t.Fatal(err)
	}
	w.s = &Scheduler{
		cfg: Config{Now: func() time.Time { return epoch }}, profiles: map[string]*profile{p.name: p},
		events: map[string]client.Recorder{p.name: noEvents{}}, queue: newQueue(time.Second, time.Second), state: state.New(), freed: map[string]bool{}, writes: make(chan []write, 1<<12),
	}
	for range 1 + w.IntN(7) {
		w.addNode()
	}
	return w
}

func (w *world) pick(s ...string) string { return s[w.IntN(len(s))] }

func (w *world) chance(of int) bool { return w.IntN(of) == 0 }

func (w *world) addNode() {
	w.n++
	w.setNode(w.randomNode(fmt.Sprint("n", w.n)))
}

func (w *world) randomNode(name string) *corev1.Node {
	return node(name, func(n *corev1.Node) {
		if w.chance(5) {
			tainted(n)
		}
		if w.chance(8) {
			cordoned(n)
		}
		if !w.chance(6) {
			n.Labels["zone"] = w.pick("1", "2", "3")
		}
		n.Labels["disk"] = w.pick("ssd", "hdd")
		if !w.chance(4) {
			n.Labels["size"] = w.pick("1", "2", "3", "large")
		}
		if w.chance(5) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "size", Value: w.pick("1", "2", "x"), Effect: corev1.TaintEffect(w.pick("NoSchedule", "NoExecute", "PreferNoSchedule"))})
		}
		if !w.chance(4) {
			n.Status.Allocatable[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(1+w.IntN(3))<<30, resource.BinarySI)
		}
		for _, feature := range []string{"Another", "RestartAllContainersOnContainerExits", "UserNamespacesHostNetworkSupport", "Yet/another"} {
			if !w.chance(4) {
				n.Status.DeclaredFeatures = append(n.Status.DeclaredFeatures, feature)
			}
		}
		n.Status.Allocatable[corev1.ResourcePods] = *resource.NewQuantity(int64(2+w.IntN(6)), resource.DecimalSI)
	})
}

func (w *world) setNode(n *corev1.Node) {
	w.s.state.SetNode(n)
	if i := slices.IndexFunc(w.plain.nodes, func(o *corev1.Node) bool { return o.Name == n.Name }); i >= 0 {
		w.plain.nodes[i] = n
	} else {
		w.plain.nodes = append(w.plain.nodes, n)
	}
}

func (w *world) removeNode(i int) {
	w.s.state.RemoveNode(w.plain.nodes[i].Name)
	w.plain.nodes = slices.Delete(w.plain.nodes, i, i+1)
}

func (w *world) remove(name string) {
	w.s.state.Remove(w.plain.pods[name].UID)
	delete(w.plain.pods, name)
	delete(w.plain.at, name)
}

func (w *world) term() corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{TopologyKey: w.pick("zone", "zone", corev1.LabelHostname, "disk"), LabelSelector: w.selector()}
	switch w.IntN(4) {
	case 0:
		t.Namespaces = []string{w.pick("a", "b", "c")}
	case 1:
		t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": w.pick("x", "y")}}
	case 2:
		t.NamespaceSelector = &metav1.LabelSelector{}
	}
	if w.chance(5) {
		t.MatchLabelKeys = []string{"tier"}
	} else if w.chance(5) {
		t.MismatchLabelKeys = []string{"tier"}
	}
	return t
}

func (w *world) selector() *metav1.LabelSelector {
	switch w.IntN(16) {
	case 0:
		return &metav1.LabelSelector{}
	case 1:
		return nil
	}
	if w.chance(4) {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOperator(w.pick("In", "NotIn")), Values: []string{w.pick("x", "y"), "z"}}}}
	}
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": w.pick("x", "y", "z")}}
}

func (w *world) randomPod() *corev1.Pod {
	w.n++
	name := fmt.Sprint("p", w.n)
	return testPod(name, requests(fmt.Sprintf("%dm", w.IntN(4)*500), fmt.Sprintf("%dMi", w.IntN(5)*1000)), priority(int32(w.IntN(4)*10)), func(p *corev1.Pod) {
		p.Namespace = w.pick("a", "a", "b", "c")
		p.Labels = map[string]string{"app": w.pick("x", "y", "z")}
		if w.chance(3) {
			p.Labels["tier"] = w.pick("1", "2")
		}
		p.Status.StartTime = &metav1.Time{Time: epoch.Add(-time.Duration(w.IntN(100)) * time.Minute)}
		w.constrain(p)
	})
}

func (w *world) constrain(p *corev1.Pod) {
	if w.chance(4) {
		p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
	}
	if w.chance(3) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: w.pick("gpu", ""), Operator: corev1.TolerationOpExists}}
	}
	if w.chance(4) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{
			Key: "size", Operator: corev1.TolerationOperator(w.pick("", "Equal", "Gt", "Lt")), Value: w.pick("1", "2"), Effect: corev1.TaintEffect(w.pick("", "NoSchedule", "NoExecute")),
		})
	}
	w.fill(p)
	if w.chance(4) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: int32(80 + w.IntN(2)), HostIP: w.pick("", "10.0.0.1", "10.0.0.2"), Protocol: corev1.Protocol(w.pick("TCP", "UDP"))}}
	}
	if w.chance(8) {
		restartsAll(p)
	}
	if w.chance(8) {
		p.Spec.HostNetwork, p.Spec.HostUsers = true, new(w.chance(4))
	}
	a := &corev1.Affinity{}
	if w.chance(5) {
		a.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
			{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOperator(w.pick("In", "NotIn")), Values: []string{w.pick("1", "2")}}}},
		}}}
		first := &a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0]
		switch w.IntN(4) {
		case 0:
			first.MatchExpressions = append(first.MatchExpressions, corev1.NodeSelectorRequirement{Key: "size", Operator: corev1.NodeSelectorOperator(w.pick("Exists", "DoesNotExist"))})
		case 1:
			first.MatchExpressions = append(first.MatchExpressions, corev1.NodeSelectorRequirement{Key: "size", Operator: corev1.NodeSelectorOperator(w.pick("Gt", "Lt")), Values: []string{"2"}})
		}
		if w.chance(3) {
			a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields = []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{w.pick("n1", "n2", "n3")}}}
		}
		if w.chance(3) { // one term is enough
			more := corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOperator(w.pick("In", "NotIn")), Values: []string{w.pick("n1", "n2", "n3", "n4")}}}}
			r := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
			r.NodeSelectorTerms = append(r.NodeSelectorTerms, more)
		}
	}
	if w.chance(4) {
		a.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{w.term()}}
		if w.chance(3) {
			a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = append(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, w.term())
		}
	}
	if w.chance(4) {
		a.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{w.term()}}
	}
	if w.chance(4) {
		if a.PodAntiAffinity == nil {
			a.PodAntiAffinity = &corev1.PodAntiAffinity{}
		}
		a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{Weight: 7, PodAffinityTerm: w.term()}}
	}
	if a.NodeAffinity != nil || a.PodAffinity != nil || a.PodAntiAffinity != nil {
		p.Spec.Affinity = a
	}
	for range w.IntN(3) {
		t := corev1.TopologySpreadConstraint{
			MaxSkew: int32(1 + w.IntN(2)), TopologyKey: w.pick("zone", corev1.LabelHostname, "disk"), LabelSelector: w.selector(),
			WhenUnsatisfiable: corev1.UnsatisfiableConstraintAction(w.pick("DoNotSchedule", "DoNotSchedule", "ScheduleAnyway")),
		}
		if w.chance(3) {
			t.NodeTaintsPolicy = new(corev1.NodeInclusionPolicyHonor)
		}
		if w.chance(3) {
			t.NodeAffinityPolicy = new(corev1.NodeInclusionPolicyIgnore)
		}
		if w.chance(4) && t.WhenUnsatisfiable == corev1.DoNotSchedule {
			t.MinDomains = new(int32(1 + w.IntN(3)))
		}
		if w.chance(5) {
			t.MatchLabelKeys = []string{"tier"}
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, t)
	}
}

// fill gives a pod what else takes room: other containers, overhead, disk, a
// resize that is under way.
func (w *world) fill(p *corev1.Pod) {
	some := func() corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(int64(w.IntN(4)*400), resource.DecimalSI)}}
	}
	if w.chance(5) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "first", Image: "i", Resources: some(), Ports: []corev1.ContainerPort{{HostPort: 80, Protocol: corev1.ProtocolTCP}}})
	}
	if w.chance(5) {
		side := corev1.Container{Name: "side", Image: "i", Resources: some(), RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}
		if w.chance(2) {
			side.Ports = []corev1.ContainerPort{{HostPort: 80, Protocol: corev1.ProtocolTCP}}
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, side)
		if w.chance(2) {
			p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "last", Image: "i", Resources: some()})
		}
	}
	if w.chance(5) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "second", Image: "i", Resources: some()})
	}
	if w.chance(6) {
		p.Spec.Overhead = some().Requests
	}
	if w.chance(6) {
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(w.IntN(3))<<29, resource.BinarySI)
	}
	if w.chance(8) {
		p.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(w.pick("2", "3", "4"))}}
	}
}

// resize has a placed pod ask for, be given or keep something else.
func (w *world) resize(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	p.Status.ContainerStatuses, p.Status.Conditions = nil, nil
	some := func() corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(int64(w.IntN(5)*500), resource.DecimalSI), corev1.ResourceMemory: *resource.NewQuantity(int64(w.IntN(5))<<30, resource.BinarySI)}
	}
	disk, asks := p.Spec.Containers[0].Resources.Requests[corev1.ResourceEphemeralStorage]
	p.Spec.Containers[0].Resources.Requests = some()
	if asks {
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceEphemeralStorage] = disk
	}
	if !w.chance(4) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", AllocatedResources: some(), Resources: &corev1.ResourceRequirements{Requests: some()}}}
	}
	if w.chance(3) && p.Status.ContainerStatuses != nil {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: w.pick(corev1.PodReasonInfeasible, corev1.PodReasonDeferred)}}
	}
	return p
}

// like is another pod of the same class, or of one that differs in labels alone.
func (w *world) like(p *corev1.Pod) *corev1.Pod {
	w.n++
	q := p.DeepCopy()
	q.Name = fmt.Sprint("p", w.n)
	q.UID = types.UID(q.Name)
	if w.chance(3) {
		q.Labels = map[string]string{"app": w.pick("x", "y", "z"), "tier": w.pick("1", "2")}
	}
	return q
}

func (w *world) nominate(p *corev1.Pod, node string) {
	p.Status.NominatedNodeName = node
	w.plain.nominees[p.Name] = p
	w.s.state.Nominate(p, node)
}

// disturb changes something that has nothing to do with the next pod.
func (w *world) disturb() {
	switch w.IntN(11) {
	case 0:
		w.addNode()
	case 8: // a pod that somebody else put there, whether it fits or not
		if len(w.plain.nodes) > 0 {
			p, n := w.randomPod(), w.plain.nodes[w.IntN(len(w.plain.nodes))]
			w.plain.pods[p.Name], w.plain.at[p.Name] = p, n.Name
			w.s.state.Place(p, n.Name, false)
		}
	case 9, 10:
		for _, name := range slices.Sorted(maps.Keys(w.plain.pods)) {
			if p := w.plain.pods[name]; p.Spec.Resources == nil && len(p.Spec.InitContainers)+len(p.Spec.Containers) == 1 && w.chance(3) {
				p = w.resize(p)
				w.plain.pods[name] = p
				w.s.state.Place(p, w.plain.at[name], false)
				break
			}
		}
	case 6:
		if len(w.plain.nodes) > 0 {
			w.nominate(w.randomPod(), w.plain.nodes[w.IntN(len(w.plain.nodes))].Name)
		}
	case 7:
		for name, p := range w.plain.nominees {
			w.s.state.Denominate(p.UID)
			delete(w.plain.nominees, name)
		}
	case 1:
		if len(w.plain.nodes) > 1 {
			w.removeNode(w.IntN(len(w.plain.nodes)))
		}
	case 2:
		if len(w.plain.nodes) > 0 {
			w.setNode(w.randomNode(w.plain.nodes[w.IntN(len(w.plain.nodes))].Name))
		}
	default:
		names := make([]string, 0, len(w.plain.pods))
		for name := range w.plain.pods {
			names = append(names, name)
		}
		slices.Sort(names)
		if len(names) == 0 {
			return
		}
		name := names[w.IntN(len(names))]
		if w.chance(4) { // on its way out, it still takes room
			p := w.plain.pods[name].DeepCopy()
			p.DeletionTimestamp = &metav1.Time{Time: epoch}
			w.plain.pods[name] = p
			w.s.state.Place(p, w.plain.at[name], false)
			return
		}
		w.remove(name)
	}
}

// simple takes all constraints off a pod.
func (w *world) simple(p *corev1.Pod) {
	p.Spec.Affinity, p.Spec.TopologySpreadConstraints, p.Spec.NodeSelector, p.Spec.Containers[0].Ports = nil, nil, nil, nil
}

// helps tells whether the end of pods can help at all: not where the pod may not
// be whatever else is there, lacks a label, is too large, or wants to be beside
// pods that are not there.
func (w *world) helps(p *corev1.Pod, n *corev1.Node) bool {
	if !w.plain.bears(p, n) || !selects(p, n) || !declares(p, n) {
		return false
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if has := n.Status.Allocatable[name]; demand(p, name) > has.MilliValue() {
			return false
		}
	}
	for _, t := range p.Spec.TopologySpreadConstraints {
		if _, ok := n.Labels[t.TopologyKey]; !ok && t.WhenUnsatisfiable == corev1.DoNotSchedule {
			return false
		}
	}
	// The rules are asked in order, and the first that says no decides.
	return !w.plain.room(p, n) || !w.plain.spreads(p, n) || w.plain.near(p, n)
}
