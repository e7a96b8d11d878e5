package admission

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"sagong/apiserver/resource"
)

// Metrics measure a Chain under upstream's names.
type Metrics struct {
	rules, steps *prometheus.HistogramVec
	found        sync.Map // of prometheus.Observer by measured: finding one by its labels costs more than most rules
}

type measured struct {
	name, sort string
	operation  resource.Operation
	rejected   bool
}

// NewMetrics makes the metrics of a chain in a
// registry; nil is none.
func NewMetrics(r prometheus.Registerer) *Metrics {
	to := promauto.With(r)
	buckets := []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5}
	return &Metrics{
		rules: to.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_admission_controller_admission_duration_seconds", Buckets: buckets,
			Help: "Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit)."}, []string{"name", "type", "operation", "rejected"}),
		steps: to.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_admission_step_admission_duration_seconds", Buckets: buckets,
			Help: "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit)."}, []string{"type", "operation", "rejected"}),
	}
}

// idle is a time in which a rule does no more than see that a write is not about
// it. That is not measured, as upstream asks only the rules of an operation.
const idle = time.Microsecond

// observe measures one rule, or with no name all of a step.
func (m *Metrics) observe(name, sort string, a *resource.Attributes, took time.Duration, rejected bool) {
	if name != "" && took < idle && !rejected {
		return
	}
	k := measured{name, sort, a.Operation, rejected}
	o, ok := m.found.Load(k)
	if !ok {
		labels := []string{name, sort, string(a.Operation), strconv.FormatBool(rejected)}
		if name == "" {
			o = m.steps.WithLabelValues(labels[1:]...)
		} else {
			o = m.rules.WithLabelValues(labels...)
		}
		m.found.Store(k, o)
	}
	o.(prometheus.Observer).Observe(took.Seconds())
}

// ask asks rules in order, and measures each.
func ask[R any](m *Metrics, sort string, a *resource.Attributes, rules []named[R], question func(R) error) error {
	var begin time.Time
	if m != nil {
		begin = time.Now()
	}
	last := time.Duration(0)
	for _, r := range rules {
		err := question(r.rule)
		if m != nil {
			now := time.Since(begin) // half the price of time.Now
			m.observe(r.name, sort, a, now-last, err != nil)
			last = now
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// named is a rule with its name.
type named[R any] struct {
	name string
	rule R
}
