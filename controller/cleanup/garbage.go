package cleanup

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// firstSnapshots is how long the collector waits for the first list of every
// kind before it starts without the missing ones.
const firstSnapshots = 30 * time.Second

type garbageCollector struct {
	events client.Recorder
	log    *slog.Logger
	graph  *graph
}

// NewGarbageCollector returns the controller that deletes objects whose owners
// are all gone, and carries out foreground and orphaning deletions. It follows
// the metadata of every stored kind; its keys are uids.
func NewGarbageCollector(events client.Recorder, log *slog.Logger) reconcile.Controller {
	return &garbageCollector{events: events, log: log}
}

func (c *garbageCollector) Name() string              { return "garbage-collector" }
func (c *garbageCollector) Inputs() []reconcile.Input { return nil }
func (c *garbageCollector) Workers() int              { return 20 }

func (c *garbageCollector) Outputs() []reconcile.Output {
	any := schema.GroupKind{Kind: "*"}
	return []reconcile.Output{{Kind: any, Field: "owner references of absent owners"}, {Kind: any, Field: "finalizers of deletion"}}
}

// Run implements reconcile.Runner: it follows all kinds, those made later too.
func (c *garbageCollector) Run(ctx context.Context, w client.Client, enqueue func(object.Key)) error {
	g := newGraph(func(uid types.UID) { enqueue(object.Key{Name: string(uid)}) })
	c.graph = g
	k := &followers{ctx: ctx, w: w, g: g, log: c.log, running: map[*object.Definition]func(){}}
	defer k.wait.Wait()
	var pending sync.WaitGroup
	k.sync(func() func() {
		pending.Add(1)
		return pending.Done
	})
	ready := make(chan struct{})
	go func() { // ends with the first lists, at the latest with the followers
		pending.Wait()
		close(ready)
	}()
	late := time.NewTimer(firstSnapshots)
	defer late.Stop()
	select {
	case <-ready:
	case <-late.C:
		c.log.Warn("starting although not every kind could be listed")
	case <-ctx.Done():
		return ctx.Err()
	}
	g.start()
	for {
		changed := w.Scheme().Changed()
		k.sync(nil)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// followers runs one follower for each kind of the scheme.
type followers struct {
	ctx     context.Context
	w       client.Client
	g       *graph
	log     *slog.Logger
	running map[*object.Definition]func() // ends it
	wait    sync.WaitGroup
}

// sync starts followers of new kinds and ends those of kinds that are gone.
// first, when given, returns what to call after a kind's first snapshot.
func (k *followers) sync(first func() func()) {
	all := k.w.Scheme().All()
	for _, d := range all {
		if k.running[d] != nil || !collectable(d) {
			continue
		}
		ctx, cancel := context.WithCancel(k.ctx)
		k.running[d] = cancel
		f := &kindFollower{g: k.g, def: d, seen: map[object.Key]types.UID{}}
		done := func() {}
		if first != nil {
			done = sync.OnceFunc(first())
			f.first = done
		}
		k.wait.Go(func() {
			_ = reconcile.Follow(ctx, k.w, d, "", client.ListOptions{}, k.log, f)
			done()
			if k.ctx.Err() == nil {
				f.clear()
			}
		})
	}
	for d, cancel := range k.running {
		if !slices.Contains(all, d) {
			cancel()
			delete(k.running, d)
		}
	}
}

// collectable says whether objects of a kind take part in ownership. Events do
// not: there are many and nothing hangs on them.
func collectable(d *object.Definition) bool {
	return deletable(d) && d.Kind != "Event" && (d.Verbs == nil || slices.Contains(d.Verbs, "watch"))
}

// Reconcile decides about one object.
func (c *garbageCollector) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	s, ok := c.graph.look(types.UID(key.Name))
	if !ok {
		return reconcile.Result{}, nil
	}
	switch {
	case s.orphan:
		return reconcile.Result{}, c.separate(ctx, w, &s)
	case s.foreground:
		return reconcile.Result{}, c.endForeground(ctx, w, &s)
	case s.deleting:
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, c.collect(ctx, w, &s)
}

// separate takes a deleted owner out of its dependents' references, then lets it
// go. It asks the API for dependents that the graph has not heard of yet, of
// every kind: once their owner is gone they would be deleted.
func (c *garbageCollector) separate(ctx context.Context, w client.Client, s *situation) error {
	dependents := s.dependents
	err := dependentsOf(ctx, w, s, slices.DeleteFunc(w.Scheme().All(), func(d *object.Definition) bool { return !collectable(d) }),
		func(d *object.Definition, o object.Object, _ *metav1.OwnerReference) bool {
			if !slices.ContainsFunc(dependents, func(n node) bool { return n.uid == o.GetUID() }) {
				dependents = append(dependents, node{def: d, key: object.KeyOf(o), uid: o.GetUID()})
			}
			return true
		})
	if err != nil {
		return err
	}
	for i := range dependents {
		if err := dropOwners(ctx, w, &dependents[i], s.uid); err != nil {
			return fmt.Errorf("cannot orphan %s %s: %w", dependents[i].def.Kind, dependents[i].key, err)
		}
	}
	return dropFinalizer(ctx, w, &s.node, metav1.FinalizerOrphanDependents)
}

// endForeground lets a deleted owner go once no dependent blocks it; until then
// it has those deleted that are not yet.
func (c *garbageCollector) endForeground(ctx context.Context, w client.Client, s *situation) error {
	blocked := false
	for i := range s.dependents {
		dep := &s.dependents[i]
		for j := range dep.owners {
			if dep.owners[j].UID == s.uid && blocks(&dep.owners[j]) {
				blocked = true
				if !dep.foreground {
					c.graph.enqueue(dep.uid)
				}
			}
		}
	}
	if blocked {
		return nil
	}
	if late, err := c.unseen(ctx, w, s, blocks); late || err != nil {
		return err // once the graph has it, this one is asked about again
	}
	return dropFinalizer(ctx, w, &s.node, metav1.FinalizerDeleteDependents)
}

// usualDependents are kinds whose objects own others as a matter of course.
var usualDependents = map[schema.GroupKind][]schema.GroupVersionKind{
	{Kind: "ReplicationController"}:      {corev1.SchemeGroupVersion.WithKind("Pod")},
	{Group: "apps", Kind: "Deployment"}:  {appsv1.SchemeGroupVersion.WithKind("ReplicaSet")},
	{Group: "apps", Kind: "ReplicaSet"}:  {corev1.SchemeGroupVersion.WithKind("Pod")},
	{Group: "apps", Kind: "DaemonSet"}:   {corev1.SchemeGroupVersion.WithKind("Pod"), appsv1.SchemeGroupVersion.WithKind("ControllerRevision")},
	{Group: "apps", Kind: "StatefulSet"}: {corev1.SchemeGroupVersion.WithKind("Pod"), appsv1.SchemeGroupVersion.WithKind("ControllerRevision")},
	{Group: "batch", Kind: "Job"}:        {corev1.SchemeGroupVersion.WithKind("Pod")},
	{Group: "batch", Kind: "CronJob"}:    {batchv1.SchemeGroupVersion.WithKind("Job")},
}

// unseen says whether the API has a dependent that the graph does not: each
// kind is followed on its own, so that the word of an owner's deletion can
// overtake that of its dependents' creation. It looks at the kinds that such
// owners usually have, and only at the end of foreground deletions.
func (c *garbageCollector) unseen(ctx context.Context, w client.Client, s *situation, counts func(*metav1.OwnerReference) bool) (bool, error) {
	kinds := c.graph.ownedBy(s.def)
	for _, gvk := range usualDependents[schema.GroupKind{Group: s.def.Group, Kind: s.def.Kind}] {
		if d := w.Scheme().ByKind(gvk); d != nil && !slices.Contains(kinds, d) {
			kinds = append(kinds, d)
		}
	}
	found := false
	err := dependentsOf(ctx, w, s, kinds, func(_ *object.Definition, _ object.Object, ref *metav1.OwnerReference) bool {
		found = counts(ref)
		return !found
	})
	return found, err
}

// dependentsOf calls f with every object of some kinds that, by the API, refers to
// an owner, until f returns false.
func dependentsOf(ctx context.Context, w client.Client, s *situation, kinds []*object.Definition, f func(*object.Definition, object.Object, *metav1.OwnerReference) bool) error {
	for _, d := range kinds {
		namespace := s.key.Namespace
		if !d.Namespaced {
			if namespace != "" {
				continue // it cannot have an owner in a namespace
			}
		}
		list, err := w.List(ctx, d, namespace, client.ListOptions{})
		if err != nil {
			return fmt.Errorf("cannot look for dependents of %s %s: %w", s.def.Kind, s.key, err)
		}
		for _, o := range list.Items {
			for _, ref := range o.GetOwnerReferences() {
				if ref.UID == s.uid && !f(d, o, &ref) {
					return nil
				}
			}
		}
	}
	return nil
}

func anyReference(*metav1.OwnerReference) bool { return true }

// collect deletes an object that has references but no owner left, or frees it
// from those of its references that are void.
func (c *garbageCollector) collect(ctx context.Context, w client.Client, s *situation) error {
	live, err := w.Get(ctx, s.def, s.key.Namespace, s.key.Name)
	if apierrors.IsNotFound(err) || (err == nil && live.GetUID() != s.uid) {
		return nil // the watch will say so
	}
	if err != nil {
		return err
	}
	if live.GetDeletionTimestamp() != nil || len(live.GetOwnerReferences()) == 0 {
		return nil
	}
	var solid bool
	var void, waiting []types.UID
	for _, ref := range live.GetOwnerReferences() {
		state, err := c.ownerState(ctx, w, s, live, ref)
		if err != nil {
			return err
		}
		switch state {
		case ownerSolid:
			solid = true
		case ownerAbsent:
			void = append(void, ref.UID)
		case ownerWaiting:
			waiting = append(waiting, ref.UID)
		case ownerUnknown:
			return nil // of a kind that is not served: never a reason to delete
		}
	}
	if solid {
		if drop := append(void, waiting...); len(drop) > 0 {
			return dropOwners(ctx, w, &s.node, drop...)
		}
		return nil
	}
	dependents := len(s.dependents) > 0
	if len(waiting) > 0 && !dependents {
		if dependents, err = c.unseen(ctx, w, s, anyReference); err != nil {
			return err
		}
	}
	if len(waiting) > 0 && dependents {
		// Deleted with its owner, it has its own dependents deleted first. If
		// one of them waits for this one, that is a circle: break it here.
		for i := range s.dependents {
			if s.dependents[i].foreground {
				if err := unblock(ctx, w, s, live); err != nil {
					return err
				}
				break
			}
		}
		return c.delete(ctx, w, s, live, metav1.DeletePropagationForeground)
	}
	policy := metav1.DeletePropagationBackground
	switch f := live.GetFinalizers(); {
	case slices.Contains(f, metav1.FinalizerOrphanDependents):
		policy = metav1.DeletePropagationOrphan
	case slices.Contains(f, metav1.FinalizerDeleteDependents):
		policy = metav1.DeletePropagationForeground
	}
	return c.delete(ctx, w, s, live, policy)
}

type ownerFound int

const (
	ownerSolid   ownerFound = iota
	ownerAbsent             // no object of that kind, name and uid
	ownerWaiting            // being deleted, waits for its dependents
	ownerUnknown            // cannot be told
)

// ownerState looks an owner up, first in the graph, then live.
func (c *garbageCollector) ownerState(ctx context.Context, w client.Client, s *situation, live object.Object, ref metav1.OwnerReference) (ownerFound, error) {
	if o := c.graph.owner(&s.node, ref); o.known {
		if o.foreground {
			return ownerWaiting, nil
		}
		return ownerSolid, nil
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return ownerUnknown, nil
	}
	d := w.Scheme().ByKind(gv.WithKind(ref.Kind))
	if d == nil || d.Virtual {
		return ownerUnknown, nil
	}
	namespace := s.key.Namespace
	if !d.Namespaced {
		namespace = ""
	} else if namespace == "" {
		c.events.Eventf(live, corev1.EventTypeWarning, "OwnerRefInvalidNamespace", "ownerRef %s is namespaced, but the object is cluster-scoped", describe(ref))
		return ownerUnknown, nil
	}
	owner, err := w.Get(ctx, d, namespace, ref.Name)
	switch {
	case apierrors.IsNotFound(err):
		return ownerAbsent, nil
	case err != nil:
		return ownerUnknown, fmt.Errorf("cannot look up owner %s: %w", describe(ref), err)
	case owner.GetUID() != ref.UID:
		return ownerAbsent, nil
	case owner.GetDeletionTimestamp() != nil && slices.Contains(owner.GetFinalizers(), metav1.FinalizerDeleteDependents):
		return ownerWaiting, nil
	}
	return ownerSolid, nil
}

func describe(r metav1.OwnerReference) string {
	return fmt.Sprintf("[%s/%s, name: %s, uid: %s]", r.APIVersion, r.Kind, r.Name, r.UID)
}

func (c *garbageCollector) delete(ctx context.Context, w client.Client, s *situation, live object.Object, policy metav1.DeletionPropagation) error {
	uid, rv := s.uid, live.GetResourceVersion()
	err := w.Delete(ctx, s.def, s.key.Namespace, s.key.Name, metav1.DeleteOptions{
		PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &rv},
	})
	return ignoreMissing(err)
}

// dropOwners takes owners out of an object's references.
func dropOwners(ctx context.Context, w client.Client, n *node, owners ...types.UID) error {
	return rewrite(ctx, w, n, func(live object.Object) (map[string]any, bool) {
		refs := slices.DeleteFunc(slices.Clone(live.GetOwnerReferences()), func(r metav1.OwnerReference) bool { return slices.Contains(owners, r.UID) })
		return map[string]any{"ownerReferences": refs}, len(refs) != len(live.GetOwnerReferences())
	})
}

func dropFinalizer(ctx context.Context, w client.Client, n *node, name string) error {
	return rewrite(ctx, w, n, func(live object.Object) (map[string]any, bool) {
		kept := slices.DeleteFunc(slices.Clone(live.GetFinalizers()), func(f string) bool { return f == name })
		return map[string]any{"finalizers": kept}, len(kept) != len(live.GetFinalizers())
	})
}

// unblock has none of an object's references hold up the deletion of its owner.
func unblock(ctx context.Context, w client.Client, s *situation, live object.Object) error {
	refs := slices.Clone(live.GetOwnerReferences())
	no, changed := false, false
	for i := range refs {
		if blocks(&refs[i]) {
			refs[i].BlockOwnerDeletion, changed = &no, true
		}
	}
	if !changed {
		return nil
	}
	return rewrite(ctx, w, &s.node, func(object.Object) (map[string]any, bool) { return map[string]any{"ownerReferences": refs}, true })
}

// rewrite patches an object's metadata as it is now; change returns the fields
// to set. A newer revision in between means once more from the start.
func rewrite(ctx context.Context, w client.Client, n *node, change func(object.Object) (map[string]any, bool)) error {
	for attempt := 0; ; attempt++ {
		live, err := w.Get(ctx, n.def, n.key.Namespace, n.key.Name)
		if err != nil {
			return ignoreMissing(err)
		}
		if live.GetUID() != n.uid {
			return nil
		}
		meta, changed := change(live)
		if !changed {
			return nil
		}
		meta["uid"], meta["resourceVersion"] = n.uid, live.GetResourceVersion()
		body, err := json.Marshal(map[string]any{"metadata": meta})
		if err != nil {
			return err
		}
		_, err = w.Patch(ctx, n.def, n.key.Namespace, n.key.Name, client.Patch{Type: types.MergePatchType, Data: body})
		if apierrors.IsConflict(err) && attempt < 5 {
			continue
		}
		return ignoreMissing(err)
	}
}
