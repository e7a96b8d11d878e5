// Package scheduler gives pods their nodes. One goroutine owns the queue and
// the state of the nodes, both changed event by event; it takes pods of one
// class together, places them by the rules of package plugins, and hands the
// bindings to a second goroutine that commits them in batches.
package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// Name is the scheduler that pods name unless they name another.
const Name = corev1.DefaultSchedulerName

// batchSize bounds how many pods are placed and bound together.
const batchSize = 512

// Config is what a Scheduler needs.
type Config struct {
	Client   client.Client
	Hub      *reconcile.Hub
	Recorder client.Recorder
	Log      *slog.Logger
	Now      func() time.Time // nil means time.Now
}

// Scheduler places pods.
type Scheduler struct {
	cfg    Config
	placer *placer

	mu     sync.Mutex
	inbox  []func()
	signal chan struct{} // capacity 1

	bind chan []binding // to the binder

	// Owned by Run's goroutine.
	queue   *queue
	state   *state.State
	changes plugins.Change // heard and not yet told to the queue
}

type binding struct {
	x    *queued
	pod  *corev1.Pod
	node string
}

// New makes a scheduler that follows the hub's pods, nodes and namespaces.
func New(cfg Config) *Scheduler {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Scheduler{cfg: cfg, signal: make(chan struct{}, 1), bind: make(chan []binding, 16), queue: newQueue(), state: state.New()}
	s.placer = newPlacer(plugins.All(plugins.Deps{
		Hub: cfg.Hub, Client: cfg.Client, Events: cfg.Recorder, Log: cfg.Log, Now: cfg.Now, Post: s.post,
		Changed: func(c plugins.Change) { s.changes |= c },
	}))
	return s
}

// Run places pods until ctx ends. Bindings under way are finished first.
func (s *Scheduler) Run(ctx context.Context) error {
	nodes, pods := reconcile.ViewOf[*corev1.Node](s.cfg.Hub), reconcile.ViewOf[*corev1.Pod](s.cfg.Hub)
	if err := nodes.Synced(ctx); err != nil {
		return err
	}
	if err := pods.Synced(ctx); err != nil {
		return err
	}
	defer nodes.OnChange(func(old, new *corev1.Node) { s.post(func() { s.nodeChanged(old, new) }) })()
	defer pods.OnChange(func(old, new *corev1.Pod) { s.post(func() { s.podChanged(old, new) }) })()

	var binders sync.WaitGroup
	binders.Go(func() { s.bindAll(context.WithoutCancel(ctx)) })
	defer binders.Wait()
	defer close(s.bind)

	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s.drain()
		next := s.queue.due(s.cfg.Now())
		if s.placeBatch() {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		timer.Reset(time.Hour)
		if !next.IsZero() {
			timer.Reset(max(next.Sub(s.cfg.Now()), time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.signal:
		case <-timer.C:
		}
	}
}

// post runs f in Run's goroutine.
func (s *Scheduler) post(f func()) {
	s.mu.Lock()
	s.inbox = append(s.inbox, f)
	s.mu.Unlock()
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

func (s *Scheduler) drain() {
	s.mu.Lock()
	fs := s.inbox
	s.inbox = nil
	s.mu.Unlock()
	for _, f := range fs {
		f()
	}
	if s.changes != 0 {
		// Once for all: each wake looks at every pod that waits.
		s.queue.wake(s.changes, s.cfg.Now())
		s.changes = 0
	}
}

func (s *Scheduler) nodeChanged(old, new *corev1.Node) {
	if new == nil {
		s.state.RemoveNode(old.Name)
		return
	}
	s.state.SetNode(new)
	if old == nil || nodeMatters(old, new) {
		s.changes |= plugins.NodeChanged
	}
}

// nodeMatters tells whether a change of a node may let a pod fit: heartbeats do not.
func nodeMatters(old, new *corev1.Node) bool {
	return old.Spec.Unschedulable != new.Spec.Unschedulable ||
		!equalTaints(old.Spec.Taints, new.Spec.Taints) ||
		!labels.Equals(old.Labels, new.Labels) ||
		!equalLists(old.Status.Allocatable, new.Status.Allocatable)
}

func equalTaints(a, b []corev1.Taint) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Key != b[i].Key || a[i].Value != b[i].Value || a[i].Effect != b[i].Effect {
			return false
		}
	}
	return true
}

func equalLists(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v.Cmp(w) != 0 {
			return false
		}
	}
	return true
}

func (s *Scheduler) podChanged(old, new *corev1.Pod) {
	now := s.cfg.Now()
	switch {
	case new == nil:
		s.queue.remove(old.UID)
		if s.state.Remove(old.UID) {
			s.changes |= plugins.PodGone
		}
	case new.Status.Phase == corev1.PodSucceeded || new.Status.Phase == corev1.PodFailed:
		s.queue.remove(new.UID)
		if s.state.Remove(new.UID) {
			s.changes |= plugins.PodGone
		}
	case new.Spec.NodeName != "":
		s.queue.remove(new.UID)
		known := s.state.Pod(new.UID)
		if known != nil && !known.Assumed && old != nil && samePlacement(old, new) {
			known.Object = new
			return
		}
		s.state.Place(new, new.Spec.NodeName, false)
		s.changes |= plugins.PodPlaced
	case ours(new):
		if p := s.state.Pod(new.UID); p != nil && p.Assumed {
			s.queue.refresh(new, now) // placed, its binding under way
			return
		}
		if x := s.queue.put(new, now); s.queue.waits(x) {
			s.condition(x) // lost to another write, perhaps
		}
	default:
		s.queue.remove(new.UID)
	}
}

// samePlacement tells whether an update of a bound pod leaves all that the
// state counts as it was.
func samePlacement(old, new *corev1.Pod) bool {
	return old.Spec.NodeName == new.Spec.NodeName && old.Generation == new.Generation && labels.Equals(old.Labels, new.Labels)
}

// ours tells whether a pod without a node waits for this scheduler.
func ours(p *corev1.Pod) bool {
	return p.Spec.SchedulerName == Name && p.DeletionTimestamp == nil && len(p.Spec.SchedulingGates) == 0
}

// placeBatch places the pods that are next; false when none wait.
func (s *Scheduler) placeBatch() bool {
	batch := s.queue.next(batchSize)
	if len(batch) == 0 {
		return false
	}
	c, err := plugins.NewClass(batch[0].pod)
	if err != nil {
		for _, x := range batch {
			s.park(x, &unfit{message: fmt.Sprintf("cannot read the pod's affinity: %v", err), helps: plugins.PodChanged})
		}
		return true
	}
	bindings := make([]binding, 0, len(batch))
	no := s.placer.place(c, s.state, len(batch), func(n *state.Node) {
		x := batch[len(bindings)]
		s.state.Place(x.pod, n.Name, true)
		bindings = append(bindings, binding{x, x.pod, n.Name})
	})
	if len(bindings) > 0 {
		s.bind <- bindings
	}
	for _, x := range batch[len(bindings):] {
		s.park(x, no)
	}
	return true
}

// park sets a pod aside and tells its owner why.
func (s *Scheduler) park(x *queued, why *unfit) {
	s.queue.fail(x, why.helps, s.cfg.Now())
	x.said = why.message
	s.cfg.Recorder.Eventf(x.pod, corev1.EventTypeWarning, "FailedScheduling", "%s", why.message)
	s.condition(x)
}

// condition has the reason why a pod waits written into it, unless it is there.
func (s *Scheduler) condition(x *queued) {
	if c := scheduledCondition(x.pod); x.said == "" || c != nil && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable && c.Message == x.said {
		return
	}
	s.bind <- []binding{{pod: withCondition(x.pod, x.said, s.cfg.Now())}}
}

func scheduledCondition(p *corev1.Pod) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.PodScheduled {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

func withCondition(p *corev1.Pod, message string, now time.Time) *corev1.Pod {
	p = p.DeepCopy()
	c := scheduledCondition(p)
	if c == nil {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodScheduled})
		c = &p.Status.Conditions[len(p.Status.Conditions)-1]
	}
	if c.Status != corev1.ConditionFalse {
		c.LastTransitionTime = metav1.NewTime(now)
	}
	c.Status, c.Reason, c.Message, c.ObservedGeneration = corev1.ConditionFalse, corev1.PodReasonUnschedulable, message, p.Generation
	return p
}

// bindAll commits what the placing goroutine decides, all that waits together.
func (s *Scheduler) bindAll(ctx context.Context) {
	def := object.Of[*corev1.Pod](s.cfg.Client.Scheme())
	for work := range s.bind {
	more:
		for len(work) < 4*batchSize {
			select {
			case next, open := <-s.bind:
				if !open {
					break more
				}
				work = append(work, next...)
			default:
				break more
			}
		}
		writes := make([]client.Write, len(work))
		for i, b := range work {
			if b.node == "" {
				writes[i] = client.Write{Op: client.OpUpdateStatus, Definition: def, Object: b.pod}
				continue
			}
			writes[i] = client.Write{Op: client.OpBind, Definition: def, Object: &corev1.Binding{
				ObjectMeta: metav1.ObjectMeta{Namespace: b.pod.Namespace, Name: b.pod.Name, UID: b.pod.UID},
				Target:     corev1.ObjectReference{Kind: "Node", Name: b.node},
			}}
		}
		for i, r := range s.cfg.Client.Batch(ctx, writes) {
			b := work[i]
			switch {
			case b.node == "":
				// A condition that another write overtook is written again when
				// the view shows that write: see podChanged.
			case r.Err == nil:
				s.cfg.Recorder.Eventf(b.pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", b.pod.Namespace, b.pod.Name, b.node)
			default:
				s.post(func() { s.unbind(b, r.Err) })
			}
		}
	}
}

// unbind takes back a placement whose binding was refused.
func (s *Scheduler) unbind(b binding, err error) {
	uid := types.UID(b.pod.UID)
	if p := s.state.Pod(uid); p != nil && p.Assumed {
		s.state.Remove(uid)
		s.changes |= plugins.PodGone
	}
	if apierrors.IsNotFound(err) {
		s.queue.remove(uid)
		return
	}
	s.cfg.Log.Warn("cannot bind pod, trying again", "pod", b.pod.Namespace+"/"+b.pod.Name, "node", b.node, "err", err)
	s.queue.retry(b.x, s.cfg.Now())
}
