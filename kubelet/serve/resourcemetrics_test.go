package serve

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// measured is a node whose one pod has used something.
type measured struct {
	fakeNode
	brief []bool
}

func (m *measured) Summary(_ context.Context, brief bool) (*Summary, error) {
	m.brief = append(m.brief, brief)
	at := metav1.NewTime(time.UnixMilli(1_700_000_000_123))
	nanos, bytes := uint64(1_500_000_000), uint64(4096)
	cpu, memory := &CPUStats{Time: at, UsageCoreNanoSeconds: &nanos}, &MemoryStats{Time: at, WorkingSetBytes: &bytes}
	return &Summary{
		Node: NodeStats{NodeName: "n", CPU: cpu, Memory: memory},
		Pods: []PodStats{{
			PodRef: PodReference{Name: "p", Namespace: "ns"}, CPU: cpu, Memory: memory,
			Containers: []ContainerStats{{Name: "c", StartTime: metav1.NewTime(time.UnixMilli(1_700_000_000_500)), CPU: cpu, Memory: memory}, {Name: "new"}},
		}},
	}, nil
}

const resourceMetrics = `# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="c",namespace="ns",pod="p"} 1.5 1700000000123
# HELP container_memory_working_set_bytes Current working set of the container in bytes
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="c",namespace="ns",pod="p"} 4096 1700000000123
# HELP container_start_time_seconds Start time of the container since unix epoch in seconds
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="c",namespace="ns",pod="p"} 1.7000000005e+09
# HELP node_cpu_usage_seconds_total Cumulative cpu time consumed by the node in core-seconds
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 1.5 1700000000123
# HELP node_memory_working_set_bytes Current working set of the node in bytes
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 4096 1700000000123
# HELP pod_cpu_usage_seconds_total Cumulative cpu time consumed by the pod in core-seconds
# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{namespace="ns",pod="p"} 1.5 1700000000123
# HELP pod_memory_working_set_bytes Current working set of the pod in bytes
# TYPE pod_memory_working_set_bytes gauge
pod_memory_working_set_bytes{namespace="ns",pod="p"} 4096 1700000000123
# HELP resource_scrape_error 1 if there was an error while getting container metrics, 0 otherwise
# TYPE resource_scrape_error gauge
resource_scrape_error 0
`

func TestResourceMetrics(t *testing.T) {
	n := &measured{}
	h := New(Options{Node: n})
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	if got := get("/metrics/resource").Body.String(); got != resourceMetrics {
		t.Errorf("got\n%s\nwant\n%s", got, resourceMetrics)
	}
	get("/stats/summary")
	get("/stats/summary?only_cpu_and_memory=true")
	if len(n.brief) != 3 || !n.brief[0] || n.brief[1] || !n.brief[2] {
		t.Errorf("without disks: %v", n.brief)
	}
}
