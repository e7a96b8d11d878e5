package batch

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

// validateJobStatus checks a report of a job. Most rules hold only where the report
// changes what they are about: others may have broken them, and a change of the
// specification may until the controller has followed it.
func validateJobStatus(j, old *batchv1.Job) (errs field.ErrorList) {
	p, s, was := field.NewPath("status"), &j.Status, &old.Status
	conditions := p.Child("conditions")
	invalid := func(p *field.Path, value any, text string) { errs = append(errs, field.Invalid(p, value, text)) }
	refuse := func(text string) { invalid(conditions, field.OmitValueType{}, text) }

	errs = append(errs, check.Nonnegative(p.Child("active"), s.Active)...)
	errs = append(errs, check.Nonnegative(p.Child("succeeded"), s.Succeeded)...)
	errs = append(errs, check.Nonnegative(p.Child("failed"), s.Failed)...)
	errs = append(errs, check.NonnegativePtr(p.Child("ready"), s.Ready)...)
	errs = append(errs, check.NonnegativePtr(p.Child("terminating"), s.Terminating)...)
	errs = append(errs, validateUncounted(s.UncountedTerminatedPods, p.Child("uncountedTerminatedPods"))...)

	changed := func(t batchv1.JobConditionType) bool { return jobIs(s, t) != jobIs(was, t) }
	complete, failed := jobIs(s, batchv1.JobComplete), jobIs(s, batchv1.JobFailed)
	target, criteria := jobIs(s, batchv1.JobFailureTarget), jobIs(s, batchv1.JobSuccessCriteriaMet)
	completeChanged, failedChanged := changed(batchv1.JobComplete), changed(batchv1.JobFailed)
	finished := complete || failed
	finishedChanged := finished != (jobIs(was, batchv1.JobComplete) || jobIs(was, batchv1.JobFailed))
	activeChanged := s.Active != was.Active
	startChanged, completionChanged := !sameTime(s.StartTime, was.StartTime), !sameTime(s.CompletionTime, was.CompletionTime)
	completedChanged := s.CompletedIndexes != was.CompletedIndexes
	failedIndexesChanged := !samePtr(s.FailedIndexes, was.FailedIndexes)

	if (completeChanged || failedChanged) && complete && failed {
		refuse("cannot set Complete=True and Failed=true conditions")
	}
	if (completeChanged || changed(batchv1.JobFailureTarget)) && complete && target {
		refuse("cannot set Complete=True and FailureTarget=true conditions")
	}
	at := p.Child("completionTime")
	if (completeChanged || completionChanged) && s.CompletionTime != nil && !complete {
		invalid(at, s.CompletionTime, "cannot set completionTime when there is no Complete=True condition")
	}
	if (completeChanged || completionChanged) && s.CompletionTime == nil && complete {
		errs = append(errs, field.Required(at, "completionTime is required for Complete jobs"))
	}
	if (startChanged || completionChanged) && s.StartTime != nil && s.CompletionTime != nil && s.CompletionTime.Before(s.StartTime) {
		invalid(at, s.CompletionTime, "must be equal to or after `startTime`")
	}
	if (failedChanged || failedIndexesChanged) && failed && !target {
		refuse("cannot set Failed=True condition without the FailureTarget=true condition")
	}
	if (completeChanged || changed(batchv1.JobSuccessCriteriaMet)) && complete && !criteria {
		refuse("cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
	}
	if (finishedChanged || activeChanged) && s.Active > 0 && finished {
		invalid(p.Child("active"), s.Active, "active>0 is invalid for finished job")
	}
	// A suspended job of no pods at all may end before it began.
	empty := j.Spec.Suspend != nil && *j.Spec.Suspend && j.Spec.Completions != nil && *j.Spec.Completions == 0
	if (finishedChanged || startChanged) && !empty && s.StartTime == nil && finished {
		errs = append(errs, field.Required(p.Child("startTime"), "startTime is required for finished job"))
	}
	if u := s.UncountedTerminatedPods; (finishedChanged || !equality.Semantic.DeepEqual(u, was.UncountedTerminatedPods)) && finished && u != nil && len(u.Failed)+len(u.Succeeded) > 0 {
		invalid(p.Child("uncountedTerminatedPods"), u, "must be empty for finished job")
	}
	errs = append(errs, validateReportedIndexes(j, p, completedChanged, failedIndexesChanged)...)
	if n := s.Terminating; (finishedChanged || !samePtr(n, was.Terminating)) && n != nil && *n > 0 && finished {
		invalid(p.Child("terminating"), *n, "terminating>0 is invalid for finished job")
	}
	if n := s.Ready; (activeChanged || !samePtr(n, was.Ready)) && n != nil && *n > s.Active {
		invalid(p.Child("ready"), *n, "cannot set more ready pods than active")
	}
	if criteria && failed {
		refuse("cannot set SuccessCriteriaMet=True and Failed=true conditions")
	}
	if criteria && target {
		refuse("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
	}
	if j.Spec.SuccessPolicy != nil && !criteria && complete {
		refuse("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
	}
	return append(errs, validateJobProgress(j, old)...)
}

// validateUncounted checks the identifiers of pods that are not counted yet.
func validateUncounted(u *batchv1.UncountedTerminatedPods, path *field.Path) (errs field.ErrorList) {
	if u == nil {
		return nil
	}
	seen := map[types.UID]bool{}
	each := func(path *field.Path, all []types.UID) {
		for i, uid := range all {
			switch p := path.Index(i); {
			case uid == "":
				errs = append(errs, field.Invalid(p, uid, "must not be empty"))
			case seen[uid]:
				errs = append(errs, field.Duplicate(p, uid))
			}
			seen[uid] = true
		}
	}
	each(path.Child("succeeded"), u.Succeeded)
	each(path.Child("failed"), u.Failed)
	return errs
}

// validateReportedIndexes checks the indexes of pods that ended, where they changed.
func validateReportedIndexes(j *batchv1.Job, path *field.Path, completedChanged, failedChanged bool) (errs field.ErrorList) {
	s, n := &j.Status, j.Spec.Completions
	completed, failed := path.Child("completedIndexes"), path.Child("failedIndexes")
	if completedChanged && n != nil {
		if _, err := countIndexes(s.CompletedIndexes, *n); err != nil {
			errs = append(errs, field.Invalid(completed, s.CompletedIndexes, "error parsing completedIndexes: "+err.Error()))
		}
	}
	if failedChanged && n != nil && j.Spec.BackoffLimitPerIndex != nil && s.FailedIndexes != nil {
		if _, err := countIndexes(*s.FailedIndexes, *n); err != nil {
			errs = append(errs, field.Invalid(failed, *s.FailedIndexes, "error parsing failedIndexes: "+err.Error()))
		}
	}
	if completedChanged && s.CompletedIndexes != "" && !indexed(&j.Spec) {
		errs = append(errs, field.Invalid(completed, s.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode"))
	}
	if failedChanged && j.Spec.BackoffLimitPerIndex == nil && s.FailedIndexes != nil {
		errs = append(errs, field.Invalid(failed, *s.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"))
	}
	if (failedChanged || completedChanged) && n != nil && s.FailedIndexes != nil {
		if i, ok := commonIndex(s.CompletedIndexes, *s.FailedIndexes, *n); ok {
			errs = append(errs, field.Invalid(failed, *s.FailedIndexes, fmt.Sprintf("failedIndexes and completedIndexes overlap at index: %d", i)))
		}
	}
	return errs
}

// validateJobProgress checks that what has ended stays ended, and that counts grow.
func validateJobProgress(j, old *batchv1.Job) (errs field.ErrorList) {
	p, s, was := field.NewPath("status"), &j.Status, &old.Status
	refuse := func(text string) {
		errs = append(errs, field.Invalid(p.Child("conditions"), field.OmitValueType{}, text))
	}
	for _, t := range []batchv1.JobConditionType{batchv1.JobFailed, batchv1.JobComplete, batchv1.JobFailureTarget} {
		if jobIs(was, t) && !jobIs(s, t) {
			refuse(fmt.Sprintf("cannot disable the terminal %s=True condition", t))
		}
	}
	if s.Failed < was.Failed {
		errs = append(errs, field.Invalid(p.Child("failed"), s.Failed, "cannot decrease the failed counter"))
	}
	// An indexed job whose indexes all run at once may shrink.
	if (!indexed(&j.Spec) || !samePtr(j.Spec.Completions, j.Spec.Parallelism)) && s.Succeeded < was.Succeeded {
		errs = append(errs, field.Invalid(p.Child("succeeded"), s.Succeeded, "cannot decrease the succeeded counter"))
	}
	if s.CompletionTime != nil && was.CompletionTime != nil && !sameTime(s.CompletionTime, was.CompletionTime) {
		errs = append(errs, field.Invalid(p.Child("completionTime"), s.CompletionTime, "field is immutable"))
	}
	suspended := j.Spec.Suspend != nil && *j.Spec.Suspend
	resumes := jobIs(was, batchv1.JobSuspended) && hasCondition(s, batchv1.JobSuspended, corev1.ConditionFalse)
	if was.StartTime != nil && !sameTime(s.StartTime, was.StartTime) && !suspended && !resumes {
		errs = append(errs, field.Required(p.Child("startTime"), "startTime cannot be removed for unsuspended job"))
	}
	criteria, had := jobIs(s, batchv1.JobSuccessCriteriaMet), jobIs(was, batchv1.JobSuccessCriteriaMet)
	if had && !criteria {
		refuse("cannot disable the SuccessCriteriaMet=True condition")
	}
	if jobIs(was, batchv1.JobComplete) && !had && criteria {
		refuse("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")
	}
	return errs
}

func sameTime(a, b *metav1.Time) bool { return a.Equal(b) }

func samePtr[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func jobIs(s *batchv1.JobStatus, t batchv1.JobConditionType) bool {
	return hasCondition(s, t, corev1.ConditionTrue)
}

func hasCondition(s *batchv1.JobStatus, t batchv1.JobConditionType, status corev1.ConditionStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == t && c.Status == status {
			return true
		}
	}
	return false
}
