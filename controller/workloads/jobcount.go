package workloads

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/controller/podstate"
)

// count sorts pods and moves finished ones through status.uncounted into the
// counts: first their uid is written there, then the finalizer is taken off, and
// only then the count goes up, so that a crash in between neither loses nor
// doubles any.
func (j *jobState) count(pods []*corev1.Pod) {
	if j.s.UncountedTerminatedPods == nil {
		j.s.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	u := j.s.UncountedTerminatedPods
	limit := int(deref32(j.job.Spec.Completions, 0))
	if j.indexed {
		j.completed = parseIndexes(j.s.CompletedIndexes, limit)
		if j.s.FailedIndexes != nil {
			j.lost = parseIndexes(*j.s.FailedIndexes, limit)
		} else {
			j.lost = indexes{}
		}
	}
	open := map[types.UID]*corev1.Pod{}
	for _, p := range pods {
		if tracked(p) {
			open[p.UID] = p
		}
	}
	settle := func(uids []types.UID, counter *int32) (left []types.UID) {
		for _, uid := range uids {
			if open[uid] != nil {
				left = append(left, uid)
			} else if counter != nil {
				*counter++
			}
		}
		return left
	}
	// Successes of indexed Jobs are counted by index.
	if j.indexed {
		u.Succeeded = settle(u.Succeeded, nil)
	} else {
		u.Succeeded = settle(u.Succeeded, &j.s.Succeeded)
	}
	u.Failed = settle(u.Failed, &j.s.Failed)
	pending := len(u.Succeeded) + len(u.Failed)

	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	activeIndex := map[int]bool{}
	for _, p := range pods {
		if podstate.Active(p) {
			j.active = append(j.active, p)
			activeIndex[indexOf(p)] = true
		} else if podstate.Terminating(p) {
			j.terminating++
		}
	}
	kept := j.keepLastFailures(pods, activeIndex)
	newFailed, newSucceeded := int32(0), int32(0)
	for _, p := range pods {
		isFailed := hasFailed(j.job, p)
		if action, _ := judgeFailure(j.job.Spec.PodFailurePolicy, p); p.Status.Phase == corev1.PodFailed && action != batchv1.PodFailurePolicyActionIgnore {
			if at := finishedAt(p); at.After(j.lastFailure) {
				j.lastFailure = at
			}
			j.recent++
		}
		if !tracked(p) || slices.Contains(u.Succeeded, p.UID) || slices.Contains(u.Failed, p.UID) {
			if tracked(p) {
				j.plan.release = append(j.plan.release, p)
			}
			continue
		}
		if pending >= maxUncounted {
			continue
		}
		i := indexOf(p)
		switch {
		case p.Status.Phase == corev1.PodSucceeded:
			j.plan.release = append(j.plan.release, p)
			if j.indexed {
				if i < 0 || i >= limit || j.completed.has(i) {
					continue
				}
				j.completed.add(i)
			}
			u.Succeeded = append(u.Succeeded, p.UID)
			newSucceeded++
			pending++
		case isFailed:
			action, why := judgeFailure(j.job.Spec.PodFailurePolicy, p)
			if action == batchv1.PodFailurePolicyActionFailJob && j.failJob == "" {
				j.failJob = why
			}
			if kept[p] {
				continue
			}
			j.plan.release = append(j.plan.release, p)
			if action == batchv1.PodFailurePolicyActionIgnore {
				continue
			}
			u.Failed = append(u.Failed, p.UID)
			newFailed++
			pending++
		}
	}
	j.succeeded = j.s.Succeeded + int32(len(u.Succeeded))
	if j.indexed {
		j.succeeded = int32(len(j.completed))
		j.s.Succeeded = j.succeeded
		j.s.CompletedIndexes = j.completed.String()
		if j.job.Spec.BackoffLimitPerIndex != nil {
			lost := j.lost.String()
			j.s.FailedIndexes = &lost
		}
	}
	if newSucceeded > 0 {
		j.recent = 0
	}
	j.failed = j.s.Failed + int32(len(u.Failed))
}

// keepLastFailures finds, for Jobs with a limit of failures for each index,
// which indexes are lost, and which failed pods must stay until their index has
// a new one, as they carry the number of failures so far.
func (j *jobState) keepLastFailures(pods []*corev1.Pod, active map[int]bool) map[*corev1.Pod]bool {
	kept := map[*corev1.Pod]bool{}
	if !j.indexed || j.job.Spec.BackoffLimitPerIndex == nil {
		return kept
	}
	limit := int(*j.job.Spec.BackoffLimitPerIndex)
	last := map[int]*corev1.Pod{}
	for _, p := range pods {
		i := indexOf(p)
		if i < 0 || !tracked(p) || !hasFailed(j.job, p) {
			continue
		}
		action, _ := judgeFailure(j.job.Spec.PodFailurePolicy, p)
		if action == batchv1.PodFailurePolicyActionFailIndex || (action == batchv1.PodFailurePolicyActionCount && failuresOf(p)+1 > limit) {
			j.lost.add(i)
		}
		if last[i] == nil || failuresOf(p)+ignoredOf(p) > failuresOf(last[i])+ignoredOf(last[i]) {
			last[i] = p
		}
	}
	for i, p := range last {
		if !j.lost.has(i) && !active[i] && !j.completed.has(i) {
			kept[p] = true
			j.replaces[i] = p
		}
	}
	return kept
}

func failuresOf(p *corev1.Pod) int {
	n, _ := strconv.Atoi(p.Annotations[indexFailures])
	return n
}

func ignoredOf(p *corev1.Pod) int {
	n, _ := strconv.Atoi(p.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation])
	return n
}

// indexOf is a pod's completion index; -1 when it has none.
func indexOf(p *corev1.Pod) int {
	i, err := strconv.Atoi(p.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || i < 0 {
		return -1
	}
	return i
}

// finishedAt is when the last container of a pod ended.
func finishedAt(p *corev1.Pod) (at time.Time) {
	for i := range p.Status.ContainerStatuses {
		if t := p.Status.ContainerStatuses[i].State.Terminated; t != nil && t.FinishedAt.After(at) {
			at = t.FinishedAt.Time
		}
	}
	if at.IsZero() {
		if c := podstate.Condition(p, corev1.PodReady); c != nil {
			at = c.LastTransitionTime.Time
		}
	}
	if at.IsZero() {
		at = p.CreationTimestamp.Time
	}
	return at
}
