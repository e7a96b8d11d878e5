package apiserver

import (
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/resource"
	"sagong/lib/tracing"
)

// tracer makes the spans that upstream's chain of filters makes: each step holds
// those that follow it.
type tracer struct {
	trace.Tracer
	open []trace.Span // of one request, the root among them
	root trace.Span
}

// step begins the span of a step of the chain.
func (q *request) step(name string) {
	if q.tracer == nil {
		return
	}
	ctx, s := q.tracer.Start(q.r.Context(), name)
	q.tracer.open = append(q.tracer.open, s)
	q.r = q.r.WithContext(ctx)
}

// traceRoot begins the span of the whole request, when it is known who asks: only
// the system's own may say that theirs is part of a sampled trace, for others the
// server's sampling decides, and their trace is linked.
func (q *request) traceRoot() {
	t := q.tracer
	if t == nil {
		q.passTrace()
		return
	}
	ctx := tracing.Extract(q.r.Context(), q.r.Header)
	o := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(q.start), trace.WithAttributes(q.traceAttributes()...)}
	if !slices.ContainsFunc(q.user.GetGroups(), func(g string) bool { return g == user.SystemPrivilegedGroup || g == user.MonitoringGroup }) {
		o = append(o, trace.WithNewRoot())
		if s := trace.SpanContextFromContext(ctx); s.IsValid() && s.IsRemote() {
			o = append(o, trace.WithLinks(trace.Link{SpanContext: s}))
		}
	}
	ctx, t.root = t.Start(ctx, q.spanName(), o...)
	t.open = append(t.open, t.root)
	q.r = q.r.WithContext(ctx)
}

// passTrace hands the trace of a request on to those whom this server asks,
// though it does not trace itself.
func (q *request) passTrace() {
	if ctx := q.r.Context(); q.r.Header["Traceparent"] != nil {
		q.r = q.r.WithContext(tracing.Extract(ctx, q.r.Header))
	}
}

// traceEnd ends all spans of the request.
func (q *request) traceEnd() {
	t := q.tracer
	if t == nil {
		return
	}
	if t.root != nil {
		code := q.w.code()
		t.root.SetAttributes(attribute.Int("http.response.status_code", code), attribute.Int64("http.response.body.size", q.w.written))
		if code >= http.StatusInternalServerError {
			t.root.SetStatus(codes.Error, "")
		}
	}
	for _, s := range slices.Backward(t.open) {
		s.End()
	}
}

// spanName is upstream's: the path with what it names left out.
func (q *request) spanName() string {
	in := &q.info
	if !in.Resource {
		return q.r.Method
	}
	name := "/api"
	if in.GV.Group != "" {
		name = "/apis/" + in.GV.Group
	}
	name += "/" + in.GV.Version
	if in.Namespace != "" {
		name += "/namespaces/{:namespace}"
	}
	name += "/" + in.Plural
	if in.Name != "" {
		name += "/{:name}"
	}
	if in.Subresource != "" {
		name += "/" + in.Subresource
	}
	return q.r.Method + " " + name
}

// traceAttributes are OpenTelemetry's of an HTTP request, and upstream's two.
func (q *request) traceAttributes() []attribute.KeyValue {
	r := q.r
	version := strings.TrimPrefix(r.Proto, "HTTP/")
	if r.ProtoMajor == 2 {
		version = "2"
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	all := []attribute.KeyValue{
		attribute.String("http.request.method", r.Method), attribute.String("url.scheme", scheme), attribute.String("url.path", r.URL.Path),
		attribute.String("network.protocol.version", version), attribute.String("http.target", r.URL.RequestURI()), attribute.String("audit-id", q.id),
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	all = append(all, attribute.String("server.address", host))
	if n, err := strconv.Atoi(port); err == nil {
		all = append(all, attribute.Int("server.port", n))
	}
	if peer, port, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		all = append(all, attribute.String("network.peer.address", peer), attribute.String("client.address", peer))
		if n, err := strconv.Atoi(port); err == nil {
			all = append(all, attribute.Int("network.peer.port", n))
		}
	}
	if agent := r.UserAgent(); agent != "" {
		all = append(all, attribute.String("user_agent.original", agent))
	}
	return all
}

// verbSpans are upstream's names of what handlers do.
var verbSpans = map[string]string{
	"get": "Get", "list": "List", "create": "Create", "update": "Update", "patch": "Patch", "delete": "Delete", "deletecollection": "Delete",
}

// spanOfVerb begins a span of what is done for the request, with upstream's name
// and fields. The caller ends it. Requests that are not traced cost a look at q.
func (q *request) spanOfVerb() tracing.Span {
	if q.tracer == nil {
		return tracing.Span{}
	}
	name := verbSpans[q.info.Verb]
	if name == "" {
		return tracing.Span{} // a watch has one of its own
	}
	ctx, s := tracing.Start(q.r.Context(), name, q.spanFields)
	q.r = q.r.WithContext(ctx)
	return s
}

// spanOfInitial begins the span of a watch until its initial events are sent.
func (q *request) spanOfInitial() tracing.Span {
	if q.tracer == nil {
		return tracing.Span{}
	}
	_, s := tracing.Start(q.r.Context(), "WatchList", q.spanFields)
	return s
}

func (q *request) spanFields() []attribute.KeyValue {
	in := &q.info
	client := q.r.RemoteAddr
	if host, _, err := net.SplitHostPort(client); err == nil {
		client = host
	}
	scope := "cluster"
	switch {
	case in.Name != "":
		scope = "resource"
	case in.Namespace != "":
		scope = "namespace"
	}
	return []attribute.KeyValue{
		attribute.String("accept", q.r.Header.Get("Accept")), attribute.String("audit-id", q.id), attribute.String("client", client),
		attribute.String("api-group", in.GV.Group), attribute.String("api-version", in.GV.Version), attribute.String("name", in.Name),
		attribute.String("subresource", in.Subresource), attribute.String("namespace", in.Namespace), attribute.String("protocol", q.r.Proto),
		attribute.String("resource", in.Plural), attribute.String("scope", scope), attribute.String("url", q.r.URL.Path),
		attribute.String("user-agent", q.r.UserAgent()), attribute.String("verb", strings.ToUpper(in.Verb)),
	}
}

// reading begins the span of a read of the store.
func (q *request) reading(name string, t resource.Target) tracing.Span {
	if q.tracer == nil {
		return tracing.Span{}
	}
	_, s := tracing.Start(q.r.Context(), name, func() []attribute.KeyValue {
		return []attribute.KeyValue{
			attribute.String("audit-id", q.id), attribute.String("key", t.Path()), attribute.String("group", t.Group), attribute.String("resource", t.Resource),
		}
	})
	return s
}

// serializing begins the span of the answer.
func (q *request) serializing(a accepted) tracing.Span {
	if q.tracer == nil {
		return tracing.Span{}
	}
	_, s := tracing.Start(q.r.Context(), "SerializeObject", func() []attribute.KeyValue {
		return []attribute.KeyValue{
			attribute.String("audit-id", q.id), attribute.String("method", q.r.Method), attribute.String("url", q.r.URL.Path),
			attribute.String("protocol", q.r.Proto), attribute.String("mediaType", a.contentType(false)),
		}
	})
	return s
}
