package workloads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

type cronJobController struct {
	crons  *reconcile.View[*batchv1.CronJob]
	jobs   *reconcile.View[*batchv1.Job]
	events client.Recorder
	m      *Metrics

	mu sync.Mutex
	// changed is when a schedule was replaced by another, whose times before that do
	// not count as missed.
	changed map[object.Key]time.Time
}

// NewCronJob returns the controller of CronJobs.
func NewCronJob(h *reconcile.Hub, events client.Recorder, m *Metrics) reconcile.Controller {
	c := &cronJobController{crons: reconcile.ViewOf[*batchv1.CronJob](h), jobs: reconcile.ViewOf[*batchv1.Job](h), events: events, m: m, changed: map[object.Key]time.Time{}}
	reconcile.IndexOwners(c.jobs)
	return c
}

func (c *cronJobController) Name() string { return "cronjob" }

func (c *cronJobController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(c.crons, func(old, new *batchv1.CronJob, _ func(object.Key)) {
			c.mu.Lock()
			defer c.mu.Unlock()
			switch {
			case new == nil:
				delete(c.changed, object.KeyOf(old))
			case old != nil && (old.Spec.Schedule != new.Spec.Schedule || !ptr.Equal(old.Spec.TimeZone, new.Spec.TimeZone)):
				c.changed[object.KeyOf(new)] = time.Now()
			}
		}),
		reconcile.Self(c.crons),
		reconcile.Owner(c.jobs, c.crons.Definition().GVK().GroupKind()),
	}
}

func (c *cronJobController) Outputs() []reconcile.Output {
	return []reconcile.Output{
		{Kind: c.crons.Definition().GVK().GroupKind(), Field: "status"},
		{Kind: c.jobs.Definition().GVK().GroupKind(), Field: "of CronJob"},
	}
}

func (c *cronJobController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	cj, ok := c.crons.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	now := time.Now()
	jobs := reconcile.OwnedBy(c.jobs, cj.UID)
	next := cj.DeepCopy()
	if err := c.settleActive(ctx, w, next, cj, jobs); err != nil {
		return reconcile.Result{}, err
	}
	trimErr := c.trim(ctx, w, cj, jobs)
	var after time.Duration
	var runErr error
	if cj.DeletionTimestamp == nil {
		after, runErr = c.run(ctx, w, next, cj, now)
	}
	if !equality.Semantic.DeepEqual(cj.Status, next.Status) {
		if _, err := client.UpdateStatus(ctx, w, next); err != nil && !apierrors.IsNotFound(err) {
			return reconcile.Result{}, errors.Join(trimErr, runErr, fmt.Errorf("cannot update status: %w", err))
		}
	}
	return reconcile.Result{After: after}, errors.Join(trimErr, runErr)
}

// settleActive brings status.active in line with the jobs that there are. A job
// that somebody else made for the CronJob is none of them.
func (c *cronJobController) settleActive(ctx context.Context, w client.Client, next, cj *batchv1.CronJob, jobs []*batchv1.Job) error {
	byUID := map[types.UID]*batchv1.Job{}
	for _, j := range jobs {
		byUID[j.UID] = j
		finished := jobDone(&j.Status)
		listed := slices.ContainsFunc(cj.Status.Active, func(r corev1.ObjectReference) bool { return r.UID == j.UID })
		switch {
		case !listed && !finished:
			c.events.Eventf(cj, corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", j.Name)
			if j.Annotations[batchv1.CronJobScheduledTimestampAnnotation] != "" { // made here, but not noted
				next.Status.Active = append(next.Status.Active, c.reference(j))
			}
		case listed && finished:
			c.events.Eventf(cj, corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %v", j.Name, jobEnd(j))
		}
		if finished && jobEnd(j) == batchv1.JobComplete && j.Status.CompletionTime != nil &&
			(next.Status.LastSuccessfulTime == nil || next.Status.LastSuccessfulTime.Before(j.Status.CompletionTime)) {
			next.Status.LastSuccessfulTime = j.Status.CompletionTime.DeepCopy()
		}
	}
	var active []corev1.ObjectReference
	for _, r := range next.Status.Active {
		j := byUID[r.UID]
		if j == nil {
			// The view of jobs may be behind that of CronJobs.
			live, err := client.Get[*batchv1.Job](ctx, w, cj.Namespace, r.Name)
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("cannot read job %s: %w", r.Name, err)
			}
			if err != nil || live.UID != r.UID {
				c.events.Eventf(cj, corev1.EventTypeNormal, "MissingJob", "Active job went missing: %v", r.Name)
				continue
			}
		} else if jobDone(&j.Status) {
			continue
		}
		active = append(active, r)
	}
	next.Status.Active = active
	return nil
}

func jobEnd(j *batchv1.Job) batchv1.JobConditionType {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.Type
		}
	}
	return ""
}

func (c *cronJobController) reference(j *batchv1.Job) corev1.ObjectReference {
	return corev1.ObjectReference{
		APIVersion: "batch/v1", Kind: "Job", Namespace: j.Namespace, Name: j.Name, UID: j.UID, ResourceVersion: j.ResourceVersion,
	}
}

// trim deletes finished jobs beyond the history limits, those first that began
// first.
func (c *cronJobController) trim(ctx context.Context, w client.Client, cj *batchv1.CronJob, jobs []*batchv1.Job) error {
	for end, limit := range map[batchv1.JobConditionType]*int32{batchv1.JobComplete: cj.Spec.SuccessfulJobsHistoryLimit, batchv1.JobFailed: cj.Spec.FailedJobsHistoryLimit} {
		if limit == nil {
			continue
		}
		var done []*batchv1.Job
		for _, j := range jobs {
			if jobEnd(j) == end && j.DeletionTimestamp == nil {
				done = append(done, j)
			}
		}
		slices.SortFunc(done, func(a, b *batchv1.Job) int {
			return cmp.Or(compareBegin(a.Status.StartTime, b.Status.StartTime), strings.Compare(a.Name, b.Name))
		})
		for _, j := range done[:max(0, len(done)-int(*limit))] {
			if err := c.delete(ctx, w, cj, j); err != nil {
				return err
			}
		}
	}
	return nil
}

// compareBegin orders by time; what has not begun comes last.
func compareBegin(a, b *metav1.Time) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return a.Time.Compare(b.Time)
}

func (c *cronJobController) delete(ctx context.Context, w client.Client, cj *batchv1.CronJob, j *batchv1.Job) error {
	background := metav1.DeletePropagationBackground
	err := client.Delete[*batchv1.Job](ctx, w, j.Namespace, j.Name, metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: metav1.NewUIDPreconditions(string(j.UID))})
	if err != nil && !apierrors.IsNotFound(err) {
		c.events.Eventf(cj, corev1.EventTypeWarning, "FailedDelete", "Deleted job: %v", err)
		return fmt.Errorf("cannot delete job %s: %w", j.Name, err)
	}
	c.events.Eventf(cj, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", j.Name)
	return nil
}

// run starts the job that is due, if any, and says when the next will be.
func (c *cronJobController) run(ctx context.Context, w client.Client, next, cj *batchv1.CronJob, now time.Time) (time.Duration, error) {
	// What a schedule is worth is told once; nothing happens until it is changed.
	if z := cj.Spec.TimeZone; z != nil {
		if _, err := time.LoadLocation(*z); err != nil {
			c.events.Eventf(cj, corev1.EventTypeWarning, "UnknownTimeZone", "invalid timeZone: %q: %s", *z, err)
			return 0, nil
		}
	}
	if cj.Spec.Suspend != nil && *cj.Spec.Suspend {
		return 0, nil
	}
	if strings.Contains(cj.Spec.Schedule, "TZ") {
		c.events.Eventf(cj, corev1.EventTypeWarning, "UnsupportedSchedule", "CRON_TZ or TZ used in schedule %q is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details", cj.Spec.Schedule)
	}
	schedule, err := scheduleOf(cj)
	if err != nil {
		c.events.Eventf(cj, corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %q : %s", cj.Spec.Schedule, err)
		return 0, nil
	}
	c.mu.Lock()
	from := c.changed[object.KeyOf(cj)]
	c.mu.Unlock()
	due, missed, coming := times(cj, schedule, from, now)
	if coming.IsZero() {
		c.events.Eventf(cj, corev1.EventTypeWarning, "InvalidSchedule", "invalid schedule: %s : %s", cj.Spec.Schedule, "time difference between two schedules is less than 1 second")
		return 0, nil
	}
	after := max(0, coming.Sub(now)) + 100*time.Millisecond // clocks differ
	if due.IsZero() {
		return after, nil
	}
	if missed > manyMissed {
		c.events.Eventf(cj, corev1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	name := fmt.Sprintf("%s-%d", cj.Name, due.Unix()/60)
	if t := cj.Status.LastScheduleTime; (t != nil && t.Time.Equal(due)) || slices.ContainsFunc(next.Status.Active, func(r corev1.ObjectReference) bool { return r.Name == name }) {
		return after, nil
	}
	switch {
	case cj.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(next.Status.Active) > 0:
		c.events.Eventf(cj, corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
		return after, nil
	case cj.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent:
		if err := c.replace(ctx, w, next, cj); err != nil {
			return 0, err
		}
	}
	made, err := c.start(ctx, w, cj, name, due)
	if err != nil || made == nil {
		return after, err
	}
	next.Status.Active = append(next.Status.Active, c.reference(made))
	at := metav1.NewTime(due)
	next.Status.LastScheduleTime = &at
	return after, nil
}

// replace deletes the jobs that still run when the next is due.
func (c *cronJobController) replace(ctx context.Context, w client.Client, next, cj *batchv1.CronJob) error {
	for len(next.Status.Active) > 0 {
		r := next.Status.Active[0]
		j, err := client.Get[*batchv1.Job](ctx, w, cj.Namespace, r.Name)
		if err != nil && !apierrors.IsNotFound(err) {
			c.events.Eventf(cj, corev1.EventTypeWarning, "FailedGet", "Get job: %v", err)
			return fmt.Errorf("cannot read job %s: %w", r.Name, err)
		}
		if err == nil && j.UID == r.UID {
			if err := c.delete(ctx, w, cj, j); err != nil {
				return err
			}
		}
		next.Status.Active = next.Status.Active[1:]
	}
	next.Status.Active = nil
	return nil
}

// start makes the job of a scheduled time; nil when its namespace is going, or
// somebody else has a job of that name.
func (c *cronJobController) start(ctx context.Context, w client.Client, cj *batchv1.CronJob, name string, due time.Time) (*batchv1.Job, error) {
	t := &cj.Spec.JobTemplate
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cj.Namespace, Name: name, Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cj, c.crons.Definition().GVK())},
		},
		Spec: *t.Spec.DeepCopy(),
	}
	if j.Annotations == nil {
		j.Annotations = map[string]string{}
	}
	zone := time.UTC
	if z := cj.Spec.TimeZone; z != nil {
		if l, err := time.LoadLocation(*z); err == nil {
			zone = l
		}
	}
	j.Annotations[batchv1.CronJobScheduledTimestampAnnotation] = due.In(zone).Format(time.RFC3339)
	made, err := client.Create(ctx, w, j)
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil, nil
	case apierrors.IsAlreadyExists(err):
		there, getErr := client.Get[*batchv1.Job](ctx, w, cj.Namespace, name)
		if getErr != nil {
			return nil, getErr
		}
		if !metav1.IsControlledBy(there, cj) {
			return nil, nil
		}
		return there, nil // made before, but not noted
	case err != nil:
		c.events.Eventf(cj, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return nil, fmt.Errorf("cannot create job %s: %w", name, err)
	}
	c.m.started(made, due)
	c.events.Eventf(cj, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", made.Name)
	return made, nil
}

// scheduleOf reads a CronJob's schedule in its time zone. One that names a zone of
// its own goes by that.
func scheduleOf(cj *batchv1.CronJob) (cron.Schedule, error) {
	text := cj.Spec.Schedule
	if z := cj.Spec.TimeZone; z != nil && !strings.Contains(text, "TZ") {
		text = "TZ=" + *z + " " + text
	}
	return cron.ParseStandard(text)
}

// manyMissed is from how many missed times on a clock may be wrong.
const manyMissed = 100

// times are those that count now: due, the last scheduled time that has not been
// handled (zero when there is none: times before the starting deadline, and up to
// from, do not count); how many of those there were, of which no more than are too
// many are counted; and the time that comes next, zero for a schedule without any.
func times(cj *batchv1.CronJob, s cron.Schedule, from, now time.Time) (due time.Time, missed int, coming time.Time) {
	handled := cj.CreationTimestamp.Time
	if t := cj.Status.LastScheduleTime; t != nil {
		handled = t.Time
	}
	if from.After(handled) {
		handled = from
	}
	if handled.After(now) {
		return time.Time{}, 0, s.Next(handled)
	}
	due = lastTime(s, handled, now)
	if due.IsZero() {
		return due, 0, s.Next(handled)
	}
	coming = s.Next(due)
	earliest := handled
	if d := cj.Spec.StartingDeadlineSeconds; d != nil {
		if t := now.Add(-time.Duration(*d) * time.Second); t.After(earliest) {
			earliest = t
		}
	}
	if !due.After(earliest) {
		return time.Time{}, 0, coming
	}
	for t := s.Next(earliest); !t.After(now) && missed <= manyMissed; t = s.Next(t) {
		missed++
	}
	return due, missed, coming
}

// lastTime is the last time of a schedule after from and up to now; zero when there
// is none.
func lastTime(s cron.Schedule, from, now time.Time) (last time.Time) {
	first := s.Next(from)
	if first.IsZero() || first.After(now) {
		return last
	}
	if every, ok := s.(cron.ConstantDelaySchedule); ok {
		return first.Add(now.Sub(first).Truncate(every.Delay))
	}
	// Which times there are does not depend on where one begins: look back from now,
	// further and further, until there is one.
	back := time.Minute
	for back < now.Sub(from) && s.Next(now.Add(-back)).After(now) {
		back *= 4
	}
	for t := s.Next(now.Add(-min(back, now.Sub(from)))); !t.IsZero() && !t.After(now); t = s.Next(t) {
		last = t
	}
	return last
}
