package webhook

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics count under upstream's names.
type Metrics struct {
	duration   *prometheus.HistogramVec
	requests   *prometheus.CounterVec
	rejections *prometheus.CounterVec
	opened     *prometheus.CounterVec
}

// NewMetrics makes the metrics of webhooks in a
// registry; nil is none.
func NewMetrics(r prometheus.Registerer) *Metrics {
	to := promauto.With(r)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return to.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_admission_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return to.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_admission_" + name, Help: help, Buckets: buckets}, labels)
	}
	return &Metrics{
		duration: histogram("webhook_admission_duration_seconds", "Admission webhook latency in seconds, by webhook, type (validating or admit), operation and whether it rejected.",
			[]float64{0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 25}, "name", "type", "operation", "rejected"),
		requests:   counter("webhook_request_total", "Requests to admission webhooks.", "name", "type", "operation", "code", "rejected"),
		rejections: counter("webhook_rejection_count", "Requests that admission webhooks rejected, or that were rejected because they failed.", "name", "type", "operation", "error_type", "rejection_code"),
		opened:     counter("webhook_fail_open_count", "Failures of admission webhooks that were ignored.", "name", "type"),
	}
}

func (m *Metrics) request(hook, sort, op string, took time.Duration, rejected bool, code int) {
	r := strconv.FormatBool(rejected)
	m.duration.WithLabelValues(hook, sort, op, r).Observe(took.Seconds())
	m.requests.WithLabelValues(hook, sort, op, codeLabel(code), r).Inc()
}

func (m *Metrics) rejection(hook, sort, op, kind string, code int) {
	m.rejections.WithLabelValues(hook, sort, op, kind, codeLabel(code)).Inc()
}

func (m *Metrics) open(hook, sort string) { m.opened.WithLabelValues(hook, sort).Inc() }

// codeLabel bounds the codes that webhooks can make up.
func codeLabel(code int) string { return strconv.Itoa(min(code, 600)) }
