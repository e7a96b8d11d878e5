package nodes

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	corev1 "k8s.io/api/core/v1"
)

// Metrics measure the controllers of nodes under upstream's names. A nil Metrics
// measures nothing.
type Metrics struct {
	evictions *prometheus.CounterVec
	deletions prometheus.Counter
	took      prometheus.Histogram
}

// NewMetrics makes the metrics of one set of controllers in a
// registry; nil is none.
func NewMetrics(r prometheus.Registerer) *Metrics {
	to := promauto.With(r)
	return &Metrics{
		evictions: to.NewCounterVec(prometheus.CounterOpts{Name: "node_collector_evictions_total",
			Help: "Number of Node evictions that happened since current instance of NodeController started."}, []string{"zone"}),
		deletions: to.NewCounter(prometheus.CounterOpts{Name: "taint_eviction_controller_pod_deletions_total",
			Help: "Total number of Pods deleted by TaintEvictionController since its start."}),
		took: to.NewHistogram(prometheus.HistogramOpts{Name: "taint_eviction_controller_pod_deletion_duration_seconds", Buckets: []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 30, 60, 120, 180, 240},
			Help: "Latency, in seconds, between the time when a taint effect has been activated for the Pod and its deletion via TaintEvictionController."}),
	}
}

// zoneLabel is upstream's name of a node's zone.
func zoneLabel(n *corev1.Node) string {
	region, zone := n.Labels[corev1.LabelTopologyRegion], n.Labels[corev1.LabelTopologyZone]
	if region == "" && zone == "" {
		return ""
	}
	return region + ":\x00:" + zone
}

// evicting is told of a node whose pods are to go.
func (m *Metrics) evicting(zone string) {
	if m != nil {
		m.evictions.WithLabelValues(zone).Inc()
	}
}

// evicted is told of a pod that was deleted for a taint, and how long that took
// once it was seen that it had to go.
func (m *Metrics) evicted(took time.Duration) {
	if m != nil {
		m.deletions.Inc()
		m.took.Observe(took.Seconds())
	}
}
