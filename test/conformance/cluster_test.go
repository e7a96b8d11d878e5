// Package conformance holds tests after those of Kubernetes' conformance suite
// that need no real container: a whole server in the process (API with
// admission, controllers, scheduler) with node agents made up, driven through
// client-go, on virtual time. list.txt says which test of this repository stands
// for which of the suite.
package conformance

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"sagong/apiserver"
	"sagong/apiserver/admission"
	"sagong/apiserver/admission/match"
	"sagong/apiserver/admission/policy"
	"sagong/apiserver/admission/quota"
	"sagong/apiserver/admission/webhook"
	"sagong/apiserver/aggregator"
	"sagong/apiserver/authn"
	"sagong/apiserver/authz"
	"sagong/apiserver/discovery"
	"sagong/apiserver/openapi"
	apiresource "sagong/apiserver/resource"
	"sagong/apiserver/reviews"
	"sagong/apiserver/webhookclient"
	"sagong/client"
	"sagong/client/direct"
	"sagong/controller"
	"sagong/controller/identity"
	"sagong/crd"
	"sagong/kinds"
	"sagong/lib/pki"
	"sagong/object"
	"sagong/reconcile"
	"sagong/scheduler"
	"sagong/store"
)

var quiet = slog.New(slog.DiscardHandler)

// cluster is a server with nodes n1 and n2, and a namespace for the test.
type cluster struct {
	*testing.T
	kubernetes.Interface
	// config is that of the administrator; others change a copy.
	config *rest.Config
	ctx    context.Context
	system client.Client
	agent  *agent
	net    *network
}

// ns is the namespace of a test.
const ns = "conformance"

// admin is who asks without a token.
var admin = authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
	return &authenticator.Response{User: &user.DefaultInfo{Name: "admin", Groups: []string{user.SystemPrivilegedGroup}}}, true, nil
})

// lateAdmission lets the engine exist before the rules that read through it.
type lateAdmission struct{ apiresource.Admission }

// conform runs a test under the name that it has in the suite.
func conform(t *testing.T, codename string, test func(c *cluster)) {
	t.Run(codename, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, stop := start(t)
			defer stop()
			defer func() {
				if err := recover(); err != nil {
					t.Errorf("%v\n%s", err, debug.Stack())
				}
			}()
			test(c)
		})
	})
}

func start(t *testing.T) (*cluster, func()) {
	s := store.OpenMemory(store.Options{Tag: apiresource.Tag})
	var late lateAdmission
	scheme, fields := object.NewScheme(kinds.All()...), object.NewFieldManagers()
	engine := apiresource.New(apiresource.Options{Store: s, Scheme: scheme, Admission: &late, Fields: fields})
	as := func(name string) client.Client {
		return direct.New(engine, &user.DefaultInfo{Name: "system:" + name, Groups: []string{user.SystemPrivilegedGroup}}, name, nil)
	}
	system := as("apiserver")
	hub := reconcile.NewHub(system, quiet)
	events := reconcile.NewRecorder(system, quiet)
	rules := authz.NewRBAC(hub)
	authorizer := authz.Chain{{Name: authz.MastersName, Authorizer: authz.Masters{}}, {Name: "rbac", Authorizer: rules}}
	pods := newNetwork(t)
	services := webhookclient.Services{Client: system}
	hooks := webhook.Options{Client: system, Clients: webhookclient.New(services, pods.dial), Authorizer: authorizer, Metrics: webhook.NewMetrics(nil), Conditions: match.NewMetrics(nil), Log: quiet}
	policies := policy.Options{Client: system, Authorizer: authorizer, Fields: fields, Metrics: policy.NewMetrics(nil), Conditions: match.NewMetrics(nil), Log: quiet}
	ledger := quota.New(hub, time.Now)
	late.Admission = admission.NewChain(must(admission.Choose(admission.All(admission.Deps{
		Client: system, Engine: engine, Hub: hub, Rules: rules, Authorizer: authorizer,
		FirstNodePort: 30000, LastNodePort: 32767, Quota: ledger,
		Mutating:   []admission.Plugin{policy.NewMutating(hub, policies), webhook.NewMutating(hub, hooks)},
		Validating: []admission.Plugin{policy.ParamAccess{Client: system, Authorizer: authorizer}, policy.NewValidating(hub, policies), webhook.NewValidating(hub, hooks)},
	}), nil, nil))...)
	keys := must(authn.NewTokenKeys(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))))
	accounts := authn.NewServiceAccounts(authn.AccountOptions{Keys: keys, Objects: system, Now: time.Now})
	tokens := &authn.Tokens{Methods: []authenticator.Token{accounts}, Now: time.Now}
	reviews.Access{Authorizer: authorizer, Rules: rules}.Register(engine)
	reviews.Tokens{Authenticator: tokens, Accounts: accounts, Client: system, Now: time.Now}.Register(engine)
	found, described := discovery.New(scheme, "127.0.0.1:6443"), openapi.New(scheme, "v1.37.2")
	defined := crd.NewRegistry(crd.Options{Engine: engine, Conversions: hooks.Clients, Changed: func() { found.Changed(); described.Changed() }, Log: quiet})
	others := aggregator.New(aggregator.Options{Hub: hub, Resolver: services, Dial: pods.dial, Changed: found.Changed, Log: quiet})
	found.Include(others.Foreign)
	defined.Follow(reconcile.ViewOf[*apiextensionsv1.CustomResourceDefinition](hub))
	all, err := controller.All(controller.Deps{Hub: hub, Events: events, Log: quiet, RootCA: []byte("PEM"), ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), NodeCIDRBits: 24, ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16")})
	if err != nil {
		t.Fatal(err)
	}
	parts := reconcile.NewEngine(as("kube-controller-manager"), quiet, nil)
	a := newAgent(hub)
	all = append(all, a, ledger.Controller(), others.Registration(), others.Availability(), crd.NewController(hub, defined),
		identity.NewCertificates(hub, pods.authority, pki.Leaf{}, quiet, time.Now), policy.NewStatus(hub, described))
	if err := parts.Add(all...); err != nil {
		t.Fatal(err)
	}
	sched, err := scheduler.New(scheduler.Config{Client: as("kube-scheduler"), Hub: hub, Recorder: func(profile string) client.Recorder { return events.For(profile, "") }, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	api := apiserver.New(apiserver.Options{
		Engine: engine, Log: quiet, Authenticator: authn.Chain{tokens, admin}, Authorizer: authorizer, Discovery: found, Delegate: others.Delegate, Nodes: agents{pods},
	})
	api.Handle("/openapi/", others.OpenAPI(described))
	api.Handle(authn.DiscoveryPath, accounts.Discovery("http://api"+authn.KeysPath))
	api.Handle(authn.KeysPath, accounts.PublicKeys())
	config := &rest.Config{Host: "http://api", Transport: &inProcess{api}, QPS: -1}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{hub.Run, events.Run, parts.Run, sched.Run} {
		wg.Go(func() { _ = run(ctx) })
	}
	c := &cluster{t, kube, config, ctx, system, a, pods}
	for _, name := range []string{"default", "kube-node-lease", ns} {
		must(kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))
	}
	for _, name := range []string{"n1", "n2"} {
		must(kube.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}, metav1.CreateOptions{}))
		c.updateNode(name, func(n *corev1.Node) {
			room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("110")}
			n.Status.Capacity, n.Status.Allocatable = room, room
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}
		})
	}
	c.eventually("service account", func() bool {
		_, err := kube.CoreV1().ServiceAccounts(ns).Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})
	return c, func() { cancel(); wg.Wait(); pods.close(); s.Close() }
}

func (c *cluster) updateNode(name string, change func(*corev1.Node)) {
	for {
		n := must(c.CoreV1().Nodes().Get(c.ctx, name, metav1.GetOptions{}))
		change(n)
		if _, err := c.CoreV1().Nodes().UpdateStatus(c.ctx, n, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			c.ok(err)
			return
		}
	}
}

// eventually lets virtual time pass until ok holds.
func (c *cluster) eventually(what string, ok func() bool) {
	c.Helper()
	for range 1200 {
		synctest.Wait()
		if ok() {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	c.Fatalf("%s did not come about", what)
}

// settle lets all happen that happens without anybody's doing.
func (c *cluster) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (c *cluster) ok(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) want(ok bool, format string, args ...any) {
	c.Helper()
	if !ok {
		c.Fatalf(format, args...)
	}
}

// pods are those of the test's namespace that a selector chooses and that are
// not on their way out.
func (c *cluster) pods(selector string) (all []corev1.Pod) {
	l := must(c.CoreV1().Pods(ns).List(c.ctx, metav1.ListOptions{LabelSelector: selector}))
	return slices.DeleteFunc(l.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

func (c *cluster) readyPods(selector string) (n int) {
	for _, p := range c.pods(selector) {
		if isReady(&p) {
			n++
		}
	}
	return n
}

// observe follows the pods that a selector chooses until stop, which returns
// what happened.
func (c *cluster) observe(selector string) (stop func() []watch.Event) {
	w := must(c.CoreV1().Pods(ns).Watch(c.ctx, metav1.ListOptions{LabelSelector: selector}))
	var all []watch.Event
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			all = append(all, e)
		}
	}()
	return func() []watch.Event {
		synctest.Wait()
		w.Stop()
		<-done
		return all
	}
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// turn makes pods ready or not, as their readiness probe would.
func (c *cluster) turn(name string, ready bool) {
	c.Helper()
	for {
		p, err := c.CoreV1().Pods(ns).Get(c.ctx, name, metav1.GetOptions{})
		c.ok(err)
		status := corev1.ConditionFalse
		if ready {
			status = corev1.ConditionTrue
		}
		for i := range p.Status.Conditions {
			if t := p.Status.Conditions[i].Type; t == corev1.PodReady || t == corev1.ContainersReady {
				p.Status.Conditions[i].Status, p.Status.Conditions[i].LastTransitionTime = status, metav1.Now()
			}
		}
		if _, err := c.CoreV1().Pods(ns).UpdateStatus(c.ctx, p, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			c.ok(err)
			return
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func template(app, image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}, TerminationGracePeriodSeconds: new(int64)},
	}
}

func selector(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

func meta(name string, labels ...string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{}}
	for i := 0; i+1 < len(labels); i += 2 {
		m.Labels[labels[i]] = labels[i+1]
	}
	return m
}

// inProcess carries requests to a handler of the same process, without a network
// that virtual time would have to wait for.
type inProcess struct{ h http.Handler }

func (t *inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	body, w := io.Pipe()
	answer := &streamed{header: http.Header{}, body: w, begun: make(chan struct{})}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	go func() {
		t.h.ServeHTTP(answer, in)
		answer.WriteHeader(http.StatusOK)
		w.Close()
	}()
	select {
	case <-answer.begun:
	case <-r.Context().Done():
		body.Close()
		return nil, r.Context().Err()
	}
	stop := context.AfterFunc(r.Context(), func() { w.CloseWithError(r.Context().Err()) })
	return &http.Response{
		StatusCode: answer.code, Status: http.StatusText(answer.code), Header: answer.header, Request: r, ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1,
		Body: &endless{body, stop},
	}, nil
}

// endless is a body whose reader may leave before its end.
type endless struct {
	*io.PipeReader
	stop func() bool
}

func (b *endless) Close() error { b.stop(); return b.PipeReader.Close() }

type streamed struct {
	header http.Header
	body   *io.PipeWriter
	once   sync.Once
	begun  chan struct{}
	code   int
}

func (s *streamed) Header() http.Header { return s.header }
func (s *streamed) Flush()              {}
func (s *streamed) WriteHeader(code int) {
	s.once.Do(func() { s.code = code; close(s.begun) })
}

func (s *streamed) Write(b []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	return s.body.Write(b)
}
