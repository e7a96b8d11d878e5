package apiserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver"
	"sagong/object"
)

// agents stands in for node agents: one in the process, one over TLS.
type agents struct {
	local http.Handler
	roots *x509.CertPool
}

func (a *agents) Handler(node string) http.Handler {
	if node == "local" {
		return a.local
	}
	return nil
}

func (a *agents) TLS() *tls.Config { return &tls.Config{RootCAs: a.roots} }

func (a *agents) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	// The pod network of the test is the loopback under another address.
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
}

// echoAgent says what it was asked, and upgrades to a connection that echoes.
func echoAgent(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("Upgrade") == "echo":
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Asked: %s\r\nX-Protocols: %s\r\n\r\n", r.URL.RequestURI(), r.Header.Get("Sec-Websocket-Protocol"))
		io.Copy(conn, buf.Reader)
	case r.Header.Get("Upgrade") != "":
		http.Error(w, "no such protocol", http.StatusBadRequest)
	case strings.HasSuffix(r.URL.Path, "/redirect"):
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	default:
		fmt.Fprintf(w, "%s %s auth=%q as=%q conn=%q", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), r.Header.Get("Impersonate-User"), r.Header.Get("X-Hop"))
	}
}

func withAgents(t *testing.T, change ...func(*apiserver.Options)) *cluster {
	far := httptest.NewTLSServer(http.HandlerFunc(echoAgent))
	t.Cleanup(far.Close)
	roots := x509.NewCertPool()
	roots.AddCert(far.Certificate())
	pod := httptest.NewServer(http.HandlerFunc(echoAgent))
	t.Cleanup(pod.Close)
	c := start(t, append(change, func(o *apiserver.Options) { o.Nodes = &agents{local: http.HandlerFunc(echoAgent), roots: roots} })...)
	port := func(s *httptest.Server) int32 {
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(u.Port())
		if err != nil {
			t.Fatal(err)
		}
		return int32(n)
	}
	seed := func(o object.Object) {
		if err := c.engine.Seed(c.ctx, c.engine.Scheme().ByObject(o), o); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"local", "far"} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}
		n.Status.DaemonEndpoints.KubeletEndpoint.Port = port(far)
		seed(n)
		seed(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec:       corev1.PodSpec{NodeName: name, Containers: []corev1.Container{{Name: "a", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port(pod)}}}, {Name: "b"}}},
			Status:     corev1.PodStatus{PodIP: "10.1.1.1"},
		})
	}
	seed(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "svc"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 80}}}})
	seed(&discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "svc-1", Labels: map[string]string{discoveryv1.LabelServiceName: "svc"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("web"), Port: new(port(pod))}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.1.1.1"}}, {Addresses: []string{"10.1.1.2"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false)}}},
	})
	seed(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "evil"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}}}, Status: corev1.PodStatus{PodIP: "169.254.169.254"}})
	return c
}

func TestTunnels(t *testing.T) {
	c := withAgents(t)
	base := "/api/v1/namespaces/default"
	for _, test := range []struct {
		path string
		code int
		want string
	}{
		{base + "/pods/local/log?container=a&follow=true&tailLines=3&other=1", 200, `GET /containerLogs/default/local/a?follow=true&tailLines=3 auth="" as=""`},
		{base + "/pods/far/log?container=b", 200, `GET /containerLogs/default/far/b auth="" as="" conn=""`},
		{base + "/pods/far/log", 400, "a container name must be specified for pod far, choose one of: [a b]"},
		{base + "/pods/far/log?container=c", 400, "container c is not valid for pod far"},
		{base + "/pods/far/log?container=a&tailLines=-1", 400, "tailLines must be greater than or equal to 0"},
		{base + "/pods/far/exec?container=a", 400, "you must specify at least one command for the container"},
		{"/api/v1/nodes/far/proxy/stats/summary?x=y", 200, `GET /stats/summary?x=y auth=""`},
		{"/api/v1/nodes/none/proxy/", 404, `nodes \"none\" not found`},
		{base + "/pods/local:http/proxy/a%2Fb?q=1", 200, `GET /a%2Fb?q=1 auth=""`},
		{base + "/pods/local/proxy/redirect", 302, ""},
		{base + "/services/svc:web/proxy/path", 200, `GET /path auth=""`},
		{base + "/services/svc:none/proxy/path", 503, `no service port`},
		{base + "/pods/evil/proxy/latest/meta-data", 400, "address not allowed"},
	} {
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		req, err := http.NewRequestWithContext(c.ctx, "GET", c.url+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Connection", "X-Hop")
		req.Header.Set("X-Hop", "secret")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		got := string(b)
		if strings.HasPrefix(got, "{") {
			got = strings.ReplaceAll(got, "`", "'")
		}
		if resp.StatusCode != test.code || !strings.Contains(got, test.want) {
			t.Errorf("%s: %d %s\nwant %d %s", test.path, resp.StatusCode, got, test.code, test.want)
		}
	}
}

func TestUpgrade(t *testing.T) {
	c := withAgents(t)
	u, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range []string{"far", "local"} {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /api/v1/namespaces/default/pods/%s/exec?container=a&command=sh&command=-c&stdin=true&stdout=true HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\nAuthorization: Bearer secret\r\nSec-WebSocket-Protocol: five, base64url.bearer.authorization.k8s.io.YQ,four\r\n\r\nearly", pod)
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 101 || resp.Header.Get("X-Asked") != "/exec/default/"+pod+"/a?command=sh&command=-c&input=1&output=1" || resp.Header.Get("X-Protocols") != "five, four" {
			t.Fatalf("%s: %d %v", pod, resp.StatusCode, resp.Header)
		}
		fmt.Fprint(conn, " and late")
		buf := make([]byte, len("early and late"))
		if _, err := io.ReadFull(r, buf); err != nil || string(buf) != "early and late" {
			t.Fatalf("%s: %q, %v", pod, buf, err)
		}
		conn.Close()
	}
	// A refused upgrade is an ordinary answer.
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /api/v1/namespaces/default/pods/far/portforward HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 400 || !strings.Contains(string(b), "no such protocol") {
		t.Fatalf("%d %s %v", resp.StatusCode, b, err)
	}
}
