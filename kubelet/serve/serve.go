// Package serve is the kubelet's own HTTP interface: logs, exec, attach,
// port-forward, the pods of the node, statistics and metrics, under upstream's
// paths. The API server of the same process calls it as a handler, a remote one
// over TLS; who may call is decided before.
package serve

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/runtime"
)

// Container is one container of a pod, as requests need it.
type Container struct {
	// ID of the attempt asked for; empty when the runtime has none.
	ID string
	// LogPath is where its log lies.
	LogPath string
	Running bool
	TTY     bool
	Stdin   bool
}

// Node is what the handler asks of the node agent.
type Node interface {
	// Pods lists the pods of the node with the status that the agent knows.
	Pods() []*corev1.Pod
	// Pod finds one. An empty uid means any.
	Pod(namespace, name, uid string) (*corev1.Pod, bool)
	// Container finds a container of a pod, or with previous the attempt before
	// the one that runs. The error says, as upstream does, why it has no logs.
	Container(p *corev1.Pod, name string, previous bool) (Container, error)
	// Ended is closed when an attempt does not run any more.
	Ended(id string) <-chan struct{}
	// NetNS is the network namespace of a pod; empty for the host's.
	NetNS(p *corev1.Pod) (string, error)
	// Summary is what node and pods use; with brief only their time and memory,
	// which costs no look at disks.
	Summary(ctx context.Context, brief bool) (*Summary, error)
	// Usage is what the pods that run use, each of their containers and their
	// network.
	Usage(ctx context.Context) ([]PodUsage, error)
	// Healthy is nil while the agent does its work.
	Healthy() error
}

// Options of a handler.
type Options struct {
	Node    Node
	Runtime runtime.Runtime
	Log     *slog.Logger
	// Metrics are what the agent measures, Probes how probes went; nil is nothing.
	Metrics, Probes prometheus.Gatherer
	// Authorize, when set, is asked before each request but /healthz. An error
	// of the API's kinds is answered as such.
	Authorize func(*http.Request) error
	// StreamIdle ends streams on which nothing happens; default 4 h.
	StreamIdle time.Duration
}

// Handler serves the kubelet's interface.
type Handler struct {
	Options
	mux    *http.ServeMux
	follow follower
}

// New returns a handler.
func New(o Options) *Handler {
	if o.StreamIdle <= 0 {
		o.StreamIdle = 4 * time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{Options: o, mux: http.NewServeMux()}
	h.mux.HandleFunc("GET /healthz", h.healthz)
	h.mux.HandleFunc("GET /healthz/ping", h.healthz)
	h.mux.HandleFunc("GET /healthz/syncloop", h.healthz)
	h.mux.HandleFunc("GET /pods", h.pods)
	h.mux.HandleFunc("GET /pods/{$}", h.pods)
	h.mux.HandleFunc("GET /runningpods/", h.runningPods)
	h.mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", h.logs)
	for _, m := range []string{"GET", "POST"} {
		h.mux.HandleFunc(m+" /exec/{namespace}/{pod}/{container}", h.exec)
		h.mux.HandleFunc(m+" /exec/{namespace}/{pod}/{uid}/{container}", h.exec)
		h.mux.HandleFunc(m+" /attach/{namespace}/{pod}/{container}", h.attach)
		h.mux.HandleFunc(m+" /attach/{namespace}/{pod}/{uid}/{container}", h.attach)
		h.mux.HandleFunc(m+" /portForward/{namespace}/{pod}", h.portForward)
		h.mux.HandleFunc(m+" /portForward/{namespace}/{pod}/{uid}", h.portForward)
	}
	h.mux.HandleFunc("POST /run/{namespace}/{pod}/{container}", h.run)
	h.mux.HandleFunc("POST /run/{namespace}/{pod}/{uid}/{container}", h.run)
	h.mux.HandleFunc("GET /stats/summary", h.summary)
	h.mux.HandleFunc("GET /metrics/resource", h.resourceMetrics)
	h.mux.HandleFunc("GET /metrics/cadvisor", h.cadvisor)
	for path, g := range map[string]prometheus.Gatherer{"GET /metrics": o.Metrics, "GET /metrics/probes": o.Probes} {
		if g != nil {
			h.mux.Handle(path, promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
		}
	}
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/") {
		// The API server's node proxy hands on a relative path.
		r = r.Clone(r.Context())
		r.URL.Path, r.URL.RawPath = "/"+r.URL.Path, ""
	}
	if h.Authorize != nil && r.URL.Path != "/healthz" {
		if err := h.Authorize(r); err != nil {
			fail(w, err)
			return
		}
	}
	h.mux.ServeHTTP(w, r)
}

// fail answers with an error: an API error as itself, any other as upstream's
// kubelet does, in plain text.
func fail(w http.ResponseWriter, err error) {
	var st apierrors.APIStatus
	if !errors.As(err, &st) {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s := st.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(s.Code))
	json.NewEncoder(w).Encode(s)
}

// find resolves the pod that a path names.
func (h *Handler) find(r *http.Request) (*corev1.Pod, error) {
	p, ok := h.Node.Pod(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("uid"))
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), r.PathValue("pod"))
	}
	return p, nil
}

func (h *Handler) healthz(w http.ResponseWriter, r *http.Request) {
	if err := h.Node.Healthy(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write([]byte("ok"))
}

func (h *Handler) pods(w http.ResponseWriter, r *http.Request) { h.podList(w, h.Node.Pods()) }

func (h *Handler) runningPods(w http.ResponseWriter, r *http.Request) {
	var run []*corev1.Pod
	for _, p := range h.Node.Pods() {
		if p.Status.Phase == corev1.PodRunning {
			run = append(run, p)
		}
	}
	h.podList(w, run)
}

func (h *Handler) podList(w http.ResponseWriter, pods []*corev1.Pod) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: make([]corev1.Pod, len(pods))}
	for i, p := range pods {
		list.Items[i] = *p
	}
	writeJSON(w, &list)
}

func writeJSON(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(data)
}
