package workloads

import (
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/controller/podstate"
)

// statefulPlan is what one handling of a StatefulSet writes.
type statefulPlan struct {
	create []statefulPod
	delete []*corev1.Pod
	// claims are pods that are there and whose claims may be missing.
	claims []*corev1.Pod
	// identify are pods that are there and lack the labels they are known by.
	identify []*corev1.Pod
	// condemned says of each pod that is there whether it is beyond the set's
	// size, on which the owners of its claims depend.
	condemned map[*corev1.Pod]bool
	status    appsv1.StatefulSetStatus
	after     time.Duration
}

// statefulPod is a pod to make.
type statefulPod struct {
	ordinal int
	current bool // of the revision before the update
}

// planStateful decides from a StatefulSet and its pods. current and update name
// the revisions of the template before and after an update; they are the same
// when there is none. status is where counting starts from: revisions and
// collision count are set in it.
func planStateful(set *appsv1.StatefulSet, pods []*corev1.Pod, status appsv1.StatefulSetStatus, now time.Time) statefulPlan {
	plan := statefulPlan{status: status, condemned: map[*corev1.Pod]bool{}}
	s := &plan.status
	s.ObservedGeneration = set.Generation
	s.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.CurrentReplicas, s.UpdatedReplicas = 0, 0, 0, 0, 0
	start, size := firstOrdinal(set), int(orOne(set.Spec.Replicas))
	replicas := make([]*corev1.Pod, size)
	var condemned []*corev1.Pod
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return ordinalOf(set, a) - ordinalOf(set, b) })
	currentBefore := set.Status.CurrentReplicas
	for _, p := range pods {
		s.Replicas++
		if p.Status.Phase == corev1.PodRunning && podstate.Ready(p) {
			s.ReadyReplicas++
			wait, _ := podstate.AvailableIn(p, set.Spec.MinReadySeconds, now)
			if wait == 0 {
				s.AvailableReplicas++
			} else if plan.after == 0 || wait < plan.after {
				plan.after = wait
			}
		}
		if p.DeletionTimestamp == nil {
			if p.Labels[revisionHashLabel] == s.CurrentRevision {
				s.CurrentReplicas++
			}
			if p.Labels[revisionHashLabel] == s.UpdateRevision {
				s.UpdatedReplicas++
			}
		}
		if i := ordinalOf(set, p) - start; i >= 0 && i < size {
			replicas[i] = p
		} else {
			condemned = append(condemned, p)
			plan.condemned[p] = true
		}
	}
	if set.DeletionTimestamp != nil {
		return plan
	}
	plan.advance(set, replicas, condemned, int(currentBefore), now)
	plan.completeUpdate(set)
	return plan
}

// advance takes as many steps as the set's policy allows: missing pods from the
// first up, then condemned ones from the last down, then the update from the
// last down. An ordered set takes one at a time, and none past an unhealthy pod.
func (plan *statefulPlan) advance(set *appsv1.StatefulSet, replicas, condemned []*corev1.Pod, currentBefore int, now time.Time) {
	ordered := set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
	start := firstOrdinal(set)
	for i, p := range replicas {
		switch {
		case p == nil:
			current := wantsCurrent(set, i, currentBefore)
			plan.create = append(plan.create, statefulPod{start + i, current})
			plan.count(current, 1)
		case podstate.Finished(p):
			if p.DeletionTimestamp == nil {
				plan.delete = append(plan.delete, p)
			}
		default:
			if p.Status.Phase == corev1.PodPending || p.Status.Phase == "" {
				plan.claims = append(plan.claims, p)
			}
			going, well := p.DeletionTimestamp != nil, healthy(set, p, now)
			if !going && (well || !ordered) && p.Labels[appsv1.StatefulSetPodNameLabel] != p.Name {
				plan.identify = append(plan.identify, p)
			}
			if !going && well {
				continue
			}
			if ordered && plan.stuck(set, i, p) {
				plan.remove(p)
			}
		}
		if ordered {
			return
		}
	}
	var sick *corev1.Pod // the first unhealthy one may always go
	for _, p := range slices.Concat(replicas, condemned) {
		if p != nil && sick == nil && (p.DeletionTimestamp != nil || !healthy(set, p, now)) {
			sick = p
		}
	}
	for _, p := range slices.Backward(condemned) {
		if p.DeletionTimestamp != nil {
			if ordered {
				return
			}
			continue
		}
		if ordered && !healthy(set, p, now) && p != sick {
			return
		}
		plan.remove(p)
		if ordered {
			return
		}
	}
	if set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return
	}
	plan.roll(set, replicas, now)
}

// count adds n pods that are not there yet to the status.
func (plan *statefulPlan) count(current bool, n int32) {
	s := &plan.status
	s.Replicas += n
	if current {
		s.CurrentReplicas += n
	}
	if !current || s.CurrentRevision == s.UpdateRevision {
		s.UpdatedReplicas += n
	}
}

// uncount takes a pod to make out of the status.
func (plan *statefulPlan) uncount(p statefulPod) { plan.count(p.current, -1) }

// stuck says whether an unhealthy pod holds an ordered set up for nothing: an
// update is to replace it, and nobody waits for it. Either its revision is that
// of an update which was given up, or it has never run. Upstream leaves such pods
// to be deleted by hand.
func (plan *statefulPlan) stuck(set *appsv1.StatefulSet, i int, p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil || set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return false
	}
	if r := set.Spec.UpdateStrategy.RollingUpdate; r != nil && i < int(deref32(r.Partition, 0)) {
		return false
	}
	revision := p.Labels[revisionHashLabel]
	if revision == plan.status.UpdateRevision {
		return false
	}
	return revision != plan.status.CurrentRevision || p.Status.Phase == corev1.PodPending
}

func (plan *statefulPlan) remove(p *corev1.Pod) {
	plan.delete = append(plan.delete, p)
	switch p.Labels[revisionHashLabel] {
	case plan.status.UpdateRevision:
		plan.status.UpdatedReplicas--
		if plan.status.CurrentRevision == plan.status.UpdateRevision {
			plan.status.CurrentReplicas--
		}
	case plan.status.CurrentRevision:
		plan.status.CurrentReplicas--
	}
}

// roll deletes pods of the old revision down to the partition: first those that
// are not available, which are missing already, then others from the last down as
// far as maxUnavailable allows. An ordered set has none of the former here.
func (plan *statefulPlan) roll(set *appsv1.StatefulSet, replicas []*corev1.Pod, now time.Time) {
	least, room := 0, mostUnavailable(set)
	if r := set.Spec.UpdateStrategy.RollingUpdate; r != nil {
		least = int(deref32(r.Partition, 0))
	}
	var others []*corev1.Pod
	for i, p := range slices.Backward(replicas) {
		available := p != nil && p.DeletionTimestamp == nil && healthy(set, p, now)
		if !available {
			room--
		}
		switch {
		case i < least, p == nil, p.DeletionTimestamp != nil, p.Labels[revisionHashLabel] == plan.status.UpdateRevision:
		case available:
			others = append(others, p)
		case !slices.Contains(plan.delete, p):
			plan.remove(p)
		}
	}
	for _, p := range others[:min(len(others), max(0, room))] {
		plan.remove(p)
	}
}

// mostUnavailable is how many pods of a set may be missing during an update. A
// share of them is rounded down, but not to none.
func mostUnavailable(set *appsv1.StatefulSet) int {
	if r := set.Spec.UpdateStrategy.RollingUpdate; r != nil {
		return max(1, int(share(r.MaxUnavailable, orOne(set.Spec.Replicas), false)))
	}
	return 1
}

// completeUpdate makes the new revision the current one once all pods have it,
// whoever replaced them.
func (plan *statefulPlan) completeUpdate(set *appsv1.StatefulSet) {
	s, want := &plan.status, orOne(set.Spec.Replicas)
	if s.UpdatedReplicas == want && s.ReadyReplicas == want && s.Replicas == want {
		s.CurrentReplicas, s.CurrentRevision = s.UpdatedReplicas, s.UpdateRevision
	}
}

// wantsCurrent says whether a missing pod is to be of the revision before the
// update: below the partition, or, without one, where the update has not come.
func wantsCurrent(set *appsv1.StatefulSet, i, currentReplicas int) bool {
	if set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return false
	}
	if r := set.Spec.UpdateStrategy.RollingUpdate; r != nil && r.Partition != nil {
		return i < int(*r.Partition)
	}
	return i < currentReplicas
}

func healthy(set *appsv1.StatefulSet, p *corev1.Pod, now time.Time) bool {
	return p.Status.Phase == corev1.PodRunning && podstate.Available(p, set.Spec.MinReadySeconds, now)
}

func firstOrdinal(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

// ordinalOf is the number at the end of a pod's name; -1 when it is no member.
func ordinalOf(set *appsv1.StatefulSet, p *corev1.Pod) int {
	tail, ok := strings.CutPrefix(p.Name, set.Name+"-")
	if !ok {
		return -1
	}
	n, err := strconv.Atoi(tail)
	if err != nil || n < 0 || strconv.Itoa(n) != tail {
		return -1
	}
	return n
}

// member says whether a pod may belong to a set: by its name and its labels.
func member(set *appsv1.StatefulSet, selector labels.Selector, p *corev1.Pod) bool {
	return ordinalOf(set, p) >= 0 && selector.Matches(labels.Set(p.Labels))
}
