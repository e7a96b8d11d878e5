package workloads

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// Metrics measure the controllers of workloads under upstream's names. A nil
// Metrics measures nothing.
type Metrics struct {
	syncTook                *prometheus.HistogramVec
	syncs                   *prometheus.CounterVec
	finished, podsFinished  *prometheus.CounterVec
	policy, tracked, others *prometheus.CounterVec
	indexes, creations      *prometheus.CounterVec
	skew                    prometheus.Histogram
	maxUnavailable          *prometheus.GaugeVec
	unavailable             *prometheus.GaugeVec
}

// NewMetrics makes the metrics of one set of controllers in a
// registry; nil is none.
func NewMetrics(r prometheus.Registerer) *Metrics {
	to := promauto.With(r)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return to.NewCounterVec(prometheus.CounterOpts{Name: "job_controller_" + name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return to.NewGaugeVec(prometheus.GaugeOpts{Name: "statefulset_controller_" + name, Help: help}, []string{"statefulset_namespace", "statefulset_name", "pod_management_policy"})
	}
	double := prometheus.ExponentialBuckets
	return &Metrics{
		syncTook: to.NewHistogramVec(prometheus.HistogramOpts{Name: "job_controller_job_sync_duration_seconds", Buckets: double(0.004, 2, 15),
			Help: "The time it took to sync a job"}, []string{"completion_mode", "result", "action"}),
		syncs:        counter("job_syncs_total", "The number of job syncs", "completion_mode", "result", "action"),
		finished:     counter("jobs_finished_total", "The number of finished jobs", "completion_mode", "result", "reason"),
		podsFinished: counter("job_pods_finished_total", "The number of finished Pods that are fully tracked", "completion_mode", "result"),
		policy:       counter("pod_failures_handled_by_failure_policy_total", "The number of failed Pods handled by failure policy, by the action of the rule that matched.", "action"),
		tracked:      counter("terminated_pods_tracking_finalizer_total", "The number of terminated pods (phase=Failed|Succeeded) that have the finalizer batch.kubernetes.io/job-tracking, by add or delete of the pod or the finalizer.", "event"),
		others:       counter("jobs_by_external_controller_total", "The number of Jobs managed by an external controller", "controller_name"),
		indexes:      counter("job_finished_indexes_total", "The number of finished indexes, by status and whether they have a backoff limit of their own.", "status", "backoffLimit"),
		creations:    counter("job_pods_creation_total", "The number of Pods created by the Job controller, by reason and status.", "reason", "status"),
		skew: to.NewHistogram(prometheus.HistogramOpts{Name: "cronjob_controller_job_creation_skew_duration_seconds", Buckets: double(1, 2, 10),
			Help: "Time between when a cronjob is scheduled to be run, and when the corresponding job is created"}),
		maxUnavailable: gauge("statefulset_max_unavailable", "Maximum number of unavailable pods allowed during StatefulSet rolling updates"),
		unavailable:    gauge("statefulset_unavailable_replicas", "Current number of unavailable pods in StatefulSet"),
	}
}

func completionMode(job *batchv1.Job) string {
	if job.Spec.CompletionMode != nil {
		return string(*job.Spec.CompletionMode)
	}
	return string(batchv1.NonIndexedCompletion)
}

// What a sync of a Job did, the last of these that it did.
const (
	jobReconciling = "reconciling"
	jobTracking    = "tracking"
	jobPodsCreated = "pods_created"
	jobPodsDeleted = "pods_deleted"
)

// synced is told of one handling of a Job.
func (m *Metrics) synced(job *batchv1.Job, plan *jobPlan, made int32, took time.Duration, err error) {
	if m == nil {
		return
	}
	action, result := jobReconciling, "success"
	if len(plan.release) > 0 {
		action = jobTracking
	}
	if len(plan.delete) > 0 {
		action = jobPodsDeleted
	}
	if made > 0 {
		action = jobPodsCreated
	}
	if err != nil {
		result = "error"
	}
	m.syncs.WithLabelValues(completionMode(job), result, action).Inc()
	m.syncTook.WithLabelValues(completionMode(job), result, action).Observe(took.Seconds())
}

// reported is told of a status that was written.
func (m *Metrics) reported(job *batchv1.Job, next *batchv1.JobStatus) {
	if m == nil {
		return
	}
	mode := completionMode(job)
	add := func(c *prometheus.CounterVec, n int32, labels ...string) {
		if n > 0 {
			c.WithLabelValues(labels...).Add(float64(n))
		}
	}
	add(m.podsFinished, next.Succeeded-job.Status.Succeeded, mode, "succeeded")
	add(m.podsFinished, next.Failed-job.Status.Failed, mode, "failed")
	if mode == string(batchv1.IndexedCompletion) {
		limit := "global"
		if job.Spec.BackoffLimitPerIndex != nil {
			limit = "perIndex"
		}
		count := func(text *string) int32 {
			if text == nil {
				return 0
			}
			return int32(len(parseIndexes(*text, int(deref32(job.Spec.Completions, 0)))))
		}
		add(m.indexes, count(&next.CompletedIndexes)-count(&job.Status.CompletedIndexes), "succeeded", limit)
		add(m.indexes, count(next.FailedIndexes)-count(job.Status.FailedIndexes), "failed", limit)
	}
	if jobDone(&job.Status) {
		return
	}
	for _, c := range next.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete:
			m.finished.WithLabelValues(mode, "succeeded", c.Reason).Inc()
		case batchv1.JobFailed:
			m.finished.WithLabelValues(mode, "failed", c.Reason).Inc()
		}
	}
}

// released is told of pods whose tracking finalizer is to go, when their Job is
// known; those that have ended were counted.
func (m *Metrics) released(job *batchv1.Job, p *corev1.Pod) {
	if m == nil {
		return
	}
	if p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		m.tracked.WithLabelValues("delete").Inc()
	}
	if job == nil || job.Spec.PodFailurePolicy == nil || p.Status.Phase != corev1.PodFailed {
		return
	}
	if action, matched := judgeFailure(job.Spec.PodFailurePolicy, p); matched != "" {
		m.policy.WithLabelValues(string(action)).Inc()
	}
}

// ended is told that a tracked pod has.
func (m *Metrics) ended() {
	if m != nil {
		m.tracked.WithLabelValues("add").Inc()
	}
}

// elsewhere is told of a new Job that another controller takes care of.
func (m *Metrics) elsewhere(job *batchv1.Job) {
	if m != nil {
		m.others.WithLabelValues(*job.Spec.ManagedBy).Inc()
	}
}

// created is told how many pods of a Job were made, and how many could not be.
func (m *Metrics) created(job *batchv1.Job, status *batchv1.JobStatus, made, failed int) {
	if m == nil {
		return
	}
	reason := "new"
	switch {
	case status.Failed > 0 && job.Spec.PodReplacementPolicy != nil && *job.Spec.PodReplacementPolicy == batchv1.Failed:
		reason = "recreate_failed"
	case status.Failed > 0 || deref32(status.Terminating, 0) > 0:
		reason = "recreate_terminating_or_failed"
	}
	if made > 0 {
		m.creations.WithLabelValues(reason, "succeeded").Add(float64(made))
	}
	if failed > 0 {
		m.creations.WithLabelValues(reason, "failed").Add(float64(failed))
	}
}

// started is told of a job that a CronJob made, and when it was due.
func (m *Metrics) started(j *batchv1.Job, due time.Time) {
	if m != nil {
		m.skew.Observe(j.CreationTimestamp.Sub(due).Seconds())
	}
}

// stateful is told of the state of a StatefulSet.
func (m *Metrics) stateful(set *appsv1.StatefulSet, status *appsv1.StatefulSetStatus) {
	if m == nil {
		return
	}
	labels := []string{set.Namespace, set.Name, string(set.Spec.PodManagementPolicy)}
	m.maxUnavailable.WithLabelValues(labels...).Set(float64(mostUnavailable(set)))
	m.unavailable.WithLabelValues(labels...).Set(float64(max(0, orOne(set.Spec.Replicas)-status.AvailableReplicas)))
}

// gone is told that a StatefulSet is.
func (m *Metrics) gone(namespace, name string) {
	if m == nil {
		return
	}
	which := prometheus.Labels{"statefulset_namespace": namespace, "statefulset_name": name}
	m.maxUnavailable.DeletePartialMatch(which)
	m.unavailable.DeletePartialMatch(which)
}
