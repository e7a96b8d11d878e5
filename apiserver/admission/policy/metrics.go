package policy

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics count under upstream's names.
type Metrics struct {
	validatingTotal, mutatingTotal     *prometheus.CounterVec
	validatingLatency, mutatingLatency *prometheus.HistogramVec
}

// NewMetrics makes the metrics of policies in a
// registry; nil is none.
func NewMetrics(r prometheus.Registerer) *Metrics {
	to := promauto.With(r)
	pair := func(sort string, labels ...string) (*prometheus.CounterVec, *prometheus.HistogramVec) {
		prefix := "apiserver_" + sort + "_admission_policy_check_"
		return to.NewCounterVec(prometheus.CounterOpts{Name: prefix + "total", Help: "Checks by admission policies."}, labels),
			to.NewHistogramVec(prometheus.HistogramOpts{
				Name: prefix + "duration_seconds", Help: "Time of one check by an admission policy, in seconds.", Buckets: []float64{0.0000005, 0.001, 0.01, 0.1, 1},
			}, labels)
	}
	m := &Metrics{}
	m.validatingTotal, m.validatingLatency = pair("validating", "policy", "policy_binding", "error_type", "enforcement_action")
	m.mutatingTotal, m.mutatingLatency = pair("mutating", "policy", "policy_binding", "error_type")
	return m
}

func (m *Metrics) validating(policy, binding, errorType, action string, took time.Duration) {
	m.validatingTotal.WithLabelValues(policy, binding, errorType, action).Inc()
	m.validatingLatency.WithLabelValues(policy, binding, errorType, action).Observe(took.Seconds())
}

func (m *Metrics) mutating(policy, binding string, err error, took time.Duration) {
	t := "no_error"
	if err != nil {
		t = errorType(decision{failed: true, message: err.Error()})
	}
	m.mutatingTotal.WithLabelValues(policy, binding, t).Inc()
	m.mutatingLatency.WithLabelValues(policy, binding, t).Observe(took.Seconds())
}

// errorType sorts a decision into upstream's kinds of error.
func errorType(d decision) string {
	switch {
	case !d.failed && !d.deny:
		return "no_error"
	case strings.HasPrefix(d.message, "compilation"):
		return "compile_error"
	case strings.HasPrefix(d.message, "validation failed due to running out of cost budget"):
		return "out_of_budget"
	}
	return "invalid_error"
}
