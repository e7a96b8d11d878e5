package kubelet_test

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// What the dashboards and alerts of the Kubernetes mixin ask a node's agent for.
// It relists nothing, so kubelet_pleg_* is not there.
func TestMetrics(t *testing.T) {
	m := newMachine(t)
	p := newPod("web", "a")
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"ready"}}}, PeriodSeconds: 1}
	m.create(p)
	m.await("web", "running and ready", func(p *corev1.Pod) bool { return running(p) && ready(p) })
	for path, lines := range map[string][]string{
		"/metrics": {
			`kubelet_node_name{node="n1"} 1`, `kubelet_running_pods 1`, `kubelet_running_containers{container_state="running"} 1`,
			`kubelet_pod_start_duration_seconds_count 1`, `kubelet_pod_worker_duration_seconds_count{operation_type="create"} \d+`,
			`kubelet_runtime_operations_total{operation_type="run_podsandbox"} 1`, `kubelet_runtime_operations_total{operation_type="start_container"} 1`,
			`kubelet_runtime_operations_duration_seconds_count{operation_type="create_container"} 1`,
			`volume_manager_total_volumes{plugin_name="kubernetes.io/empty-dir",state="desired_state_of_world"} 1`,
			`volume_manager_total_volumes{plugin_name="kubernetes.io/empty-dir",state="actual_state_of_world"} 1`,
			`storage_operation_duration_seconds_count{migrated="false",operation_name="volume_mount",status="success",volume_plugin="kubernetes.io/empty-dir"} 1`,
		},
		"/metrics/probes": {`prober_probe_total{container="a",namespace="default",pod="web",pod_uid="[^"]+",probe_type="Readiness",result="successful"} \d+`},
	} {
		w := httptest.NewRecorder()
		m.agent.Handler(nil).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		for _, line := range lines {
			if !regexp.MustCompile(`(?m)^` + strings.ReplaceAll(line, "{", `\{`) + `$`).MatchString(w.Body.String()) {
				t.Errorf("%s has no %s", path, line)
			}
		}
		if t.Failed() {
			t.Log(w.Body.String())
		}
	}
}
