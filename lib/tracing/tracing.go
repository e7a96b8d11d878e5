// Package tracing makes spans below the one that a context carries, and hands
// them on to other servers by W3C Trace Context. Where nobody traces, a context
// carries none, and all this costs is to look.
package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// scope is the name under which this program's spans are known.
const scope = "sagong"

// Span is a piece of work under way. The zero Span is one that nobody traces.
type Span struct{ span trace.Span }

// Of is the span that ctx carries; the zero Span when it is not recorded.
func Of(ctx context.Context) Span {
	if s := trace.SpanFromContext(ctx); s.IsRecording() {
		return Span{s}
	}
	return Span{}
}

// Start begins a span below the one that ctx carries. When that is not recorded,
// ctx comes back as it is, with the zero Span; attributes, which is called only
// for a span, may be nil.
func Start(ctx context.Context, name string, attributes func() []attribute.KeyValue) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	return begin(ctx, parent, name, trace.SpanKindInternal, attributes)
}

func begin(ctx context.Context, parent trace.Span, name string, kind trace.SpanKind, attributes func() []attribute.KeyValue) (context.Context, Span) {
	o := []trace.SpanStartOption{trace.WithSpanKind(kind)}
	if attributes != nil {
		o = append(o, trace.WithAttributes(attributes()...))
	}
	ctx, s := parent.TracerProvider().Tracer(scope).Start(ctx, name, o...)
	return ctx, Span{s}
}

// On tells whether the span is recorded.
func (s Span) On() bool { return s.span != nil }

// Event notes that something happened now.
func (s Span) Event(name string, attributes ...attribute.KeyValue) {
	if s.span != nil {
		s.span.AddEvent(name, trace.WithAttributes(attributes...))
	}
}

// Fail marks the span as failed. A nil error does not.
func (s Span) Fail(err error) {
	if s.span != nil && err != nil {
		s.span.RecordError(err)
		s.span.SetStatus(codes.Error, err.Error())
	}
}

// Set adds attributes.
func (s Span) Set(attributes ...attribute.KeyValue) {
	if s.span != nil {
		s.span.SetAttributes(attributes...)
	}
}

// End ends the span.
func (s Span) End() {
	if s.span != nil {
		s.span.End()
	}
}

// propagator is W3C Trace Context and Baggage, which upstream's servers speak.
var propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// Extract returns ctx with what the sender of a request says of its trace.
func Extract(ctx context.Context, h http.Header) context.Context {
	if h["Traceparent"] == nil && h["Baggage"] == nil {
		return ctx
	}
	return propagator.Extract(ctx, propagation.HeaderCarrier(h))
}

// Inject says in h of which trace ctx is.
func Inject(ctx context.Context, h http.Header) {
	propagator.Inject(ctx, propagation.HeaderCarrier(h))
}

// Transport makes a span of each request to another server and tells it the
// trace. A request without a trace goes as it is; a trace that only passes
// through is handed on.
func Transport(rt http.RoundTripper) http.RoundTripper { return transport{rt} }

type transport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	parent := trace.SpanFromContext(r.Context())
	if !parent.SpanContext().IsValid() {
		return t.next.RoundTrip(r)
	}
	ctx, span := r.Context(), Span{}
	if parent.IsRecording() {
		ctx, span = begin(ctx, parent, "HTTP "+r.Method, trace.SpanKindClient, func() []attribute.KeyValue {
			plain := *r.URL
			plain.User, plain.RawQuery = nil, ""
			return []attribute.KeyValue{
				attribute.String("http.request.method", r.Method), attribute.String("url.full", plain.String()), attribute.String("server.address", r.URL.Hostname()),
			}
		})
		defer span.End()
	}
	r = r.Clone(ctx)
	Inject(ctx, r.Header)
	resp, err := t.next.RoundTrip(r)
	span.Fail(err)
	if err == nil {
		span.Set(attribute.Int("http.response.status_code", resp.StatusCode))
		if span.On() && resp.StatusCode >= http.StatusBadRequest {
			span.span.SetStatus(codes.Error, "")
		}
	}
	return resp, err
}

// CloseIdleConnections lets http.Client close those of the transport below.
func (t transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// WrappedRoundTripper lets libraries find the transport below.
func (t transport) WrappedRoundTripper() http.RoundTripper { return t.next }
