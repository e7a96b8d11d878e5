package serve

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/lib/cgroup"
	"sagong/runtime"
)

type used struct{ *fakeNode }

func (used) Usage(context.Context) ([]PodUsage, error) {
	at := time.UnixMilli(1_700_000_000_123)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: `odd"image`}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Unix(5, 0))}}}}},
	}
	return []PodUsage{{
		Pod: p,
		PodStats: runtime.PodStats{UID: "u", At: at, Pod: cgroup.Stats{CPU: cgroup.CPUStats{UsageNanos: 2_500_000_000}}, Containers: []runtime.Stats{{
			ID: "id", Name: "c", At: at, Stats: cgroup.Stats{
				CPU:    cgroup.CPUStats{UsageNanos: 1_500_000_000, Periods: 8, ThrottledPeriods: 2, ThrottledNanos: 250_000_000},
				Memory: cgroup.MemoryStats{Usage: 9, WorkingSet: 7, RSS: 6, Cache: 5, Swap: 4, Limit: 10}, IO: cgroup.IOStats{ReadBytes: 11, WriteBytes: 12, Reads: 13, Writes: 14},
			},
		}}},
		Links: []Link{{Name: "eth0", Received: Traffic{1, 2, 3, 4}, Sent: Traffic{5, 6, 7, 8}}},
	}}, nil
}

// What the dashboards and rules of the Kubernetes mixin ask cAdvisor for.
func TestCadvisor(t *testing.T) {
	w := httptest.NewRecorder()
	New(Options{Node: used{}}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics/cadvisor", nil))
	body := w.Body.String()
	const pod, one = `{container="",id="/podu",image="",name="",namespace="ns",pod="p"`, `{container="c",id="/podu/id",image="odd\"image",name="id",namespace="ns",pod="p"`
	const at = " 1700000000123\n"
	for _, want := range []string{
		"container_cpu_usage_seconds_total" + pod + `,cpu="total"} 2.5` + at,
		"container_cpu_usage_seconds_total" + one + `,cpu="total"} 1.5` + at,
		"container_cpu_cfs_periods_total" + one + "} 8" + at,
		"container_cpu_cfs_throttled_periods_total" + one + "} 2" + at,
		"container_cpu_cfs_throttled_seconds_total" + one + "} 0.25" + at,
		"container_memory_usage_bytes" + one + "} 9" + at,
		"container_memory_working_set_bytes" + one + "} 7" + at,
		"container_memory_rss" + one + "} 6" + at,
		"container_memory_cache" + one + "} 5" + at,
		"container_memory_swap" + one + "} 4" + at,
		"container_spec_memory_limit_bytes" + one + "} 10" + at,
		"container_fs_reads_bytes_total" + one + `,device=""} 11` + at,
		"container_fs_writes_bytes_total" + one + `,device=""} 12` + at,
		"container_fs_reads_total" + one + `,device=""} 13` + at,
		"container_fs_writes_total" + one + `,device=""} 14` + at,
		"container_start_time_seconds" + one + "} 5\n",
		"container_network_receive_bytes_total" + pod + `,interface="eth0"} 1` + at,
		"container_network_receive_packets_total" + pod + `,interface="eth0"} 2` + at,
		"container_network_receive_errors_total" + pod + `,interface="eth0"} 3` + at,
		"container_network_receive_packets_dropped_total" + pod + `,interface="eth0"} 4` + at,
		"container_network_transmit_bytes_total" + pod + `,interface="eth0"} 5` + at,
		"container_network_transmit_packets_total" + pod + `,interface="eth0"} 6` + at,
		"container_network_transmit_errors_total" + pod + `,interface="eth0"} 7` + at,
		"container_network_transmit_packets_dropped_total" + pod + `,interface="eth0"} 8` + at,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s", want)
		}
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(body)); err != nil {
		t.Errorf("not the text format: %v\n%s", err, body)
	}
}
