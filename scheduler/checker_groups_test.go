package scheduler

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sagong/scheduler/configuration"
	"sagong/scheduler/plugins"
)

// crowd is a random cluster with groups of pods, twice: as the scheduler keeps
// it and as plain facts. What the scheduler writes comes true at once.
type crowd struct {
	*world
	now     time.Time
	objects map[string]*schedulingv1beta1.PodGroup
	exist   map[string]*corev1.Pod // every pod there is, by name
	rounds  int                    // of gangs that were bound
	victims int
}

func newCrowd(t *testing.T, seed uint64) *crowd {
	w := &crowd{world: newWorld(t, seed), now: epoch, objects: map[string]*schedulingv1beta1.PodGroup{}, exist: map[string]*corev1.Pod{}}
	shared := plugins.Share(plugins.Deps{Groups: true})
	shared.Namespaces = func(name string) labels.Set { return w.plain.namespaces[name] }
	p, err := newProfile(&configuration.Default().Profiles[0], shared)
	if err != nil {
		t.Fatal(err)
	}
	w.s.profiles[p.name] = p
	w.s.groups, w.s.gated = map[types.NamespacedName]*podGroup{}, map[types.UID]struct{}{}
	w.s.cfg.Now = func() time.Time { return w.now }
	return w
}

// least is how many pods a pod's group must have on nodes; 1 for one in none.
func (w *crowd) least(p *corev1.Pod) int {
	if g := w.objects[groupOf(p)]; g != nil && g.Spec.SchedulingPolicy.Gang != nil {
		return int(g.Spec.SchedulingPolicy.Gang.MinCount)
	}
	return 1
}

// on counts the pods of a group that have nodes.
func (w *crowd) on(group string) int {
	n := 0
	for _, p := range w.plain.pods {
		if groupOf(p) == group {
			n++
		}
	}
	return n
}

// settle has everything placed that can be, checking each binding, until time
// alone changes nothing.
func (w *crowd) settle() {
	for range 3 {
		for turns := 0; ; turns++ {
			if turns > 2000 {
				w.t.Fatal("it is never done")
			}
			w.s.drain()
			w.s.queue.due(w.now)
			more := w.s.placeBatch(nil)
			for len(w.s.writes) > 0 {
				w.apply(<-w.s.writes)
			}
			if !more && w.s.changes == 0 {
				break
			}
		}
		w.now = w.now.Add(2 * patience)
	}
}

func (w *crowd) apply(work []write) {
	groups := map[string]bool{}
	for _, x := range work {
		switch {
		case x.group != nil:
			old := w.objects[x.group.Name]
			w.objects[x.group.Name] = x.group
			w.s.groupChanged(old, x.group)
		case x.victim != nil:
			w.victims++
			w.gone(x.pod.Name)
		case x.node == "":
			if old := w.exist[x.pod.Name]; old != nil {
				w.exist[x.pod.Name] = x.pod
				w.s.podChanged(old, x.pod)
			}
		default:
			if !w.plain.fits(x.pod, w.plain.node(x.node)) {
				w.t.Fatalf("pod %s must not go on %s", x.pod.Name, x.node)
			}
			w.plain.pods[x.pod.Name], w.plain.at[x.pod.Name] = x.pod, x.node
			groups[groupOf(x.pod)] = true
			p := x.pod.DeepCopy()
			p.Spec.NodeName, p.Status.NominatedNodeName = x.node, ""
			w.exist[p.Name] = p
			w.plain.pods[p.Name] = p
			w.s.podChanged(x.pod, p)
		}
	}
	for name := range groups {
		if g := w.objects[name]; g != nil && g.Spec.SchedulingPolicy.Gang != nil {
			w.rounds++
			if n := w.on(name); n < int(g.Spec.SchedulingPolicy.Gang.MinCount) {
				w.t.Fatalf("%d pods of gang %s are bound, its least is %d", n, name, g.Spec.SchedulingPolicy.Gang.MinCount)
			}
		}
	}
}

func (w *crowd) gone(name string) {
	p := w.exist[name]
	if p == nil {
		return
	}
	delete(w.exist, name)
	delete(w.plain.pods, name)
	delete(w.plain.at, name)
	w.s.podChanged(p, nil)
}

func (w *crowd) come(p *corev1.Pod) {
	w.exist[p.Name] = p
	w.s.podChanged(nil, p)
}

// newGroup makes a group, and pods of it that are alike or not.
func (w *crowd) newGroup() {
	w.n++
	name, rank := fmt.Sprint("g", w.n), int32(w.IntN(3)*10)
	g := gang(name, int32(w.IntN(5)), ofPriority(rank), func(g *schedulingv1beta1.PodGroup) { g.Namespace = "a" })
	if w.chance(3) {
		endsWhole(g)
	}
	w.objects[name] = g
	first := w.randomPod()
	if !w.chance(3) {
		w.simple(first)
	}
	later := w.chance(3)
	if !later {
		w.s.groupChanged(nil, g)
	}
	for range 1 + w.IntN(5) {
		p := w.like(first)
		if w.chance(6) {
			p = w.randomPod()
		}
		p.Namespace, p.Spec.Priority = "a", &rank
		inGroup(name)(p)
		w.come(p)
	}
	if later {
		w.s.groupChanged(nil, g)
	}
}

// room is how many pods like one the plain definition finds room for, nothing but
// room being asked for.
func (w *crowd) room(p *corev1.Pod) (k int) {
	var put []string
	for _, n := range w.plain.nodes {
		for w.plain.may(p, n) {
			name := fmt.Sprint("trial", k)
			w.plain.pods[name], w.plain.at[name] = p, n.Name
			put = append(put, name)
			k++
		}
	}
	for _, name := range put {
		delete(w.plain.pods, name)
		delete(w.plain.at, name)
	}
	return k
}

// check looks for gangs that were left out although they could be placed.
func (w *crowd) check() {
	waits := map[string][]*corev1.Pod{}
	for _, p := range w.exist {
		if p.Spec.NodeName == "" && groupOf(p) != "" {
			waits[groupOf(p)] = append(waits[groupOf(p)], p)
		}
	}
	for name, pods := range waits {
		if w.objects[name] == nil || slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
			return p.Spec.Affinity != nil || len(p.Spec.TopologySpreadConstraints) > 0 || len(p.Spec.Containers[0].Ports) > 0 || !alike(p, pods[0])
		}) {
			continue
		}
		have := w.on(name)
		if least := w.least(pods[0]); have+len(pods) >= least && have+min(w.room(pods[0]), len(pods)) >= max(least, have+1) {
			w.t.Fatalf("gang %s has %d pods on nodes and %d that wait, its least is %d, and there is room for %d; it says %+v", name, have, len(pods), least, w.room(pods[0]), w.objects[name].Status.Conditions)
		}
	}
}

func alike(a, b *corev1.Pod) bool {
	x, y := a.Spec.Containers[0].Resources.Requests, b.Spec.Containers[0].Resources.Requests
	return x.Cpu().Equal(*y.Cpu()) && x.Memory().Equal(*y.Memory()) && fmt.Sprint(a.Labels, a.Spec.NodeSelector, a.Spec.Tolerations) == fmt.Sprint(b.Labels, b.Spec.NodeSelector, b.Spec.Tolerations)
}

// Groups in random clusters that keep changing: no part of a gang is bound below
// its least, no pod where a hard rule forbids it, no two gangs keep one another
// out, and no gang waits that has room.
func TestGroupsHoldAgainstThePlainDefinition(t *testing.T) {
	rounds, victims := 0, 0
	each(t, func(t *testing.T, seed uint64) {
		w := newCrowd(t, seed)
		for range 25 {
			switch w.IntN(8) {
			case 0:
				p := w.randomPod()
				w.come(p)
			case 1:
				w.s.nodeChanged(nil, w.newNode())
			case 2, 3:
				names := make([]string, 0, len(w.exist))
				for name := range w.exist {
					names = append(names, name)
				}
				slices.Sort(names)
				for range min(len(names), 1+w.IntN(4)) {
					w.gone(names[w.IntN(len(names))])
				}
			case 4:
				w.changeGroup()
			default:
				w.newGroup()
			}
			if w.chance(2) {
				w.settle()
				w.check()
			}
		}
		rounds, victims = rounds+w.rounds, victims+w.victims
	})
	if *seed == 0 && (rounds < 100 || victims < 20) {
		t.Errorf("only %d gangs were bound and %d pods made room: the test proves little", rounds, victims)
	}
}

func (w *crowd) newNode() *corev1.Node {
	w.n++
	n := w.randomNode(fmt.Sprint("n", w.n))
	w.plain.nodes = append(w.plain.nodes, n)
	return n
}

// changeGroup changes how many pods a gang needs, or ends it and starts anew.
func (w *crowd) changeGroup() {
	names := make([]string, 0, len(w.objects))
	for name := range w.objects {
		names = append(names, name)
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	name := names[w.IntN(len(names))]
	old := w.objects[name]
	next := old.DeepCopy()
	if w.chance(3) {
		w.s.groupChanged(old, nil)
		w.n++
		next.UID = types.UID(fmt.Sprint("again", w.n))
		next.Status.Conditions = nil
		w.objects[name] = next
		w.s.groupChanged(nil, next)
		return
	}
	if next.Spec.SchedulingPolicy.Gang != nil {
		next.Spec.SchedulingPolicy.Gang.MinCount = int32(1 + w.IntN(5))
		w.objects[name] = next
		w.s.groupChanged(old, next)
	}
}
