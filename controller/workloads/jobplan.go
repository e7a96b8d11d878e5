package workloads

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/controller/podstate"
)

const (
	// Delays before pods that failed are replaced, doubling with each failure.
	firstJobDelay = 10 * time.Second
	lastJobDelay  = 10 * time.Minute
	// maxUncounted pods are on their way into the counts at a time.
	maxUncounted = 500

	indexFailures = batchv1.JobIndexFailureCountAnnotation
)

// jobPlan is what one handling of a Job writes: first the pods, then the status,
// and then, once that is safe, the finalizers of the pods that it counts.
type jobPlan struct {
	create   []jobPod
	delete   []*corev1.Pod
	status   batchv1.JobStatus
	release  []*corev1.Pod // free of the finalizer once status is written
	events   []jobEvent
	after    time.Duration
	finished bool
}

// jobPod is a pod to make. index is -1 for Jobs without. failures is how often
// its index has failed before, ignored how often in a way that does not count.
type jobPod struct {
	index             int
	failures, ignored int
}

type jobEvent struct{ kind, reason, message string }

// jobState is the working state of planJob.
type jobState struct {
	job  *batchv1.Job
	now  time.Time
	plan *jobPlan
	s    *batchv1.JobStatus

	active      []*corev1.Pod
	terminating int32
	succeeded   int32 // counted or about to be
	failed      int32
	lastFailure time.Time
	recent      int32 // failures since the last success, as far as pods show
	indexed     bool
	completed   indexes
	lost        indexes
	replaces    map[int]*corev1.Pod // failed pods kept until their index has a new one
	failJob     string              // why the failure policy ends the Job
}

// planJob decides from a Job and its pods, those that are finished included.
func planJob(job *batchv1.Job, pods []*corev1.Pod, now time.Time) jobPlan {
	plan := jobPlan{status: *job.Status.DeepCopy()}
	j := &jobState{job: job, now: now, plan: &plan, s: &plan.status, replaces: map[int]*corev1.Pod{}}
	j.indexed = job.Spec.CompletionMode != nil && *job.Spec.CompletionMode == batchv1.IndexedCompletion
	if jobDone(&job.Status) {
		plan.finished = true
		for _, p := range pods {
			if tracked(p) {
				plan.release = append(plan.release, p)
			}
		}
		return plan
	}
	if j.s.StartTime == nil && !suspended(job) {
		at := metav1.NewTime(now)
		j.s.StartTime = &at
	}
	j.count(pods)
	verdict := j.verdict()
	j.suspend()
	switch {
	case verdict != nil || j.condition(batchv1.JobFailureTarget) || j.condition(batchv1.JobSuccessCriteriaMet):
		j.wind(verdict)
	case suspended(job):
		plan.delete = append(plan.delete, j.active...)
	default:
		j.manage()
	}
	j.report()
	return plan
}

func suspended(job *batchv1.Job) bool { return job.Spec.Suspend != nil && *job.Spec.Suspend }

func jobDone(s *batchv1.JobStatus) bool {
	return slices.ContainsFunc(s.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
}

// tracked says whether a pod still waits to be counted.
func tracked(p *corev1.Pod) bool { return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) }

func onlyFailed(job *batchv1.Job) bool {
	return job.Spec.PodReplacementPolicy != nil && *job.Spec.PodReplacementPolicy == batchv1.Failed
}

// hasFailed says whether a pod counts as failed: it has, or it is being deleted
// and the Job does not wait for its end.
func hasFailed(job *batchv1.Job, p *corev1.Pod) bool {
	if p.Status.Phase == corev1.PodFailed {
		return true
	}
	return !onlyFailed(job) && p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodSucceeded
}

// verdict is the condition under which the Job ends; nil while it goes on.
func (j *jobState) verdict() *batchv1.JobCondition {
	fail := func(reason, message string) *batchv1.JobCondition {
		return &batchv1.JobCondition{Type: batchv1.JobFailureTarget, Reason: reason, Message: message}
	}
	spec := &j.job.Spec
	switch {
	case j.condition(batchv1.JobFailureTarget) || j.condition(batchv1.JobSuccessCriteriaMet):
		return nil
	case j.failJob != "":
		return fail(batchv1.JobReasonPodFailurePolicy, j.failJob)
	case j.failed > deref32(spec.BackoffLimit, 6) || j.restartedTooOften():
		return fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	}
	if d := spec.ActiveDeadlineSeconds; d != nil && j.s.StartTime != nil && !suspended(j.job) {
		left := j.s.StartTime.Add(time.Duration(*d) * time.Second).Sub(j.now)
		if left <= 0 {
			return fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
		}
		j.plan.soon(left)
	}
	if j.indexed && spec.BackoffLimitPerIndex != nil {
		if m := spec.MaxFailedIndexes; m != nil && len(j.lost) > int(*m) {
			return fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
		}
		if len(j.lost) > 0 && len(j.lost)+len(j.completed) >= int(deref32(spec.Completions, 0)) {
			return fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
		}
	}
	if i, ok := j.successPolicy(); ok {
		return &batchv1.JobCondition{Type: batchv1.JobSuccessCriteriaMet, Reason: batchv1.JobReasonSuccessPolicy, Message: fmt.Sprintf("Matched rules at index %d", i)}
	}
	enough := false
	if spec.Completions == nil {
		enough = j.succeeded > 0 && len(j.active) == 0
	} else {
		enough = j.succeeded >= *spec.Completions && (*spec.Completions > 0 || len(j.active) == 0)
	}
	if enough {
		return &batchv1.JobCondition{Type: batchv1.JobSuccessCriteriaMet, Reason: batchv1.JobReasonCompletionsReached, Message: "Reached expected number of succeeded pods"}
	}
	return nil
}

// restartedTooOften counts restarts in place against the limit.
func (j *jobState) restartedTooOften() bool {
	if j.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	n := int32(0)
	for _, p := range j.active {
		for _, all := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
			for i := range all {
				n += all[i].RestartCount
			}
		}
	}
	limit := deref32(j.job.Spec.BackoffLimit, 6)
	if limit == 0 {
		return n > 0
	}
	return n >= limit
}

func (j *jobState) successPolicy() (rule int, ok bool) {
	if !j.indexed || j.job.Spec.SuccessPolicy == nil {
		return 0, false
	}
	for i, r := range j.job.Spec.SuccessPolicy.Rules {
		of := j.completed
		if r.SucceededIndexes != nil {
			wanted := parseIndexes(*r.SucceededIndexes, int(deref32(j.job.Spec.Completions, 0)))
			of = indexes{}
			for k := range wanted {
				if j.completed.has(k) {
					of.add(k)
				}
			}
			if r.SucceededCount == nil && len(of) < len(wanted) {
				continue
			}
		}
		if r.SucceededCount != nil && len(of) < int(*r.SucceededCount) {
			continue
		}
		return i, true
	}
	return 0, false
}

// wind ends the Job: active pods are deleted, and once all are gone and counted
// the last condition is set.
func (j *jobState) wind(verdict *batchv1.JobCondition) {
	if verdict != nil {
		j.set(verdict.Type, corev1.ConditionTrue, verdict.Reason, verdict.Message)
	}
	j.plan.delete = append(j.plan.delete, j.active...)
	j.terminating += int32(len(j.active))
	j.active = nil
	u := j.s.UncountedTerminatedPods
	if j.terminating > 0 || len(u.Succeeded)+len(u.Failed) > 0 {
		return
	}
	for _, c := range j.s.Conditions {
		switch {
		case c.Type == batchv1.JobFailureTarget && c.Status == corev1.ConditionTrue:
			j.set(batchv1.JobFailed, corev1.ConditionTrue, c.Reason, c.Message)
			j.plan.events = append(j.plan.events, jobEvent{corev1.EventTypeWarning, c.Reason, c.Message})
		case c.Type == batchv1.JobSuccessCriteriaMet && c.Status == corev1.ConditionTrue:
			j.set(batchv1.JobComplete, corev1.ConditionTrue, c.Reason, c.Message)
			at := metav1.NewTime(j.now)
			j.s.CompletionTime = &at
			j.plan.events = append(j.plan.events, jobEvent{corev1.EventTypeNormal, "Completed", "Job completed"})
		default:
			continue
		}
		j.plan.finished = true
		return
	}
}

func (j *jobState) condition(t batchv1.JobConditionType) bool {
	return slices.ContainsFunc(j.s.Conditions, func(c batchv1.JobCondition) bool { return c.Type == t && c.Status == corev1.ConditionTrue })
}

// set sets a condition and says whether its status changed.
func (j *jobState) set(t batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) bool {
	now := metav1.NewTime(j.now)
	for i := range j.s.Conditions {
		c := &j.s.Conditions[i]
		if c.Type != t {
			continue
		}
		if c.Status == status && c.Reason == reason && c.Message == message {
			return false
		}
		changed := c.Status != status
		if changed {
			c.LastTransitionTime = now
		}
		c.Status, c.Reason, c.Message, c.LastProbeTime = status, reason, message, now
		return changed
	}
	j.s.Conditions = append(j.s.Conditions, batchv1.JobCondition{Type: t, Status: status, Reason: reason, Message: message, LastProbeTime: now, LastTransitionTime: now})
	return true
}

// suspend keeps the Suspended condition and the start time in step with
// spec.suspend.
func (j *jobState) suspend() {
	switch {
	case suspended(j.job):
		if j.set(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended") {
			j.plan.events = append(j.plan.events, jobEvent{corev1.EventTypeNormal, "Suspended", "Job suspended"})
		}
		j.s.StartTime = nil
	case j.condition(batchv1.JobSuspended):
		if j.set(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed") {
			j.plan.events = append(j.plan.events, jobEvent{corev1.EventTypeNormal, "Resumed", "Job resumed"})
			at := metav1.NewTime(j.now)
			j.s.StartTime = &at
		}
	}
}

// manage makes or deletes pods until as many work as the Job wants.
func (j *jobState) manage() {
	want := deref32(j.job.Spec.Parallelism, 1)
	if c := j.job.Spec.Completions; c != nil {
		want = min(want, max(0, *c-j.succeeded-int32(len(j.lost))))
	} else if j.succeeded > 0 {
		want = min(want, int32(len(j.active)))
	}
	j.dropDoubles()
	have := int32(len(j.active))
	if surplus := have - want; surplus > 0 {
		removable := slices.Clone(j.active)
		rankForDeletion(removable, removable, j.now)
		j.plan.delete = append(j.plan.delete, removable[:surplus]...)
		j.active = removable[surplus:]
		j.terminating += surplus
		return
	}
	missing := want - have
	if onlyFailed(j.job) {
		missing -= j.terminating
	}
	if missing <= 0 {
		return
	}
	if j.recent > 0 && j.job.Spec.BackoffLimitPerIndex == nil {
		delay := min(firstJobDelay<<min(j.recent-1, 10), lastJobDelay)
		if left := j.lastFailure.Add(delay).Sub(j.now); left > 0 && !j.lastFailure.IsZero() {
			j.plan.soon(left)
			return
		}
	}
	missing = min(missing, burst)
	if !j.indexed {
		for range missing {
			j.plan.create = append(j.plan.create, jobPod{index: -1})
		}
		return
	}
	working := map[int]bool{}
	for _, p := range j.active {
		working[indexOf(p)] = true
	}
	for i := 0; i < int(deref32(j.job.Spec.Completions, 0)) && missing > 0; i++ {
		if working[i] || j.completed.has(i) || j.lost.has(i) {
			continue
		}
		made := jobPod{index: i}
		if p := j.replaces[i]; p != nil {
			before := failuresOf(p) + ignoredOf(p)
			if left := finishedAt(p).Add(min(firstJobDelay<<min(before, 10), lastJobDelay)).Sub(j.now); left > 0 {
				j.plan.soon(left)
				continue
			}
			made.failures, made.ignored = failuresOf(p), ignoredOf(p)
			if action, _ := judgeFailure(j.job.Spec.PodFailurePolicy, p); action == batchv1.PodFailurePolicyActionIgnore {
				made.ignored++
			} else {
				made.failures++
			}
		}
		j.plan.create = append(j.plan.create, made)
		missing--
	}
}

// dropDoubles deletes active pods whose index is done, lost, out of range, or
// has another pod.
func (j *jobState) dropDoubles() {
	if !j.indexed {
		return
	}
	taken := map[int]bool{}
	limit := int(deref32(j.job.Spec.Completions, 0))
	j.active = slices.DeleteFunc(j.active, func(p *corev1.Pod) bool {
		i := indexOf(p)
		if i < 0 || i >= limit || taken[i] || j.completed.has(i) || j.lost.has(i) {
			j.plan.delete = append(j.plan.delete, p)
			j.terminating++
			return true
		}
		taken[i] = true
		return false
	})
}

// report fills in the numbers of active pods.
func (j *jobState) report() {
	if suspended(j.job) {
		j.active = nil
	}
	j.s.Active = int32(len(j.active))
	ready := int32(0)
	for _, p := range j.active {
		if podstate.Ready(p) {
			ready++
		}
	}
	j.s.Ready, j.s.Terminating = &ready, &j.terminating
}

// soon has the Job looked at again after d at the latest.
func (p *jobPlan) soon(d time.Duration) {
	if p.after == 0 || d < p.after {
		p.after = d
	}
}

func deref32(p *int32, otherwise int32) int32 {
	if p == nil {
		return otherwise
	}
	return *p
}
