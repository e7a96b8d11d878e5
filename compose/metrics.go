package compose

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sagong/apiserver"
	"sagong/object"
	"sagong/reconcile"
)

// metrics counts under the names that upstream's dashboards and alerts know.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	sizes    *prometheus.HistogramVec
	watching *prometheus.GaugeVec
	queues   *reconcile.PrometheusMetrics
	scheme   *object.Scheme
}

func newMetrics(scheme *object.Scheme) (*metrics, error) {
	m := &metrics{registry: prometheus.NewRegistry(), scheme: scheme}
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
	m.registry.MustRegister(m.requests, m.duration, m.sizes, m.watching,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	if m.queues, err = reconcile.NewPrometheusMetrics(m.registry); err != nil {
		return nil, fmt.Errorf("cannot make the metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// knownVerbs keeps what clients make up out of the labels.
var knownVerbs = map[string]bool{
	"get": true, "list": true, "watch": true, "create": true, "update": true, "patch": true, "delete": true,
	"deletecollection": true, "connect": true, "apply": true, "post": true, "put": true, "head": true, "options": true,
}

// labels describe a request. What a client makes up, a resource or subresource
// that does not exist, is left out: clients must not be able to grow the labels,
// and a request may be refused before anybody has looked whether it exists.
func (m *metrics) labels(i *apiserver.Info) []string {
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
	out := []string{strings.ToUpper(verb), "", "", "", "", scope}
	if def := m.scheme.ByResource(i.GVR()); i.Resource && def != nil {
		out[1], out[2], out[3] = i.GV.Group, i.GV.Version, i.Plural
		if hasSubresource(def, i.Subresource) {
			out[4] = i.Subresource
		}
	}
	return out
}

func hasSubresource(def *object.Definition, name string) bool {
	return name == "status" && def.Status || name == "scale" && def.Scale != nil ||
		slices.ContainsFunc(def.Subresources, func(s object.Subresource) bool { return s.Name == name })
}

// Request implements apiserver.Metrics.
func (m *metrics) Request(i *apiserver.Info, code int, took time.Duration, bytes int64) {
	l := m.labels(i)
	m.requests.WithLabelValues(append(l, strconv.Itoa(code))...).Inc()
	if i.Verb != "watch" {
		m.duration.WithLabelValues(l...).Observe(took.Seconds())
		m.sizes.WithLabelValues(l...).Observe(float64(bytes))
	}
}

// Watching implements apiserver.Metrics.
func (m *metrics) Watching(i *apiserver.Info, delta int) {
	m.watching.WithLabelValues(m.labels(i)...).Add(float64(delta))
}
