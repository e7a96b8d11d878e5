// Package cleanup holds the controllers that remove what nothing needs any more:
// the contents of deleted namespaces, objects whose owners are gone, pods whose
// nodes are.
package cleanup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

type namespaceController struct {
	namespaces *reconcile.View[*corev1.Namespace]
	pods       *reconcile.View[*corev1.Pod]

	elsewhere func(ctx context.Context, namespace string) Elsewhere

	mu sync.Mutex
	// awaited is how many pods of a namespace being deleted have yet to end. A pass
	// over a namespace for each of ten thousand would cost more than their end.
	awaited map[string]int
}

// Elsewhere is what other API servers still keep in a namespace.
type Elsewhere struct {
	Counts, Finalizers map[string]int        // of objects, by "flunders.example.com" and by finalizer
	Unknown            []schema.GroupVersion // their servers cannot be asked what they serve
	Failures           []string
}

// NewNamespace returns the controller that empties namespaces being deleted and
// then lets them go. elsewhere deletes what other API servers keep; it may be nil.
func NewNamespace(h *reconcile.Hub, elsewhere func(ctx context.Context, namespace string) Elsewhere) reconcile.Controller {
	c := &namespaceController{
		elsewhere:  elsewhere,
		namespaces: reconcile.ViewOf[*corev1.Namespace](h), pods: reconcile.ViewOf[*corev1.Pod](h), awaited: map[string]int{},
	}
	c.pods.Index("namespace", func(p *corev1.Pod) []string { return []string{p.Namespace} })
	return c
}

func (c *namespaceController) Name() string { return "namespace" }

func (c *namespaceController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(c.namespaces, func(old, new *corev1.Namespace, enqueue func(object.Key)) {
			// What a pass writes of what it found is no cause for another.
			if new == nil || old != nil && old.DeletionTimestamp != nil && slices.Equal(old.Spec.Finalizers, new.Spec.Finalizers) {
				return
			}
			enqueue(object.KeyOf(new))
		}),
		// The end of its pods is what a deleted namespace usually waits for.
		reconcile.On(c.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			if new == nil && c.last(old.Namespace) {
				enqueue(object.Key{Name: old.Namespace})
			}
		}),
	}
}

// await counts the pods of a namespace; from then on last tells of the last one's
// end.
func (c *namespaceController) await(namespace string) {
	c.pods.Still(func() {
		n := c.pods.Count("namespace", namespace)
		c.mu.Lock()
		defer c.mu.Unlock()
		if delete(c.awaited, namespace); n > 0 {
			c.awaited[namespace] = n
		}
	})
}

// last takes note of a pod's end and reports whether it was the last awaited.
func (c *namespaceController) last(namespace string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.awaited[namespace]
	if !ok {
		return false
	}
	if n--; n > 0 {
		c.awaited[namespace] = n
		return false
	}
	delete(c.awaited, namespace)
	return true
}

func (c *namespaceController) Outputs() []reconcile.Output {
	kind := c.namespaces.Definition().GVK().GroupKind()
	return []reconcile.Output{{Kind: kind, Field: "status"}, {Kind: kind, Field: "finalize"}}
}

func (c *namespaceController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	ns, ok := c.namespaces.Get("", key.Name)
	if !ok || ns.DeletionTimestamp == nil {
		return reconcile.Result{}, nil
	}
	c.await(ns.Name) // before the pass, which may end some
	if len(ns.Spec.Finalizers) == 0 {
		return reconcile.Result{}, nil // only metadata.finalizers, others' business
	}
	left, err := c.empty(ctx, w, ns)
	if errors.Is(err, errAnew) {
		return reconcile.Result{}, nil // the view will see it
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	next := ns.DeepCopy()
	next.Status.Phase = corev1.NamespaceTerminating
	changed := ns.Status.Phase != corev1.NamespaceTerminating
	for _, cond := range left.conditions() {
		changed = setNamespaceCondition(&next.Status, cond, time.Now()) || changed
	}
	if changed {
		written, err := client.UpdateStatus(ctx, w, next)
		if err != nil {
			return reconcile.Result{}, ignoreMissing(err)
		}
		next = written.DeepCopy()
	}
	if len(left.failures) > 0 || len(left.unknown) > 0 || left.total() > 0 {
		return reconcile.Result{After: left.patience(time.Since(ns.DeletionTimestamp.Time))}, nil
	}
	next.Spec.Finalizers = slices.DeleteFunc(next.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	_, err = w.Update(ctx, c.namespaces.Definition(), next, "finalize")
	return reconcile.Result{}, ignoreMissing(err)
}

// leftovers is what a pass over a namespace found still there.
type leftovers struct {
	counts     map[string]int // by "pods." or "deployments.apps"
	finalizers map[string]int
	failures   []string
	unknown    []schema.GroupVersion // of other servers
}

func (l *leftovers) total() (n int) {
	for _, c := range l.counts {
		n += c
	}
	return n
}

// patience is how long to wait for contents that no view tells about: short at
// first, longer for what has been waiting long.
func (l *leftovers) patience(age time.Duration) time.Duration {
	return min(max(age/4, 200*time.Millisecond), 15*time.Second)
}

// empty deletes everything in a namespace: pods first, so that nothing they need
// is taken from them while they end, and the rest once they are gone.
func (c *namespaceController) empty(ctx context.Context, w client.Client, ns *corev1.Namespace) (*leftovers, error) {
	left := &leftovers{counts: map[string]int{}, finalizers: map[string]int{}}
	pods := c.pods.Definition()
	if err := left.remove(ctx, w, pods, ns); err != nil {
		return nil, err
	}
	if left.total() > 0 || len(left.failures) > 0 {
		return left, nil
	}
	for _, d := range w.Scheme().All() {
		if d == pods || !d.Namespaced || !deletable(d) {
			continue
		}
		if err := left.remove(ctx, w, d, ns); err != nil {
			return nil, err
		}
	}
	if c.elsewhere != nil {
		if err := stillGoing(ctx, w, ns); err != nil {
			return nil, err
		}
		e := c.elsewhere(ctx, ns.Name)
		maps.Copy(left.counts, e.Counts)
		for f, n := range e.Finalizers {
			left.finalizers[f] += n
		}
		left.failures, left.unknown = append(left.failures, e.Failures...), e.Unknown
	}
	return left, ctx.Err()
}

// errAnew is that a namespace has gone, and may have been made anew.
var errAnew = errors.New("the namespace that was to be emptied is gone")

// stillGoing fails with errAnew unless a namespace is there and on its way out.
func stillGoing(ctx context.Context, w client.Client, ns *corev1.Namespace) error {
	live, err := client.Get[*corev1.Namespace](ctx, w, "", ns.Name)
	switch {
	case apierrors.IsNotFound(err):
		return errAnew
	case err != nil:
		return fmt.Errorf("cannot read namespace: %w", err)
	case live.UID != ns.UID:
		return errAnew
	}
	return nil
}

// deletable says whether objects of a kind are stored and can be listed and
// deleted.
func deletable(d *object.Definition) bool {
	if d.Virtual {
		return false
	}
	return d.Verbs == nil || (slices.Contains(d.Verbs, "list") && slices.Contains(d.Verbs, "delete"))
}

// remove deletes what a namespace holds of one kind and counts what stays. What it
// deletes was there before the namespace was seen to be going still: another
// leader may have been faster, and a user have made it anew.
func (l *leftovers) remove(ctx context.Context, w client.Client, d *object.Definition, ns *corev1.Namespace) error {
	list, err := w.List(ctx, d, ns.Name, client.ListOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
		return nil // a kind that has just gone
	}
	resource := d.Resource + "." + d.Group
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		l.failures = append(l.failures, fmt.Sprintf("cannot list %s: %v", resource, err))
		return nil
	}
	if len(list.Items) == 0 {
		return nil
	}
	background := metav1.DeletePropagationBackground
	var writes []client.Write
	for _, o := range list.Items {
		if o.GetDeletionTimestamp() != nil {
			continue
		}
		target, uid := d.New(), o.GetUID()
		target.SetNamespace(o.GetNamespace())
		target.SetName(o.GetName())
		target.SetUID(uid)
		writes = append(writes, client.Write{
			Op: client.OpDelete, Definition: d, Object: target,
			Delete: metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &uid}},
		})
	}
	if len(writes) > 0 {
		if err := stillGoing(ctx, w, ns); err != nil {
			return err
		}
	}
	for start := 0; start < len(writes); start += 500 {
		for _, r := range w.Batch(ctx, writes[start:min(start+500, len(writes))]) {
			if r.Err != nil && !apierrors.IsNotFound(r.Err) && !apierrors.IsConflict(r.Err) {
				l.failures = append(l.failures, fmt.Sprintf("cannot delete %s: %v", resource, r.Err))
			}
		}
	}
	if len(writes) > 0 {
		if list, err = w.List(ctx, d, ns.Name, client.ListOptions{}); err != nil {
			return fmt.Errorf("cannot list %s: %w", resource, err)
		}
	}
	for _, o := range list.Items {
		l.counts[resource]++
		for _, f := range o.GetFinalizers() {
			l.finalizers[f]++
		}
	}
	return nil
}

// conditions are upstream's, with its reasons and texts.
func (l *leftovers) conditions() []corev1.NamespaceCondition {
	out := []corev1.NamespaceCondition{
		{Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionFalse, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
		{Type: corev1.NamespaceDeletionGVParsingFailure, Status: corev1.ConditionFalse, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		{Type: corev1.NamespaceDeletionContentFailure, Status: corev1.ConditionFalse, Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization"},
		{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionFalse, Reason: "ContentRemoved", Message: "All content successfully removed"},
		{Type: corev1.NamespaceFinalizersRemaining, Status: corev1.ConditionFalse, Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"},
	}
	if len(l.unknown) > 0 {
		stale := make([]string, len(l.unknown))
		for i, gv := range l.unknown {
			stale[i] = fmt.Sprintf("%s: stale GroupVersion discovery: %s", gv, gv)
		}
		out[0].Status, out[0].Reason = corev1.ConditionTrue, "DiscoveryFailed"
		out[0].Message = fmt.Sprintf("Discovery failed for some groups, %d failing: unable to retrieve the complete list of server APIs: %s", len(stale), strings.Join(stale, ", "))
	}
	if len(l.failures) > 0 {
		slices.Sort(l.failures)
		out[2].Status, out[2].Reason = corev1.ConditionTrue, "ContentDeletionFailed"
		out[2].Message = fmt.Sprintf("Failed to delete all resource types, %d remaining: %s", len(l.failures), strings.Join(l.failures, ", "))
	}
	if len(l.counts) > 0 {
		var parts []string
		for r, n := range l.counts {
			parts = append(parts, fmt.Sprintf("%s has %d resource instances", r, n))
		}
		slices.Sort(parts)
		out[3].Status, out[3].Reason = corev1.ConditionTrue, "SomeResourcesRemain"
		out[3].Message = "Some resources are remaining: " + strings.Join(parts, ", ")
	}
	if len(l.finalizers) > 0 {
		var parts []string
		for f, n := range l.finalizers {
			parts = append(parts, fmt.Sprintf("%s in %d resource instances", f, n))
		}
		slices.Sort(parts)
		out[4].Status, out[4].Reason = corev1.ConditionTrue, "SomeFinalizersRemain"
		out[4].Message = "Some content in the namespace has finalizers remaining: " + strings.Join(parts, ", ")
	}
	return out
}

// setNamespaceCondition says whether it changed anything. The transition time
// moves only with the status.
func setNamespaceCondition(s *corev1.NamespaceStatus, c corev1.NamespaceCondition, now time.Time) bool {
	c.LastTransitionTime = metav1.NewTime(now)
	for i := range s.Conditions {
		old := &s.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		if *old == c {
			return false
		}
		*old = c
		return true
	}
	s.Conditions = append(s.Conditions, c)
	return true
}

func ignoreMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
