package batch

import (
	"context"
	"maps"
	"math"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/kinds/fill"
	"sagong/kinds/podspec"
)

// The labels a job's pods had before labels carried the group's prefix; both
// forms are set.
const (
	legacyJobNameLabel       = "job-name"
	legacyControllerUIDLabel = "controller-uid"
)

func defaultJob(j *batchv1.Job) {
	s := &j.Spec
	if s.Completions == nil && s.Parallelism == nil {
		fill.Ptr(&s.Completions, 1)
	}
	fill.Ptr(&s.Parallelism, 1)
	if s.BackoffLimitPerIndex != nil {
		fill.Ptr(&s.BackoffLimit, math.MaxInt32)
	}
	fill.Ptr(&s.BackoffLimit, 6)
	if len(j.Labels) == 0 && len(s.Template.Labels) > 0 {
		j.Labels = maps.Clone(s.Template.Labels)
	}
	fill.Ptr(&s.CompletionMode, batchv1.NonIndexedCompletion)
	fill.Ptr(&s.Suspend, false)
	fill.Ptr(&s.ManualSelector, false)
	replace := batchv1.TerminatingOrFailed
	if s.PodFailurePolicy != nil {
		replace = batchv1.Failed
	}
	fill.Ptr(&s.PodReplacementPolicy, replace)
	defaultJobParts(s)
}

// defaultJobParts fills what a job template gets too.
func defaultJobParts(s *batchv1.JobSpec) {
	podspec.DefaultTemplate(&s.Template)
	if s.PodFailurePolicy != nil {
		for i := range s.PodFailurePolicy.Rules {
			conditions := s.PodFailurePolicy.Rules[i].OnPodConditions
			for k := range conditions {
				fill.Zero(&conditions[k].Status, corev1.ConditionTrue)
			}
		}
	}
}

// prepareJobCreate makes the selector that no other job can share, from the
// job's own uid, unless the client takes that on itself.
func prepareJobCreate(_ context.Context, j *batchv1.Job) {
	j.Status = batchv1.JobStatus{}
	if j.Spec.ManualSelector != nil && *j.Spec.ManualSelector {
		return
	}
	if j.Spec.Template.Labels == nil {
		j.Spec.Template.Labels = map[string]string{}
	}
	// A label that is set already stays, for validation to find it wrong.
	put := func(labels map[string]string, key, value string) {
		if _, ok := labels[key]; !ok {
			labels[key] = value
		}
	}
	labels := j.Spec.Template.Labels
	put(labels, batchv1.JobNameLabel, j.Name)
	put(labels, legacyJobNameLabel, j.Name)
	put(labels, batchv1.ControllerUidLabel, string(j.UID))
	put(labels, legacyControllerUIDLabel, string(j.UID))
	fill.Ptr(&j.Spec.Selector, metav1.LabelSelector{})
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	put(j.Spec.Selector.MatchLabels, batchv1.ControllerUidLabel, string(j.UID))
}

func defaultCronJob(c *batchv1.CronJob) {
	s := &c.Spec
	fill.Zero(&s.ConcurrencyPolicy, batchv1.AllowConcurrent)
	fill.Ptr(&s.Suspend, false)
	fill.Ptr(&s.SuccessfulJobsHistoryLimit, 3)
	fill.Ptr(&s.FailedJobsHistoryLimit, 1)
	defaultJobParts(&s.JobTemplate.Spec)
}
