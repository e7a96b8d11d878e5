package scheduler

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
	"sagong/scheduler/plugins"
)

// maxPreBinds bounds how many pods' rules write or wait before binding at a time.
const maxPreBinds = 256

// write is something to commit: a pod's node, its status, or its end.
type write struct {
	x       *queued
	pod     *corev1.Pod
	node    string // to bind to
	profile *profile
	victim  *eviction                   // whose status this is, to be deleted then
	group   *schedulingv1beta1.PodGroup // whose status is written
	// Of a pod to bind: when it came, when this attempt began, and its number.
	since, began time.Time
	attempts     int
	// prepared says that rules wrote or waited for the pod.
	prepared bool
}

// writeAll commits what the placing goroutine decides, all that waits together.
func (s *Scheduler) writeAll(ctx context.Context) {
	for work := range s.writes {
	more:
		for len(work) < 4*batchSize {
			select {
			case next, open := <-s.writes:
				if !open {
					break more
				}
				work = append(work, next...)
			default:
				break more
			}
		}
		s.commit(ctx, work)
	}
}

func (s *Scheduler) commit(ctx context.Context, work []write) {
	def := object.Of[*corev1.Pod](s.cfg.Client.Scheme())
	writes := make([]client.Write, len(work))
	for i, b := range work {
		if b.group != nil {
			writes[i] = client.Write{Op: client.OpUpdateStatus, Definition: object.Of[*schedulingv1beta1.PodGroup](s.cfg.Client.Scheme()), Object: b.group}
			continue
		}
		if b.node == "" {
			writes[i] = client.Write{Op: client.OpUpdateStatus, Definition: def, Object: b.pod}
			continue
		}
		writes[i] = client.Write{Op: client.OpBind, Definition: def, Object: &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Namespace: b.pod.Namespace, Name: b.pod.Name, UID: b.pod.UID},
			Target:     corev1.ObjectReference{Kind: "Node", Name: b.node},
		}}
	}
	var ends []*eviction
	began := s.cfg.Now()
	results := s.cfg.Client.Batch(ctx, writes)
	s.measureBinds(work, results, s.cfg.Now().Sub(began))
	for i, r := range results {
		b := work[i]
		switch {
		case b.victim != nil:
			if r.Err == nil {
				ends = append(ends, b.victim)
			} else {
				s.post(func() { s.spare(b.victim, r.Err) })
			}
		case b.node == "":
			// A condition that another write overtook is written again when
			// the view shows that write: see podChanged and groupChanged.
		case r.Err == nil:
			if b.prepared {
				for _, r := range b.profile.rules {
					if x, ok := r.(plugins.PostBinder); ok {
						x.Bound(b.pod)
					}
				}
			}
			now := s.cfg.Now()
			s.cfg.Metrics.attempt(b.profile.name, "scheduled", now.Sub(b.began))
			s.cfg.Metrics.scheduled(b.attempts, now.Sub(b.since))
			s.events[b.profile.name].Eventf(b.pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", b.pod.Namespace, b.pod.Name, b.node)
		default:
			s.post(func() { s.unbind(b, fmt.Errorf("running Bind plugin %q: %w", "DefaultBinder", r.Err)) })
		}
	}
	if len(ends) > 0 {
		s.end(ctx, ends)
	}
}

// measureBinds measures a commit once for each profile that has a pod in it.
func (s *Scheduler) measureBinds(work []write, results []client.Result, took time.Duration) {
	bound := map[*profile]bool{}
	for i, b := range work {
		if b.node != "" {
			ok, seen := bound[b.profile]
			bound[b.profile] = results[i].Err == nil && (ok || !seen)
		}
	}
	for p, ok := range bound {
		s.cfg.Metrics.point(pointBind, p.name, ok, took)
	}
}

// prepare has rules do their work before a pod is bound.
func (s *Scheduler) prepare(ctx context.Context, w write, before []plugins.PreBinder) {
	s.prebind.Go(func() {
		select {
		case s.tickets <- struct{}{}:
			defer func() { <-s.tickets }()
		case <-ctx.Done():
			return
		}
		began, ready := s.cfg.Now(), false
		defer func() { s.cfg.Metrics.point(pointPreBind, w.profile.name, ready, s.cfg.Now().Sub(began)) }()
		for _, b := range before {
			if err := b.PreBind(ctx, w.pod, w.node); err != nil {
				if ctx.Err() == nil {
					s.post(func() { s.unbind(w, fmt.Errorf("running PreBind plugin %q: %w", b.Name(), err)) })
				}
				return
			}
		}
		ready = true
		select {
		case s.writes <- []write{w}:
		case <-ctx.Done():
		}
	})
}

// unbind takes back a placement whose binding was refused.
func (s *Scheduler) unbind(b write, err error) {
	uid := b.pod.UID
	for _, r := range b.profile.rules {
		if u, ok := r.(plugins.Reserver); ok {
			u.Unreserve(b.pod, b.node)
		}
	}
	if p := s.state.Pod(uid); p != nil && p.Assumed {
		s.release(b.pod)
	}
	if apierrors.IsNotFound(err) {
		s.queue.remove(uid)
		return
	}
	s.cfg.Metrics.attempt(b.profile.name, "error", s.cfg.Now().Sub(b.began))
	s.cfg.Log.Warn("cannot bind pod, trying again", "pod", b.pod.Namespace+"/"+b.pod.Name, "node", b.node, "err", err)
	s.events[b.profile.name].Eventf(b.x.pod, corev1.EventTypeWarning, "FailedScheduling", "%v", err)
	if b.x.group != nil {
		s.returned(b.x)
		return
	}
	b.x.said, b.x.erred = err.Error(), true
	s.queue.retry(b.x, s.cfg.Now())
	if s.queue.pods[uid] == b.x {
		s.condition(b.x) // which also takes back that it is expected on the node
	}
}
