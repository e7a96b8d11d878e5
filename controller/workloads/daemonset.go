package workloads

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

const (
	// Delays before a daemon's pod that failed on a node is replaced.
	firstFailureDelay = time.Second
	lastFailureDelay  = 15 * time.Minute
)

type daemonSetController struct {
	sets    *reconcile.View[*appsv1.DaemonSet]
	pods    *reconcile.View[*corev1.Pod]
	nodes   *reconcile.View[*corev1.Node]
	history history
	events  client.Recorder

	mu       sync.Mutex
	failures map[object.Key]map[string]*failedOn // by set and node
}

// failedOn is how often pods failed on a node lately.
type failedOn struct {
	delay time.Duration
	last  time.Time
}

// NewDaemonSet returns the controller of DaemonSets.
func NewDaemonSet(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	c := &daemonSetController{
		sets: reconcile.ViewOf[*appsv1.DaemonSet](h), pods: reconcile.ViewOf[*corev1.Pod](h), nodes: reconcile.ViewOf[*corev1.Node](h),
		history: newHistory(h), events: events, failures: map[object.Key]map[string]*failedOn{},
	}
	reconcile.IndexOwners(c.pods)
	c.sets.Index("namespace", func(d *appsv1.DaemonSet) []string { return []string{d.Namespace} })
	return c
}

func (c *daemonSetController) Name() string { return "daemonset" }

func (c *daemonSetController) Inputs() []reconcile.Input {
	gk := c.sets.Definition().GVK().GroupKind()
	return []reconcile.Input{
		reconcile.On(c.sets, func(old, new *appsv1.DaemonSet, enqueue func(object.Key)) {
			if new == nil {
				c.mu.Lock()
				delete(c.failures, object.KeyOf(old))
				c.mu.Unlock()
				return
			}
			enqueue(object.KeyOf(new))
		}),
		reconcile.Owner(c.pods, gk),
		reconcile.On(c.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			if new == nil || metav1.GetControllerOfNoCopy(new) != nil || !orphanMatters(old, new) {
				return
			}
			for _, ds := range c.sets.By("namespace", new.Namespace) {
				if s, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector); err == nil && s.Matches(labels.Set(new.Labels)) {
					enqueue(object.KeyOf(ds))
				}
			}
		}),
		reconcile.On(c.nodes, func(old, new *corev1.Node, enqueue func(object.Key)) {
			if old != nil && new != nil && equality.Semantic.DeepEqual(old.Labels, new.Labels) && equality.Semantic.DeepEqual(old.Spec.Taints, new.Spec.Taints) {
				return
			}
			for _, ds := range c.sets.All() {
				enqueue(object.KeyOf(ds))
			}
		}),
		reconcile.Owner(c.history.revisions, gk),
	}
}

func (c *daemonSetController) Outputs() []reconcile.Output {
	return []reconcile.Output{
		{Kind: c.sets.Definition().GVK().GroupKind(), Field: "status"},
		{Kind: c.pods.Definition().GVK().GroupKind(), Field: "of DaemonSet"},
		{Kind: c.history.revisions.Definition().GVK().GroupKind(), Field: "of DaemonSet"},
	}
}

func (c *daemonSetController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	ds, ok := c.sets.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return reconcile.Result{}, nil // validation refuses such; nothing to retry
	}
	if selector.Empty() {
		c.events.Eventf(ds, corev1.EventTypeWarning, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.")
		return reconcile.Result{}, nil
	}
	if ds.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	data, err := templatePatch(&ds.Spec.Template)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("cannot print template: %w", err)
	}
	current, old, err := c.history.sync(ctx, w, wantedRevision{
		owner: ds, kind: c.sets.Definition(), selector: selector, labels: ds.Spec.Template.Labels, data: data,
		hash: templateHash(&ds.Spec.Template, ds.Status.CollisionCount), labelled: revisionHashLabel,
	})
	if errors.Is(err, errCollision) {
		next := ds.DeepCopy()
		count := int32(1)
		if n := ds.Status.CollisionCount; n != nil {
			count = *n + 1
		}
		next.Status.CollisionCount = &count
		_, updateErr := client.UpdateStatus(ctx, w, next)
		return reconcile.Result{}, errors.Join(err, updateErr)
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	hash := current.Labels[revisionHashLabel]
	pods, err := reconcile.Claim(ctx, w, c.pods, ds, func(p *corev1.Pod) bool { return selector.Matches(labels.Set(p.Labels)) })
	if err != nil {
		return reconcile.Result{}, err
	}
	now := time.Now()
	plan := planDaemon(ds, c.nodes.All(), pods, hash, func(node string) (bool, time.Duration) { return c.mayRetry(key, node, now) }, now)
	manageErr := c.carryOut(ctx, w, ds, &plan, hash)
	if !equality.Semantic.DeepEqual(ds.Status, plan.status) {
		next := ds.DeepCopy()
		next.Status = plan.status
		if _, err := client.UpdateStatus(ctx, w, next); err != nil && !apierrors.IsNotFound(err) {
			return reconcile.Result{}, errors.Join(manageErr, fmt.Errorf("cannot update status: %w", err))
		}
	}
	if manageErr != nil {
		return reconcile.Result{}, manageErr
	}
	limit := 10
	if n := ds.Spec.RevisionHistoryLimit; n != nil {
		limit = int(*n)
	}
	err = c.history.trim(ctx, w, old, limit, func(r *appsv1.ControllerRevision) bool {
		return slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
			return p.Labels[revisionHashLabel] == r.Labels[revisionHashLabel]
		})
	})
	return reconcile.Result{After: plan.after}, err
}

// mayRetry says whether a failed pod may be replaced on a node now; asking when
// it may counts as doing so.
func (c *daemonSetController) mayRetry(key object.Key, node string, now time.Time) (bool, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	nodes := c.failures[key]
	if nodes == nil {
		nodes = map[string]*failedOn{}
		c.failures[key] = nodes
	}
	f := nodes[node]
	switch {
	case f == nil || now.Sub(f.last) > 2*lastFailureDelay:
		nodes[node] = &failedOn{delay: firstFailureDelay, last: now}
		return true, 0
	case now.Before(f.last.Add(f.delay)):
		return false, f.last.Add(f.delay).Sub(now)
	}
	f.delay, f.last = min(2*f.delay, lastFailureDelay), now
	return true, 0
}

func (c *daemonSetController) carryOut(ctx context.Context, w client.Client, ds *appsv1.DaemonSet, plan *daemonPlan, hash string) error {
	for _, p := range plan.failed {
		c.events.Eventf(ds, corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod %s/%s on node %s, will try to kill it", p.Namespace, p.Name, p.Spec.NodeName)
	}
	for _, p := range plan.ended {
		c.events.Eventf(ds, corev1.EventTypeNormal, "SucceededDaemonPod", "Found succeeded daemon pod %s/%s on node %s, will try to delete it", p.Namespace, p.Name, p.Spec.NodeName)
	}
	def := c.pods.Definition()
	ref := metav1.NewControllerRef(ds, c.sets.Definition().GVK())
	var writes []client.Write
	for _, node := range plan.create[:min(len(plan.create), burst)] {
		p := podFrom(&ds.Spec.Template, ds.Namespace, ds.Name, ref)
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		p.Labels[revisionHashLabel] = hash
		if n := ds.Annotations[appsv1.DeprecatedTemplateGeneration]; n != "" {
			p.Labels[templateGenerationLabel] = n
		}
		aimAt(&p.Spec, node)
		addDaemonTolerations(&p.Spec)
		writes = append(writes, client.Write{Op: client.OpCreate, Definition: def, Object: p})
	}
	created := len(writes)
	for _, p := range plan.delete {
		writes = append(writes, deletion(def, p))
	}
	if len(writes) == 0 {
		return nil
	}
	var first error
	for i, r := range w.Batch(ctx, writes) {
		switch {
		case i < created && r.Err == nil:
			c.events.Eventf(ds, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", r.Object.GetName())
		case i < created && apierrors.HasStatusCause(r.Err, corev1.NamespaceTerminatingCause):
			return nil
		case i < created && first == nil:
			first = fmt.Errorf("cannot create pod: %w", r.Err)
			c.events.Eventf(ds, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", r.Err)
		case i < created:
		case r.Err == nil:
			c.events.Eventf(ds, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", plan.delete[i-created].Name)
		case apierrors.IsNotFound(r.Err):
		case first == nil:
			first = fmt.Errorf("cannot delete pod: %w", r.Err)
			c.events.Eventf(ds, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", r.Err)
		}
	}
	return first
}
