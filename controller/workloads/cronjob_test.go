package workloads

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestScheduledTimes(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.DateTime, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	now := at("2026-03-10 12:34:56")
	deadline := int64(60)
	berlin := "Europe/Berlin"
	for name, c := range map[string]struct {
		schedule string
		created  time.Time
		change   func(*batchv1.CronJob)
		want     string
		missed   int
		coming   string
	}{
		"not yet":       {"40 * * * *", at("2026-03-10 12:00:00"), nil, "", 0, "2026-03-10 12:40:00"},
		"one":           {"30 * * * *", at("2026-03-10 12:00:00"), nil, "2026-03-10 12:30:00", 1, "2026-03-10 13:30:00"},
		"last of three": {"*/15 * * * *", at("2026-03-10 11:50:00"), nil, "2026-03-10 12:30:00", 3, "2026-03-10 12:45:00"},
		"very many":     {"* * * * *", at("2025-03-10 11:50:00"), nil, "2026-03-10 12:34:00", manyMissed + 1, "2026-03-10 12:35:00"},
		"many, seldom":  {"0 0 * * *", at("2020-03-10 11:50:00"), nil, "2026-03-10 00:00:00", manyMissed + 1, "2026-03-11 00:00:00"},
		"uneven":        {"0,1 9 * * *", at("2026-03-09 10:00:00"), nil, "2026-03-10 09:01:00", 2, "2026-03-11 09:00:00"},
		"too late":      {"30 * * * *", at("2026-03-10 12:00:00"), func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = &deadline }, "", 0, "2026-03-10 13:30:00"},
		"the last of those in time": {"* * * * *", at("2026-03-10 12:00:00"), func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = new(int64(120)) },
			"2026-03-10 12:34:00", 2, "2026-03-10 12:35:00"},
		"handled before": {"30 * * * *", at("2026-03-10 12:00:00"), func(c *batchv1.CronJob) {
			l := metav1.NewTime(at("2026-03-10 12:30:00"))
			c.Status.LastScheduleTime = &l
		}, "", 0, "2026-03-10 13:30:00"},
		"in a time zone":         {"30 13 * * *", at("2026-03-10 12:00:00"), func(c *batchv1.CronJob) { c.Spec.TimeZone = &berlin }, "2026-03-10 12:30:00", 1, "2026-03-11 12:30:00"},
		"a zone in the schedule": {"TZ=Europe/Berlin 30 13 * * *", at("2026-03-10 12:00:00"), func(c *batchv1.CronJob) { c.Spec.TimeZone = new("Asia/Tokyo") }, "2026-03-10 12:30:00", 1, "2026-03-11 12:30:00"},
		"over the change to summer time": {"30 2 * * *", at("2026-03-10 12:00:00"), func(c *batchv1.CronJob) {
			c.Spec.TimeZone = &berlin
			c.Status.LastScheduleTime = &metav1.Time{Time: at("2026-03-28 01:30:00")}
			c.CreationTimestamp.Time = at("2026-03-28 00:00:00")
		}, "", 0, "2026-03-30 00:30:00"},
		"daily word":                 {"@daily", at("2026-03-09 12:00:00"), nil, "2026-03-10 00:00:00", 1, "2026-03-11 00:00:00"},
		"every so often":             {"@every 25m", at("2026-03-10 12:00:00"), nil, "2026-03-10 12:25:00", 1, "2026-03-10 12:50:00"},
		"every so often, far behind": {"@every 7m", at("2026-03-08 12:00:00"), nil, "2026-03-10 12:32:00", manyMissed + 1, "2026-03-10 12:39:00"},
		"a day that never comes":     {"59 23 31 2 *", at("2026-03-08 12:00:00"), nil, "", 0, ""},
		"replaced by this one":       {"30 12 * * *", at("2026-03-08 12:00:00"), func(c *batchv1.CronJob) { c.Annotations = map[string]string{"changed": "2026-03-10 12:31:00"} }, "", 0, "2026-03-11 12:30:00"},
	} {
		cj := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(c.created)}, Spec: batchv1.CronJobSpec{Schedule: c.schedule}}
		if c.change != nil {
			c.change(cj)
		}
		s, err := scheduleOf(cj)
		if err != nil {
			t.Fatal(err)
		}
		from := time.Time{}
		if v, ok := cj.Annotations["changed"]; ok {
			from = at(v)
		}
		due, missed, coming := times(cj, s, from, now)
		show := func(t time.Time) string {
			if t.IsZero() {
				return ""
			}
			return t.UTC().Format(time.DateTime)
		}
		if show(due) != c.want || missed != c.missed || show(coming) != c.coming {
			t.Errorf("%s: %q, %d missed, then %q", name, show(due), missed, show(coming))
		}
	}
	if _, err := scheduleOf(&batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: "61 * * * *"}}); err == nil {
		t.Error("minute 61 was taken")
	}
}
