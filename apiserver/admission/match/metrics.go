package match

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics count match conditions, of webhooks and of policies, under upstream's
// names.
type Metrics struct {
	errors, exclusions *prometheus.CounterVec
	evaluation         *prometheus.HistogramVec
}

// NewMetrics makes the metrics of match conditions in a registry; nil is none.
func NewMetrics(r prometheus.Registerer) *Metrics {
	to := promauto.With(r)
	labels := []string{"name", "kind", "type", "operation"}
	counter := func(name, help string) *prometheus.CounterVec {
		return to.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_admission_match_condition_" + name, Help: help}, labels)
	}
	return &Metrics{
		errors:     counter("evaluation_errors_total", "Match conditions that could not be evaluated."),
		exclusions: counter("exclusions_total", "Writes that match conditions excluded."),
		evaluation: to.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_admission_match_condition_evaluation_seconds", Help: "Time to evaluate match conditions, in seconds.",
			Buckets: []float64{0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25},
		}, labels),
	}
}

// Excluded counts a write that conditions kept from a webhook. The type has
// another name here, as upstream gives it.
func (m *Metrics) Excluded(c *Conditions, op string) {
	sort := c.Type
	if sort == "validating" {
		sort = "validate"
	}
	m.exclusions.WithLabelValues(c.Name, c.Sort, sort, op).Inc()
}

func (m *Metrics) failed(c *Conditions, op string) {
	m.errors.WithLabelValues(c.Name, c.Sort, c.Type, op).Inc()
}

func (m *Metrics) took(c *Conditions, op string, t time.Duration) {
	m.evaluation.WithLabelValues(c.Name, c.Sort, c.Type, op).Observe(t.Seconds())
}
