package conformance

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/lib/pki"
)

// network is that of the pods, of pipes, which virtual time need not wait for.
// A server is found by its port alone.
type network struct {
	authority *pki.Authority

	mu      sync.Mutex
	ports   map[string]*pipes
	servers sync.WaitGroup
	stop    []func() error
}

func newNetwork(t *testing.T) *network {
	a, err := pki.LoadOrCreateAuthority(t.TempDir(), "ca", "pods", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &network{authority: a, ports: map[string]*pipes{}}
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	l := n.ports[port]
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial tcp %s: connect: connection refused", address)
	}
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// listen serves HTTPS under the names given.
func (n *network) listen(port int, h http.Handler, names ...string) {
	pair := must(n.authority.Issue(pki.Leaf{CommonName: "server", DNSNames: names, Server: true}, time.Now()))
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := &http.Server{
		// Answers that nobody waits for any more are awaited at the end.
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.servers.Add(1)
			defer n.servers.Done()
			h.ServeHTTP(w, r)
		}),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair.TLS}}, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[fmt.Sprint(port)] = l
	n.stop = append(n.stop, s.Close)
	n.servers.Go(func() { _ = s.ServeTLS(l, "", "") })
}

func (n *network) close() {
	for _, stop := range n.stop {
		_ = stop()
	}
	n.servers.Wait()
}

// pipes is a listener whose connections are handed to it.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// behindService runs a server in a pod behind a Service of the test's namespace.
func (c *cluster) behindService(name string, port int, h http.Handler) {
	c.Helper()
	c.net.listen(port, h, name+"."+ns+".svc")
	must(c.CoreV1().Services(ns).Create(c.ctx, &corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 443, TargetPort: intstr.FromInt(port)}},
	}}, metav1.CreateOptions{}))
	p := &corev1.Pod{ObjectMeta: meta(name, "app", name), Spec: template(name, "v1").Spec}
	must(c.CoreV1().Pods(ns).Create(c.ctx, p, metav1.CreateOptions{}))
	c.eventually("an endpoint", func() bool {
		l := must(c.DiscoveryV1().EndpointSlices(ns).List(c.ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + name}))
		return len(l.Items) == 1 && len(l.Items[0].Endpoints) == 1 && *l.Items[0].Endpoints[0].Conditions.Ready
	})
}

// agents are those of made-up nodes: they reach no container.
type agents struct{ *network }

func (agents) Handler(string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no containers here", http.StatusNotFound) })
}

func (agents) TLS() *tls.Config { return nil }

func (a agents) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return a.dial(ctx, network, address)
}
