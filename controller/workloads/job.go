package workloads

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

// strayPrefix marks keys of pods that wait to be counted by no Job at all. A
// Job's name has no slash.
const strayPrefix = "pod/"

const trackedIndex = "job-tracked" // pods that wait to be counted, by Job

type jobController struct {
	jobs   *reconcile.View[*batchv1.Job]
	pods   *reconcile.View[*corev1.Pod]
	events client.Recorder
	m      *Metrics
}

// NewJob returns the controller of Jobs.
func NewJob(h *reconcile.Hub, events client.Recorder, m *Metrics) reconcile.Controller {
	c := &jobController{jobs: reconcile.ViewOf[*batchv1.Job](h), pods: reconcile.ViewOf[*corev1.Pod](h), events: events, m: m}
	reconcile.IndexOwners(c.pods)
	gk := c.jobs.Definition().GVK().GroupKind()
	c.pods.Index(trackedIndex, func(p *corev1.Pod) []string {
		if k := reconcile.ControllerKey(p, gk); k != (object.Key{}) && tracked(p) {
			return []string{k.String()}
		}
		return nil
	})
	c.jobs.Index("namespace", func(j *batchv1.Job) []string { return []string{j.Namespace} })
	return c
}

func (c *jobController) Name() string { return "job" }

func (c *jobController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.Self(c.jobs),
		reconcile.Owner(c.pods, c.jobs.Definition().GVK().GroupKind()),
		reconcile.On(c.jobs, func(old, new *batchv1.Job, _ func(object.Key)) {
			if old == nil && new != nil && managedElsewhere(new) {
				c.m.elsewhere(new)
			}
		}),
		reconcile.On(c.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			if new != nil && tracked(new) && terminated(new) && (old == nil || !terminated(old)) {
				c.m.ended()
			}
			if new == nil || metav1.GetControllerOfNoCopy(new) != nil {
				return
			}
			if tracked(new) {
				enqueue(object.Key{Namespace: new.Namespace, Name: strayPrefix + new.Name})
			}
			if !orphanMatters(old, new) {
				return
			}
			for _, j := range c.jobs.By("namespace", new.Namespace) {
				if s, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !s.Empty() && s.Matches(labels.Set(new.Labels)) {
					enqueue(object.KeyOf(j))
				}
			}
		}),
	}
}

// managedElsewhere tells whether a Job is left to another controller.
func managedElsewhere(job *batchv1.Job) bool {
	return job.Spec.ManagedBy != nil && *job.Spec.ManagedBy != batchv1.JobControllerName
}

func terminated(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
}

func (c *jobController) Outputs() []reconcile.Output {
	return []reconcile.Output{
		{Kind: c.jobs.Definition().GVK().GroupKind(), Field: "status"},
		{Kind: c.pods.Definition().GVK().GroupKind(), Field: "of Job"},
	}
}

func (c *jobController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	if name, stray := strings.CutPrefix(key.Name, strayPrefix); stray {
		p, ok := c.pods.Get(key.Namespace, name)
		if !ok || !tracked(p) || metav1.GetControllerOfNoCopy(p) != nil {
			return reconcile.Result{}, nil
		}
		for _, j := range c.jobs.By("namespace", key.Namespace) {
			if s, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !s.Empty() && s.Matches(labels.Set(p.Labels)) && j.DeletionTimestamp == nil {
				return reconcile.Result{}, nil // will be adopted
			}
		}
		return reconcile.Result{}, c.release(ctx, w, nil, []*corev1.Pod{p})
	}
	job, ok := c.jobs.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, c.releaseOthers(ctx, w, key, c.pods.By(trackedIndex, key.String()))
	}
	if managedElsewhere(job) {
		return reconcile.Result{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
	if err != nil || selector.Empty() {
		return reconcile.Result{}, nil // validation refuses such; nothing to retry
	}
	pods, err := reconcile.Claim(ctx, w, c.pods, job, func(p *corev1.Pod) bool { return selector.Matches(labels.Set(p.Labels)) })
	if err != nil {
		return reconcile.Result{}, err
	}
	// Pods of a Job of that name that was there before wait for nobody.
	var others []*corev1.Pod
	for _, p := range c.pods.By(trackedIndex, key.String()) {
		if ref := metav1.GetControllerOfNoCopy(p); ref.UID != job.UID {
			others = append(others, p)
		}
	}
	if err := c.releaseOthers(ctx, w, key, others); err != nil {
		return reconcile.Result{}, err
	}
	if job.DeletionTimestamp != nil {
		return reconcile.Result{}, c.release(ctx, w, job, slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return !tracked(p) }))
	}
	if pods, err = c.stillTracked(ctx, w, job, pods); err != nil {
		return reconcile.Result{}, err
	}
	began := time.Now()
	plan := planJob(job, pods, began)
	if err := c.carryOut(ctx, w, job, &plan, began); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{After: plan.after}, nil
}

func (c *jobController) carryOut(ctx context.Context, w client.Client, job *batchv1.Job, plan *jobPlan, began time.Time) (err error) {
	made, podErr := c.writePods(ctx, w, job, plan)
	defer func() { c.m.synced(job, plan, made, time.Since(began), err) }()
	next := job.DeepCopy()
	next.Status = plan.status
	next.Status.Active += made
	if !equality.Semantic.DeepEqual(job.Status, next.Status) {
		written, err := client.UpdateStatus(ctx, w, next)
		if err != nil {
			if apierrors.IsNotFound(err) {
				return podErr
			}
			return errors.Join(podErr, fmt.Errorf("cannot update status: %w", err))
		}
		c.m.reported(job, &written.Status)
	}
	for _, e := range plan.events {
		c.events.Eventf(job, e.kind, e.reason, "%s", e.message)
	}
	return errors.Join(podErr, c.release(ctx, w, job, plan.release))
}

// writePods makes and deletes pods, and returns how many it made.
func (c *jobController) writePods(ctx context.Context, w client.Client, job *batchv1.Job, plan *jobPlan) (made int32, first error) {
	def := c.pods.Definition()
	var writes []client.Write
	for _, made := range plan.create {
		writes = append(writes, client.Write{Op: client.OpCreate, Definition: def, Object: c.pod(job, made)})
	}
	for _, p := range plan.delete {
		writes = append(writes, deletion(def, p))
	}
	if len(writes) == 0 {
		return 0, nil
	}
	failed := 0
	defer func() { c.m.created(job, &plan.status, int(made), failed) }()
	for i, r := range w.Batch(ctx, writes) {
		making := i < len(plan.create)
		if making && r.Err != nil {
			failed++
		}
		switch {
		case making && r.Err == nil:
			made++
			c.events.Eventf(job, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", r.Object.GetName())
		case making && apierrors.HasStatusCause(r.Err, corev1.NamespaceTerminatingCause):
			return made, nil
		case making && first == nil:
			first = fmt.Errorf("cannot create pod: %w", r.Err)
			c.events.Eventf(job, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", r.Err)
		case making:
		case r.Err == nil:
			c.events.Eventf(job, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", plan.delete[i-len(plan.create)].Name)
		case apierrors.IsNotFound(r.Err):
		case first == nil:
			first = fmt.Errorf("cannot delete pod: %w", r.Err)
			c.events.Eventf(job, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", r.Err)
		}
	}
	return made, first
}

// pod makes a pod of a Job, with its completion index where it has one.
func (c *jobController) pod(job *batchv1.Job, made jobPod) *corev1.Pod {
	p := podFrom(&job.Spec.Template, job.Namespace, job.Name, metav1.NewControllerRef(job, c.jobs.Definition().GVK()))
	p.Finalizers = append(p.Finalizers, batchv1.JobTrackingFinalizer)
	if made.index < 0 {
		return p
	}
	index := strconv.Itoa(made.index)
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Annotations[batchv1.JobCompletionIndexAnnotation] = index
	p.Labels[batchv1.JobCompletionIndexAnnotation] = index
	if job.Spec.BackoffLimitPerIndex != nil {
		p.Annotations[indexFailures] = strconv.Itoa(made.failures)
		if made.ignored > 0 {
			p.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation] = strconv.Itoa(made.ignored)
		}
	}
	p.GenerateName = job.Name + "-" + index + "-"
	p.Spec.Hostname = job.Name + "-" + index
	env := corev1.EnvVar{Name: "JOB_COMPLETION_INDEX", ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation)},
	}}
	for _, all := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range all {
			if !slices.ContainsFunc(all[i].Env, func(e corev1.EnvVar) bool { return e.Name == env.Name }) {
				all[i].Env = append(all[i].Env, *env.DeepCopy())
			}
		}
	}
	return p
}

// stillTracked corrects a view of a Job's pods that is older than what the Job's
// status says of them: with two leaders for a moment, pods would be counted twice.
//
// Ended pods that the status does not note yet may have been counted and let go.
// One that has its finalizer after the Job was read was not: whoever counts it in
// between writes the Job, and makes the write of this status fail. And a pod that
// the status notes may not have been heard of, which does not mean that it is gone.
func (c *jobController) stillTracked(ctx context.Context, w client.Client, job *batchv1.Job, pods []*corev1.Pod) ([]*corev1.Pod, error) {
	noted := map[types.UID]bool{}
	if u := job.Status.UncountedTerminatedPods; u != nil {
		for _, uid := range slices.Concat(u.Succeeded, u.Failed) {
			noted[uid] = true
		}
	}
	kept := make([]*corev1.Pod, 0, len(pods))
	for _, p := range pods {
		if noted[p.UID] {
			delete(noted, p.UID)
		} else if tracked(p) && (podstate.Finished(p) || hasFailed(job, p)) {
			live, err := client.Get[*corev1.Pod](ctx, w, p.Namespace, p.Name)
			switch {
			case apierrors.IsNotFound(err) || err == nil && live.UID != p.UID:
				continue
			case err != nil:
				return nil, fmt.Errorf("cannot read pod %s: %w", object.KeyOf(p), err)
			}
			p = live
		}
		kept = append(kept, p)
	}
	if len(noted) == 0 {
		return kept, nil
	}
	all, _, err := client.ListOf[*corev1.Pod](ctx, w, job.Namespace, client.ListOptions{LabelSelector: metav1.FormatLabelSelector(job.Spec.Selector)})
	if err != nil {
		return nil, fmt.Errorf("cannot list pods: %w", err)
	}
	for _, p := range all {
		if noted[p.UID] {
			kept = append(kept, p)
		}
	}
	return kept, nil
}

// releaseOthers takes the tracking finalizer off pods whose Job is not in view:
// unless it is there all the same, and newer than the view.
func (c *jobController) releaseOthers(ctx context.Context, w client.Client, key object.Key, pods []*corev1.Pod) error {
	if len(pods) == 0 {
		return nil
	}
	live, err := client.Get[*batchv1.Job](ctx, w, key.Namespace, key.Name)
	switch {
	case err == nil:
		pods = slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return metav1.IsControlledBy(p, live) })
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("cannot read job %s: %w", key, err)
	}
	return c.release(ctx, w, nil, pods)
}

// release takes the tracking finalizer off pods; job is that which counted them,
// nil when none does.
func (c *jobController) release(ctx context.Context, w client.Client, job *batchv1.Job, pods []*corev1.Pod) error {
	var errs []error
	for _, p := range pods {
		kept := slices.DeleteFunc(slices.Clone(p.Finalizers), func(f string) bool { return f == batchv1.JobTrackingFinalizer })
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID, "resourceVersion": p.ResourceVersion, "finalizers": kept}})
		if err != nil {
			return err
		}
		_, err = w.Patch(ctx, c.pods.Definition(), p.Namespace, p.Name, client.Patch{Type: types.MergePatchType, Data: body})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("cannot release pod %s: %w", object.KeyOf(p), err))
		} else {
			c.m.released(job, p)
		}
	}
	return errors.Join(errs...)
}
