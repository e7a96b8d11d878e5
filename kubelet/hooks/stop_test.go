package hooks

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
)

// The pre-stop hook's time counts against the grace period; two seconds remain
// in any case, and a shorter period that comes meanwhile holds.
func TestStopGrace(t *testing.T) {
	member := pod.Member{Container: &corev1.Container{Name: "c", Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}}}
	for _, x := range []struct {
		name               string
		hook, grace, hurry time.Duration
		want               time.Duration
	}{
		{"short hook", 3 * time.Second, 10 * time.Second, 0, 7 * time.Second},
		{"long hook", time.Hour, 10 * time.Second, 0, 2 * time.Second},
		{"hurried", time.Hour, 100 * time.Second, 5 * time.Second, 2 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			rt := stopper{graces: make(chan time.Duration, 2), hook: func(ctx context.Context) error {
				select {
				case <-time.After(x.hook):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}}
			s := New(Config{}, Deps{Runtime: rt, Recorder: silent{}})
			began := time.Now()
			q := StopRequest{Pod: &corev1.Pod{}, Member: member, ID: "id", By: began.Add(x.grace)}
			done := make(chan error, 2)
			go func() { done <- s.Stop(t.Context(), q) }()
			want := min(x.hook, x.grace)
			if x.hurry > 0 {
				synctest.Wait()
				h := q
				h.By = began.Add(x.hurry)
				go func() { done <- s.Stop(t.Context(), h) }()
				want = x.hurry
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			if err := <-done; err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if g := <-rt.graces; g != x.want || time.Since(began) != want {
				t.Errorf("%s: grace %v after %v, want %v after %v", x.name, g, time.Since(began), x.want, want)
			}
		})
	}
}
