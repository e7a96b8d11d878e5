package apiserver_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
)

// CVE-2018-1002105: when an agent refuses to upgrade, what the client sends next
// on its connection must not reach the agent with the API server's rights.
func TestRefusedUpgradeIsNotReused(t *testing.T) {
	c := withAgents(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The second request waits behind the first, as an attacker would have it.
	fmt.Fprintf(conn, "GET /api/v1/namespaces/default/pods/far/exec?container=a&command=x&stdout=true HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: unknown\r\n\r\n"+
		"GET /runningpods/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		t.Fatal("upgraded to a protocol that nobody speaks")
	}
	if first, _ := io.ReadAll(resp.Body); !strings.Contains(string(first), "no such protocol") {
		t.Fatalf("the agent was not asked: %d %s", resp.StatusCode, first)
	}
	rest, _ := io.ReadAll(br)
	if strings.Contains(string(rest), "GET /runningpods/") || strings.Contains(string(rest), "200 OK") {
		t.Errorf("the agent answered: %s", rest)
	}
}

// CVE-2019-11253: bodies that grow when they are read, or that are nested without
// end, are refused for what they are, at once and in little memory.
func TestBombs(t *testing.T) {
	c := start(t)
	aliases := strings.Builder{}
	aliases.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\ndata:\n  a: &a [\"lol\",\"lol\",\"lol\",\"lol\",\"lol\",\"lol\",\"lol\",\"lol\",\"lol\"]\n")
	for i := range 10 {
		fmt.Fprintf(&aliases, "  %c: &%c [%s]\n", 'b'+i, 'b'+i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", 'a'+i), 9), ","))
	}
	deep := strings.Repeat(`{"a":`, 200_000) + "1" + strings.Repeat("}", 200_000)
	list := strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000)
	const path = "/api/v1/namespaces/default/configmaps"
	if code, body := c.do("POST", path, `{"metadata":{"name":"x"}}`, "Content-Type", "application/json"); code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	for name, x := range map[string]struct{ method, path, media, body string }{
		"aliases":               {"POST", path, "application/yaml", aliases.String()},
		"nested objects":        {"POST", path, "application/json", deep},
		"nested lists":          {"POST", path, "application/json", list},
		"nested YAML":           {"POST", path, "application/yaml", strings.Repeat("{a: ", 20_000)},
		"nested merge patch":    {"PATCH", path + "/x", "application/merge-patch+json", deep},
		"nested json patch":     {"PATCH", path + "/x", "application/json-patch+json", list},
		"long json patch":       {"PATCH", path + "/x", "application/json-patch+json", "[" + strings.Repeat(`{"op":"test","path":"/kind","value":"ConfigMap"},`, 10_000) + `{"op":"test","path":"/kind","value":"ConfigMap"}]`},
		"aliases in an apply":   {"PATCH", path + "/bomb?fieldManager=m", "application/apply-patch+yaml", aliases.String()},
		"nested delete options": {"DELETE", path + "/x", "application/json", deep},
	} {
		code, body := c.do(x.method, x.path, x.body, "Content-Type", x.media)
		if code < 400 || code >= 500 || len(body) > 4096 {
			t.Errorf("%s: %d %.300s", name, code, body)
		}
	}
	if code, _ := c.do("GET", "/livez", ""); code != 200 {
		t.Errorf("afterwards: %d", code)
	}
}

// CVE-2020-8559: an agent that redirects an upgrade must not lead the API
// server, with its certificate, to somebody else.
func TestAgentRedirectIsNotFollowed(t *testing.T) {
	var reached atomic.Int32
	victim := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer victim.Close()
	c := withAgents(t)
	for _, path := range []string{
		"/api/v1/namespaces/default/pods/far/proxy/redirect", "/api/v1/nodes/far/proxy/redirect", "/api/v1/namespaces/default/services/svc:web/proxy/redirect",
	} {
		for _, upgrade := range []bool{false, true} {
			req, err := http.NewRequestWithContext(c.ctx, "GET", c.url+path+"?to="+victim.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			if upgrade {
				req.Header.Set("Connection", "Upgrade")
				req.Header.Set("Upgrade", "other")
			}
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode == 200 || resp.StatusCode == http.StatusSwitchingProtocols {
				t.Errorf("%s, upgrade %t: %d", path, upgrade, resp.StatusCode)
			}
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("%d requests followed a redirect", n)
	}
}

// CVE-2020-8562: what somebody writes into the status of a pod, or into an
// EndpointSlice, must not lead the API server to itself or its neighbours on the
// link, however the address is spelled.
func TestProxyReachesNoLocalAddress(t *testing.T) {
	c := withAgents(t)
	seed := func(o object.Object) {
		t.Helper()
		if err := c.engine.Seed(c.ctx, c.engine.Scheme().ByObject(o), o); err != nil {
			t.Fatal(err)
		}
	}
	for i, address := range []string{"127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0", "::", "224.0.0.1", "localhost", "localhost.localdomain"} {
		name := fmt.Sprint("p", i)
		seed(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}}}, Status: corev1.PodStatus{PodIP: address}})
		seed(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 80}}}})
		seed(&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("web"), Port: new(int32(80))}}, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}}},
		})
		for _, path := range []string{"/pods/" + name + "/proxy/x", "/services/" + name + ":web/proxy/x"} {
			if code, b := c.do("GET", "/api/v1/namespaces/default"+path, ""); code != 400 || !strings.Contains(b, "address not allowed") {
				t.Errorf("%s, %s: %d %s", address, path, code, b)
			}
		}
	}
}
