package reconcile

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// PrometheusMetrics tells a registry of the queues under upstream's names.
type PrometheusMetrics struct {
	depth          *prometheus.GaugeVec
	adds, retries  *prometheus.CounterVec
	waited, worked *prometheus.HistogramVec
}

// NewPrometheusMetrics makes the metrics and registers them.
func NewPrometheusMetrics(r prometheus.Registerer) *PrometheusMetrics {
	to, label := promauto.With(r), []string{"name"}
	buckets := prometheus.ExponentialBuckets(1e-8, 10, 10)
	return &PrometheusMetrics{
		depth: to.NewGaugeVec(prometheus.GaugeOpts{
			Name: "workqueue_depth", Help: "Current depth of workqueue",
		}, label),
		adds: to.NewCounterVec(prometheus.CounterOpts{
			Name: "workqueue_adds_total", Help: "Total number of adds handled by workqueue",
		}, label),
		retries: to.NewCounterVec(prometheus.CounterOpts{
			Name: "workqueue_retries_total", Help: "Total number of retries handled by workqueue",
		}, label),
		waited: to.NewHistogramVec(prometheus.HistogramOpts{
			Name: "workqueue_queue_duration_seconds", Help: "How long in seconds an item stays in workqueue before being requested.", Buckets: buckets,
		}, label),
		worked: to.NewHistogramVec(prometheus.HistogramOpts{
			Name: "workqueue_work_duration_seconds", Help: "How long in seconds processing an item from workqueue takes.", Buckets: buckets,
		}, label),
	}
}

// Depth implements Metrics.
func (m *PrometheusMetrics) Depth(name string, n int) {
	m.depth.WithLabelValues(name).Set(float64(n))
}

// Added implements Metrics.
func (m *PrometheusMetrics) Added(name string) { m.adds.WithLabelValues(name).Inc() }

// Waited implements Metrics.
func (m *PrometheusMetrics) Waited(name string, d time.Duration) {
	m.waited.WithLabelValues(name).Observe(d.Seconds())
}

// Worked implements Metrics.
func (m *PrometheusMetrics) Worked(name string, d time.Duration) {
	m.worked.WithLabelValues(name).Observe(d.Seconds())
}

// Retried implements Metrics.
func (m *PrometheusMetrics) Retried(name string) { m.retries.WithLabelValues(name).Inc() }
