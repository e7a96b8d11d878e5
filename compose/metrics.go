package compose

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sagong/apiserver"
)

// metrics counts under the names that upstream's dashboards and alerts know.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	sizes    *prometheus.HistogramVec
	watching *prometheus.GaugeVec

	depth   *prometheus.GaugeVec
	adds    *prometheus.CounterVec
	waited  *prometheus.HistogramVec
	worked  *prometheus.HistogramVec
	retries *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	request := []string{"verb", "group", "version", "resource", "subresource", "scope"}
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_request_total", Help: "Counter of apiserver requests broken out for each verb, group, version, resource, scope and HTTP response code.",
	}, append(request, "code"))
	m.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "apiserver_request_duration_seconds", Help: "Response latency distribution in seconds for each verb, group, version, resource, subresource and scope.",
		Buckets: []float64{0.001, 0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 5, 10, 30, 60},
	}, request)
	m.sizes = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "apiserver_response_sizes", Help: "Response size distribution in bytes for each group, version, verb, resource, subresource and scope.",
		Buckets: []float64{1000, 10_000, 100_000, 1e6, 1e7, 1e8, 1e9},
	}, request)
	m.watching = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "apiserver_longrunning_requests", Help: "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource and scope.",
	}, request)
	queue := []string{"name"}
	m.depth = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "workqueue_depth", Help: "Current depth of workqueue."}, queue)
	m.adds = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "workqueue_adds_total", Help: "Total number of adds handled by workqueue."}, queue)
	seconds := prometheus.ExponentialBuckets(1e-5, 10, 8)
	m.waited = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "workqueue_queue_duration_seconds", Help: "How long in seconds an item stays in workqueue before being requested.", Buckets: seconds,
	}, queue)
	m.worked = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "workqueue_work_duration_seconds", Help: "How long in seconds processing an item from workqueue takes.", Buckets: seconds,
	}, queue)
	m.retries = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "workqueue_retries_total", Help: "Total number of retries handled by workqueue."}, queue)
	m.registry.MustRegister(m.requests, m.duration, m.sizes, m.watching, m.depth, m.adds, m.waited, m.worked, m.retries,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// knownVerbs keeps what clients make up out of the labels.
var knownVerbs = map[string]bool{
	"get": true, "list": true, "watch": true, "create": true, "update": true, "patch": true, "delete": true,
	"deletecollection": true, "connect": true, "apply": true, "post": true, "put": true, "head": true, "options": true,
}

func labels(i *apiserver.Info) []string {
	verb := i.Verb
	if !knownVerbs[verb] {
		verb = "other"
	}
	scope := ""
	switch {
	case !i.Resource:
	case i.Name != "":
		scope = "resource"
	case i.Namespace != "":
		scope = "namespace"
	default:
		scope = "cluster"
	}
	gvr := i.GVR()
	return []string{strings.ToUpper(verb), gvr.Group, gvr.Version, gvr.Resource, i.Subresource, scope}
}

// Request implements apiserver.Metrics. Requests that name no resource that
// exists are counted without it: clients must not be able to grow the labels.
func (m *metrics) Request(i *apiserver.Info, code int, took time.Duration, bytes int64) {
	l := labels(i)
	if code == http.StatusNotFound && i.Name == "" {
		l[1], l[2], l[3], l[4] = "", "", "", ""
	}
	m.requests.WithLabelValues(append(l, strconv.Itoa(code))...).Inc()
	if i.Verb != "watch" {
		m.duration.WithLabelValues(l...).Observe(took.Seconds())
		m.sizes.WithLabelValues(l...).Observe(float64(bytes))
	}
}

// Watching implements apiserver.Metrics.
func (m *metrics) Watching(i *apiserver.Info, delta int) {
	m.watching.WithLabelValues(labels(i)...).Add(float64(delta))
}

// Depth implements reconcile.Metrics.
func (m *metrics) Depth(name string, n int) { m.depth.WithLabelValues(name).Set(float64(n)) }

// Added implements reconcile.Metrics.
func (m *metrics) Added(name string) { m.adds.WithLabelValues(name).Inc() }

// Waited implements reconcile.Metrics.
func (m *metrics) Waited(name string, d time.Duration) {
	m.waited.WithLabelValues(name).Observe(d.Seconds())
}

// Worked implements reconcile.Metrics.
func (m *metrics) Worked(name string, d time.Duration) {
	m.worked.WithLabelValues(name).Observe(d.Seconds())
}

// Retried implements reconcile.Metrics.
func (m *metrics) Retried(name string) { m.retries.WithLabelValues(name).Inc() }
