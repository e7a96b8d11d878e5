package controller_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
)

// cron makes a CronJob whose jobs never end.
func (c *cluster) cron(name, schedule string, change func(*batchv1.CronJobSpec)) *batchv1.CronJob {
	cj := &batchv1.CronJob{ObjectMeta: inDefault(name), Spec: batchv1.CronJobSpec{
		Schedule: schedule, ConcurrencyPolicy: batchv1.AllowConcurrent, JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template(name, "v1")}},
	}}
	cj.Spec.JobTemplate.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	if change != nil {
		change(&cj.Spec)
	}
	return must(client.Create(c.Context(), c.c, cj))
}

// jobs are the names of what a CronJob controls.
func (c *cluster) jobs(cron string) (names []string) {
	for _, j := range list[*batchv1.Job](c, "default") {
		if ref := metav1.GetControllerOf(j); ref != nil && ref.Name == cron {
			names = append(names, j.Name)
		}
	}
	slices.Sort(names)
	return names
}

func (c *cluster) told(reason, text string) bool {
	return slices.ContainsFunc(list[*corev1.Event](c, "default"), func(e *corev1.Event) bool { return e.Reason == reason && strings.Contains(e.Message, text) })
}

// settle lets time pass, and what then happens.
func settle(d time.Duration) { time.Sleep(d); synctest.Wait() }

// TestCronJobLeavesOthersJobsAlone has a user start a job by hand (kubectl create
// job --from): it neither counts as active nor goes when the next one replaces the
// one before.
func TestCronJobLeavesOthersJobsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		cj := c.cron("tick", "* * * * *", func(s *batchv1.CronJobSpec) { s.ConcurrencyPolicy = batchv1.ReplaceConcurrent })
		settle(61 * time.Second)
		manual := &batchv1.Job{ObjectMeta: inDefault("manual"), Spec: *cj.Spec.JobTemplate.Spec.DeepCopy()}
		manual.Annotations = map[string]string{"cronjob.kubernetes.io/instantiate": "manual"}
		manual.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(cj, batchv1.SchemeGroupVersion.WithKind("CronJob"))}
		must(client.Create(t.Context(), c.c, manual))
		synctest.Wait()
		first := c.jobs("tick")
		settle(time.Minute)
		second := c.jobs("tick")
		if len(first) != 2 || len(second) != 2 || first[1] == second[1] || first[0] != "manual" || second[0] != "manual" {
			t.Errorf("jobs %q, then %q", first, second)
		}
		now := must(client.Get[*batchv1.CronJob](t.Context(), c.c, "default", "tick"))
		if len(now.Status.Active) != 1 || now.Status.Active[0].Name != second[1] {
			t.Errorf("active: %+v", now.Status.Active)
		}
		if !c.told("UnexpectedJob", "Saw a job that the controller did not create or forgot: manual") {
			t.Error("nothing is told of the job made by hand")
		}
	})
}

// TestCronJobFindsItsNameTaken has somebody else's job have the name of the next.
func TestCronJobFindsItsNameTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		c.cron("tick", "* * * * *", nil)
		settle(61 * time.Second)
		made := c.jobs("tick")
		if len(made) != 1 {
			t.Fatalf("%q", made)
		}
		due := must(client.Get[*batchv1.CronJob](t.Context(), c.c, "default", "tick")).Status.LastScheduleTime
		name := fmt.Sprintf("tick-%d", due.Unix()/60+1)
		foreign := &batchv1.Job{ObjectMeta: inDefault(name), Spec: batchv1.JobSpec{Template: template("other", "v1")}}
		foreign.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
		must(client.Create(t.Context(), c.c, foreign))
		settle(time.Minute)
		if now := c.jobs("tick"); !slices.Equal(now, made) || c.told("FailedCreate", "") {
			t.Errorf("jobs %q", now)
		}
		settle(time.Minute)
		if now := c.jobs("tick"); len(now) != 2 {
			t.Errorf("jobs %q once the name was free again", now)
		}
	})
}

// TestCronJobTellsWhatIsWrong is about schedules that validation lets through, or
// let through in the past.
func TestCronJobTellsWhatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		for name, x := range map[string]struct {
			schedule, zone, reason, text string
		}{
			"never":   {"59 23 31 2 *", "", "InvalidSchedule", "invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second"},
			"nowhere": {"* * * * *", "Middle/Earth", "UnknownTimeZone", `invalid timeZone: "Middle/Earth": unknown time zone Middle/Earth`},
			"zoned":   {"TZ=Asia/Tokyo * * * * *", "", "UnsupportedSchedule", `CRON_TZ or TZ used in schedule "TZ=Asia/Tokyo * * * * *" is not officially supported, see `},
			"broken":  {"61 * * * *", "", "UnparseableSchedule", `unparseable schedule: "61 * * * *" : `},
		} {
			cj := &batchv1.CronJob{ObjectMeta: inDefault(name), Spec: batchv1.CronJobSpec{Schedule: x.schedule, JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template(name, "v1")}}}}
			if x.zone != "" {
				cj.Spec.TimeZone = &x.zone
			}
			if err := c.c.Seed(cj); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if !c.told(x.reason, x.text) {
				t.Errorf("%s: no event %s %q", name, x.reason, x.text)
			}
		}
	})
}

// TestScheduleThatIsReplaced has a schedule changed after the time that the new one
// would have had today: it starts when it comes again.
func TestScheduleThatIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time begins at midnight UTC
		c := start(t)
		c.cron("daily", "0 0 * * *", func(s *batchv1.CronJobSpec) { s.TimeZone = new("Etc/UTC") })
		settle(15 * time.Hour)
		edit(c, "daily", func(cj *batchv1.CronJob) { cj.Spec.Schedule = "0 12 * * *" })
		settle(time.Hour)
		if now := c.jobs("daily"); len(now) != 0 {
			t.Errorf("%q: for a time before the change", now)
		}
		settle(20*time.Hour + time.Second)
		if now := c.jobs("daily"); len(now) != 1 {
			t.Errorf("%q", now)
		}
	})
}
