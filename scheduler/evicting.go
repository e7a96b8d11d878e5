package scheduler

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// eviction is the end of one pod for the sake of another.
type eviction struct {
	victim *corev1.Pod
	by     string // what it makes room for: pod or podgroup
	for_   types.UID
	node   string
	events client.Recorder
}

// evict nominates a pod to a node and tells its victims there to go: first their
// status says why, then they are deleted with the grace they are due.
func (s *Scheduler) evict(p *profile, x *queued, c *candidate) {
	var told []write
	ended := map[*podGroup]bool{}
	for _, v := range c.victims {
		if g := s.groupOfPlaced(v); g != nil && g.whole() && !ended[g] {
			ended[g] = true
			told = append(told, endOfGroup(g, p.name+": preempting to accommodate a higher priority pod", s.cfg.Now()))
		}
		if v.Terminating() || v.Preempted {
			continue // on its way out already
		}
		v.Preempted = true
		o := v.Object()
		told = append(told, write{
			pod: withCondition(o, corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
				Message: p.name + ": preempting to accommodate a higher priority pod",
			}, s.cfg.Now()),
			victim: &eviction{o, "pod", x.pod.UID, c.node.Name, s.events[p.name]},
		})
	}
	s.state.Nominate(x.pod, c.node.Name)
	s.displace(c.node, x.priority)
	if len(told) > 0 {
		s.writes <- told
	}
}

// displace takes their nomination to a node from those of lower priority: they
// may find another sooner than it has room for them too.
func (s *Scheduler) displace(node *state.Node, priority int32) {
	for _, n := range append([]*state.Nominee(nil), node.Nominated...) {
		if n.Priority >= priority {
			continue
		}
		s.state.Denominate(n.UID)
		if other := s.queue.pods[n.UID]; other != nil {
			s.condition(other)
			s.queue.wakeOne(other, s.cfg.Now(), podUpdate)
		} else if s.groups != nil {
			s.wakeGroupOf(n.Object())
		}
	}
}

// end deletes victims whose status says why.
func (s *Scheduler) end(ctx context.Context, victims []*eviction) {
	def := object.Of[*corev1.Pod](s.cfg.Client.Scheme())
	writes := make([]client.Write, len(victims))
	for i, v := range victims {
		writes[i] = client.Write{Op: client.OpDelete, Definition: def, Object: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: v.victim.Namespace, Name: v.victim.Name, UID: v.victim.UID},
		}}
	}
	for i, r := range s.cfg.Client.Batch(ctx, writes) {
		v := victims[i]
		if r.Err != nil {
			s.post(func() { s.spare(v, r.Err) })
			continue
		}
		v.events.Eventf(v.victim, corev1.EventTypeNormal, "Preempted", "Preempted by %s %v on node %v", v.by, v.for_, v.node)
	}
}

// spare takes note that a victim could not be told to go: mostly because it has
// changed meanwhile. Whoever needs its room asks again.
func (s *Scheduler) spare(v *eviction, err error) {
	if p := s.state.Pod(v.victim.UID); p != nil {
		p.Preempted = false
	}
	if !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		s.cfg.Log.Warn("cannot preempt pod", "pod", v.victim.Namespace+"/"+v.victim.Name, "err", err)
	}
	if x := s.queue.pods[v.for_]; x != nil && x.place == unschedulable {
		s.queue.wakeOne(x, s.cfg.Now(), podUpdate)
	}
	s.changes |= plugins.PodGone
}
