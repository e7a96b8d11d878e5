package scheduler

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// Back-off of a pod that did not fit and is tried again: upstream's 1 s,
// doubling up to 10 s.
const (
	firstBackoff = time.Second
	maxBackoff   = 10 * time.Second
	// patience is how long a pod stays unschedulable before it is tried again
	// although nothing that could help has happened.
	patience = 5 * time.Minute
)

// queued is a pod that waits for a node.
type queued struct {
	pod      *corev1.Pod
	class    string
	priority int32
	since    time.Time
	attempts int
	failed   time.Time // when it last fitted nowhere
	waitsFor plugins.Change
	place    whereabouts
	index    int // in the active heap
	// moved notes changes that came while the pod was being placed.
	moved plugins.Change
}

type whereabouts uint8

const (
	active        whereabouts = iota // in the heap, to be placed now
	inFlight                         // being placed or bound
	unschedulable                    // waits for a change
	backingOff                       // a change came, but too soon
)

// queue orders the pods to place: by priority, then by age. It belongs to one
// goroutine.
type queue struct {
	pods   map[types.UID]*queued
	active byPriority
	// classes lists the active pods of a class, oldest first.
	classes map[string][]*queued
}

func newQueue() *queue {
	return &queue{pods: map[types.UID]*queued{}, classes: map[string][]*queued{}}
}

// put adds or refreshes a pod. An update of a waiting pod makes it active, as
// it may fit now.
func (q *queue) put(p *corev1.Pod, now time.Time) {
	if x := q.pods[p.UID]; x != nil {
		was := x.class
		x.pod, x.priority = p, corev1helpers.PodPriority(p)
		class := classKey(p)
		if x.place == active {
			q.leaveClass(x)
			x.class = class
			q.classes[class] = append(q.classes[class], x)
			heap.Fix(&q.active, x.index)
			return
		}
		x.class = class
		if x.place != inFlight && was != class {
			q.activate(x)
		}
		return
	}
	x := &queued{pod: p, class: classKey(p), priority: corev1helpers.PodPriority(p), since: now}
	q.pods[p.UID] = x
	q.activate(x)
}

func (q *queue) activate(x *queued) {
	x.place, x.moved = active, 0
	heap.Push(&q.active, x)
	q.classes[x.class] = append(q.classes[x.class], x)
}

// remove forgets a pod that is gone or placed.
func (q *queue) remove(uid types.UID) {
	x := q.pods[uid]
	if x == nil {
		return
	}
	delete(q.pods, uid)
	if x.place == active {
		q.leaveClass(x)
		heap.Remove(&q.active, x.index)
	}
}

func (q *queue) leaveClass(x *queued) {
	list := q.classes[x.class]
	if i := slices.Index(list, x); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(q.classes, x.class)
	} else {
		q.classes[x.class] = list
	}
}

// next takes the first pod and up to limit-1 more of its class and priority.
func (q *queue) next(limit int) []*queued {
	if q.active.Len() == 0 {
		return nil
	}
	first := q.active[0]
	members := q.classes[first.class]
	batch := make([]*queued, 0, min(limit, len(members)))
	batch = append(batch, first)
	for _, x := range members {
		if len(batch) == limit {
			break
		}
		if x != first && x.priority == first.priority {
			batch = append(batch, x)
		}
	}
	taken := make(map[*queued]bool, len(batch))
	for _, x := range batch {
		taken[x] = true
		heap.Remove(&q.active, x.index)
		x.place = inFlight
		x.attempts++
	}
	if rest := slices.DeleteFunc(members, func(x *queued) bool { return taken[x] }); len(rest) == 0 {
		delete(q.classes, first.class)
	} else {
		q.classes[first.class] = rest
	}
	return batch
}

// giveBack returns pods that were taken but not tried.
func (q *queue) giveBack(pods []*queued) {
	for _, x := range pods {
		x.attempts--
		q.activate(x)
	}
}

// failed parks a pod that fits nowhere until a change that may help.
func (q *queue) fail(x *queued, helps plugins.Change, now time.Time) {
	if q.pods[x.pod.UID] != x {
		return // deleted meanwhile
	}
	x.failed, x.waitsFor = now, helps
	if x.moved&helps != 0 {
		x.place = backingOff
		return
	}
	x.place = unschedulable
}

// wake moves the pods that a change may help back towards placement.
func (q *queue) wake(c plugins.Change, now time.Time) {
	for _, x := range q.pods {
		switch x.place {
		case inFlight:
			x.moved |= c
		case unschedulable:
			if x.waitsFor&c == 0 {
				continue
			}
			if now.Before(x.ready()) {
				x.place = backingOff
			} else {
				q.activate(x)
			}
		}
	}
}

// due activates pods whose back-off or patience has ended, and returns when the
// next one will (zero when none waits).
func (q *queue) due(now time.Time) time.Time {
	var next time.Time
	for _, x := range q.pods {
		var at time.Time
		switch x.place {
		case backingOff:
			at = x.ready()
		case unschedulable:
			at = x.failed.Add(patience)
		default:
			continue
		}
		if !now.Before(at) {
			q.activate(x)
		} else if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

func (x *queued) ready() time.Time {
	d := firstBackoff << min(x.attempts-1, 10)
	return x.failed.Add(min(d, maxBackoff))
}

// byPriority is a heap: higher priority first, then the older.
type byPriority []*queued

func (h byPriority) Len() int { return len(h) }
func (h byPriority) Less(i, j int) bool {
	if h[i].priority != h[j].priority {
		return h[i].priority > h[j].priority
	}
	return h[i].since.Before(h[j].since)
}
func (h byPriority) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *byPriority) Push(x any) {
	q := x.(*queued)
	q.index = len(*h)
	*h = append(*h, q)
}
func (h *byPriority) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}

// classKey is equal for pods that place alike: everything that any rule reads.
func classKey(p *corev1.Pod) string {
	hard, compared := state.Requests(p)
	b := make([]byte, 0, 256)
	num := func(ns ...int64) {
		for _, n := range ns {
			b = binary.AppendVarint(b, n)
		}
	}
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	texts := func(m map[string]string) {
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		num(int64(len(keys)))
		for _, k := range keys {
			text(k)
			text(m[k])
		}
	}
	num(hard.MilliCPU, hard.Memory, hard.Ephemeral, compared.MilliCPU, compared.Memory, int64(corev1helpers.PodPriority(p)), int64(len(hard.Other)))
	if len(hard.Other) > 0 {
		other := map[string]string{}
		for k, v := range hard.Other {
			other[string(k)] = fmt.Sprint(v)
		}
		texts(other)
	}
	text(p.Namespace)
	texts(p.Labels)
	texts(p.Spec.NodeSelector)
	text(p.Spec.NodeName)
	if a := p.Spec.Affinity; a != nil {
		if enc, err := a.Marshal(); err == nil {
			text(string(enc))
		}
	}
	for i := range p.Spec.Tolerations {
		t := p.Spec.Tolerations[i]
		if enc, err := t.Marshal(); err == nil {
			text(string(enc))
		}
	}
	num(-1)
	for i := range p.Spec.TopologySpreadConstraints {
		if enc, err := p.Spec.TopologySpreadConstraints[i].Marshal(); err == nil {
			text(string(enc))
		}
	}
	num(-2)
	for _, x := range state.Ports(p) {
		text(x.Address + "/" + string(x.Protocol))
		num(int64(x.Port))
	}
	num(-3)
	for i := range p.Spec.InitContainers {
		text(p.Spec.InitContainers[i].Image)
	}
	for i := range p.Spec.Containers {
		text(p.Spec.Containers[i].Image)
	}
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.PersistentVolumeClaim != nil {
			text(v.PersistentVolumeClaim.ClaimName)
		}
	}
	return string(b)
}
