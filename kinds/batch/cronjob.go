package batch

import (
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/podspec"
	"sagong/object"
)

// CronJob defines batch/v1 CronJob.
func CronJob() *object.Definition {
	spec, status := batchv1.CronJobSpec{}.SwaggerDoc(), batchv1.CronJobStatus{}.SwaggerDoc()
	return object.Kind[*batchv1.CronJob]{
		Group: "batch", Version: "v1", Kind: "CronJob", Resource: "cronjobs",
		ShortNames: []string{"cj"}, Categories: []string{"all"},
		Namespaced: true, Status: true, Generation: true,
		New:     func() *batchv1.CronJob { return &batchv1.CronJob{} },
		NewList: func() runtime.Object { return &batchv1.CronJobList{} },
		Columns: []object.TypedColumn[*batchv1.CronJob]{
			object.NameColumn[*batchv1.CronJob](),
			object.StringColumn("Schedule", spec["schedule"], func(c *batchv1.CronJob) string { return c.Spec.Schedule }),
			object.StringColumn("Timezone", spec["timeZone"], func(c *batchv1.CronJob) string {
				if c.Spec.TimeZone == nil {
					return "<none>"
				}
				return *c.Spec.TimeZone
			}),
			suspended(spec["suspend"]),
			object.IntColumn("Active", status["active"], func(c *batchv1.CronJob) int64 { return int64(len(c.Status.Active)) }),
			object.TimeColumn("Last Schedule", status["lastScheduleTime"], func(c *batchv1.CronJob, now time.Time) string {
				if c.Status.LastScheduleTime == nil {
					return "<none>"
				}
				return object.Age(*c.Status.LastScheduleTime, now)
			}),
			object.AgeColumn[*batchv1.CronJob](),
			object.StringColumn("Containers", podspec.NamesDoc, func(c *batchv1.CronJob) string {
				return podspec.Names(c.Spec.JobTemplate.Spec.Template.Spec.Containers)
			}).Wide(),
			object.StringColumn("Images", podspec.ImagesDoc, func(c *batchv1.CronJob) string {
				return podspec.Images(c.Spec.JobTemplate.Spec.Template.Spec.Containers)
			}).Wide(),
			object.StringColumn("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"], func(c *batchv1.CronJob) string {
				return metav1.FormatLabelSelector(c.Spec.JobTemplate.Spec.Selector)
			}).Wide(),
		},
		Default:        defaultCronJob,
		PrepareCreate:  func(_ context.Context, c *batchv1.CronJob) { c.Status = batchv1.CronJobStatus{} },
		Validate:       validateCronJobCreate,
		ValidateUpdate: validateCronJobUpdate,
		Warnings:       cronJobWarnings,
	}.Definition()
}

// suspended prints a truth as a word, under the type it is said to have.
func suspended(doc string) object.TypedColumn[*batchv1.CronJob] {
	c := object.StringColumn("Suspend", doc, func(c *batchv1.CronJob) string {
		switch {
		case c.Spec.Suspend == nil:
			return "<unset>"
		case *c.Spec.Suspend:
			return "True"
		}
		return "False"
	})
	c.Type = "boolean"
	return c
}
