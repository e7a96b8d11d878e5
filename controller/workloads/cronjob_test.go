package workloads

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestLastDue(t *testing.T) {
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
	}{
		"not yet":       {"40 * * * *", at("2026-03-10 12:00:00"), nil, "", 0},
		"one":           {"30 * * * *", at("2026-03-10 12:00:00"), nil, "2026-03-10 12:30:00", 1},
		"last of three": {"*/15 * * * *", at("2026-03-10 11:50:00"), nil, "2026-03-10 12:30:00", 3},
		"very many":     {"* * * * *", at("2025-03-10 11:50:00"), nil, "2026-03-10 12:34:00", manyMissed},
		"many, seldom":  {"0 0 * * *", at("2020-03-10 11:50:00"), nil, "2026-03-10 00:00:00", manyMissed},
		"too late":      {"30 * * * *", at("2026-03-10 12:00:00"), func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = &deadline }, "", 0},
		"handled before": {"30 * * * *", at("2026-03-10 12:00:00"), func(c *batchv1.CronJob) {
			l := metav1.NewTime(at("2026-03-10 12:30:00"))
			c.Status.LastScheduleTime = &l
		}, "", 0},
		"in a time zone": {"30 13 * * *", at("2026-03-10 12:00:00"), func(c *batchv1.CronJob) { c.Spec.TimeZone = &berlin }, "2026-03-10 12:30:00", 1},
		"daily word":     {"@daily", at("2026-03-09 12:00:00"), nil, "2026-03-10 00:00:00", 1},
	} {
		cj := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(c.created)}, Spec: batchv1.CronJobSpec{Schedule: c.schedule}}
		if c.change != nil {
			c.change(cj)
		}
		s, err := scheduleOf(cj)
		if err != nil {
			t.Fatal(err)
		}
		due, missed := lastDue(cj, s, now)
		got := ""
		if !due.IsZero() {
			got = due.UTC().Format(time.DateTime)
		}
		if got != c.want || missed != c.missed {
			t.Errorf("%s: %q, %d missed", name, got, missed)
		}
	}
	if _, err := scheduleOf(&batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: "61 * * * *"}}); err == nil {
		t.Error("minute 61 was taken")
	}
}
