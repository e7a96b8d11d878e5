package compose

import (
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"sagong/lib/pki"
)

// newRegistry is where a program measures, with what upstream's all tell of
// themselves.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	v := versionInfo()
	promauto.With(r).NewGauge(prometheus.GaugeOpts{
		Name: "kubernetes_build_info", Help: "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
		ConstLabels: prometheus.Labels{
			"major": v.Major, "minor": v.Minor, "git_version": v.GitVersion, "git_commit": v.GitCommit, "git_tree_state": v.GitTreeState,
			"build_date": v.BuildDate, "go_version": v.GoVersion, "compiler": v.Compiler, "platform": v.Platform,
		},
	}).Set(1)
	return r
}

// restMetrics measure the requests of a node's agent to the API server.
type restMetrics struct {
	next     http.RoundTripper
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
}

// measureRequests makes what wraps the transport of a client.
func measureRequests(r prometheus.Registerer) func(http.RoundTripper) http.RoundTripper {
	to := promauto.With(r)
	requests := to.NewCounterVec(prometheus.CounterOpts{Name: "rest_client_requests_total", Help: "Number of HTTP requests, partitioned by status code, method, and host."}, []string{"code", "method", "host"})
	took := to.NewHistogramVec(prometheus.HistogramOpts{Name: "rest_client_request_duration_seconds", Buckets: []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60},
		Help: "Request latency in seconds. Broken down by verb, and host."}, []string{"verb", "host"})
	return func(next http.RoundTripper) http.RoundTripper { return restMetrics{next, requests, took} }
}

// RoundTrip implements http.RoundTripper.
func (m restMetrics) RoundTrip(r *http.Request) (*http.Response, error) {
	begun := time.Now()
	resp, err := m.next.RoundTrip(r)
	code := "<error>"
	if err == nil {
		code = strconv.Itoa(resp.StatusCode)
	}
	m.requests.WithLabelValues(code, r.Method, r.URL.Host).Inc()
	m.took.WithLabelValues(r.Method, r.URL.Host).Observe(time.Since(begun).Seconds())
	return resp, err
}

// WrappedRoundTripper lets libraries find the transport below.
func (m restMetrics) WrappedRoundTripper() http.RoundTripper { return m.next }

// measureCertificates shows how long the certificates of a node that has joined
// are valid yet, and counts renewals that failed.
func (m *membership) measureCertificates(r prometheus.Registerer) (failed func()) {
	to := promauto.With(r)
	left := func(name string) func() float64 {
		return func() float64 {
			data, err := os.ReadFile(m.file(name, "crt"))
			if err != nil {
				return 0
			}
			c, err := pki.ParseCertificate(data)
			if err != nil {
				return 0
			}
			return time.Until(c.NotAfter).Seconds()
		}
	}
	to.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubelet_certificate_manager_client_ttl_seconds", Help: "Gauge of the TTL (time-to-live) of the Kubelet's client certificate. The value is in seconds until certificate expiry (negative if already expired)."}, left("client"))
	to.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubelet_certificate_manager_server_ttl_seconds", Help: "Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The value is in seconds until certificate expiry (negative if already expired)."}, left("serving"))
	// Both certificates are renewed by one attempt.
	client := to.NewCounter(prometheus.CounterOpts{Name: "kubelet_certificate_manager_client_expiration_renew_errors", Help: "Counter of certificate renewal errors."})
	serving := to.NewCounter(prometheus.CounterOpts{Name: "kubelet_server_expiration_renew_errors", Help: "Counter of certificate renewal errors."})
	return func() {
		client.Inc()
		serving.Inc()
	}
}
