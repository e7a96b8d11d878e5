package batch

import (
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
	"sagong/kinds/podspec"
)

// maxCronJobName leaves room for the eleven characters that make the names of
// the jobs.
const maxCronJobName = 63 - 11

func validateCronJobCreate(c *batchv1.CronJob) field.ErrorList {
	errs := validateCronJob(c, nil)
	if len(c.Name) > maxCronJobName {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, "must be no more than 52 characters"))
	}
	return errs
}

// validateCronJob checks a schedule's zone only when it is new: what the server
// knows of zones may have changed since.
func validateCronJob(c, old *batchv1.CronJob) (errs field.ErrorList) {
	s := &c.Spec
	p := specPath.Child("schedule")
	switch {
	case s.Schedule == "":
		errs = append(errs, field.Required(p, ""))
	case strings.Contains(s.Schedule, "TZ"):
		if old == nil || old.Spec.Schedule != s.Schedule {
			errs = append(errs, field.Invalid(p, s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
		}
	default:
		if _, err := cron.ParseStandard(s.Schedule); err != nil {
			errs = append(errs, field.Invalid(p, s.Schedule, err.Error()))
		}
	}
	if s.TimeZone != nil && (old == nil || !equality.Semantic.DeepEqual(s.TimeZone, old.Spec.TimeZone)) {
		errs = append(errs, validateZone(*s.TimeZone, specPath.Child("timeZone"))...)
	}
	errs = append(errs, check.NonnegativePtr(specPath.Child("startingDeadlineSeconds"), s.StartingDeadlineSeconds)...)
	errs = append(errs, check.RequiredOneOf(specPath.Child("concurrencyPolicy"), s.ConcurrencyPolicy,
		batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)...)
	errs = append(errs, check.NonnegativePtr(specPath.Child("successfulJobsHistoryLimit"), s.SuccessfulJobsHistoryLimit)...)
	errs = append(errs, check.NonnegativePtr(specPath.Child("failedJobsHistoryLimit"), s.FailedJobsHistoryLimit)...)
	t, path := &s.JobTemplate, specPath.Child("jobTemplate")
	errs = append(errs, metav1validation.ValidateLabels(t.Labels, path.Child("labels"))...)
	errs = append(errs, validation.ValidateAnnotations(t.Annotations, path.Child("annotations"))...)
	path = path.Child("spec")
	errs = append(errs, validateJobSpec(&t.Spec, path)...)
	errs = append(errs, validateTemplate(&t.Spec, path)...)
	if t.Spec.ManualSelector != nil && *t.Spec.ManualSelector {
		errs = append(errs, field.NotSupported(path.Child("manualSelector"), *t.Spec.ManualSelector, []string{"nil", "false"}))
	}
	return errs
}

func validateZone(zone string, path *field.Path) field.ErrorList {
	if zone == "" {
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be nil or non-empty string")}
	}
	if strings.EqualFold(zone, "Local") {
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")}
	}
	if _, err := time.LoadLocation(zone); err != nil {
		return field.ErrorList{field.Invalid(path, zone, err.Error())}
	}
	return nil
}

func cronJobWarnings(c, old *batchv1.CronJob) []string {
	var out []string
	if old == nil {
		out = podspec.NameWarnings(c.Name, "Pod names and hostnames")
	}
	path := specPath.Child("jobTemplate", "spec")
	out = append(out, specWarnings(&c.Spec.JobTemplate.Spec, path)...)
	if old == nil || !equality.Semantic.DeepEqual(c.Spec.JobTemplate, old.Spec.JobTemplate) {
		out = append(out, podspec.TemplateWarnings(&c.Spec.JobTemplate.Spec.Template, path.Child("template"))...)
	}
	if strings.Contains(c.Spec.Schedule, "TZ") {
		out = append(out, "spec.schedule: cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
	}
	return out
}
