package compose

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver"
	"sagong/apiserver/resource"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// receiver is an OTLP collector.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*tracev1.Span
	from  []string
}

func (r *receiver) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range in.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			r.from = append(r.from, a.Key+"="+a.Value.GetStringValue())
		}
		for _, ss := range rs.ScopeSpans {
			r.spans = append(r.spans, ss.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *receiver) named(name string) *tracev1.Span {
	for _, s := range r.spans {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func (r *receiver) path(s *tracev1.Span) string {
	for _, p := range r.spans {
		if string(p.SpanId) == string(s.ParentSpanId) {
			return r.path(p) + " > " + s.Name
		}
	}
	return s.Name
}

func tracingFile(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "tracing.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const tracingHead = "apiVersion: apiserver.config.k8s.io/v1beta1\nkind: TracingConfiguration\n"

func TestTracingConfiguration(t *testing.T) {
	for text, want := range map[string]string{
		tracingHead + "samplingRatePerMillion: -1":      "samplingRatePerMillion: Invalid value: -1: sampling rate must be positive",
		tracingHead + "samplingRatePerMillion: 1000001": "samplingRatePerMillion: Invalid value: 1000001: sampling rate per million must be less than or equal to one million",
		tracingHead + "endpoint: https://a:1":           `endpoint: Invalid value: "https://a:1": unsupported scheme: https.`,
		tracingHead + "color: red":                      `unknown field "color"`,
		"apiVersion: v1\nkind: Pod":                     "failed to read tracing config: ",
	} {
		if _, err := openTracing(t.Context(), tracingFile(t, text), "me"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if p, err := openTracing(t.Context(), "", "me"); p != nil || err != nil {
		t.Errorf("without a file: %v, %v", p, err)
	}
}

// who authenticates by the User header.
func who(r *http.Request) (*authenticator.Response, bool, error) {
	u := &user.DefaultInfo{Name: r.Header.Get("User")}
	if u.Name == "admin" {
		u.Groups = []string{user.SystemPrivilegedGroup}
	}
	return &authenticator.Response{User: u}, true, nil
}

func TestTraces(t *testing.T) {
	for version, rate := range map[string]string{"v1beta1": "1000000", "v1": "0"} {
		t.Run(version, func(t *testing.T) {
			r := &receiver{}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			g := grpc.NewServer()
			collector.RegisterTraceServiceServer(g, r)
			go func() { _ = g.Serve(l) }()
			defer g.Stop()
			text := "apiVersion: apiserver.config.k8s.io/" + version + "\nkind: TracingConfiguration\nendpoint: " + l.Addr().String() + "\nsamplingRatePerMillion: " + rate
			p, err := openTracing(t.Context(), tracingFile(t, text), "me")
			if err != nil {
				t.Fatal(err)
			}
			s := store.OpenMemory(store.Options{Tag: resource.Tag})
			defer s.Close()
			api := apiserver.New(apiserver.Options{
				Engine:        resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...)}),
				Authenticator: authenticator.RequestFunc(who), Tracer: p.Tracer("test"),
			})
			const remote = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
			do := func(user, method, path, body string, code int) {
				t.Helper()
				q := httptest.NewRequest(method, path, strings.NewReader(body))
				q.Header.Set("User", user)
				q.Header.Set("Traceparent", remote)
				w := httptest.NewRecorder()
				api.ServeHTTP(w, q)
				if w.Code != code {
					t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
				}
			}
			do("admin", "POST", "/api/v1/namespaces", `{"metadata":{"name":"a"}}`, 201)
			do("admin", "GET", "/api/v1/namespaces/a", "", 200)
			do("jane", "PUT", "/api/v1/namespaces/a", `{"metadata":{"name":"a","labels":{"x":"y"}}}`, 200)
			do("jane", "GET", "/api/v1/pods", "", 200)
			do("jane", "GET", "/livez/none", "", 404)
			if err := p.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range r.spans {
				got = append(got, r.path(s))
			}
			slices.Sort(got)
			const chain = " > audit > constrainedimpersonation > priorityandfairness > authorization"
			want := []string{
				"GET /api/v1/namespaces/{:namespace}/namespaces/{:name}", "GET /api/v1/namespaces/{:namespace}/namespaces/{:name}" + chain + " > Get > Get etcd3", "GET /api/v1/namespaces/{:namespace}/namespaces/{:name}" + chain + " > Get > SerializeObject",
				"POST /api/v1/namespaces", "POST /api/v1/namespaces" + chain + " > Create > Create etcd3", "POST /api/v1/namespaces" + chain + " > Create > SerializeObject",
			}
			if rate != "0" {
				want = append(want, "GET", "authentication",
					"PUT /api/v1/namespaces/{:namespace}/namespaces/{:name}"+chain+" > Update > GuaranteedUpdate etcd3", "GET /api/v1/pods"+chain+" > List > cacher.GetList", "GET /api/v1/pods"+chain+" > List > SerializeObject")
			} else if n := slices.Index(got, "authentication"); n >= 0 || r.named("GET /api/v1/pods") != nil {
				t.Error("what nobody asked for is traced")
			}
			for _, w := range want {
				if !slices.Contains(got, w) {
					t.Errorf("%s is missing", w)
				}
			}
			if t.Failed() {
				t.Log(strings.Join(got, "\n"))
			}
			if s := r.named("POST /api/v1/namespaces"); s == nil || string(s.ParentSpanId) != "\xb7\xad\x6b\x71\x69\x20\x33\x31" {
				t.Error("the trace of an administrator is not continued")
			}
			if s := r.named("GET /api/v1/pods"); s != nil && (len(s.ParentSpanId) > 0 || len(s.Links) != 1) {
				t.Errorf("the trace of anybody is continued, or not linked: %v", s)
			}
			if !slices.Contains(r.from, "service.name=apiserver") || !slices.Contains(r.from, "service.instance.id=me") {
				t.Errorf("spans are from %v", r.from)
			}
		})
	}
}
