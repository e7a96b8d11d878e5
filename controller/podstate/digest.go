package podstate

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/reconcile"
)

// Digest is what controllers ask of all pods of a workload when one of them
// changes.
type Digest struct {
	Labels            map[string]string // shared, immutable
	readySince        int64             // Unix time in ns, 0 for one that is not known
	Ready             bool
	Finished, Deleted bool
}

// Digests are the pods of a view by their digests.
type Digests = reconcile.Digests[*corev1.Pod, Digest]

// Digested is a pod of a view by its digest.
type Digested = reconcile.Digested[*corev1.Pod, Digest]

// DigestsOf has a view keep the digests of its pods. Call it before Run.
func DigestsOf(pods *reconcile.View[*corev1.Pod]) Digests {
	return reconcile.DigestsOf(pods, digestOf)
}

func digestOf(p *corev1.Pod) Digest {
	d := Digest{Labels: p.Labels, Ready: Ready(p), Finished: Finished(p), Deleted: p.DeletionTimestamp != nil}
	if since := ReadySince(p); !since.IsZero() {
		d.readySince = since.UnixNano()
	}
	return d
}

// Active is the function Active.
func (d *Digest) Active() bool { return !d.Finished && !d.Deleted }

// Terminating is the function Terminating.
func (d *Digest) Terminating() bool { return !d.Finished && d.Deleted }

// AvailableIn is the function AvailableIn.
func (d *Digest) AvailableIn(minReadySeconds int32, now time.Time) (wait time.Duration, ok bool) {
	switch {
	case !d.Ready:
		return 0, false
	case minReadySeconds == 0:
		return 0, true
	case d.readySince == 0:
		return 0, false
	}
	return max(0, time.Unix(0, d.readySince).Add(time.Duration(minReadySeconds)*time.Second).Sub(now)), true
}
