package simulate

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
)

func gone(err error) bool { return apierrors.IsNotFound(err) }

// servePod writes what there is to report of a pod and, once it is down, lets
// its object go.
func (f *Fleet) servePod(ctx context.Context, p *pod) {
	f.mu.Lock()
	if p.gone || p.node.down != "" || p.behind >= p.rev && p.behind > 0 {
		f.mu.Unlock()
		return
	}
	switch {
	case p.version != p.reported:
		version, sent := p.version, p.rev
		// The spec stays away: the API ignores it in a write of the status, and a
		// real agent sends a patch of the status alone.
		o := (&corev1.Pod{ObjectMeta: p.meta, Status: p.status()}).DeepCopy() // it is given away
		f.mu.Unlock()
		written, err := client.UpdateStatus(ctx, f.cfg.Client, o)
		f.count(countPodWrites)
		f.reported(ctx, p, version, sent, written, err)
	case p.stage == finished:
		uid, zero := p.meta.UID, int64(0)
		namespace, name := p.meta.Namespace, p.meta.Name
		f.mu.Unlock()
		err := f.cfg.Client.Delete(ctx, f.podDef, namespace, name, metav1.DeleteOptions{
			GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &uid},
		})
		f.count(countPodWrites)
		f.mu.Lock()
		defer f.mu.Unlock()
		switch {
		case err == nil && len(p.meta.Finalizers) == 0, apierrors.IsConflict(err): // another of that name
			f.forget(p)
		case err != nil:
			f.failed(ctx, p, err)
		}
	default:
		f.mu.Unlock()
	}
}

// reported takes the answer to a write of the status.
func (f *Fleet) reported(ctx context.Context, p *pod, version uint32, sent object.Revision, written *corev1.Pod, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		p.reported, p.tries = version, 0
		f.seePod(p, written)
		if p.version != p.reported || p.stage == finished {
			f.push(p)
		}
	case apierrors.IsConflict(err):
		f.count(countConflicts)
		p.behind = sent
		if p.rev > sent { // seen meanwhile
			f.push(p)
		}
	default:
		f.failed(ctx, p, err)
	}
}

// failed tries a write again later. f.mu is held.
func (f *Fleet) failed(ctx context.Context, p *pod, err error) {
	if gone(err) {
		f.forget(p)
		return
	}
	if ctx.Err() != nil {
		return
	}
	f.count(countErrors)
	p.tries++
	if p.tries == 5 {
		f.cfg.Log.Warn("cannot report a pod, trying again", "pod", p.meta.Namespace+"/"+p.meta.Name, "err", err)
	}
	f.timers.Set(retryOf{p}, time.Now().Add(min(time.Duration(p.tries)*100*time.Millisecond, 5*time.Second)), func() { f.podWork.Add(p) })
}

type retryOf struct{ p *pod }

// seePod takes a newer version of a pod. f.mu is held.
func (f *Fleet) seePod(p *pod, o *corev1.Pod) {
	if p.gone || object.RevisionOf(o) <= p.rev {
		return
	}
	if o.Generation != p.meta.Generation {
		// The spec changed: the pod is resized, or has another image.
		old := p.shape
		if p.shape = f.shapeOf(o); p.shape != old {
			for r := range old.needs {
				if p.stage < ended {
					p.node.used[r] += p.shape.needs[r] - old.needs[r]
				}
			}
		}
		p.version++
	}
	p.see(o)
	if o.DeletionTimestamp != nil && !p.stopping {
		f.stop(p)
	}
	if p.version != p.reported || p.stage == finished {
		f.push(p)
	}
}

// forget lets go of a pod whose object is gone. f.mu is held.
func (f *Fleet) forget(p *pod) {
	if p.gone {
		return
	}
	f.count(countRemoved)
	p.gone = true
	f.timers.Clear(p)
	f.timers.Clear(retryOf{p})
	if p.stage < ended {
		f.free(p)
	}
	if p.slot != 0 {
		p.node.release(p.slot)
	}
	delete(p.node.held, p)
	if k := (object.Key{Namespace: p.meta.Namespace, Name: p.meta.Name}); f.pods[k] == p {
		delete(f.pods, k)
	}
}

// podFollower keeps the pods of the fleet's nodes as the API has them.
type podFollower struct{ f *Fleet }

func (w podFollower) Replace(l client.List) {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	present := make(map[object.Key]bool, len(l.Items))
	for _, o := range l.Items {
		present[object.KeyOf(o)] = true
		w.see(o)
	}
	for k, p := range w.f.pods {
		if !present[k] && p.rev <= l.Revision {
			w.f.forget(p)
		}
	}
}

func (w podFollower) Apply(events []client.Event) {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	for _, e := range events {
		switch {
		case e.Object == nil:
		case e.Type != client.Deleted:
			w.see(e.Object)
		default:
			if p := w.f.pods[object.KeyOf(e.Object)]; p != nil && p.meta.UID == e.Object.GetUID() {
				w.f.forget(p)
			}
		}
	}
}

func (w podFollower) see(o object.Object) {
	f, incoming := w.f, o.(*corev1.Pod)
	n := f.nodes[incoming.Spec.NodeName]
	if n == nil {
		return
	}
	k := object.KeyOf(o)
	p := f.pods[k]
	if p != nil && p.meta.UID == incoming.UID {
		f.seePod(p, incoming)
		return
	}
	if p != nil {
		f.forget(p)
	}
	p = f.newPod(n, incoming)
	f.pods[k] = p
	if incoming.DeletionTimestamp != nil {
		f.stop(p)
	}
}
