package probe

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func port(t *testing.T, s *httptest.Server) intstr.IntOrString {
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(u.Port())
	return intstr.FromInt32(int32(n))
}

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != UserAgent || r.Header.Get("Accept") != "*/*" || r.Header.Get("X-Mine") != "1" || r.Host != "my.host" || r.URL.Query().Get("q") != "1" {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	mux.HandleFunc("/bad", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/plain", 302) })
	mux.HandleFunc("/plain", func(w http.ResponseWriter, r *http.Request) {})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://other.example/", 302) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // an answer might still be taken
	})
	s, tls := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer s.Close()
	defer tls.Close()
	for _, x := range []struct {
		path   string
		server *httptest.Server
		scheme corev1.URIScheme
		want   Outcome
		text   string
	}{
		{"/ok?q=1", s, "HTTP", Success, ""}, {"ok?q=1", tls, "HTTPS", Success, ""}, {"/bad", s, "HTTP", Failure, "HTTP probe failed with statuscode: 500"},
		{"/here", s, "HTTP", Success, ""}, {"/away", s, "HTTP", Warning, "Probe terminated redirects"}, {"/slow", s, "HTTP", Failure, "context deadline exceeded"},
	} {
		h := &corev1.HTTPGetAction{Path: x.path, Port: port(t, x.server), Scheme: x.scheme}
		if strings.Contains(x.path, "ok") {
			h.HTTPHeaders = []corev1.HTTPHeader{{Name: "X-Mine", Value: "1"}, {Name: "Host", Value: "my.host"}}
		}
		limit := int32(60)
		if x.path == "/slow" {
			limit = 1
		}
		out, text, err := Once(t.Context(), nil, "", loopback, &corev1.Container{}, &corev1.Probe{TimeoutSeconds: limit, ProbeHandler: corev1.ProbeHandler{HTTPGet: h}})
		if err != nil || out != x.want || !strings.Contains(text, x.text) {
			t.Errorf("%s: %d %q %v", x.path, out, text, err)
		}
	}
}

func TestTCPAndPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := l.Addr().(*net.TCPAddr).Port
	c := &corev1.Container{Name: "c", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(n)}}}
	once := func(p intstr.IntOrString) (Outcome, error) {
		out, _, err := Once(t.Context(), nil, "", loopback, c, &corev1.Probe{TimeoutSeconds: 60, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: p}}})
		return out, err
	}
	for _, p := range []intstr.IntOrString{intstr.FromInt32(int32(n)), intstr.FromString("web"), intstr.FromString(strconv.Itoa(n))} {
		if out, err := once(p); out != Success || err != nil {
			t.Errorf("%v: %d %v", p, out, err)
		}
	}
	if _, err := once(intstr.FromString("none")); err == nil {
		t.Error("a port that does not exist was probed")
	}
	l.Close()
	if out, err := once(intstr.FromInt32(int32(n))); out != Failure || err != nil {
		t.Errorf("closed: %d %v", out, err)
	}
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, hs := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(srv, hs)
	hs.SetServingStatus("up", healthpb.HealthCheckResponse_SERVING)
	hs.SetServingStatus("down", healthpb.HealthCheckResponse_NOT_SERVING)
	go srv.Serve(l)
	defer srv.Stop()
	n := int32(l.Addr().(*net.TCPAddr).Port)
	for service, want := range map[string]Outcome{"up": Success, "down": Failure, "unknown": Failure, "": Success} {
		out, text, err := Once(t.Context(), nil, "", loopback, nil, &corev1.Probe{TimeoutSeconds: 60, ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: n, Service: &service}}})
		if err != nil || out != want {
			t.Errorf("%q: %d %q %v", service, out, text, err)
		}
	}
	bare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plain := grpc.NewServer()
	go plain.Serve(bare)
	defer plain.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, text, _ := Once(ctx, nil, "", loopback, nil, &corev1.Probe{TimeoutSeconds: 60, ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(bare.Addr().(*net.TCPAddr).Port)}}})
	if out != Failure || !strings.HasPrefix(text, "error: this server does not implement the grpc health protocol") {
		t.Errorf("no health service: %d %q", out, text)
	}
}

func TestOutput(t *testing.T) {
	o := NewOutput(5)
	for _, s := range []string{"abc", "def", "ghi"} {
		if n, err := o.Write([]byte(s)); n != 3 || err != nil {
			t.Errorf("%d %v", n, err)
		}
	}
	if o.String() != "abcde" {
		t.Errorf("%q", o)
	}
}
