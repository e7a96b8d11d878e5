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
	said     string // why it does not fit, as its condition should say
	place    whereabouts
	index    int // in the active heap
}

type whereabouts uint8

const (
	active        whereabouts = iota // in the heap, to be placed now
	inFlight                         // being bound
	unschedulable                    // waits for a change
	backingOff                       // a change came, but too soon
)

// queue orders the pods to place: by priority, then by age. It belongs to one
// goroutine, which places pods as it takes them: nothing changes between next
// and fail.
type queue struct {
	pods   map[types.UID]*queued
	active byPriority
	// classes lists the active pods of a class, oldest first.
	classes map[string][]*queued
	// parked are the pods that are unschedulable or backing off.
	parked map[*queued]struct{}
}

func newQueue() *queue {
	return &queue{pods: map[types.UID]*queued{}, classes: map[string][]*queued{}, parked: map[*queued]struct{}{}}
}

// put adds or refreshes a pod and returns it. An update that changes what a
// waiting pod demands makes it active, as it may fit now.
func (q *queue) put(p *corev1.Pod, now time.Time) *queued {
	x := q.pods[p.UID]
	if x == nil {
		x = &queued{pod: p, class: classKey(p), priority: corev1helpers.PodPriority(p), since: now}
		q.pods[p.UID] = x
		q.activate(x)
		return x
	}
	class := classKey(p)
	changed := x.class != class
	if x.place == active {
		q.leaveClass(x)
	}
	x.pod, x.class, x.priority = p, class, corev1helpers.PodPriority(p)
	switch {
	case x.place == active:
		q.classes[class] = append(q.classes[class], x)
		heap.Fix(&q.active, x.index)
	case changed && x.place != inFlight:
		q.activate(x)
	}
	return x
}

// refresh notes the new state of a pod whose binding is under way, for the case
// that the binding is refused.
func (q *queue) refresh(p *corev1.Pod, now time.Time) {
	if q.pods[p.UID] != nil {
		q.put(p, now)
	}
}

func (q *queue) activate(x *queued) {
	delete(q.parked, x)
	x.place = active
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
	delete(q.parked, x)
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

// fail parks a pod that fits nowhere until a change that may help.
func (q *queue) fail(x *queued, helps plugins.Change, now time.Time) {
	q.park(x, unschedulable, helps, now)
}

// retry parks a pod whose binding was refused for its back-off only.
func (q *queue) retry(x *queued, now time.Time) { q.park(x, backingOff, 0, now) }

func (q *queue) park(x *queued, place whereabouts, helps plugins.Change, now time.Time) {
	if q.pods[x.pod.UID] != x {
		return // deleted meanwhile
	}
	x.place, x.failed, x.waitsFor = place, now, helps
	q.parked[x] = struct{}{}
}

// waits tells whether a pod was found to fit nowhere and has not been tried
// since.
func (q *queue) waits(x *queued) bool { _, ok := q.parked[x]; return ok }

// wake moves the pods that a change may help back towards placement.
func (q *queue) wake(c plugins.Change, now time.Time) {
	for x := range q.parked {
		if x.place != unschedulable || x.waitsFor&c == 0 {
			continue
		}
		if now.Before(x.ready()) {
			x.place = backingOff
		} else {
			q.activate(x)
		}
	}
}

// due activates pods whose back-off or patience has ended, and returns when the
// next one will (zero when none waits).
func (q *queue) due(now time.Time) time.Time {
	var next time.Time
	for x := range q.parked {
		at := x.ready()
		if x.place == unschedulable {
			at = x.failed.Add(patience)
		}
		if !now.Before(at) {
			q.activate(x)
		} else if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// ready is when the back-off of a pod that failed has ended.
func (x *queued) ready() time.Time {
	d := firstBackoff << min(max(x.attempts, 1)-1, 10)
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
	var affinity string
	if a := p.Spec.Affinity; a != nil {
		if enc, err := a.Marshal(); err == nil {
			affinity = string(enc)
		}
	}
	text(affinity)
	num(int64(len(p.Spec.Tolerations)))
	for i := range p.Spec.Tolerations {
		t := p.Spec.Tolerations[i]
		if enc, err := t.Marshal(); err == nil {
			text(string(enc))
		}
	}
	num(int64(len(p.Spec.TopologySpreadConstraints)))
	for i := range p.Spec.TopologySpreadConstraints {
		if enc, err := p.Spec.TopologySpreadConstraints[i].Marshal(); err == nil {
			text(string(enc))
		}
	}
	ports := state.Ports(p)
	num(int64(len(ports)))
	for _, x := range ports {
		text(x.Address + "/" + string(x.Protocol))
		num(int64(x.Port))
	}
	num(int64(len(p.Spec.InitContainers)), int64(len(p.Spec.Containers)))
	for i := range p.Spec.InitContainers {
		text(p.Spec.InitContainers[i].Image)
	}
	for i := range p.Spec.Containers {
		text(p.Spec.Containers[i].Image)
	}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		switch {
		case v.Ephemeral != nil:
			text(p.Name) // its claim is its own
		case v.ConfigMap != nil, v.Secret != nil, v.EmptyDir != nil, v.Projected != nil, v.DownwardAPI != nil, v.HostPath != nil, v.Image != nil:
			continue // no rule of placement reads these
		}
		if enc, err := v.Marshal(); err == nil {
			text(string(enc))
		}
	}
	return string(b)
}
