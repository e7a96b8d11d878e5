package workloads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

type cronJobController struct {
	crons  *reconcile.View[*batchv1.CronJob]
	jobs   *reconcile.View[*batchv1.Job]
	events client.Recorder
	m      *Metrics
}

// NewCronJob returns the controller of CronJobs.
func NewCronJob(h *reconcile.Hub, events client.Recorder, m *Metrics) reconcile.Controller {
	c := &cronJobController{crons: reconcile.ViewOf[*batchv1.CronJob](h), jobs: reconcile.ViewOf[*batchv1.Job](h), events: events, m: m}
	reconcile.IndexOwners(c.jobs)
	return c
}

func (c *cronJobController) Name() string { return "cronjob" }

func (c *cronJobController) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.Self(c.crons), reconcile.Owner(c.jobs, c.crons.Definition().GVK().GroupKind())}
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
	c.settleActive(next, cj, jobs)
	deleted, trimErr := c.trim(ctx, w, cj, jobs)
	var after time.Duration
	var runErr error
	if cj.DeletionTimestamp == nil && (cj.Spec.Suspend == nil || !*cj.Spec.Suspend) {
		after, runErr = c.run(ctx, w, next, cj, slices.DeleteFunc(slices.Clone(jobs), func(j *batchv1.Job) bool { return deleted[j.UID] }), now)
	}
	if !equality.Semantic.DeepEqual(cj.Status, next.Status) {
		if _, err := client.UpdateStatus(ctx, w, next); err != nil && !apierrors.IsNotFound(err) {
			return reconcile.Result{}, errors.Join(trimErr, runErr, fmt.Errorf("cannot update status: %w", err))
		}
	}
	return reconcile.Result{After: after}, errors.Join(trimErr, runErr)
}

// settleActive brings status.active in line with the jobs that there are.
func (c *cronJobController) settleActive(next, cj *batchv1.CronJob, jobs []*batchv1.Job) {
	byUID := map[types.UID]*batchv1.Job{}
	for _, j := range jobs {
		byUID[j.UID] = j
		finished := jobDone(&j.Status)
		listed := slices.ContainsFunc(cj.Status.Active, func(r corev1.ObjectReference) bool { return r.UID == j.UID })
		switch {
		case !listed && !finished:
			c.events.Eventf(cj, corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", j.Name)
			next.Status.Active = append(next.Status.Active, c.reference(j))
		case listed && finished:
			c.events.Eventf(cj, corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %v", j.Name, jobEnd(j))
		}
		if finished && jobEnd(j) == batchv1.JobComplete && j.Status.CompletionTime != nil &&
			(next.Status.LastSuccessfulTime == nil || next.Status.LastSuccessfulTime.Before(j.Status.CompletionTime)) {
			next.Status.LastSuccessfulTime = j.Status.CompletionTime.DeepCopy()
		}
	}
	next.Status.Active = slices.DeleteFunc(next.Status.Active, func(r corev1.ObjectReference) bool {
		j := byUID[r.UID]
		if j == nil {
			c.events.Eventf(cj, corev1.EventTypeNormal, "MissingJob", "Active job went missing: %v", r.Name)
		}
		return j == nil || jobDone(&j.Status)
	})
	if len(next.Status.Active) == 0 {
		next.Status.Active = nil
	}
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

// trim deletes finished jobs beyond the history limits, oldest first.
func (c *cronJobController) trim(ctx context.Context, w client.Client, cj *batchv1.CronJob, jobs []*batchv1.Job) (map[types.UID]bool, error) {
	deleted := map[types.UID]bool{}
	var surplus []*batchv1.Job
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
			return cmp.Or(a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
		})
		surplus = append(surplus, done[:max(0, len(done)-int(*limit))]...)
	}
	for _, j := range surplus {
		if err := c.delete(ctx, w, cj, j); err != nil {
			return deleted, err
		}
		deleted[j.UID] = true
	}
	return deleted, nil
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
func (c *cronJobController) run(ctx context.Context, w client.Client, next, cj *batchv1.CronJob, jobs []*batchv1.Job, now time.Time) (time.Duration, error) {
	schedule, err := scheduleOf(cj)
	if err != nil {
		c.events.Eventf(cj, corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule %q : %v", cj.Spec.Schedule, err)
		return 0, nil // until it is changed
	}
	due, missed := lastDue(cj, schedule, now)
	if missed == manyMissed {
		c.events.Eventf(cj, corev1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	after := max(time.Millisecond, schedule.Next(now).Sub(now)+100*time.Millisecond)
	if due.IsZero() {
		return after, nil
	}
	if d := cj.Spec.StartingDeadlineSeconds; d != nil && due.Add(time.Duration(*d)*time.Second).Before(now) {
		c.events.Eventf(cj, corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", due.UTC().Format(time.RFC1123Z))
		return after, nil
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
		for _, j := range jobs {
			if jobDone(&j.Status) {
				continue
			}
			if err := c.delete(ctx, w, cj, j); err != nil {
				return 0, err
			}
			next.Status.Active = slices.DeleteFunc(next.Status.Active, func(r corev1.ObjectReference) bool { return r.UID == j.UID })
		}
	}
	made, err := c.start(ctx, w, cj, name, due)
	if err != nil {
		return 0, err
	}
	if made != nil {
		next.Status.Active = append(next.Status.Active, c.reference(made))
	}
	at := metav1.NewTime(due)
	next.Status.LastScheduleTime = &at
	return after, nil
}

// start makes the job of a scheduled time; nil when its namespace is going.
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
	stamp := due
	if z := cj.Spec.TimeZone; z != nil {
		if l, err := time.LoadLocation(*z); err == nil {
			stamp = due.In(l)
		}
	}
	j.Annotations[batchv1.CronJobScheduledTimestampAnnotation] = stamp.Format(time.RFC3339)
	made, err := client.Create(ctx, w, j)
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil, nil
	case apierrors.IsAlreadyExists(err):
		there, getErr := client.Get[*batchv1.Job](ctx, w, cj.Namespace, name)
		if getErr != nil {
			return nil, getErr
		}
		if ref := metav1.GetControllerOfNoCopy(there); ref != nil && ref.UID == cj.UID {
			return there, nil // made before, but not noted
		}
		fallthrough
	case err != nil:
		c.events.Eventf(cj, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return nil, fmt.Errorf("cannot create job %s: %w", name, err)
	}
	c.m.started(made, due)
	c.events.Eventf(cj, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", made.Name)
	return made, nil
}

// scheduleOf reads a CronJob's schedule in its time zone.
func scheduleOf(cj *batchv1.CronJob) (cron.Schedule, error) {
	text := cj.Spec.Schedule
	if z := cj.Spec.TimeZone; z != nil {
		if strings.Contains(text, "TZ=") {
			return nil, errors.New("time zone is given twice")
		}
		if _, err := time.LoadLocation(*z); err != nil {
			return nil, err
		}
		text = "TZ=" + *z + " " + text
	}
	return cron.ParseStandard(text)
}

// manyMissed is from how many missed times on a clock may be wrong.
const manyMissed = 100

// lastDue is the last scheduled time up to now that has not been handled; zero
// when there is none. Times before the starting deadline do not count. missed is
// how many there were, counted up to manyMissed.
func lastDue(cj *batchv1.CronJob, schedule cron.Schedule, now time.Time) (due time.Time, missed int) {
	from := cj.CreationTimestamp.Time
	if t := cj.Status.LastScheduleTime; t != nil {
		from = t.Time
	}
	if d := cj.Spec.StartingDeadlineSeconds; d != nil {
		if earliest := now.Add(-time.Duration(*d) * time.Second); earliest.After(from) {
			from = earliest
		}
	}
	if from.After(now) {
		return time.Time{}, 0
	}
	first := schedule.Next(from)
	for t := first; !t.After(now) && !t.IsZero(); t = schedule.Next(t) {
		due = t
		if missed++; missed == manyMissed {
			break
		}
	}
	if missed < manyMissed {
		return due, missed
	}
	// Far behind: the last time is near now. Look back until one is found.
	for back := time.Minute; back < now.Sub(from); back *= 4 {
		if t := schedule.Next(now.Add(-back)); !t.After(now) {
			for ; !t.After(now); t = schedule.Next(t) {
				due = t
			}
			break
		}
	}
	return due, missed
}
