package scheduler

import (
	"container/heap"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"sagong/scheduler/plugins"
)

// patience is how long a pod stays unschedulable before it is tried again
// although nothing that could help has happened: upstream's.
const patience = 5 * time.Minute

// queued is a pod that waits for a node.
type queued struct {
	pod      *corev1.Pod
	class    string
	base     int // bytes of class that labels do not decide
	priority int32
	since    time.Time
	began    time.Time // its last attempt
	attempts int
	failed   time.Time // when it last fitted nowhere
	at       time.Time // when it is tried again whatever happens
	waitsFor plugins.Change
	said     string // why it does not fit, as its condition should say
	erred    bool   // said is of a fault, not of a lack
	expected string // the node that its status names since it was last placed there
	stage    stage  // of a pod in a group
	// group is what a pod belongs to that is placed with others or not at all.
	// Such pods are not in the queue themselves: its entry stands for them.
	group  *podGroup
	place  whereabouts
	index  int // in the heap of its place
	member int // in its class's list while active or unschedulable
}

type whereabouts uint8

const (
	active        whereabouts = iota // to be placed now
	inFlight                         // being bound
	unschedulable                    // waits for a change
	backingOff                       // a change came, but too soon
	failing                          // backs off from an error
)

// queue orders the pods to place: by priority, then by age. It belongs to one
// goroutine, which places pods as it takes them: nothing changes between next
// and fail.
type queue struct {
	first, most time.Duration // of back-off
	// claims is what the class of a pod has to say of its resource claims.
	claims  func(*corev1.Pod) string
	metrics *Metrics
	pods    map[types.UID]*queued
	active  byPriority
	// classes lists the active pods of a class, oldest first, waiting those that
	// are unschedulable, tried longest ago first.
	classes, waiting map[string]*members
	// parked are the pods that are not active, by when they are tried again:
	// those that wait for a change, those whose back-off is cut short when there
	// is nothing else to do, and those that failed.
	parked [failing + 1]byTime
}

// newQueue makes a queue with upstream's back-off unless told otherwise.
func newQueue(first, most time.Duration) *queue {
	return &queue{
		first: first, most: most, pods: map[types.UID]*queued{}, classes: map[string]*members{}, waiting: map[string]*members{},
	}
}

// put adds or refreshes a pod and returns it. An update that changes what a
// waiting pod demands makes it active, as it may fit now.
func (q *queue) put(p *corev1.Pod, now time.Time) *queued {
	x := q.pods[p.UID]
	if x == nil {
		x = &queued{pod: p, priority: corev1helpers.PodPriority(p), since: now, place: inFlight}
		x.class, x.base = q.class(p)
		q.pods[p.UID] = x
		q.activate(x, podAdd)
		return x
	}
	class, base := q.class(p)
	if class == x.class { // which holds the priority
		x.pod = p
		return x
	}
	was := x.place
	if was != inFlight {
		q.unplace(x)
	}
	x.pod, x.class, x.base, x.priority = p, class, base, corev1helpers.PodPriority(p)
	if was != inFlight {
		q.activate(x, podUpdate)
	}
	return x
}

// class is the class of a pod as its claims are now.
func (q *queue) class(p *corev1.Pod) (key string, base int) {
	if q.claims == nil || !plugins.MayClaim(p) {
		return classKey(p, "")
	}
	return classKey(p, q.claims(p))
}

// refresh notes the new state of a pod whose binding is under way, for the case
// that the binding is refused.
func (q *queue) refresh(p *corev1.Pod, now time.Time) {
	if q.pods[p.UID] != nil {
		q.put(p, now)
	}
}

// activate puts a pod that is nowhere among those to place, because of an event.
func (q *queue) activate(x *queued, event string) {
	q.metrics.enters(active, event)
	x.place = active
	heap.Push(&q.active, x)
	addMember(q.classes, x)
}

// unplace takes a pod from where it is; it is in flight then.
func (q *queue) unplace(x *queued) {
	switch x.place {
	case active:
		dropMember(q.classes, x)
		heap.Remove(&q.active, x.index)
	case inFlight:
	default:
		heap.Remove(&q.parked[x.place], x.index)
		if x.place == unschedulable {
			dropMember(q.waiting, x)
		}
	}
	x.place = inFlight
}

// remove forgets a pod that is gone or placed.
func (q *queue) remove(uid types.UID) {
	if x := q.pods[uid]; x != nil {
		q.unplace(x)
		delete(q.pods, uid)
	}
}

// next takes the first pod and up to limit-1 more of its class. When none is
// active, back-offs end early.
func (q *queue) next(limit int) []*queued {
	if q.active.Len() == 0 {
		q.hasten(limit)
	}
	if q.active.Len() == 0 {
		return nil
	}
	first := q.active[0]
	m := q.classes[first.class]
	batch := make([]*queued, 0, min(limit, m.live))
	take := func(x *queued) {
		q.unplace(x)
		x.attempts++
		batch = append(batch, x)
	}
	take(first)
	for m.live > 0 && len(batch) < limit {
		take(m.first())
	}
	return batch
}

// hasten ends the back-off of the pods that have waited longest, errors apart.
func (q *queue) hasten(limit int) {
	for h := &q.parked[backingOff]; h.Len() > 0 && limit > 0; limit-- {
		x := (*h)[0]
		q.unplace(x)
		q.activate(x, backoffOver)
	}
}

// fail parks a pod that fits nowhere until a change that may help.
func (q *queue) fail(x *queued, helps plugins.Change, now time.Time) {
	x.failed, x.waitsFor = now, helps
	q.reclass(x)
	q.park(x, unschedulable, now.Add(patience), attemptFailure)
}

// reclass looks again at what class a pod in flight is of: its claims may have
// got something meanwhile.
func (q *queue) reclass(x *queued) {
	if x.group == nil && x.place == inFlight && plugins.MayClaim(x.pod) {
		x.class, x.base = q.class(x.pod)
	}
}

// retry parks a pod whose binding was refused for its back-off only.
func (q *queue) retry(x *queued, now time.Time) {
	x.failed = now
	q.reclass(x)
	q.park(x, failing, q.ready(x), attemptFailure)
}

func (q *queue) park(x *queued, place whereabouts, at time.Time, event string) {
	if q.pods[x.uid()] != x {
		return // deleted meanwhile
	}
	q.metrics.enters(place, event)
	q.unplace(x)
	x.place, x.at = place, at
	heap.Push(&q.parked[place], x)
	if place == unschedulable {
		addMember(q.waiting, x)
	}
}

// waits tells whether a pod was found to fit nowhere and has not been tried
// since.
func (q *queue) waits(x *queued) bool { return x.place > inFlight }

// hope is how many pods of a class a change may help.
type hope int

const (
	none hope = iota
	some      // there is room, for how many will show
	all
)

// wake moves the pods that a change may help back towards placement. helps
// judges a class by one of its pods; nil means that all changes help all.
func (q *queue) wake(c plugins.Change, now time.Time, helps func(*queued, plugins.Change) hope) {
	for class, m := range q.waiting {
		x := m.first()
		if x.waitsFor&c == 0 {
			continue
		}
		h := all
		if helps != nil {
			h = helps(x, c)
		}
		switch h {
		case all:
			q.wakeClass(class, m.live, now, eventOf(c))
		case some:
			q.wakeClass(class, batchSize, now, eventOf(c))
		}
	}
}

// wakeClass moves up to k pods of a class back towards placement.
func (q *queue) wakeClass(class string, k int, now time.Time, event string) {
	for ; k > 0; k-- {
		m := q.waiting[class]
		if m == nil {
			return
		}
		q.wakeOne(m.first(), now, event)
	}
}

// wakeOne moves one unschedulable pod back towards placement.
func (q *queue) wakeOne(x *queued, now time.Time, event string) {
	if x.place != unschedulable {
		return
	}
	if at := q.ready(x); now.Before(at) {
		q.park(x, backingOff, at, event)
	} else {
		q.unplace(x)
		q.activate(x, event)
	}
}

// due activates pods whose back-off or patience has ended, and returns when the
// next one will (zero when none waits).
func (q *queue) due(now time.Time) time.Time {
	var next time.Time
	for place := unschedulable; place <= failing; place++ {
		h := &q.parked[place]
		for h.Len() > 0 && !now.Before((*h)[0].at) {
			x := (*h)[0]
			q.unplace(x)
			event := backoffOver
			if place == unschedulable {
				event = patienceOver
			}
			q.activate(x, event)
		}
		if h.Len() > 0 && (next.IsZero() || (*h)[0].at.Before(next)) {
			next = (*h)[0].at
		}
	}
	return next
}

// ready is when the back-off of a pod that failed has ended: it doubles from the
// first to the longest.
func (q *queue) ready(x *queued) time.Time {
	d := q.first
	for i := 1; i < x.attempts && d < q.most; i++ {
		d *= 2
	}
	return x.failed.Add(min(d, q.most))
}
