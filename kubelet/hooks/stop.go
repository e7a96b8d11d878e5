package hooks

import (
	"context"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
	"sagong/runtime"
)

// StopRequest names a container to stop.
type StopRequest struct {
	Pod    *corev1.Pod
	IPs    []netip.Addr
	Member pod.Member
	ID     string
	// By is when every process of it must be dead.
	By time.Time
}

// stopping is a stop under way.
type stopping struct {
	mu    sync.Mutex
	by    time.Time
	timer *time.Timer // ends the hook; nil outside of it
	done  chan struct{}
}

// Stop runs the pre-stop hook within the grace period, sends the stop signal
// and kills when the period is over, but not earlier than two seconds after
// the hook. It returns when the container has exited. Called again while it is
// under way, it only brings the end forward.
func (s *Steps) Stop(ctx context.Context, q StopRequest) error {
	st := &stopping{by: q.By, done: make(chan struct{})}
	if under, busy := s.stops.LoadOrStore(q.ID, st); busy {
		return s.hurry(ctx, under.(*stopping), q)
	}
	defer close(st.done)
	defer s.stops.Delete(q.ID)
	least := time.Duration(0)
	if l := q.Member.Lifecycle; l != nil && l.PreStop != nil && time.Until(q.By) > 0 {
		least = pod.MinimumGrace
		s.preStop(ctx, st, q)
	}
	st.mu.Lock()
	by := st.by
	st.mu.Unlock()
	return s.Runtime.StopContainer(ctx, q.ID, runtime.Stop{Grace: max(time.Until(by), least)})
}

func (s *Steps) preStop(ctx context.Context, st *stopping, q StopRequest) {
	hctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st.mu.Lock()
	st.timer = time.AfterFunc(time.Until(st.by), cancel)
	st.mu.Unlock()
	err := s.handler(hctx, q.Pod, q.IPs, q.Member, q.ID, q.Member.Lifecycle.PreStop)
	st.mu.Lock()
	st.timer.Stop()
	st.timer = nil
	st.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		s.Log.Warn("pre-stop hook failed", "pod", IdentOf(q.Pod).String(), "container", q.Member.Name, "err", err)
		s.Recorder.EventForField(q.Pod, q.Member.FieldPath, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
	}
}

// hurry brings the end of a stop under way forward.
func (s *Steps) hurry(ctx context.Context, st *stopping, q StopRequest) error {
	st.mu.Lock()
	if q.By.Before(st.by) {
		st.by = q.By
	}
	hooking := st.timer != nil
	if hooking {
		st.timer.Reset(time.Until(st.by))
	}
	st.mu.Unlock()
	if !hooking {
		return s.Runtime.StopContainer(ctx, q.ID, runtime.Stop{Grace: max(time.Until(q.By), 0)})
	}
	select {
	case <-st.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
