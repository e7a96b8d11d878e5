package batch

import (
	"regexp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

// maxCronJobName leaves room for the eleven characters that make the names of
// the jobs.
const maxCronJobName = 63 - 11

func validateCronJobCreate(c *batchv1.CronJob) field.ErrorList {
	errs := validateCronJobSpec(c, nil)
	if len(c.Name) > maxCronJobName {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, "must be no more than 52 characters"))
	}
	return append(errs, validateDeclared(c)...)
}

func validateCronJobUpdate(c, old *batchv1.CronJob) field.ErrorList {
	return append(validateCronJobSpec(c, old), validateDeclared(c)...)
}

// validateDeclared checks what upstream declares beside the type, which comes last.
func validateDeclared(c *batchv1.CronJob) field.ErrorList {
	errs := check.Required(specPath.Child("schedule"), c.Spec.Schedule, "")
	return append(errs, validateUnservedSpec(&c.Spec.JobTemplate.Spec, specPath.Child("jobTemplate", "spec"))...)
}

// validateCronJobSpec checks a schedule's zone only when it is new: what the server
// knows of zones may have changed since.
func validateCronJobSpec(c, old *batchv1.CronJob) (errs field.ErrorList) {
	s := &c.Spec
	if s.Schedule != "" {
		p := specPath.Child("schedule")
		if _, err := cron.ParseStandard(s.Schedule); err != nil {
			errs = append(errs, field.Invalid(p, s.Schedule, err.Error()))
		}
		if strings.Contains(s.Schedule, "TZ") {
			// Once it was allowed, and what has it keeps it.
			had := old != nil && strings.Contains(old.Spec.Schedule, "TZ")
			switch {
			case had && s.TimeZone != nil:
				errs = append(errs, field.Invalid(p, s.Schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule"))
			case !had:
				errs = append(errs, field.Invalid(p, s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
			}
		}
	}
	errs = append(errs, check.NonnegativePtr(specPath.Child("startingDeadlineSeconds"), s.StartingDeadlineSeconds)...)
	if s.TimeZone != nil && (old == nil || !equality.Semantic.DeepEqual(s.TimeZone, old.Spec.TimeZone)) {
		errs = append(errs, validateZone(*s.TimeZone, specPath.Child("timeZone"))...)
	}
	errs = append(errs, check.RequiredListed(specPath.Child("concurrencyPolicy"), s.ConcurrencyPolicy,
		batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)...)
	t, path := &s.JobTemplate, specPath.Child("jobTemplate", "spec")
	errs = append(errs, validateJobSpec(&t.Spec, path)...)
	if t.Spec.Selector != nil {
		errs = append(errs, field.Invalid(path.Child("selector"), t.Spec.Selector, "`selector` will be auto-generated"))
	}
	if t.Spec.ManualSelector != nil && *t.Spec.ManualSelector {
		errs = append(errs, field.NotSupported(path.Child("manualSelector"), *t.Spec.ManualSelector, []string{"nil", "false"}))
	}
	errs = append(errs, check.NonnegativePtr(specPath.Child("successfulJobsHistoryLimit"), s.SuccessfulJobsHistoryLimit)...)
	return append(errs, check.NonnegativePtr(specPath.Child("failedJobsHistoryLimit"), s.FailedJobsHistoryLimit)...)
}

// zonePart is a part of a zone's name, which becomes that of a file.
var zonePart = regexp.MustCompile(`^[A-Za-z\.\-_0-9+]{1,14}$`)

func validateZone(zone string, path *field.Path) (errs field.ErrorList) {
	if zone == "" {
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be nil or non-empty string")}
	}
	for _, part := range strings.Split(zone, "/") {
		if part == "." || part == ".." || strings.HasPrefix(part, "-") || !zonePart.MatchString(part) {
			return field.ErrorList{field.Invalid(path, zone, "unknown time zone "+zone)}
		}
	}
	if strings.EqualFold(zone, "Local") {
		errs = append(errs, field.Invalid(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
	}
	if _, err := time.LoadLocation(zone); err != nil {
		errs = append(errs, field.Invalid(path, zone, err.Error()))
	}
	return errs
}

func cronJobWarnings(c, old *batchv1.CronJob) []string {
	path := specPath.Child("jobTemplate", "spec")
	if old == nil {
		return append(podspec.NameWarnings(c.Name, "Pod names and hostnames"), specWarnings(&c.Spec.JobTemplate.Spec, path)...)
	}
	var out []string
	if !equality.Semantic.DeepEqual(c.Spec, old.Spec) {
		out = specWarnings(&c.Spec.JobTemplate.Spec, path)
	}
	if strings.Contains(c.Spec.Schedule, "TZ") {
		out = append(out, "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")
	}
	return out
}
