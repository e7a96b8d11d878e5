package aggregator_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	protobuf "google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sagong/apiserver"
	"sagong/apiserver/aggregator"
	"sagong/apiserver/discovery"
	"sagong/apiserver/openapi"
	"sagong/apiserver/resource"
	"sagong/apiserver/webhookclient"
	"sagong/client"
	"sagong/client/direct"
	"sagong/kinds"
	"sagong/lib/pki"
	"sagong/object"
	"sagong/reconcile"
	"sagong/store"
)

// cluster is an API with an aggregator, and another server behind a Service.
type cluster struct {
	*testing.T
	client.Client
	url     string
	bundle  []byte // of the other server's authority
	port    int
	proxyCA *pki.Authority
	*aggregator.Aggregator
	changed  chan struct{} // the aggregator noticed something
	answered atomic.Int64
	flunders sync.Map // names of those in the namespace "full"; true: they stay
	last     atomic.Pointer[http.Request]
	refused  atomic.Int32 // so many of the next connections are not made
	nowhere  atomic.Bool  // the Service cannot be resolved
}

// Resolve fails when nowhere says so.
func (c *cluster) Resolve(ctx context.Context, namespace, name string, port int32) (string, error) {
	if c.nowhere.Load() {
		return "", errors.New("it leads nowhere")
	}
	return webhookclient.Services{Client: c.Client}.Resolve(ctx, namespace, name, port)
}

// serve is the other server, a small one for the group wardle.example.com.
func (c *cluster) serve(w http.ResponseWriter, r *http.Request) {
	c.answered.Add(1)
	c.last.Store(r)
	switch r.URL.Path {
	case "/apis/wardle.example.com/v1alpha1":
		_ = json.NewEncoder(w).Encode(metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "wardle.example.com/v1alpha1",
			APIResources: []metav1.APIResource{
				{Name: "flunders", SingularName: "flunder", Namespaced: true, Kind: "Flunder", Verbs: []string{"get", "list", "create", "delete"}},
				{Name: "flunders/status", Namespaced: true, Kind: "Flunder", Verbs: []string{"get"}},
			},
		})
	case "/apis/wardle.example.com/v1alpha1/namespaces/full/flunders":
		list := metav1.PartialObjectMetadataList{}
		c.flunders.Range(func(name, stays any) bool {
			m := metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name.(string), UID: "u"}}
			if stays.(bool) {
				m.Finalizers = []string{"example.com/held"}
			}
			list.Items = append(list.Items, m)
			return true
		})
		_ = json.NewEncoder(w).Encode(list)
	case "/apis/wardle.example.com/v1alpha1/namespaces/full/flunders/a", "/apis/wardle.example.com/v1alpha1/namespaces/full/flunders/b":
		name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		if stays, ok := c.flunders.Load(name); r.Method == http.MethodDelete && ok && !stays.(bool) {
			c.flunders.Delete(name)
		}
		_ = json.NewEncoder(w).Encode(metav1.Status{Status: "Success"})
	case "/openapi/v2":
		w.Header().Set("Etag", `"one"`)
		if r.Header.Get("If-None-Match") == `"one"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, `{"swagger":"2.0","info":{"title":"other","version":"1"},"paths":{
			"/apis/wardle.example.com/v1alpha1/flunders":{"get":{"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/Flunder"}}}}},
			"/apis/apps/v1/deployments":{"get":{"responses":{"200":{"description":"evil"}}}}},
			"definitions":{"Flunder":{"description":"a flunder","type":"object","properties":{"x":{"$ref":"#/definitions/Clash"}}},"Clash":{"description":"theirs","type":"string"}}}`)
	case "/openapi/v3":
		fmt.Fprint(w, `{"paths":{"apis/wardle.example.com/v1alpha1":{"serverRelativeURL":"/openapi/v3/apis/wardle.example.com/v1alpha1?hash=X"},"evil":{"serverRelativeURL":"/evil"}}}`)
	case "/openapi/v3/apis/wardle.example.com/v1alpha1":
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"openapi":"3.0.0","info":{"title":"other","version":"1"},"paths":{"/apis/wardle.example.com/v1alpha1/namespaces/{namespace}/flunders":{
			"get":{"operationId":"list","responses":{"200":{"description":"OK"}},"x-kubernetes-action":"list","x-kubernetes-group-version-kind":{"group":"wardle.example.com","version":"v1alpha1","kind":"Flunder"}}}},
			"components":{"schemas":{
			"Flunder":{"description":"a flunder of another server","type":"object","required":["spec"],"properties":{"spec":{"allOf":[{"$ref":"#/components/schemas/FlunderSpec"}]}},
				"x-kubernetes-group-version-kind":[{"group":"wardle.example.com","version":"v1alpha1","kind":"Flunder"}]},
			"FlunderSpec":{"type":"object","properties":{"reference":{"type":"string","description":"what it is for"}}}}}}`)
	case "/apis/wardle.example.com/v1alpha1/namespaces/ns/flunders/away":
		http.Redirect(w, r, "https://evil.example.com/", http.StatusTemporaryRedirect)
	case "/apis/wardle.example.com/v1alpha1/namespaces/ns/flunders/up/connect":
		if r.Header.Get("Upgrade") == "" || r.URL.Query().Get("refuse") != "" {
			http.Error(w, "no upgrade", http.StatusBadRequest)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := bufio.NewReader(conn).ReadString('\n')
		fmt.Fprint(conn, "you said "+line)
	default:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"path":%q}`, r.URL.Path)
	}
}

type byHeader struct{}

func (byHeader) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	name := r.Header.Get("Authorization")
	if name == "" {
		return nil, false, nil
	}
	return &authenticator.Response{User: &user.DefaultInfo{
		Name: name, UID: "u1", Groups: []string{"g1", "g2"}, Extra: map[string][]string{"example.com/Role": {"r"}},
	}}, true, nil
}

func start(t *testing.T) *cluster {
	t.Helper()
	return startWith(t, (*aggregator.Aggregator).Availability, (*aggregator.Aggregator).Registration)
}

func startWith(t *testing.T, controllers ...func(*aggregator.Aggregator) reconcile.Controller) *cluster {
	t.Helper()
	c := &cluster{T: t}
	ca, err := pki.LoadOrCreateAuthority(t.TempDir(), "ca", "other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if c.proxyCA, err = pki.LoadOrCreateAuthority(t.TempDir(), "front-proxy-ca", "front-proxy-ca", time.Now()); err != nil {
		t.Fatal(err)
	}
	proxy, err := pki.NewRenewing(c.proxyCA, pki.Leaf{CommonName: "front-proxy-client", Client: true}, t.TempDir(), "front-proxy-client", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := pki.NewRenewing(ca, pki.Leaf{CommonName: "other", Server: true, DNSNames: []string{"api.ns.svc"}}, t.TempDir(), "serving", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	other := httptest.NewUnstartedServer(http.HandlerFunc(c.serve))
	other.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	other.TLS = &tls.Config{GetCertificate: serving.GetCertificate, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.proxyCA.Pool()}
	other.StartTLS()
	c.bundle, c.port = ca.CertPEM, other.Listener.Addr().(*net.TCPAddr).Port

	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	scheme := object.NewScheme(kinds.All()...)
	e := resource.New(resource.Options{Store: s, Scheme: scheme})
	c.Client = direct.New(e, &user.DefaultInfo{Name: "admin", Groups: []string{user.SystemPrivilegedGroup}}, "test", nil)
	log := slog.New(slog.DiscardHandler)
	hub := reconcile.NewHub(c.Client, log)
	disc := discovery.New(scheme, "127.0.0.1:6443")
	c.changed = make(chan struct{}, 1)
	a := aggregator.New(aggregator.Options{
		Changed: func() {
			disc.Changed()
			select {
			case c.changed <- struct{}{}:
			default:
			}
		},
		Hub: hub, Resolver: c, Certificate: proxy.GetClientCertificate, Log: log, ServeV2: openapi.ServeV2,
		Dial: func(ctx context.Context, network, at string) (net.Conn, error) {
			if c.refused.Add(-1) >= 0 {
				return nil, errors.New("connection refused")
			}
			return new(net.Dialer).DialContext(ctx, network, strings.Replace(at, "10.0.0.1", "127.0.0.1", 1))
		},
	})
	disc.Include(a.Foreign)
	api := apiserver.New(apiserver.Options{Engine: e, Authenticator: byHeader{}, Discovery: disc, Delegate: a.Delegate})
	c.Aggregator = a
	api.Handle("/openapi/", a.OpenAPI(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/openapi/v2" {
			fmt.Fprint(w, `{"swagger":"2.0","info":{"title":"Kubernetes","version":"v1"},"paths":{"/apis/apps/v1/deployments":{"get":{"responses":{"200":{"description":"ours","schema":{"$ref":"#/definitions/Clash"}}}}}},"definitions":{"Clash":{"description":"ours","type":"string"}}}`)
			return
		}
		fmt.Fprint(w, `{"paths":{"api/v1":{"serverRelativeURL":"/x"}}}`)
	})))
	parts := reconcile.NewEngine(c.Client, log, nil)
	for _, make := range controllers {
		if err := parts.Add(make(a)); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(api)
	c.url = server.URL
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hub.Run(ctx) })
	wg.Go(func() { _ = parts.Run(ctx) })
	t.Cleanup(func() {
		server.Close()
		cancel()
		wg.Wait()
		if err := api.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		other.Close()
		s.Close()
	})
	return c
}

func (c *cluster) must(o object.Object) {
	c.Helper()
	if _, err := c.Create(c.Context(), c.Scheme().ByObject(o), o); err != nil {
		c.Fatalf("cannot create %T %s: %v", o, o.GetName(), err)
	}
}

func (c *cluster) service() {
	meta := metav1.ObjectMeta{Namespace: "ns", Name: "api", Labels: map[string]string{discoveryv1.LabelServiceName: "api"}}
	c.must(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP}}}})
	name, port, yes := "https", int32(c.port), true
	tcp := corev1.ProtocolTCP
	c.must(&discoveryv1.EndpointSlice{
		ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
	})
}

func (c *cluster) register(bundle []byte) {
	c.must(&apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1alpha1.wardle.example.com"}, Spec: apiregistrationv1.APIServiceSpec{
		Group: "wardle.example.com", Version: "v1alpha1", GroupPriorityMinimum: 2000, VersionPriority: 200, CABundle: bundle,
		Service: &apiregistrationv1.ServiceReference{Namespace: "ns", Name: "api"},
	}})
}

// available waits for the condition of an APIService.
func (c *cluster) available(name, reason string) apiregistrationv1.APIServiceCondition {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	def := object.Of[*apiregistrationv1.APIService](c.Scheme())
	l, err := c.List(ctx, def, "", client.ListOptions{})
	if err != nil {
		c.Fatal(err)
	}
	found := func(o object.Object) *apiregistrationv1.APIServiceCondition {
		s := o.(*apiregistrationv1.APIService)
		if s.Name == name && len(s.Status.Conditions) > 0 && s.Status.Conditions[0].Reason == reason {
			return &s.Status.Conditions[0]
		}
		return nil
	}
	for _, o := range l.Items {
		if x := found(o); x != nil {
			return *x
		}
	}
	w, err := c.Watch(ctx, def, "", client.WatchOptions{From: l.Revision})
	if err != nil {
		c.Fatal(err)
	}
	defer w.Close()
	for {
		events, err := w.Next(ctx)
		if err != nil {
			c.Fatalf("%s never got reason %s: %v", name, reason, err)
		}
		for _, e := range events {
			if e.Object != nil {
				if x := found(e.Object); x != nil {
					return *x
				}
			}
		}
	}
}

func (c *cluster) get(path string, headers ...string) (int, string) {
	c.Helper()
	req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, c.url+path, nil)
	if err != nil {
		c.Fatal(err)
	}
	req.Header.Set("Authorization", "alice")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

const (
	group    = "/apis/wardle.example.com"
	flunders = group + "/v1alpha1/namespaces/ns/flunders"
)

// until asks again until an answer is as wanted: the routes follow a view.
func (c *cluster) until(path string, right func(code int, body string) bool) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		code, body := c.get(path)
		if right(code, body) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			c.Fatalf("%s: still %d %s", path, code, body)
		}
	}
}

// conformance: [sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator [LinuxOnly] [Conformance]
func TestAggregator(t *testing.T) {
	c := start(t)
	c.register(c.bundle)
	if x := c.available("v1alpha1.wardle.example.com", "ServiceNotFound"); x.Message != `service/api in "ns" is not present` {
		t.Errorf("message %q", x.Message)
	}
	c.until(flunders, func(code int, body string) bool {
		return code == http.StatusServiceUnavailable && strings.Contains(body, "service unavailable")
	})
	c.service()
	c.available("v1alpha1.wardle.example.com", "Passed")
	c.until(flunders, func(code int, body string) bool {
		return code == http.StatusOK && body == fmt.Sprintf(`{"path":%q}`, flunders)
	})
	if code, body := c.get(flunders, "X-Remote-User", "root", "X-Remote-Group", "system:masters", "X-Remote-Extra-A", "b"); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	r := c.last.Load()
	if got := r.Header.Values("X-Remote-User"); len(got) != 1 || got[0] != "alice" {
		t.Errorf("user %q", got)
	}
	if got := fmt.Sprint(r.Header.Values("X-Remote-Group")); got != "[g1 g2]" {
		t.Errorf("groups %s", got)
	}
	if r.Header.Get("X-Remote-Extra-Example.com%2Frole") != "r" || r.Header.Get("X-Remote-Extra-A") != "" || r.Header.Get("X-Remote-Uid") != "u1" || r.Header.Get("Authorization") != "" {
		t.Errorf("headers %v", r.Header)
	}
	if cn := r.TLS.PeerCertificates[0].Subject.CommonName; cn != "front-proxy-client" {
		t.Errorf("certificate of %q", cn)
	}
	if _, body := c.get("/apis"); !strings.Contains(body, `"groupVersion":"wardle.example.com/v1alpha1"`) {
		t.Errorf("groups %s", body)
	}
	_, body := c.get("/apis", "Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	if !strings.Contains(body, `"resource":"flunders"`) || !strings.Contains(body, `"subresource":"status"`) {
		t.Error("aggregated discovery lacks the resource")
	}
	if _, body := c.get(group + "/v1alpha1"); !strings.Contains(body, `"flunders"`) {
		t.Errorf("resources %s", body)
	}
	if _, body := c.get(group); !strings.Contains(body, `"kind":"APIGroup"`) {
		t.Errorf("group %s", body)
	}
	_, body = c.get("/openapi/v3")
	if !strings.Contains(body, "apis/wardle.example.com/v1alpha1?hash=X") || strings.Contains(body, "evil") || !strings.Contains(body, "api/v1") {
		t.Errorf("index %s", body)
	}
	// Local ones are shown, and always there.
	c.available("v1.apps", "Local")
	if err := client.Delete[*apiregistrationv1.APIService](t.Context(), c, "", "v1alpha1.wardle.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.until(flunders, func(code int, _ string) bool { return code == http.StatusNotFound })
}

func TestAnotherAuthorityIsNotBelieved(t *testing.T) {
	c := start(t)
	c.service()
	c.register(c.proxyCA.CertPEM)
	if x := c.available("v1alpha1.wardle.example.com", "FailedDiscoveryCheck"); !strings.Contains(x.Message, "certificate signed by unknown authority") {
		t.Errorf("message %q", x.Message)
	}
}

// reasons are those of an APIService's condition, from a revision until one.
func (c *cluster) reasons(from object.Revision, until string) (all []string) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	w, err := c.Watch(ctx, object.Of[*apiregistrationv1.APIService](c.Scheme()), "", client.WatchOptions{From: from})
	if err != nil {
		c.Fatal(err)
	}
	defer w.Close()
	for {
		events, err := w.Next(ctx)
		if err != nil {
			c.Fatalf("never got reason %s, only %q: %v", until, all, err)
		}
		for _, e := range events {
			s, ok := e.Object.(*apiregistrationv1.APIService)
			if !ok || s.Name != "v1alpha1.wardle.example.com" || len(s.Status.Conditions) == 0 {
				continue
			}
			switch reason := s.Status.Conditions[0].Reason; reason {
			case "ServiceNotFound", "EndpointsNotFound": // not heard of yet
			case until:
				return append(all, reason)
			default:
				all = append(all, reason)
			}
		}
	}
}

// A server is there as long as one of its endpoints answers.
func TestOneEndpointIsEnough(t *testing.T) {
	for refused, want := range map[int32]string{4: "[Passed]", 5: "[FailedDiscoveryCheck Passed]"} {
		c := start(t)
		c.service()
		l, err := c.List(t.Context(), object.Of[*apiregistrationv1.APIService](c.Scheme()), "", client.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c.refused.Store(refused)
		c.register(c.bundle)
		if got := fmt.Sprint(c.reasons(l.Revision, "Passed")); got != want {
			t.Errorf("%d connections refused: %s, want %s", refused, got, want)
		}
	}
}

// What a client is told of a server that cannot be reached.
func TestUnreachable(t *testing.T) {
	c := startWith(t) // nobody finds out that it is gone
	c.service()
	c.register(c.bundle)
	o, err := c.Get(t.Context(), object.Of[*apiregistrationv1.APIService](c.Scheme()), "", "v1alpha1.wardle.example.com")
	if err != nil {
		t.Fatal(err)
	}
	s := o.DeepCopyObject().(*apiregistrationv1.APIService)
	s.Status.Conditions = []apiregistrationv1.APIServiceCondition{{Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue}}
	if _, err := client.UpdateStatus(t.Context(), c, s); err != nil {
		t.Fatal(err)
	}
	c.refused.Store(1 << 20)
	c.until(flunders, func(code int, body string) bool {
		return code == http.StatusServiceUnavailable && body == "error trying to reach service: connection refused\n"
	})
	c.nowhere.Store(true)
	if code, body := c.get(flunders); code != http.StatusServiceUnavailable || body != "service unavailable\n" {
		t.Errorf("unresolved: %d %q", code, body)
	}
}

// A Service that cannot be resolved, although nothing seems to be missing.
func TestUnresolved(t *testing.T) {
	c := start(t)
	c.nowhere.Store(true)
	c.service()
	c.register(c.bundle)
	if x := c.available("v1alpha1.wardle.example.com", "FailedDiscoveryCheck"); x.Message != "it leads nowhere" {
		t.Errorf("message %q", x.Message)
	}
}

// TestNoRedirectIsPassedOn is the regression test of CVE-2022-3172.
func TestNoRedirectIsPassedOn(t *testing.T) {
	c := start(t)
	c.service()
	c.register(c.bundle)
	c.until(flunders, func(code int, _ string) bool { return code == http.StatusOK })
	code, body := c.get(flunders + "/away")
	if code != http.StatusBadGateway || body != "the backend attempted to redirect this request, which is not permitted" {
		t.Errorf("%d %s", code, body)
	}
}

// TestRefusedUpgradeLeavesNoTunnel is the regression test of CVE-2018-1002105.
func TestRefusedUpgradeLeavesNoTunnel(t *testing.T) {
	c := start(t)
	c.service()
	c.register(c.bundle)
	c.until(flunders, func(code int, _ string) bool { return code == http.StatusOK })
	dial := func(query string) (net.Conn, *bufio.Reader, *http.Response) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "GET %s/up/connect%s HTTP/1.1\r\nHost: x\r\nAuthorization: alice\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", flunders, query)
		br := bufio.NewReader(conn)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		return conn, br, resp
	}
	conn, br, resp := dial("")
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %s", resp.Status)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := br.ReadString('\n'); line != "you said hello\n" {
		t.Errorf("%q, %v", line, err)
	}
	// A refused upgrade: what follows on the connection is a request to this
	// server, without a user, and never reaches the other one as the proxy's.
	conn, br, resp = dial("?refuse=" + strconv.Itoa(1))
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "no upgrade") {
		t.Fatalf("refused upgrade: %s %s", resp.Status, b)
	}
	before := c.answered.Load()
	fmt.Fprintf(conn, "GET %s/smuggled HTTP/1.1\r\nHost: x\r\nX-Remote-User: system:admin\r\nX-Remote-Group: system:masters\r\n\r\n", flunders)
	resp, err := http.ReadResponse(br, nil)
	if err == nil && resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a smuggled request: %s", resp.Status)
	}
	if r := c.last.Load(); c.answered.Load() > before && strings.Contains(r.URL.Path, "smuggled") {
		t.Error("a smuggled request reached the other server")
	}
}

func FuzzResources(f *testing.F) {
	f.Add([]byte(`{"resources":[{"name":"a/b"},{"name":"a"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := discovery.New(object.NewScheme(), "x:1")
		d.Include(func() []discovery.Foreign {
			return []discovery.Foreign{{Group: "g", Version: "v1", Resources: aggregator.Resources(b)}}
		})
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/apis", nil))
		if w.Code != http.StatusOK {
			t.Errorf("%d", w.Code)
		}
	})
}

// inForce waits until the aggregator itself has seen that the other server is there.
func (c *cluster) inForce() {
	for len(c.Foreign()) == 0 || c.Foreign()[0].Stale {
		select {
		case <-c.changed:
		case <-c.Context().Done():
			c.Fatal("the other server was never there")
		}
	}
}

// TestEmptyNamespace: what another server keeps in a namespace is deleted, and what
// stays is counted, with what holds it; a server that is away is named.
func TestEmptyNamespace(t *testing.T) {
	c := start(t)
	if got := c.Empty(t.Context(), "full"); len(got.Counts)+len(got.Unknown)+len(got.Failures) > 0 {
		t.Errorf("nobody else serves anything: %+v", got)
	}
	c.register(c.bundle)
	c.available("v1alpha1.wardle.example.com", "ServiceNotFound")
	if got := c.Empty(t.Context(), "full"); fmt.Sprint(got.Unknown) != "[wardle.example.com/v1alpha1]" {
		t.Errorf("%+v", got)
	}
	c.service()
	c.available("v1alpha1.wardle.example.com", "Passed")
	c.inForce()
	c.flunders.Store("a", false)
	c.flunders.Store("b", true)
	got := c.Empty(t.Context(), "full")
	if fmt.Sprint(got) != "{map[flunders.wardle.example.com:1] map[example.com/held:1] [] []}" {
		t.Errorf("%+v", got)
	}
	if user := c.last.Load().Header.Get("X-Remote-User"); user != "system:serviceaccount:kube-system:namespace-controller" {
		t.Errorf("asked as %s", user)
	}
	if got := c.Empty(t.Context(), "empty"); len(got.Failures) > 0 || len(got.Counts) > 0 {
		t.Errorf("%+v", got)
	}
	c.flunders.Store("b", false)
	if got := c.Empty(t.Context(), "full"); fmt.Sprint(got) != "{map[] map[] [] []}" {
		t.Errorf("%+v", got)
	}
}

// TestOpenAPIv2: the paths of another server's version are in the document with
// what they refer to, under new names where ours mean something else.
func TestOpenAPIv2(t *testing.T) {
	c := start(t)
	get := func(accept string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", c.url+"/openapi/v2", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		req.Header.Set("Authorization", "me")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(err, resp.StatusCode, string(b))
		}
		return string(b)
	}
	if b := get("application/json"); strings.Contains(b, "wardle") {
		t.Errorf("%s", b)
	}
	c.service()
	c.register(c.bundle)
	c.available("v1alpha1.wardle.example.com", "Passed")
	c.inForce()
	for range 2 { // the second time nothing is sent again
		b := get("application/json")
		for _, want := range []string{`"/apis/wardle.example.com/v1alpha1/flunders"`, `"Flunder"`, `"#/definitions/Clash_v2"`, `"ours"`, `"theirs"`} {
			if !strings.Contains(b, want) {
				t.Errorf("%s\nlacks %s", b, want)
			}
		}
		if strings.Contains(b, "evil") {
			t.Errorf("%s", b)
		}
	}
	doc, err := openapi_v2.ParseDocument([]byte(get("application/json")))
	if err != nil {
		t.Fatal(err)
	}
	var proto openapi_v2.Document
	if err := protobuf.Unmarshal([]byte(get("application/com.github.proto-openapi.spec.v2@v1.0+protobuf")), &proto); err != nil || len(proto.Paths.Path) != len(doc.Paths.Path) {
		t.Errorf("%v %d paths", err, len(proto.GetPaths().GetPath()))
	}
}
