package workloads

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

// A set with all its pods has only them to count. Of large ones whose pods become
// ready one after another that would take more than the pods' own writes, so it
// rests in between as its size demands: 1,000 pods are counted four times a second.
const (
	restingPods = 50
	restAPod    = 250 * time.Microsecond
	longestRest = time.Second
)

// burst is how many pods are made or deleted in one handling of a set.
const burst = 500

// replicaStatus is what ReplicaSet and ReplicationController report alike.
type replicaStatus struct {
	Replicas, FullyLabeled, Ready, Available int32
	Terminating                              *int32 // nil for kinds without
	ObservedGeneration                       int64
	Failure                                  *failure // the ReplicaFailure condition
}

type failure struct{ Reason, Message string }

// replicaKind tells the engine that ReplicaSet and ReplicationController share
// what differs between them.
type replicaKind[T object.Object] struct {
	name     string // of the controller
	replicas func(T) int32
	minReady func(T) int32
	selector func(T) (labels.Selector, error)
	template func(T) *corev1.PodTemplateSpec
	failing  func(T) bool                        // has the ReplicaFailure condition
	with     func(T, replicaStatus, time.Time) T // a copy with that status
	same     func(a, b T) bool                   // equal status
	// related are the pods whose crowding on nodes counts for o's deletions.
	related func(o T, own []*corev1.Pod) []*corev1.Pod
}

// replicaController keeps as many pods alive as a set asks for.
type replicaController[T object.Object] struct {
	kind   replicaKind[T]
	def    *object.Definition
	podDef *object.Definition
	sets   *reconcile.View[T]
	pods   *reconcile.View[*corev1.Pod]
	seen   podstate.Digests // the same pods
	spaces *reconcile.View[*corev1.Namespace]
	events client.Recorder
}

func newReplicaController[T object.Object](h *reconcile.Hub, events client.Recorder, kind replicaKind[T]) *replicaController[T] {
	c := &replicaController[T]{
		kind: kind, events: events,
		def: object.Of[T](h.Client().Scheme()), podDef: object.Of[*corev1.Pod](h.Client().Scheme()),
		sets: reconcile.ViewOf[T](h), pods: reconcile.ViewOf[*corev1.Pod](h), spaces: reconcile.ViewOf[*corev1.Namespace](h),
	}
	reconcile.IndexOwners(c.pods)
	c.seen = podstate.DigestsOf(c.pods)
	c.sets.Index("namespace", func(o T) []string { return []string{o.GetNamespace()} })
	return c
}

// Name implements reconcile.Controller.
func (c *replicaController[T]) Name() string { return c.kind.name }

// Inputs implements reconcile.Controller.
func (c *replicaController[T]) Inputs() []reconcile.Input {
	gk := c.def.GVK().GroupKind()
	return []reconcile.Input{
		reconcile.Self(c.sets),
		reconcile.Reads(c.spaces),
		reconcile.On(c.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			before, after := reconcile.ControllerKey(old, gk), reconcile.ControllerKey(new, gk)
			if after != (object.Key{}) {
				enqueue(after)
			}
			if before != (object.Key{}) && before != after {
				enqueue(before)
			}
			if p := new; p != nil && metav1.GetControllerOfNoCopy(p) == nil && orphanMatters(old, new) {
				for _, set := range c.sets.By("namespace", p.Namespace) {
					if s, err := c.kind.selector(set); err == nil && s.Matches(labels.Set(p.Labels)) {
						enqueue(object.KeyOf(set))
					}
				}
			}
		}),
	}
}

// orphanMatters says whether a change of a pod without controller may let some
// set adopt it.
func orphanMatters(old, new *corev1.Pod) bool {
	return new.DeletionTimestamp == nil && (old == nil || metav1.GetControllerOfNoCopy(old) != nil ||
		!maps.Equal(old.Labels, new.Labels))
}

// Outputs implements reconcile.Controller.
func (c *replicaController[T]) Outputs() []reconcile.Output {
	return []reconcile.Output{
		{Kind: c.def.GVK().GroupKind(), Field: "status"},
		{Kind: c.podDef.GVK().GroupKind(), Field: "of " + c.def.Kind},
	}
}

// Reconcile implements reconcile.Controller.
func (c *replicaController[T]) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	set, ok := c.sets.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	selector, err := c.kind.selector(set)
	if err != nil || selector.Empty() {
		return reconcile.Result{}, nil // validation refuses such; nothing to retry
	}
	chosen := labelMemo{Selector: selector}
	owned, err := c.seen.Claim(ctx, w, set, func(p *podstate.Digest) bool { return chosen.matches(p.Labels) })
	if err != nil {
		return reconcile.Result{}, err
	}
	now := time.Now()
	active := owned[:0]
	terminating := int32(0)
	for _, p := range owned {
		switch {
		case p.Digest.Active():
			active = append(active, p)
		case p.Digest.Terminating():
			terminating++
		}
	}
	var manageErr error
	var failed *failure
	if set.GetDeletionTimestamp() == nil {
		failed, manageErr = c.manage(ctx, w, set, active, now)
	}
	status, soon := replicaStatusOf(active, labels.SelectorFromSet(c.kind.template(set).Labels), c.kind.minReady(set), now)
	status.Terminating, status.ObservedGeneration, status.Failure = &terminating, set.GetGeneration(), failed
	if next := c.kind.with(set, status, now); !c.kind.same(set, next) {
		if _, err := w.Update(ctx, c.def, next, "status"); err != nil && !apierrors.IsNotFound(err) {
			return reconcile.Result{}, errors.Join(manageErr, fmt.Errorf("cannot update status: %w", err))
		}
	}
	result := reconcile.Result{After: soon}
	if len(active) == int(c.kind.replicas(set)) && len(active) >= restingPods {
		result.Rest = min(time.Duration(len(active))*restAPod, longestRest)
	}
	return result, manageErr
}

// replicaStatusOf counts pods. soon is when the next of them becomes available
// by the passing of time alone; zero when none does.
func replicaStatusOf(active []podstate.Digested, template labels.Selector, minReady int32, now time.Time) (s replicaStatus, soon time.Duration) {
	s.Replicas = int32(len(active))
	full := labelMemo{Selector: template}
	for _, p := range active {
		if full.matches(p.Digest.Labels) {
			s.FullyLabeled++
		}
		wait, ready := p.Digest.AvailableIn(minReady, now)
		switch {
		case !ready:
			continue
		case wait == 0:
			s.Available++
		case soon == 0 || wait < soon:
			soon = wait
		}
		s.Ready++
	}
	return s, soon
}

// manage makes or deletes pods until there are as many as asked for.
func (c *replicaController[T]) manage(ctx context.Context, w client.Client, set T, active []podstate.Digested, now time.Time) (*failure, error) {
	missing := int(c.kind.replicas(set)) - len(active)
	switch {
	case missing > 0:
		err := c.create(ctx, w, set, min(missing, burst))
		if err != nil {
			return &failure{"FailedCreate", err.Error()}, err
		}
	case missing < 0:
		surplus := min(-missing, burst)
		pods := reconcile.Objects(active)
		if -missing < len(pods) {
			rankForDeletion(pods, c.kind.related(set, pods), now)
		}
		if err := c.delete(ctx, w, set, pods[:surplus]); err != nil {
			return &failure{"FailedDelete", err.Error()}, err
		}
	}
	return nil, nil
}

// create makes n pods: all at once, but in doubling steps while the set is known
// to fail, so that what quota or admission refuses is not asked for 500 times.
func (c *replicaController[T]) create(ctx context.Context, w client.Client, set T, n int) error {
	// In a namespace that goes nothing can be made, and each pod that goes with it
	// would have it tried again for all.
	if ns, ok := c.spaces.Get("", set.GetNamespace()); ok && ns.DeletionTimestamp != nil {
		return nil
	}
	ref := metav1.NewControllerRef(set, c.def.GVK())
	step := n
	if c.kind.failing(set) {
		step = 1
	}
	for n > 0 {
		step = min(step, n)
		writes := make([]client.Write, step)
		for i := range writes {
			writes[i] = client.Write{
				Op: client.OpCreate, Definition: c.podDef,
				Object: podFrom(c.kind.template(set), set.GetNamespace(), set.GetName(), ref),
			}
		}
		var first error
		for _, r := range w.Batch(ctx, writes) {
			switch {
			case r.Err == nil:
				c.events.Eventf(set, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", r.Object.GetName())
			case apierrors.HasStatusCause(r.Err, corev1.NamespaceTerminatingCause):
				return nil // nothing can be made there, and the set will go too
			case first == nil:
				first = r.Err
				c.events.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", r.Err)
			}
		}
		if first != nil {
			return first
		}
		n -= step
		step *= 2
	}
	return nil
}

func (c *replicaController[T]) delete(ctx context.Context, w client.Client, set T, pods []*corev1.Pod) error {
	writes := make([]client.Write, len(pods))
	for i, p := range pods {
		writes[i] = deletion(c.podDef, p)
	}
	var first error
	for i, r := range w.Batch(ctx, writes) {
		switch {
		case r.Err == nil:
			c.events.Eventf(set, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", pods[i].Name)
		case apierrors.IsNotFound(r.Err) || apierrors.IsConflict(r.Err): // gone, or another of that name
		case first == nil:
			first = r.Err
			c.events.Eventf(set, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", r.Err)
		}
	}
	return first
}
