package tracing_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"sagong/lib/tracing"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// sentTo calls a server with ctx through Transport, and returns what the server
// was told of the trace.
func sentTo(t *testing.T, ctx context.Context) (traceparent string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { traceparent = r.Header.Get("Traceparent") }))
	defer srv.Close()
	c := &http.Client{Transport: tracing.Transport(srv.Client().Transport)}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL+"/a?secret=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if r.Header.Get("Traceparent") != "" {
		t.Error("the caller's request was changed")
	}
	return traceparent
}

func TestWithoutATrace(t *testing.T) {
	ctx, s := tracing.Start(t.Context(), "x", func() []attribute.KeyValue { t.Error("attributes were asked for"); return nil })
	s.Event("e")
	s.End()
	if ctx != t.Context() || s.On() {
		t.Error("a span without a trace")
	}
	if got := sentTo(t, ctx); got != "" {
		t.Errorf("the server was told of %s", got)
	}
	if n := testing.AllocsPerRun(100, func() {
		_, s := tracing.Start(ctx, "x", nil)
		s.End()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestATracePassesThrough(t *testing.T) {
	ctx := tracing.Extract(t.Context(), http.Header{"Traceparent": {parent}})
	if got := sentTo(t, ctx); got != parent {
		t.Errorf("the server was told of %q", got)
	}
}

func TestSpans(t *testing.T) {
	kept := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(kept))
	ctx, root := p.Tracer("test").Start(tracing.Extract(t.Context(), http.Header{"Traceparent": {parent}}), "root")
	ctx, s := tracing.Start(ctx, "work", nil)
	got := sentTo(t, ctx)
	s.End()
	root.End()
	all := kept.Ended()
	if len(all) != 3 || all[0].Name() != "HTTP POST" || all[1].Name() != "work" || all[2].Name() != "root" {
		t.Fatalf("spans: %v", all)
	}
	call := all[0]
	if call.Parent().SpanID() != all[1].SpanContext().SpanID() || all[2].Parent().SpanID().String() != "b7ad6b7169203331" {
		t.Error("the spans do not lie in each other")
	}
	if want := "00-0af7651916cd43dd8448eb211c80319c-" + call.SpanContext().SpanID().String() + "-01"; got != want {
		t.Errorf("the server was told of %s, want %s", got, want)
	}
	for _, a := range call.Attributes() {
		if a.Key == "url.full" && a.Value.AsString()[len(a.Value.AsString())-2:] != "/a" {
			t.Errorf("the address is %s: queries may hold secrets", a.Value.AsString())
		}
	}
}
