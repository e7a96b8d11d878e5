package compose

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/metrics/legacyregistry"

	"sagong/apiserver"
	"sagong/object"
	"sagong/reconcile"
)

// metrics counts under the names that upstream's dashboards and alerts know.
type metrics struct {
	registry   *prometheus.Registry
	requests   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	sli        *prometheus.HistogramVec
	terminated *prometheus.CounterVec
	sizes      *prometheus.HistogramVec
	watching   *prometheus.GaugeVec
	deprecated *prometheus.GaugeVec
	health     *prometheus.GaugeVec
	checks     *prometheus.CounterVec
	queues     *reconcile.PrometheusMetrics
	scheme     *object.Scheme
	series     sync.Map // of *series by requestLabels
}

// requestLabels are those of a request, in upstream's order: without the dry run
// for what has no such label.
type requestLabels struct {
	verb, dryRun, group, version, resource, subresource, scope, component string
}

func (l requestLabels) all() []string {
	return []string{l.verb, l.dryRun, l.group, l.version, l.resource, l.subresource, l.scope, l.component}
}

func (l requestLabels) withoutDryRun() []string {
	return []string{l.verb, l.group, l.version, l.resource, l.subresource, l.scope, l.component}
}

// series are the metrics of requests that are alike, found once.
type series struct {
	codes    sync.Map // of prometheus.Counter by code
	duration prometheus.Observer
	sli      prometheus.Observer // nil for what is not written
	size     prometheus.Observer // nil for what does not read
}

func newMetrics(scheme *object.Scheme) *metrics {
	m := &metrics{registry: newRegistry(), scheme: scheme}
	to := promauto.With(m.registry)
	all := []string{"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"}
	request := append(all[:1:1], all[2:]...)
	m.requests = to.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_request_total", Help: "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
	}, append(all[:len(all):len(all)], "code"))
	m.duration = to.NewHistogramVec(prometheus.HistogramOpts{
		Name: "apiserver_request_duration_seconds", Help: "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
		// Upstream's, and one below them: most requests end before its first.
		Buckets: []float64{0.001, 0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60},
	}, all)
	m.sli = to.NewHistogramVec(prometheus.HistogramOpts{
		Name: "apiserver_request_sli_duration_seconds", Help: "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
		Buckets: []float64{0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60},
	}, request)
	m.terminated = to.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_request_terminations_total", Help: "Number of requests which apiserver terminated in self-defense.",
	}, append(request[:len(request):len(request)], "code"))
	m.sizes = to.NewHistogramVec(prometheus.HistogramOpts{
		Name: "apiserver_response_sizes", Help: "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
		Buckets: []float64{1000, 10_000, 100_000, 1e6, 1e7, 1e8, 1e9},
	}, request)
	m.watching = to.NewGaugeVec(prometheus.GaugeOpts{
		Name: "apiserver_longrunning_requests", Help: "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component.",
	}, request)
	m.deprecated = to.NewGaugeVec(prometheus.GaugeOpts{
		Name: "apiserver_requested_deprecated_apis", Help: "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.",
	}, []string{"group", "version", "resource", "subresource", "removed_release"})
	m.health = to.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubernetes_healthcheck", Help: "This metric records the result of a single healthcheck.",
	}, []string{"name", "type"})
	m.checks = to.NewCounterVec(prometheus.CounterOpts{
		Name: "kubernetes_healthchecks_total", Help: "This metric records the results of all healthcheck.",
	}, []string{"name", "type", "status"})
	// What upstream generates from tags is validated by hand here: nothing can
	// differ from it, or panic.
	for name, help := range map[string]string{
		"mismatch": "Number of times declarative validation results differed from handwritten validation results for core types.",
		"panic":    "Number of times declarative validation has panicked during validation.",
	} {
		to.NewCounter(prometheus.CounterOpts{Name: "apiserver_validation_declarative_validation_" + name + "_total", Help: help})
	}
	utilfeature.DefaultMutableFeatureGate.AddMetrics()
	m.queues = reconcile.NewPrometheusMetrics(m.registry)
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.gatherers(), promhttp.HandlerOpts{})
}

// slis serves what health checks came to, for who looks at nothing else.
func (m *metrics) slis() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(m.health, m.checks)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// gatherers are the registry, and what libraries of upstream's count on one of
// their own: expressions, the features that they know, and their metrics.
func (m *metrics) gatherers() prometheus.Gatherers {
	libraries := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		all, err := legacyregistry.DefaultGatherer.Gather()
		return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool {
			return !strings.HasPrefix(f.GetName(), "apiserver_cel_") && !slices.Contains(libraryMetrics, f.GetName())
		}), err
	})
	return prometheus.Gatherers{m.registry, libraries}
}

var libraryMetrics = []string{"kubernetes_feature_enabled", "registered_metrics_total", "disabled_metrics_total", "hidden_metrics_total"}

var (
	methods     = []string{"DELETE", "PATCH", "POST", "PUT"}
	connections = []string{"log", "exec", "portforward", "attach", "proxy"}
)

// labels describe a request, as upstream's do. What a client makes up, a resource
// or subresource that does not exist, is left out: clients must not be able to
// grow the labels, and a request may be refused before anybody has looked whether
// it exists.
func (m *metrics) labels(i *apiserver.Info, r *http.Request) (requestLabels, *object.Definition) {
	l := requestLabels{verb: "other"}
	switch {
	case !i.Resource:
	case i.Name != "" || i.Verb == "create":
		l.scope = "resource"
	case i.Namespace != "":
		l.scope = "namespace"
	default:
		l.scope = "cluster"
	}
	def := m.scheme.ByResource(i.GVR())
	if i.Resource && def != nil {
		l.component = "apiserver"
		l.group, l.version, l.resource = i.GV.Group, i.GV.Version, i.Plural
		if hasSubresource(def, i.Subresource) {
			l.subresource = i.Subresource
		}
	} else {
		def = nil
	}
	switch method := r.Method; {
	case i.Verb == "watch" && i.Resource:
		l.verb = "WATCH"
	case slices.Contains(connections, l.subresource):
		l.verb = "CONNECT"
	case method == "PATCH" && r.Header.Get("Content-Type") == string(types.ApplyPatchType):
		l.verb = "APPLY"
	case method == "GET" || method == "HEAD":
		l.verb = "GET"
		if l.scope == "cluster" || l.scope == "namespace" {
			l.verb = "LIST"
		}
	case slices.Contains(methods, method):
		l.verb = method
	}
	if strings.Contains(r.URL.RawQuery, "dryRun") {
		l.dryRun = "invalid"
		if all := r.URL.Query()["dryRun"]; !slices.ContainsFunc(all, func(v string) bool { return v != metav1.DryRunAll }) {
			l.dryRun = metav1.DryRunAll
		}
	}
	return l, def
}

func hasSubresource(def *object.Definition, name string) bool {
	return name == "status" && def.Status || name == "scale" && def.Scale != nil ||
		slices.ContainsFunc(def.Subresources, func(s object.Subresource) bool { return s.Name == name })
}

// Request implements apiserver.Metrics.
func (m *metrics) Request(i *apiserver.Info, r *http.Request, end apiserver.End) {
	l, def := m.labels(i, r)
	found, ok := m.series.Load(l)
	if !ok {
		s := &series{duration: m.duration.WithLabelValues(l.all()...)}
		if l.dryRun == "" {
			s.sli = m.sli.WithLabelValues(l.withoutDryRun()...)
		}
		if l.verb == "GET" || l.verb == "LIST" {
			s.size = m.sizes.WithLabelValues(l.withoutDryRun()...)
		}
		if release, old := deprecated(def); old {
			m.deprecated.WithLabelValues(l.group, l.version, l.resource, l.subresource, release).Set(1)
		}
		found, _ = m.series.LoadOrStore(l, s)
	}
	s := found.(*series)
	if end.Terminated {
		m.terminated.WithLabelValues(append(l.withoutDryRun(), strconv.Itoa(end.Code))...).Inc()
	}
	count, ok := s.codes.Load(end.Code)
	if !ok {
		count, _ = s.codes.LoadOrStore(end.Code, m.requests.WithLabelValues(append(l.all(), strconv.Itoa(end.Code))...))
	}
	count.(prometheus.Counter).Inc()
	if l.verb == "WATCH" {
		return
	}
	s.duration.Observe(end.Took.Seconds())
	if s.sli != nil {
		s.sli.Observe((end.Took - end.Elsewhere).Seconds())
	}
	if s.size != nil {
		s.size.Observe(float64(end.Bytes))
	}
}

// deprecated says whether a kind is, and the release that does without it when
// one is named.
func deprecated(def *object.Definition) (release string, is bool) {
	if def == nil {
		return "", false
	}
	if def.Dynamic != nil {
		return "", def.Dynamic.Deprecation != ""
	}
	o := def.New()
	if gone, ok := o.(interface{ APILifecycleRemoved() (int, int) }); ok {
		major, minor := gone.APILifecycleRemoved()
		release = fmt.Sprintf("%d.%d", major, minor)
	}
	_, is = o.(interface{ APILifecycleDeprecated() (int, int) })
	return release, is
}

// Watching implements apiserver.Metrics.
func (m *metrics) Watching(i *apiserver.Info, r *http.Request, delta int) {
	l, _ := m.labels(i, r)
	m.watching.WithLabelValues(l.withoutDryRun()...).Add(float64(delta))
}

// Checked implements apiserver.Metrics.
func (m *metrics) Checked(path, check string, ok bool) {
	value, status := 0.0, "error"
	if ok {
		value, status = 1, "success"
	}
	m.health.WithLabelValues(check, path).Set(value)
	m.checks.WithLabelValues(check, path, status).Inc()
}
