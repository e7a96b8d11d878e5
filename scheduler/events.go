package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/scheduler/plugins"
)

func (s *Scheduler) nodeChanged(old, new *corev1.Node) {
	switch {
	case new == nil:
		s.state.RemoveNode(old.Name)
		s.changes |= plugins.NodeChanged // fewer domains may mean less to spread over
	case old == nil || nodeMatters(old, new):
		s.state.SetNode(new)
		s.changes |= plugins.NodeChanged
		if old == nil || declaresOther(old, new) {
			s.changes |= plugins.FeaturesDeclared
		}
	case declaresOther(old, new):
		s.state.SetNode(new)
		s.changes |= plugins.FeaturesDeclared
	case !slices.EqualFunc(old.Status.Images, new.Status.Images, equalImages):
		s.state.SetNode(new)
	default:
		s.state.RefreshNode(new)
	}
}

// nodeMatters tells whether a change of a node may let a pod fit: heartbeats do not.
func nodeMatters(old, new *corev1.Node) bool {
	return old.Spec.Unschedulable != new.Spec.Unschedulable ||
		!slices.EqualFunc(old.Spec.Taints, new.Spec.Taints, func(a, b corev1.Taint) bool { return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect }) ||
		!labels.Equals(old.Labels, new.Labels) ||
		!maps.EqualFunc(old.Status.Allocatable, new.Status.Allocatable, equalQuantities) ||
		!maps.Equal(old.Annotations, new.Annotations)
}

func declaresOther(old, new *corev1.Node) bool {
	return !slices.Equal(old.Status.DeclaredFeatures, new.Status.DeclaredFeatures)
}

func equalImages(a, b corev1.ContainerImage) bool {
	return a.SizeBytes == b.SizeBytes && slices.Equal(a.Names, b.Names)
}

func (s *Scheduler) podChanged(old, new *corev1.Pod) {
	now := s.cfg.Now()
	grouped := s.groups != nil && (new != nil && groupOf(new) != "" || old != nil && groupOf(old) != "")
	if grouped {
		defer s.memberChanged(old, new)
	}
	if new != nil && len(new.Spec.SchedulingGates) > 0 && new.DeletionTimestamp == nil && s.profiles[new.Spec.SchedulerName] != nil {
		s.gated[new.UID] = struct{}{}
	} else if new != nil {
		delete(s.gated, new.UID)
	} else {
		delete(s.gated, old.UID)
	}
	switch {
	case new == nil:
		s.forget(old)
	case new.Status.Phase == corev1.PodSucceeded || new.Status.Phase == corev1.PodFailed:
		s.forget(new)
	case new.Spec.NodeName != "":
		s.queue.remove(new.UID)
		s.state.Denominate(new.UID)
		known := s.state.Pod(new.UID)
		s.state.Place(new, new.Spec.NodeName, false)
		if s.pods != nil {
			if kept := s.pods.Kept(new); kept != nil {
				s.state.Pod(new.UID).Keep(kept, s.recall)
			}
		}
		if known == nil || known.Node != new.Spec.NodeName || old != nil && !labels.Equals(old.Labels, new.Labels) {
			s.changes |= plugins.PodPlaced
		}
		if known != nil && known != s.state.Pod(new.UID) {
			s.eased(new.Spec.NodeName) // it may take less now, or spreading count it no longer
		}
	case s.ours(new):
		if p := s.state.Pod(new.UID); p != nil && p.Assumed {
			if !grouped {
				s.queue.refresh(new, now) // placed, its binding under way
			}
			break
		}
		s.renominate(old, new)
		if grouped {
			break // its group stands for it in the queue
		}
		if x := s.queue.put(new, now); s.queue.waits(x) {
			s.condition(x) // lost to another write, perhaps
		}
	default:
		s.state.Denominate(new.UID)
		s.queue.remove(new.UID)
	}
}

// forget drops a pod that is gone or done.
func (s *Scheduler) forget(p *corev1.Pod) {
	s.queue.remove(p.UID)
	if s.state.NominatedTo(p.UID) != "" {
		s.state.Denominate(p.UID)
		s.changes |= plugins.PodGone
	}
	s.release(p)
}

// release takes a pod off its node.
func (s *Scheduler) release(p *corev1.Pod) {
	placed := s.state.Pod(p.UID)
	if placed == nil {
		return
	}
	s.eased(placed.Node)
	s.state.Remove(p.UID)
}

// eased notes that there may be more room on a node.
func (s *Scheduler) eased(node string) {
	if n := s.state.Node(node); n != nil && len(n.Nominated) > 0 {
		s.freed[node] = true
	}
	s.changes |= plugins.PodGone
}

// renominate follows status.nominatedNodeName, which others may set too. What
// was nominated here holds until its write shows.
func (s *Scheduler) renominate(old, new *corev1.Pod) {
	name := new.Status.NominatedNodeName
	if x := s.queue.pods[new.UID]; x != nil && x.expected != "" && x.place != inFlight {
		if name == x.expected {
			return // what a binding that has failed since was to tell
		}
		x.expected = ""
	}
	if name == "" && (old == nil || old.Status.NominatedNodeName == "") {
		if mine := s.state.NominatedTo(new.UID); mine != "" {
			s.state.Nominate(new, mine) // the newest form of the pod
		}
		return
	}
	if name == "" {
		s.changes |= plugins.PodGone
	}
	s.state.Nominate(new, name)
}

// ours tells whether a pod without a node waits for this scheduler.
func (s *Scheduler) ours(p *corev1.Pod) bool {
	return s.profiles[p.Spec.SchedulerName] != nil && p.DeletionTimestamp == nil && len(p.Spec.SchedulingGates) == 0 && !plugins.Waits(p)
}

func (s *Scheduler) budgetChanged(old, new *policyv1.PodDisruptionBudget) {
	if new == nil {
		s.budgets.remove(old)
	} else {
		s.budgets.set(new)
	}
}

func equalQuantities(a, b resource.Quantity) bool { return a.Cmp(b) == 0 }
