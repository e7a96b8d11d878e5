// Package apiserver is the HTTP side of the API: one path split, one chain from
// authentication to the resource engine, encodings, watches, and the tunnels to
// node agents.
package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/aggregator"
	"sagong/apiserver/audit"
	"sagong/apiserver/fairness"
	"sagong/apiserver/resource"
	"sagong/apiserver/turn"
)

// Options say what a Server is made of. Engine is needed.
type Options struct {
	Engine *resource.Engine
	// Authenticator finds out who asks; nil lets everybody in as
	// system:anonymous.
	Authenticator authenticator.Request
	// Authorizer decides what they may do; nil allows everything.
	Authorizer authorizer.UnconditionalAuthorizer
	// Audit writes down who asked for what; nil is no audit.
	Audit *audit.Auditor
	// Metrics are told of every request; nil is none.
	Metrics Metrics
	// Tracer makes spans of requests; nil traces nothing.
	Tracer  trace.Tracer
	Log     *slog.Logger
	Version version.Info
	// Nodes reaches the node agents; nil makes logs, exec and proxies answer 503.
	Nodes NodeConnector
	// Discovery answers /api, /apis and what lies below them down to a version.
	Discovery http.Handler
	// Delegate finds who serves a group and version in this server's place (an
	// aggregated API server); nil for nobody. It is asked first.
	Delegate func(schema.GroupVersion) http.Handler

	// Fairness bounds the requests under way and shares the server among those
	// who ask; nil does not.
	Fairness *fairness.Controller
	// Timeout ends a request that is not long-running. Default 60 s.
	Timeout time.Duration
	// BookmarkEvery is how often a watch is told how far it got. Default 1 min.
	BookmarkEvery time.Duration
	// StallLimit is how long a watch waits for a client that takes nothing.
	// Default 1 min.
	StallLimit time.Duration
}

// Server serves the API over HTTP. It is an http.Handler.
type Server struct {
	Options
	engine     *resource.Engine
	log        *slog.Logger
	health     health
	transports transports
	beat       beat

	impersonation impersonation
	stalls        stalls
	rounds        rounds

	mu       sync.RWMutex
	exact    map[string]http.Handler
	prefixes map[string]http.Handler // end in a slash
	services []string                // the paths of HandleService

	active activity
	// reading and writing are the requests under way that are not long-running.
	reading, writing atomic.Int64
	closing          context.Context // ends when the server drains
	drain            context.CancelFunc
}

// New makes a server.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Timeout == 0 {
		o.Timeout = 60 * time.Second
	}
	if o.BookmarkEvery == 0 {
		o.BookmarkEvery = time.Minute
	}
	if o.StallLimit == 0 {
		o.StallLimit = time.Minute
	}
	s := &Server{Options: o, engine: o.Engine, log: o.Log, exact: map[string]http.Handler{}, prefixes: map[string]http.Handler{}}
	s.stalls.limit = o.StallLimit
	s.rounds.every = o.BookmarkEvery
	s.closing, s.drain = context.WithCancel(context.Background())
	s.serveBuiltin()
	return s
}

// Handle serves a path of its own, or with a trailing slash all below it:
// /metrics, /openapi/, the dashboard. It goes through authentication and
// authorization as any path.
func (s *Server) Handle(path string, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasSuffix(path, "/") && path != "/" {
		s.prefixes[path] = h
		return
	}
	s.exact[path] = h
}

// HandleService serves a path with or without a slash at its end, and nothing
// below it, as Kubernetes does where generated clients ask for /version/.
func (s *Server) HandleService(path string, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exact[path], s.exact[path+"/"] = h, h
	s.services = append(s.services, path)
}

// belowService reports whether a path lies below one of HandleService.
func (s *Server) belowService(path string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.ContainsFunc(s.services, func(p string) bool { return strings.HasPrefix(path, p+"/") })
}

// Paths are those that Handle and HandleService were called with, in order.
func (s *Server) Paths() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(func(yield func(string) bool) {
		for p := range s.exact {
			if !strings.HasSuffix(p, "/") && !yield(p) {
				return
			}
		}
		for p := range s.prefixes {
			if !yield(p) {
				return
			}
		}
	})
}

func (s *Server) handler(path string) http.Handler {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if h := s.exact[path]; h != nil {
		return h
	}
	longest := ""
	for p := range s.prefixes {
		if len(p) > len(longest) && (strings.HasPrefix(path, p) || path+"/" == p) {
			longest = p
		}
	}
	return s.prefixes[longest]
}

// Shutdown ends the watches and tunnels and waits until no request is under way
// or ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.drain()
	return s.active.wait(ctx)
}

// activity counts the requests under way. Unlike a WaitGroup it allows requests
// to come while somebody waits.
type activity struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n falls to zero; nil when nobody waits
}

func (a *activity) begin() {
	a.mu.Lock()
	a.n++
	a.mu.Unlock()
}

func (a *activity) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n--; a.n == 0 && a.idle != nil {
		close(a.idle)
		a.idle = nil
	}
}

func (a *activity) wait(ctx context.Context) error {
	a.mu.Lock()
	if a.n == 0 {
		a.mu.Unlock()
		return nil
	}
	if a.idle == nil {
		a.idle = make(chan struct{})
	}
	idle := a.idle
	a.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// request is one request on its way.
type request struct {
	s       *Server
	w       *response
	r       *http.Request
	id      string
	info    Info
	user    user.Info
	start   time.Time
	errored *metav1.Status
	warned  warnings
	audited *audit.Request   // nil when nothing of it is written down
	ticket  *fairness.Ticket // nil for what is not bounded
	tracer  *tracer          // nil when nothing is traced
	turn    turn.Turn
	// terminated says that the server gave it up, to protect itself.
	terminated bool
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.active.begin()
	defer s.active.end()
	q := &request{s: s, w: &response{ResponseWriter: w}, r: r, start: time.Now(), info: split(r.Method, r.URL)}
	if !q.longRunning() && !q.renewsNode() { // those wait, and would hold the stack meanwhile
		growStack(0)
	}
	q.id = r.Header.Get("Audit-ID")
	if q.id == "" || len(q.id) > 64 {
		q.id = uuid.NewString()
	}
	h := w.Header()
	h.Set("Audit-Id", q.id)
	h.Set("Cache-Control", "no-cache, private")
	defer q.finish()
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			q.auditEnd(p)
			q.audited, q.terminated = nil, true
			s.log.Error("request caused a panic", "method", r.Method, "path", r.URL.Path, "id", q.id, "panic", p, "stack", string(debug.Stack()))
			if !q.w.wrote {
				q.fail(apierrors.NewInternalError(errPanic))
			}
		}
	}()
	if s.Tracer != nil {
		q.tracer = &tracer{Tracer: s.Tracer}
		defer q.traceEnd()
	}
	q.serve()
}

// serve is the chain every request goes through.
func (q *request) serve() {
	if q.renewsNode() {
		q.s.beat.wait(q.r.Context())
	}
	q.step("authentication")
	if err := q.authenticate(); err != nil {
		q.auditUnauthenticated(err)
		q.fail(err)
		return
	}
	q.traceRoot()
	q.step("audit")
	q.beginAudit()
	q.audited.Stage(audit.RequestReceived, 0, nil)
	q.step("constrainedimpersonation")
	if err := q.impersonate(); err != nil {
		q.fail(err)
		return
	}
	long := q.longRunning()
	q.step("priorityandfairness")
	if !long || q.info.Verb == "watch" {
		if err := q.enter(); err != nil {
			q.tooMany()
			return
		}
		defer q.ticket.Leave()
	}
	if !long {
		limit, err := q.timeout()
		if err != nil {
			q.fail(err)
			return
		}
		ctx, cancel := context.WithTimeout(q.r.Context(), limit)
		defer cancel()
		kind := &q.s.writing
		if slices.Contains(readVerbs, q.info.Verb) {
			kind = &q.s.reading
		}
		kind.Add(1)
		defer kind.Add(-1)
		q.turn.Yield = q.announce()
		defer q.turn.Yield()
		q.r = q.r.WithContext(turn.With(ctx, &q.turn))
	} else {
		q.auditStart()
		ctx, cancel := context.WithCancel(q.r.Context())
		defer cancel()
		stop := context.AfterFunc(q.s.closing, cancel)
		defer stop()
		q.r = q.r.WithContext(ctx)
	}
	q.step("authorization")
	if err := q.authorize(); err != nil {
		q.fail(err)
		return
	}
	switch {
	case q.info.Resource:
		q.serveResource()
	case q.info.Discovery && q.s.Discovery != nil:
		if gv, ok := versionPath(q.info.Path); ok && q.delegated(gv) {
			return
		}
		if err := q.routedDiscovery(); err != nil {
			q.fail(err)
			return
		}
		q.s.Discovery.ServeHTTP(q.w, q.r)
	default:
		if h := q.s.handler(q.info.Path); h != nil {
			h.ServeHTTP(q.w, q.r.WithContext(aggregator.WithUser(q.r.Context(), q.user)))
			return
		}
		if q.info.Path == "/" || q.info.Path == "/index.html" {
			q.s.serveIndex(q.w)
			return
		}
		if q.s.belowService(q.info.Path) {
			q.fail(routerError(http.StatusNotFound, ""))
			return
		}
		q.notFound()
	}
}

// announce tells the store that a write is being prepared. It returns what the
// request calls before it waits, for the store too.
func (q *request) announce() (yield func()) {
	switch q.info.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
	default:
		return q.ticket.Yield
	}
	q.s.engine.Store().Announce(1)
	return sync.OnceFunc(func() {
		q.s.engine.Store().Announce(-1)
		q.ticket.Yield()
	})
}

// readVerbs change nothing.
var readVerbs = []string{"get", "list", "watch", "head", "options"}

// InFlight counts the requests under way that are not long-running: those that
// read, and those that may change something.
func (s *Server) InFlight() (reading, mutating int64) { return s.reading.Load(), s.writing.Load() }

// versionPath reads /apis/GROUP/VERSION.
func versionPath(path string) (schema.GroupVersion, bool) {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(path, "/"), "/apis/")
	group, version, two := strings.Cut(rest, "/")
	return schema.GroupVersion{Group: group, Version: version}, ok && two && !strings.Contains(version, "/")
}

// timeout is the server's, or less when the client asks for less.
func (q *request) timeout() (time.Duration, error) {
	if !q.info.Resource || !strings.Contains(q.r.URL.RawQuery, "timeout=") {
		return q.s.Timeout, nil
	}
	asked := q.r.URL.Query().Get("timeout")
	if asked == "" {
		return q.s.Timeout, nil
	}
	d, err := time.ParseDuration(asked)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid timeout specified in the request URL - %v", err))
	}
	if d <= 0 || d > q.s.Timeout {
		d = q.s.Timeout
	}
	return d, nil
}

// longRunning requests have no timeout and are not counted as in flight.
func (q *request) longRunning() bool {
	if !q.info.Resource {
		return strings.HasPrefix(q.info.Path, "/debug/pprof/")
	}
	if q.info.Verb == "watch" {
		return true
	}
	switch q.info.Subresource {
	case "proxy", "exec", "attach", "portforward", "log":
		return true
	}
	return false
}

// notFound answers a path nobody serves.
func (q *request) notFound() {
	q.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	q.w.Header().Set("X-Content-Type-Options", "nosniff")
	q.w.WriteHeader(http.StatusNotFound)
	q.w.Write([]byte("404 page not found\n"))
}

// finish tells audit and metrics how it ended.
func (q *request) finish() {
	q.auditEnd(nil)
	if m := q.s.Metrics; m != nil {
		m.Request(&q.info, q.r, End{
			Code: q.w.code(), Took: time.Since(q.start), Elsewhere: q.turn.Waits(), Bytes: q.w.written, Terminated: q.terminated,
		})
	}
}
