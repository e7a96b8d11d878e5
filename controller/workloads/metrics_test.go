package workloads

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMetricsOfJobs(t *testing.T) {
	var none *Metrics // measures nothing, and must bear to be told
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry)
	mode, completions := batchv1.IndexedCompletion, int32(4)
	job := &batchv1.Job{Spec: batchv1.JobSpec{
		CompletionMode: &mode, Completions: &completions,
		PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
		}}},
	}, Status: batchv1.JobStatus{Succeeded: 1, CompletedIndexes: "0"}}
	next := batchv1.JobStatus{Succeeded: 3, Failed: 1, CompletedIndexes: "0-2", Conditions: []batchv1.JobCondition{
		{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, Reason: batchv1.JobReasonCompletionsReached},
	}}
	failed := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, Conditions: []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}}}
	for _, x := range []*Metrics{none, m} {
		x.reported(job, &next)
		done := job.DeepCopy()
		done.Status = next
		x.reported(done, &next) // tells nothing new
		x.synced(job, &jobPlan{delete: []*corev1.Pod{failed}}, 0, time.Second, nil)
		x.synced(job, &jobPlan{}, 2, time.Second, errors.New("no"))
		x.created(job, &next, 2, 1)
		x.ended()
		x.released(job, failed)
		x.started(&batchv1.Job{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(time.Unix(3, 0))}}, time.Unix(1, 0))
	}
	want := `
# HELP job_controller_job_finished_indexes_total The number of finished indexes, by status and whether they have a backoff limit of their own.
# TYPE job_controller_job_finished_indexes_total counter
job_controller_job_finished_indexes_total{backoffLimit="global",status="succeeded"} 2
# HELP job_controller_job_pods_creation_total The number of Pods created by the Job controller, by reason and status.
# TYPE job_controller_job_pods_creation_total counter
job_controller_job_pods_creation_total{reason="recreate_terminating_or_failed",status="failed"} 1
job_controller_job_pods_creation_total{reason="recreate_terminating_or_failed",status="succeeded"} 2
# HELP job_controller_job_pods_finished_total The number of finished Pods that are fully tracked
# TYPE job_controller_job_pods_finished_total counter
job_controller_job_pods_finished_total{completion_mode="Indexed",result="failed"} 1
job_controller_job_pods_finished_total{completion_mode="Indexed",result="succeeded"} 2
# HELP job_controller_job_syncs_total The number of job syncs
# TYPE job_controller_job_syncs_total counter
job_controller_job_syncs_total{action="pods_created",completion_mode="Indexed",result="error"} 1
job_controller_job_syncs_total{action="pods_deleted",completion_mode="Indexed",result="success"} 1
# HELP job_controller_jobs_finished_total The number of finished jobs
# TYPE job_controller_jobs_finished_total counter
job_controller_jobs_finished_total{completion_mode="Indexed",reason="CompletionsReached",result="succeeded"} 1
# HELP job_controller_pod_failures_handled_by_failure_policy_total The number of failed Pods handled by failure policy, by the action of the rule that matched.
# TYPE job_controller_pod_failures_handled_by_failure_policy_total counter
job_controller_pod_failures_handled_by_failure_policy_total{action="Ignore"} 1
# HELP job_controller_terminated_pods_tracking_finalizer_total The number of terminated pods (phase=Failed|Succeeded) that have the finalizer batch.kubernetes.io/job-tracking, by add or delete of the pod or the finalizer.
# TYPE job_controller_terminated_pods_tracking_finalizer_total counter
job_controller_terminated_pods_tracking_finalizer_total{event="add"} 1
job_controller_terminated_pods_tracking_finalizer_total{event="delete"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "job_controller_job_finished_indexes_total", "job_controller_job_pods_creation_total", "job_controller_job_pods_finished_total",
		"job_controller_job_syncs_total", "job_controller_jobs_finished_total", "job_controller_pod_failures_handled_by_failure_policy_total", "job_controller_terminated_pods_tracking_finalizer_total"); err != nil {
		t.Error(err)
	}
}

func TestMetricsOfStatefulSetsGo(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry)
	size := int32(3)
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}, Spec: appsv1.StatefulSetSpec{Replicas: &size, PodManagementPolicy: appsv1.OrderedReadyPodManagement}}
	m.stateful(set, &appsv1.StatefulSetStatus{AvailableReplicas: 1})
	labels := []string{"a", "b", "OrderedReady"}
	if n, most := testutil.ToFloat64(m.unavailable.WithLabelValues(labels...)), testutil.ToFloat64(m.maxUnavailable.WithLabelValues(labels...)); n != 2 || most != 1 {
		t.Errorf("%v of at most %v are not available", n, most)
	}
	m.gone("a", "b")
	if n, err := testutil.GatherAndCount(registry, "statefulset_controller_statefulset_max_unavailable", "statefulset_controller_statefulset_unavailable_replicas"); n != 0 || err != nil {
		t.Errorf("%d series of a set that is gone", n)
	}
}
