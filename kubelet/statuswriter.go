package kubelet

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/kubelet/pod"
	"sagong/object"
	"sagong/object/equal"
)

// statusWriter writes what the agent reports of its pods: the newest status of
// each, many in one batch, one batch at a time. What comes while a batch is
// under way is gathered for the next. A status that only says what is being
// waited for is held back for StatusDelay, because most often the next one
// makes it needless; anything that others act on is written at once.
type statusWriter struct {
	a    *Agent
	def  *object.Definition
	wake chan struct{}

	mu    sync.Mutex
	items map[types.UID]*report
}

// report is what is to be written of one pod.
type report struct {
	e      *entry
	status *corev1.PodStatus // nil: nothing to write
	delete bool
	due    time.Time
	tries  int
}

func newStatusWriter(a *Agent) *statusWriter {
	return &statusWriter{a: a, def: object.Of[*corev1.Pod](a.dep.Client.Scheme()), wake: make(chan struct{}, 1), items: map[types.UID]*report{}}
}

// put hands over a pod's newest status. e.mu is held.
func (w *statusWriter) put(e *entry, s corev1.PodStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.items[e.uid]
	if r == nil && equal.Semantic(&e.pod.Status, &s) {
		return
	}
	due := time.Now()
	if !urgent(&e.pod.Status, &s) {
		due = due.Add(w.a.cfg.StatusDelay)
	}
	if r == nil {
		r = &report{e: e, due: due}
		w.items[e.uid] = r
	}
	r.status = &s
	if due.Before(r.due) {
		r.due = due
	}
	w.signal()
}

// urgent says whether somebody may wait for what changed.
func urgent(old, s *corev1.PodStatus) bool {
	if s.Phase != corev1.PodPending || old.Phase != s.Phase && old.Phase != "" {
		return true
	}
	ready := func(s *corev1.PodStatus) bool {
		c := pod.FindCondition(s, corev1.PodReady)
		return c != nil && c.Status == corev1.ConditionTrue
	}
	return ready(old) != ready(s)
}

// remove asks for the final delete of a pod. e.mu is held.
func (w *statusWriter) remove(e *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.items[e.uid]
	if r == nil {
		r = &report{e: e}
		w.items[e.uid] = r
	}
	r.delete, r.due = true, time.Now()
	w.signal()
}

// drop forgets a pod that is gone.
func (w *statusWriter) drop(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.items, uid)
}

func (w *statusWriter) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends.
func (w *statusWriter) run(ctx context.Context) {
	clock := time.NewTimer(time.Hour)
	defer clock.Stop()
	for {
		batch, wait := w.take(time.Now())
		if len(batch) > 0 {
			w.write(ctx, batch)
			continue
		}
		clock.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-clock.C:
		}
	}
}

// maxBatch bounds how long one batch keeps the next waiting.
const maxBatch = 256

// take removes what is due.
func (w *statusWriter) take(now time.Time) (batch []*report, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wait = time.Hour
	for uid, r := range w.items {
		if left := r.due.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		if len(batch) == maxBatch {
			break
		}
		delete(w.items, uid)
		batch = append(batch, r)
	}
	return batch, wait
}

func (w *statusWriter) write(ctx context.Context, batch []*report) {
	var writes []client.Write
	var owners []*report
	for _, r := range batch {
		r.e.mu.Lock()
		api := r.e.pod
		gone := r.e.obs.Gone
		r.e.mu.Unlock()
		if gone {
			continue
		}
		if r.status != nil {
			p := api.DeepCopy()
			p.Status = mergeStatus(&api.Status, r.status)
			if !equal.Semantic(&api.Status, &p.Status) {
				writes = append(writes, client.Write{Op: client.OpUpdateStatus, Definition: w.def, Object: p})
				owners = append(owners, r)
			} else {
				w.written(r, api)
			}
		}
		if r.delete {
			zero := int64(0)
			writes = append(writes, client.Write{Op: client.OpDelete, Definition: w.def,
				Object: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: api.Namespace, Name: api.Name, UID: api.UID}},
				Delete: metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: metav1.NewUIDPreconditions(string(api.UID))}})
			owners = append(owners, r)
		}
	}
	if len(writes) == 0 {
		return
	}
	for i, res := range w.a.dep.Client.Batch(ctx, writes) {
		w.settle(ctx, owners[i], writes[i].Op, res)
	}
}

// conditionOrder is the order in which people are used to read the conditions;
// all others come before these.
var conditionOrder = []corev1.PodConditionType{
	corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled,
}

// mergeStatus puts what the node reports over what the API holds: conditions
// of others stay as they are.
func mergeStatus(api, own *corev1.PodStatus) corev1.PodStatus {
	s := *own.DeepCopy()
	var conditions []corev1.PodCondition
	for _, c := range api.Conditions {
		if !ownCondition(c.Type) && pod.FindCondition(own, c.Type) == nil || !ownCondition(c.Type) && c.Type != corev1.DisruptionTarget {
			conditions = append(conditions, c)
		}
	}
	for _, c := range own.Conditions {
		if ownCondition(c.Type) || c.Type == corev1.DisruptionTarget {
			conditions = append(conditions, c)
		}
	}
	slices.SortStableFunc(conditions, func(a, b corev1.PodCondition) int {
		return slices.Index(conditionOrder, a.Type) - slices.Index(conditionOrder, b.Type)
	})
	s.Conditions = conditions
	s.NominatedNodeName, s.ResourceClaimStatuses = api.NominatedNodeName, api.ResourceClaimStatuses
	s.ExtendedResourceClaimStatus = api.ExtendedResourceClaimStatus
	return s
}

// settle handles the outcome of one write.
func (w *statusWriter) settle(ctx context.Context, r *report, op client.Op, res client.Result) {
	switch {
	case res.Err == nil && op == client.OpUpdateStatus:
		if p, ok := res.Object.(*corev1.Pod); ok {
			w.written(r, p)
		}
	case res.Err == nil:
	case apierrors.IsNotFound(res.Err):
		// The view will say so too.
	case ctx.Err() != nil:
	case apierrors.IsConflict(res.Err):
		w.again(ctx, r, op, true)
	default:
		w.a.log.Warn("cannot write pod status, trying again", "pod", r.e.String(), "err", res.Err)
		w.again(ctx, r, op, false)
	}
}

// written notes what the API now holds.
func (w *statusWriter) written(r *report, p *corev1.Pod) {
	e := r.e
	e.mu.Lock()
	if object.RevisionOf(p) > object.RevisionOf(e.pod) && p.UID == e.uid {
		e.take(p)
	}
	before := e.obs.Reported
	e.obs.Reported = p.Status.Phase
	ended := before != e.obs.Reported && (p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed)
	e.mu.Unlock()
	if ended {
		w.a.queue.Add(e.uid)
	}
}

// again puts a report that failed back, unless a newer one waits. After a
// conflict the newest object is read first.
func (w *statusWriter) again(ctx context.Context, r *report, op client.Op, conflict bool) {
	e := r.e
	if conflict {
		e.mu.Lock()
		ns, name := e.pod.Namespace, e.pod.Name
		e.mu.Unlock()
		if p, err := client.Get[*corev1.Pod](ctx, w.a.dep.Client, ns, name); err == nil {
			e.mu.Lock()
			if p.UID == e.uid {
				if object.RevisionOf(p) > object.RevisionOf(e.pod) {
					e.take(p)
				}
			} else {
				e.obs.Gone = true
			}
			e.mu.Unlock()
			w.a.queue.Add(e.uid)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	have := w.items[e.uid]
	if have == nil {
		have = &report{e: e}
		w.items[e.uid] = have
	}
	if have.status == nil && op == client.OpUpdateStatus {
		have.status = r.status
	}
	have.delete = have.delete || op == client.OpDelete
	have.tries = r.tries + 1
	have.due = time.Now().Add(min(time.Duration(have.tries)*20*time.Millisecond, 5*time.Second))
	w.signal()
}
