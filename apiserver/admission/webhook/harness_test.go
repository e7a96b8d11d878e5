package webhook_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/admission"
	"sagong/apiserver/admission/match"
	"sagong/apiserver/admission/webhook"
	"sagong/apiserver/resource"
	"sagong/apiserver/webhookclient"
	"sagong/client/direct"
	"sagong/crd"
	"sagong/kinds"
	"sagong/lib/pki"
	"sagong/object"
	"sagong/reconcile"
	"sagong/store"
)

// house is an API with webhooks, and a server for them.
type house struct {
	*testing.T
	engine *resource.Engine
	*direct.Client
	hub    *reconcile.Hub
	caller resource.Caller

	url string
	ca  []byte
	// handlers answer by path.
	handlers map[string]func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

	counted *prometheus.Registry

	mu       sync.Mutex
	asked    []string // path: operation resource/subresource version name
	warnings []string
	notes    map[string]string
}

type late struct{ resource.Admission }

func newHouse(t *testing.T) *house {
	h := &house{T: t, handlers: map[string]func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse{}, notes: map[string]string{}, counted: prometheus.NewRegistry()}
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	chain := &late{}
	h.engine = resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Admission: chain})
	h.caller = resource.Caller{
		User: &user.DefaultInfo{Name: "jane", Groups: []string{"dev"}}, Agent: "test",
		Warn:     func(text string) { h.warnings = append(h.warnings, text) },
		Annotate: func(k, v string) { h.notes[k] = v },
	}
	h.Client = direct.New(h.engine, h.caller.User, "test", nil)
	h.hub = reconcile.NewHub(h.Client, slog.New(slog.DiscardHandler))
	o := webhook.Options{
		Client: h.Client, Clients: webhookclient.New(webhookclient.Services{Client: h.Client}, nil), Metrics: webhook.NewMetrics(h.counted), Conditions: match.NewMetrics(h.counted), Log: slog.New(slog.DiscardHandler),
	}
	crd.NewRegistry(crd.Options{Engine: h.engine}).Follow(reconcile.ViewOf[*apiextensionsv1.CustomResourceDefinition](h.hub))
	chain.Admission = admission.NewChain(webhook.NewMutating(h.hub, o), webhook.NewValidating(h.hub, o))
	h.serve()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.hub.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		s.Close()
	})
	h.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}})
	return h
}

// serve runs the HTTPS server of the webhooks.
func (h *house) serve() {
	a, err := pki.LoadOrCreateAuthority(h.TempDir(), "ca", "hook-ca", time.Now())
	if err != nil {
		h.Fatal(err)
	}
	pair, err := a.Issue(pki.Leaf{CommonName: "hook", DNSNames: []string{"hook.ns.svc"}, Addresses: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true}, time.Now())
	if err != nil {
		h.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(h.answer))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS}}
	s.StartTLS()
	h.Cleanup(s.Close)
	h.url, h.ca = s.URL, a.CertPEM
}

func (h *house) answer(w http.ResponseWriter, r *http.Request) {
	var q admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	in := q.Request
	h.mu.Lock()
	h.asked = append(h.asked, fmt.Sprintf("%s: %s %s/%s %s %s", r.URL.Path, in.Operation, in.Resource.Resource, in.SubResource, in.Kind.Version, in.Name))
	f := h.handlers[r.URL.Path]
	h.mu.Unlock()
	if f == nil {
		http.NotFound(w, r)
		return
	}
	out := f(in)
	if out == nil { // hangs until the caller gives up
		<-r.Context().Done()
		// An answer might still be taken: to say goodbye comes before hanging up.
		panic(http.ErrAbortHandler)
	}
	out.UID = in.UID
	q.Request, q.Response = nil, out
	json.NewEncoder(w).Encode(q)
}

// on sets who answers at a path.
func (h *house) on(path string, f func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers[path] = f
}

func allow(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Allowed: true}
}

func hang(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return nil }

func deny(message string) func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: message}}
	}
}

func patchWith(patch string) func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		sort := admissionv1.PatchTypeJSONPatch
		return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(patch), PatchType: &sort}
	}
}

// rule is a rule for v1 resources of the core group.
func rule(resources []string, ops ...admissionregistrationv1.OperationType) admissionregistrationv1.RuleWithOperations {
	return admissionregistrationv1.RuleWithOperations{
		Operations: ops, Rule: admissionregistrationv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"v1"}, Resources: resources},
	}
}

// mutating is a webhook at a path of the server; change adjusts it.
func (h *house) mutating(path string, r admissionregistrationv1.RuleWithOperations, change ...func(*admissionregistrationv1.MutatingWebhook)) admissionregistrationv1.MutatingWebhook {
	none, url := admissionregistrationv1.SideEffectClassNone, h.url+path
	w := admissionregistrationv1.MutatingWebhook{
		Name: path[1:] + ".example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: h.ca},
		Rules: []admissionregistrationv1.RuleWithOperations{r}, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
	}
	for _, f := range change {
		f(&w)
	}
	return w
}

// validating is the same for a webhook that validates.
func (h *house) validating(path string, r admissionregistrationv1.RuleWithOperations, change ...func(*admissionregistrationv1.MutatingWebhook)) admissionregistrationv1.ValidatingWebhook {
	w := h.mutating(path, r, change...)
	return admissionregistrationv1.ValidatingWebhook{
		Name: w.Name, ClientConfig: w.ClientConfig, Rules: w.Rules, SideEffects: w.SideEffects, AdmissionReviewVersions: w.AdmissionReviewVersions,
		FailurePolicy: w.FailurePolicy, TimeoutSeconds: w.TimeoutSeconds, NamespaceSelector: w.NamespaceSelector, ObjectSelector: w.ObjectSelector,
		MatchConditions: w.MatchConditions, MatchPolicy: w.MatchPolicy,
	}
}

func (h *house) registerMutating(name string, hooks ...admissionregistrationv1.MutatingWebhook) *admissionregistrationv1.MutatingWebhookConfiguration {
	h.Helper()
	o := h.create(&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"set": "t"}}, Webhooks: hooks})
	h.settled()
	return o.(*admissionregistrationv1.MutatingWebhookConfiguration)
}

func (h *house) registerValidating(name string, hooks ...admissionregistrationv1.ValidatingWebhook) *admissionregistrationv1.ValidatingWebhookConfiguration {
	h.Helper()
	o := h.create(&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"set": "t"}}, Webhooks: hooks})
	h.settled()
	return o.(*admissionregistrationv1.ValidatingWebhookConfiguration)
}

// settled waits until the present configurations are in force.
func (h *house) settled() {
	h.Helper()
	wait := func(d *object.Definition, until func(context.Context, object.Revision) error) {
		l, err := h.engine.List(context.Background(), resource.Target{Kind: h.engine.Kind(d)}, resource.ListOptions{})
		if err != nil {
			h.Fatal(err)
		}
		// The revision of the last change of this kind is what the view can reach.
		last := object.Revision(1)
		for _, it := range l.Items {
			o, err := it.Object()
			if err != nil {
				h.Fatal(err)
			}
			last = max(last, object.RevisionOf(o))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := until(ctx, last); err != nil {
			h.Fatal(err)
		}
	}
	m := reconcile.ViewOf[*admissionregistrationv1.MutatingWebhookConfiguration](h.hub)
	v := reconcile.ViewOf[*admissionregistrationv1.ValidatingWebhookConfiguration](h.hub)
	wait(m.Definition(), m.WaitRevision)
	wait(v.Definition(), v.WaitRevision)
}

func (h *house) target(o object.Object, sub string) resource.Target {
	d := h.Scheme().ByObject(o)
	return resource.Target{Kind: h.engine.Kind(d), Namespace: o.GetNamespace(), Name: o.GetName(), Subresource: sub}
}

// try creates an object.
func (h *house) try(o object.Object, dry ...string) (object.Object, error) {
	h.Helper()
	t := h.target(o, "")
	t.Name = ""
	it, err := h.engine.Create(context.Background(), h.caller, t, o.DeepCopyObject().(object.Object), &metav1.CreateOptions{DryRun: dry})
	if err != nil {
		return nil, err
	}
	return it.Object()
}

func (h *house) create(o object.Object) object.Object {
	h.Helper()
	out, err := h.try(o)
	if err != nil {
		h.Fatal(err)
	}
	return out
}

func (h *house) update(o object.Object) (object.Object, error) {
	h.Helper()
	it, _, err := h.engine.Update(context.Background(), h.caller, h.target(o, ""), o.DeepCopyObject().(object.Object), &metav1.UpdateOptions{})
	if err != nil {
		return nil, err
	}
	return it.Object()
}

func (h *house) delete(o object.Object) error {
	h.Helper()
	_, _, err := h.engine.Delete(context.Background(), h.caller, h.target(o, ""), &metav1.DeleteOptions{})
	return err
}

func configMap(name string, data ...string) *corev1.ConfigMap {
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string]string{}}
	for i := 0; i+1 < len(data); i += 2 {
		c.Data[data[i]] = data[i+1]
	}
	return c
}
