package compose

import (
	"context"
	"errors"
	goruntime "runtime"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"sagong/apiserver/fairness"
	"sagong/object"
	"sagong/reconcile"
)

const (
	// requestSeats bound the requests under way: as many as upstream's two limits
	// together, 400 that read and 200 that write.
	requestSeats = 600
	// turnsPerProcessor bound those that compute: enough that a processor always
	// has the next, and few enough that a newcomer does not wait for many.
	turnsPerProcessor = 2
)

func fairnessObjects() (all []object.Object) {
	for _, p := range fairness.BootstrapPriorityLevels() {
		all = append(all, p)
	}
	for _, f := range fairness.BootstrapFlowSchemas() {
		all = append(all, f)
	}
	return all
}

// newFairness shares the server by what the views show. synced waits until they
// show what there was at the start.
func newFairness(h *reconcile.Hub, m *metrics) (c *fairness.Controller, synced func(context.Context) error) {
	c = fairness.New(requestSeats, turnsPerProcessor*goruntime.GOMAXPROCS(0), newFairnessMetrics(m.registry))
	schemas, levels := reconcile.ViewOf[*flowcontrolv1.FlowSchema](h), reconcile.ViewOf[*flowcontrolv1.PriorityLevelConfiguration](h)
	set := func() {
		if levels.Len() > 0 { // else the objects to begin with are not made yet
			c.Set(schemas.All(), levels.All())
		}
	}
	schemas.OnChange(func(old, now *flowcontrolv1.FlowSchema) {
		if old == nil || now == nil || old.Generation != now.Generation || old.UID != now.UID {
			set()
		}
	})
	levels.OnChange(func(_, _ *flowcontrolv1.PriorityLevelConfiguration) { set() })
	return c, func(ctx context.Context) error { return errors.Join(schemas.Need(ctx), levels.Need(ctx)) }
}

// fairnessMetrics have upstream's names.
type fairnessMetrics struct {
	dispatched, rejected *prometheus.CounterVec
	waited               *prometheus.HistogramVec
}

func newFairnessMetrics(r prometheus.Registerer) *fairnessMetrics {
	to, labels := promauto.With(r), []string{"priority_level", "flow_schema"}
	return &fairnessMetrics{
		dispatched: to.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_flowcontrol_dispatched_requests_total", Help: "Number of requests executed by API Priority and Fairness subsystem",
		}, labels),
		rejected: to.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_flowcontrol_rejected_requests_total", Help: "Number of requests rejected by API Priority and Fairness subsystem",
		}, append(labels[:2:2], "reason")),
		waited: to.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_flowcontrol_request_wait_duration_seconds", Help: "Length of time a request spent waiting in its queue",
			Buckets: []float64{0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30},
		}, append(labels[:2:2], "execute")),
	}
}

// Dispatched implements fairness.Metrics.
func (m *fairnessMetrics) Dispatched(level, schema string, waited time.Duration) {
	m.dispatched.WithLabelValues(level, schema).Inc()
	if level != flowcontrolv1.PriorityLevelConfigurationNameExempt {
		m.waited.WithLabelValues(level, schema, "true").Observe(waited.Seconds())
	}
}

// Rejected implements fairness.Metrics.
func (m *fairnessMetrics) Rejected(level, schema, reason string) {
	m.rejected.WithLabelValues(level, schema, reason).Inc()
}
