package plugins

import (
	"context"
	"maps"
	"sync/atomic"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/reconcile"
	"sagong/scheduler/state"
)

// Owners knows what belongs together where pods do not say it themselves: pods
// of one Service, and of one ReplicationController, ReplicaSet or StatefulSet.
type Owners struct {
	services     *reconcile.View[*corev1.Service]
	controllers  *reconcile.View[*corev1.ReplicationController]
	replicaSets  *reconcile.View[*appsv1.ReplicaSet]
	statefulSets *reconcile.View[*appsv1.StatefulSet]
	version      atomic.Uint64
}

// Synced waits for the first list of all it follows.
func (o *Owners) Synced(ctx context.Context) error {
	for _, synced := range []func(context.Context) error{o.services.Synced, o.controllers.Synced, o.replicaSets.Synced, o.statefulSets.Synced} {
		if err := synced(ctx); err != nil {
			return err
		}
	}
	return nil
}

const byNamespace = "scheduler/namespace"

// NewOwners follows the hub's views.
func NewOwners(h *reconcile.Hub) *Owners {
	o := &Owners{
		services:     reconcile.ViewOf[*corev1.Service](h),
		controllers:  reconcile.ViewOf[*corev1.ReplicationController](h),
		replicaSets:  reconcile.ViewOf[*appsv1.ReplicaSet](h),
		statefulSets: reconcile.ViewOf[*appsv1.StatefulSet](h),
	}
	o.services.Index(byNamespace, func(s *corev1.Service) []string { return []string{s.Namespace} })
	o.services.OnChange(func(old, new *corev1.Service) {
		if old == nil || new == nil || !maps.Equal(old.Spec.Selector, new.Spec.Selector) {
			o.version.Add(1)
		}
	})
	return o
}

// Version changes when selectors may have: those of Services, as the others'
// cannot.
func (o *Owners) Version() uint64 { return o.version.Load() }

// Selector matches the pods that p belongs with; it is empty when p is on its
// own. known is false while the pod's controller has not been seen yet.
func (o *Owners) Selector(p *corev1.Pod) (selector labels.Selector, known bool) {
	set := labels.Set{}
	for _, s := range o.services.By(byNamespace, p.Namespace) {
		if s.Spec.Selector != nil && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels)) {
			maps.Copy(set, s.Spec.Selector)
		}
	}
	selector = set.AsSelector()
	ref := metav1.GetControllerOfNoCopy(p)
	if ref == nil {
		return selector, true
	}
	add := func(l *metav1.LabelSelector) {
		if more, err := metav1.LabelSelectorAsSelector(l); err == nil {
			if r, ok := more.Requirements(); ok {
				selector = selector.Add(r...)
			}
		}
	}
	switch {
	case ref.APIVersion == "v1" && ref.Kind == "ReplicationController":
		rc, ok := o.controllers.Get(p.Namespace, ref.Name)
		if !ok {
			return selector, false
		}
		maps.Copy(set, rc.Spec.Selector)
		return set.AsSelector(), true
	case ref.APIVersion == "apps/v1" && ref.Kind == "ReplicaSet":
		rs, ok := o.replicaSets.Get(p.Namespace, ref.Name)
		if !ok {
			return selector, false
		}
		add(rs.Spec.Selector)
	case ref.APIVersion == "apps/v1" && ref.Kind == "StatefulSet":
		ss, ok := o.statefulSets.Get(p.Namespace, ref.Name)
		if !ok {
			return selector, false
		}
		add(ss.Spec.Selector)
	}
	return selector, true
}

// awaitsOwners counts nothing until a Service may have come to match.
func awaitsOwners(o *Owners, version uint64) Counting { return &idle{o, version} }

type idle struct {
	owners  *Owners
	version uint64
}

func (*idle) Recount(int, *state.Node)            {}
func (*idle) Sign(b []byte, _ *state.Node) []byte { return b }
func (*idle) Filters() bool                       { return false }
func (*idle) Filter(*state.Node) *No              { return nil }
func (*idle) Scores([]Group, []int64) bool        { return false }
func (i *idle) Same(o Counting) bool {
	x, ok := o.(*idle)
	return ok && x.version == i.version
}
func (i *idle) Stale() bool { return i.owners.Version() != i.version }
