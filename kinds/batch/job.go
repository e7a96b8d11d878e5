package batch

import (
	"fmt"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"sagong/kinds/podspec"
	"sagong/object"
)

// Job defines batch/v1 Job.
func Job() *object.Definition {
	spec, status := batchv1.JobSpec{}.SwaggerDoc(), batchv1.JobStatus{}.SwaggerDoc()
	return object.Kind[*batchv1.Job]{
		Group: "batch", Version: "v1", Kind: "Job", Resource: "jobs", Categories: []string{"all"},
		Namespaced: true, Status: true, Generation: true,
		New:     func() *batchv1.Job { return &batchv1.Job{} },
		NewList: func() runtime.Object { return &batchv1.JobList{} },
		Fields: func(j *batchv1.Job) fields.Set {
			return fields.Set{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
		},
		FieldLabels: object.FieldLabels{FieldNames: []string{"status.successful"}, UnknownField: "field label %q not supported for batchv1.Job"},
		Columns: []object.TypedColumn[*batchv1.Job]{
			object.NameColumn[*batchv1.Job](),
			object.StringColumn("Status", "Status of the job.", jobStatus),
			object.StringColumn("Completions", status["succeeded"], func(j *batchv1.Job) string {
				switch {
				case j.Spec.Completions != nil:
					return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
				case j.Spec.Parallelism != nil && *j.Spec.Parallelism > 1:
					return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, *j.Spec.Parallelism)
				}
				return fmt.Sprintf("%d/1", j.Status.Succeeded)
			}),
			object.TimeColumn("Duration", "Time required to complete the job.", func(j *batchv1.Job, now time.Time) string {
				switch {
				case j.Status.StartTime == nil:
					return ""
				case j.Status.CompletionTime == nil:
					return duration.HumanDuration(now.Sub(j.Status.StartTime.Time))
				}
				return duration.HumanDuration(j.Status.CompletionTime.Sub(j.Status.StartTime.Time))
			}),
			object.AgeColumn[*batchv1.Job](),
			object.StringColumn("Containers", podspec.NamesDoc, func(j *batchv1.Job) string { return podspec.Names(j.Spec.Template.Spec.Containers) }).Wide(),
			object.StringColumn("Images", podspec.ImagesDoc, func(j *batchv1.Job) string { return podspec.Images(j.Spec.Template.Spec.Containers) }).Wide(),
			object.StringColumn("Selector", spec["selector"], func(j *batchv1.Job) string { return metav1.FormatLabelSelector(j.Spec.Selector) }).Wide(),
		},
		DefaultPropagation:   metav1.DeletePropagationOrphan,
		DeleteWarning:        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
		Default:              defaultJob,
		PrepareCreate:        prepareJobCreate,
		Validate:             validateJob,
		ValidateUpdate:       validateJobUpdate,
		ValidateStatusUpdate: validateJobStatus,
		Warnings:             jobWarnings,
	}.Definition()
}

func jobStatus(j *batchv1.Job) string {
	is := func(t batchv1.JobConditionType) bool {
		for _, c := range j.Status.Conditions {
			if c.Type == t {
				return c.Status == corev1.ConditionTrue
			}
		}
		return false
	}
	switch {
	case is(batchv1.JobComplete):
		return "Complete"
	case is(batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case is(batchv1.JobSuspended):
		return "Suspended"
	case is(batchv1.JobFailureTarget):
		return "FailureTarget"
	case is(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}
