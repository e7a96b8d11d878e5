// Package aggregator lets other servers answer for groups of the API: it keeps
// what APIServices say, checks whether those servers are there, passes requests
// on to them with the user's name in headers, and tells discovery what they
// serve.
package aggregator

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sagong/apiserver/discovery"
	"sagong/apiserver/webhookclient"
	"sagong/lib/pki"
	"sagong/reconcile"
)

// Options say what an Aggregator is made of.
type Options struct {
	Hub *reconcile.Hub
	// Resolver finds an endpoint of a Service.
	Resolver webhookclient.Resolver
	// Certificate is what the other servers know this one by; nil for none.
	Certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	// Dial opens connections; nil is the host's.
	Dial webhookclient.Dial
	// Changed is told when what is served elsewhere is not what it was.
	Changed func()
	// Unavailable, when set, is told of an APIService that was available and is not
	// any more, with the condition's reason.
	Unavailable func(name, reason string)
	// ServeV2 answers with an OpenAPI v2 document, given as JSON, in the form that a
	// request asks for; nil leaves other servers out of it.
	ServeV2 func(w http.ResponseWriter, r *http.Request, doc []byte)
	Log     *slog.Logger
}

// Aggregator routes requests. All methods may be called at the same time.
type Aggregator struct {
	o        Options
	services *reconcile.View[*apiregistrationv1.APIService]
	targets  *reconcile.View[*corev1.Service]
	slices   *reconcile.View[*discoveryv1.EndpointSlice]

	merged merged

	mu     sync.RWMutex
	routes map[schema.GroupVersion]*route
}

// route is one APIService that another server answers for.
type route struct {
	service   *apiregistrationv1.APIService
	transport *http.Transport
	err       error // why there is no transport
	serves    []discovery.Resource
	known     bool // serves was read
	failures  int  // checks that failed one after another
}

// New makes an aggregator over the hub's views.
func New(o Options) *Aggregator {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	a := &Aggregator{
		o: o, services: reconcile.ViewOf[*apiregistrationv1.APIService](o.Hub), targets: reconcile.ViewOf[*corev1.Service](o.Hub),
		slices: reconcile.ViewOf[*discoveryv1.EndpointSlice](o.Hub), routes: map[schema.GroupVersion]*route{},
	}
	a.slices.Index("service", func(s *discoveryv1.EndpointSlice) []string {
		return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}
	})
	a.services.OnChange(func(old, new *apiregistrationv1.APIService) {
		if new == nil {
			a.remove(old)
			return
		}
		a.put(new)
	})
	return a
}

func versionOf(s *apiregistrationv1.APIService) schema.GroupVersion {
	return schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version}
}

func (a *Aggregator) remove(s *apiregistrationv1.APIService) {
	a.mu.Lock()
	r := a.routes[versionOf(s)]
	delete(a.routes, versionOf(s))
	a.mu.Unlock()
	if r != nil {
		r.close()
		a.o.Changed()
	}
}

// put takes over what an APIService says now. Connections stay when they would be
// made the same way.
func (a *Aggregator) put(s *apiregistrationv1.APIService) {
	if s.Spec.Service == nil {
		a.remove(s)
		return
	}
	a.mu.Lock()
	old := a.routes[versionOf(s)]
	r := &route{service: s}
	if old != nil {
		r.serves, r.known, r.failures = old.serves, old.known, old.failures
	}
	if old != nil && sameTransport(old.service, s) {
		r.transport, r.err = old.transport, old.err
		old = nil
	} else {
		r.transport, r.err = a.transport(s)
	}
	a.routes[versionOf(s)] = r
	a.mu.Unlock()
	if old != nil {
		old.close()
	}
	a.o.Changed()
}

func (r *route) close() {
	if r.transport != nil {
		r.transport.CloseIdleConnections()
	}
}

func (r *route) available() bool { return isAvailable(r.service) }

func sameTransport(a, b *apiregistrationv1.APIService) bool {
	return a.UID == b.UID && a.Spec.InsecureSkipTLSVerify == b.Spec.InsecureSkipTLSVerify && string(a.Spec.CABundle) == string(b.Spec.CABundle) &&
		a.Spec.Service.Namespace == b.Spec.Service.Namespace && a.Spec.Service.Name == b.Spec.Service.Name && portOf(a) == portOf(b)
}

func portOf(s *apiregistrationv1.APIService) int32 {
	if p := s.Spec.Service.Port; p != nil {
		return *p
	}
	return 443
}

// transport speaks HTTP/1.1 to the endpoints of a Service, whose certificate must
// be for SERVICE.NAMESPACE.svc.
func (a *Aggregator) transport(s *apiregistrationv1.APIService) (*http.Transport, error) {
	ref := s.Spec.Service
	t := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: ref.Name + "." + ref.Namespace + ".svc", InsecureSkipVerify: s.Spec.InsecureSkipTLSVerify,
		GetClientCertificate: a.o.Certificate,
	}
	if len(s.Spec.CABundle) > 0 {
		var err error
		if t.RootCAs, err = pki.Roots(s.Spec.CABundle); err != nil {
			return nil, err
		}
	}
	tr := &http.Transport{
		TLSClientConfig: t, TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 25, IdleConnTimeout: 90 * time.Second,
		Protocols: new(http.Protocols), DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			at, err := a.o.Resolver.Resolve(ctx, ref.Namespace, ref.Name, portOf(s))
			if err != nil {
				return nil, unresolved{err}
			}
			return a.o.Dial(ctx, network, at)
		},
	}
	tr.Protocols.SetHTTP1(true)
	return tr, nil
}

// unresolved is the error of a Service that leads nowhere.
type unresolved struct{ error }

// host is the name in requests to a service.
func host(s *apiregistrationv1.APIService) string {
	ref := s.Spec.Service
	return net.JoinHostPort(ref.Name+"."+ref.Namespace+".svc", strconv.Itoa(int(portOf(s))))
}

func (a *Aggregator) route(gv schema.GroupVersion) *route {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.routes[gv]
}

// Delegate finds who answers for a group and version; nil when this server does.
func (a *Aggregator) Delegate(gv schema.GroupVersion) http.Handler {
	r := a.route(gv)
	if r == nil {
		return nil
	}
	return proxy{r}
}

// Synced waits until the APIServices there were at the start are in force.
func (a *Aggregator) Synced(ctx context.Context) error { return a.services.Need(ctx) }

// Foreign lists what other servers serve, for discovery.
func (a *Aggregator) Foreign() []discovery.Foreign {
	a.mu.RLock()
	defer a.mu.RUnlock()
	var all []discovery.Foreign
	for gv, r := range a.routes {
		all = append(all, discovery.Foreign{
			Group: gv.Group, Version: gv.Version, GroupPriority: r.service.Spec.GroupPriorityMinimum, VersionPriority: r.service.Spec.VersionPriority,
			Resources: r.serves, Stale: !r.known || !r.available(),
		})
	}
	return all
}

type userKey struct{}

// WithUser notes who asks.
func WithUser(ctx context.Context, u user.Info) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}
