package controller_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// ledger writes down what happens, in the order of revisions, to hold controllers
// to rules that the end does not show:
//   - While a Job goes on, no pod of it loses its finalizer before the Job's status
//     has noted it.
//   - No CronJob forgets a Job of its that goes on.
//   - No claim is told that it has lost a volume which is there and is its.
//   - No volume shrinks, nor does a Deployment whose load dips for a moment.
type ledger struct {
	mu       sync.Mutex
	noted    map[types.UID]object.Revision // pods, in the status of their Job
	ended    map[types.UID]object.Revision // Jobs that are finished, or on their way out
	indexed  map[types.UID]bool            // Jobs that count by index
	held     map[types.UID]bool            // pods with the finalizer
	released []release

	claims  []version[*corev1.PersistentVolumeClaim]
	volumes []version[*corev1.PersistentVolume]
	sizes   map[types.UID]int64 // of volumes and autoscaled Deployments
	shrunk  []string

	active    map[types.UID][]types.UID // Jobs, by their CronJob
	forgotten []forgetting
}

// forgetting is that a Job is not among the active ones of its CronJob any more.
type forgetting struct {
	job      types.UID
	revision object.Revision
}

// version is an object as it was from a revision on; gone when it ended there.
type version[T object.Object] struct {
	o        T
	gone     bool
	revision object.Revision
}

type release struct {
	pod      *corev1.Pod
	revision object.Revision
}

func (l *ledger) keep(ctx context.Context, c client.Client, wg *sync.WaitGroup) {
	l.active = map[types.UID][]types.UID{}
	l.sizes = map[types.UID]int64{}
	l.noted, l.ended, l.indexed, l.held = map[types.UID]object.Revision{}, map[types.UID]object.Revision{}, map[types.UID]bool{}, map[types.UID]bool{}
	s := c.Scheme()
	for _, d := range []*object.Definition{
		object.Of[*batchv1.Job](s), object.Of[*corev1.Pod](s), object.Of[*corev1.PersistentVolumeClaim](s), object.Of[*corev1.PersistentVolume](s), object.Of[*appsv1.Deployment](s),
		object.Of[*batchv1.CronJob](s),
	} {
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
		case *batchv1.CronJob:
			var now []types.UID
			for _, ref := range o.Status.Active {
				now = append(now, ref.UID)
			}
			for _, uid := range l.active[o.UID] {
				if !slices.Contains(now, uid) {
					l.forgotten = append(l.forgotten, forgetting{uid, e.Revision})
				}
			}
			l.active[o.UID] = now
		case *corev1.PersistentVolumeClaim:
			l.claims = append(l.claims, version[*corev1.PersistentVolumeClaim]{o, e.Type == client.Deleted, e.Revision})
		case *corev1.PersistentVolume:
			l.volumes = append(l.volumes, version[*corev1.PersistentVolume]{o, e.Type == client.Deleted, e.Revision})
			l.size(o, o.Spec.Capacity.Storage().Value())
		case *appsv1.Deployment:
			if o.Name == "grow" {
				l.size(o, int64(*o.Spec.Replicas))
			}
		}
	}
}

func (l *ledger) size(o object.Object, n int64) {
	if before := l.sizes[o.GetUID()]; n < before {
		l.shrunk = append(l.shrunk, fmt.Sprintf("%T %s went from %d to %d at %s", o, o.GetName(), before, n, o.GetResourceVersion()))
	}
	l.sizes[o.GetUID()] = n
}

// lost are the claims that were told so although their volume was there.
func (l *ledger) lost() (all []string) {
	there := map[string]*corev1.PersistentVolume{}
	rest := l.volumes
	for _, c := range l.claims {
		for ; len(rest) > 0 && rest[0].revision < c.revision; rest = rest[1:] {
			if delete(there, rest[0].o.Name); !rest[0].gone {
				there[rest[0].o.Name] = rest[0].o
			}
		}
		v := there[c.o.Spec.VolumeName]
		if !c.gone && c.o.Status.Phase == corev1.ClaimLost && v != nil && volume.IsVolumeBoundToClaim(v, c.o) {
			all = append(all, fmt.Sprintf("%s at %d", c.o.Name, c.revision))
		}
	}
	return all
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
	for _, f := range l.forgotten {
		if ended := l.ended[f.job]; ended == 0 || ended > f.revision {
			t.Errorf("seed %d: a Job that ended at %d was forgotten by its CronJob at %d", seed, ended, f.revision)
		}
	}
	for _, text := range l.shrunk {
		t.Errorf("seed %d: %s", seed, text)
	}
	for _, text := range l.lost() {
		t.Errorf("seed %d: claim %s is told that it has lost a volume that is there", seed, text)
	}
	if len(l.released) == 0 || len(l.claims) == 0 || len(l.volumes) == 0 {
		t.Error("no pod of a Job was ever let go, or there were no volumes")
	}
}
