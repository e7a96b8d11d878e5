package controller_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// ledger writes down what happens to Jobs and their pods, in the order of
// revisions, to hold the counting of pods to its rule: while a Job goes on, no pod
// loses its finalizer before the Job's status has noted it.
type ledger struct {
	mu       sync.Mutex
	noted    map[types.UID]object.Revision // pods, in the status of their Job
	ended    map[types.UID]object.Revision // Jobs that are finished, or on their way out
	indexed  map[types.UID]bool            // Jobs that count by index
	held     map[types.UID]bool            // pods with the finalizer
	released []release
}

type release struct {
	pod      *corev1.Pod
	revision object.Revision
}

func (l *ledger) keep(ctx context.Context, c client.Client, wg *sync.WaitGroup) {
	l.noted, l.ended, l.indexed, l.held = map[types.UID]object.Revision{}, map[types.UID]object.Revision{}, map[types.UID]bool{}, map[types.UID]bool{}
	for _, d := range []*object.Definition{object.Of[*batchv1.Job](c.Scheme()), object.Of[*corev1.Pod](c.Scheme())} {
		wg.Go(func() { _ = reconcile.Follow(ctx, c, d, "", client.ListOptions{}, quiet, l) })
	}
}

// Replace implements reconcile.Follower: there is nothing at first.
func (l *ledger) Replace(client.List) {}

func (l *ledger) Apply(events []client.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		switch o := e.Object.(type) {
		case *batchv1.Job:
			l.job(o, e.Type == client.Deleted, e.Revision)
		case *corev1.Pod:
			holds := slices.Contains(o.Finalizers, batchv1.JobTrackingFinalizer)
			if l.held[o.UID] && !holds {
				l.released = append(l.released, release{o, e.Revision})
			}
			l.held[o.UID] = holds
		}
	}
}

func (l *ledger) job(j *batchv1.Job, gone bool, r object.Revision) {
	l.indexed[j.UID] = j.Spec.CompletionMode != nil && *j.Spec.CompletionMode == batchv1.IndexedCompletion
	if u := j.Status.UncountedTerminatedPods; u != nil {
		for _, uid := range slices.Concat(u.Succeeded, u.Failed) {
			if l.noted[uid] == 0 {
				l.noted[uid] = r
			}
		}
	}
	over := gone || j.DeletionTimestamp != nil || slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Status == corev1.ConditionTrue && c.Type != batchv1.JobSuspended
	})
	if over && l.ended[j.UID] == 0 {
		l.ended[j.UID] = r
	}
}

func (l *ledger) check(t *testing.T, seed uint64) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.released {
		ref := metav1.GetControllerOf(x.pod)
		if ref == nil || l.indexed[ref.UID] || x.pod.DeletionTimestamp != nil {
			continue
		}
		noted, ended := l.noted[x.pod.UID], l.ended[ref.UID]
		if (noted == 0 || noted > x.revision) && (ended == 0 || ended > x.revision) {
			t.Errorf("seed %d: pod %s (%s) was let go at %d, which its Job noted at %d and ended at %d", seed, x.pod.Name, x.pod.Status.Phase, x.revision, noted, ended)
		}
	}
	if len(l.released) == 0 {
		t.Error("no pod of a Job was ever let go")
	}
}
