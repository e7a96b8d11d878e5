package cleanup

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

type ttlController struct {
	jobs *reconcile.View[*batchv1.Job]
	late prometheus.Observer // may be nil
}

// NewTTLMetrics makes in a registry, nil for none, what measures how late finished
// Jobs are deleted, in seconds, under upstream's name.
func NewTTLMetrics(r prometheus.Registerer) prometheus.Observer {
	return promauto.With(r).NewHistogram(prometheus.HistogramOpts{Name: "ttl_after_finished_controller_job_deletion_duration_seconds", Buckets: prometheus.ExponentialBuckets(0.1, 2, 14),
		Help: "The time it took to delete the job since it became eligible for deletion"})
}

// NewTTLAfterFinished returns the controller that deletes finished Jobs once
// their ttlSecondsAfterFinished are over.
func NewTTLAfterFinished(h *reconcile.Hub, late prometheus.Observer) reconcile.Controller {
	return &ttlController{reconcile.ViewOf[*batchv1.Job](h), late}
}

func (c *ttlController) Name() string                { return "ttl-after-finished" }
func (c *ttlController) Inputs() []reconcile.Input   { return []reconcile.Input{reconcile.Self(c.jobs)} }
func (c *ttlController) Outputs() []reconcile.Output { return nil }

func (c *ttlController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	j, ok := c.jobs.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	wait, ok := expiresIn(j, time.Now())
	if !ok || wait > 0 {
		return reconcile.Result{After: wait}, nil
	}
	// Somebody may just have given it more time.
	live, err := client.Get[*batchv1.Job](ctx, w, key.Namespace, key.Name)
	if err != nil {
		return reconcile.Result{}, ignoreMissing(err)
	}
	if wait, ok := expiresIn(live, time.Now()); !ok || wait > 0 || live.UID != j.UID {
		return reconcile.Result{After: wait}, nil
	}
	foreground := metav1.DeletePropagationForeground
	err = client.Delete[*batchv1.Job](ctx, w, key.Namespace, key.Name, metav1.DeleteOptions{
		PropagationPolicy: &foreground, Preconditions: metav1.NewUIDPreconditions(string(live.UID)),
	})
	if err == nil && c.late != nil {
		c.late.Observe(time.Since(expiry(live)).Seconds())
	}
	return reconcile.Result{}, ignoreMissing(err)
}

// expiry is until when a finished Job with a time to live is kept.
func expiry(j *batchv1.Job) (at time.Time) {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second)
		}
	}
	return at
}

// expiresIn says how long a finished Job is still kept; ok is false for one that
// is kept for good, goes on, or is being deleted already.
func expiresIn(j *batchv1.Job, now time.Time) (wait time.Duration, ok bool) {
	if j.DeletionTimestamp != nil || j.Spec.TTLSecondsAfterFinished == nil {
		return 0, false
	}
	at := expiry(j)
	return max(0, at.Sub(now)), !at.IsZero()
}
