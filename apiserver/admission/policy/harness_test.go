package policy_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"sigs.k8s.io/yaml"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"sagong/apiserver/admission"
	"sagong/apiserver/admission/match"
	"sagong/apiserver/admission/policy"
	"sagong/apiserver/resource"
	"sagong/client/direct"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
	"sagong/store"
)

// house is an API with policies.
type house struct {
	testing.TB
	engine *resource.Engine
	*direct.Client
	hub      *reconcile.Hub
	caller   resource.Caller
	warnings []string
	notes    map[string]string
}

type late struct{ resource.Admission }

// onlyJane lets jane do everything, and nobody else anything.
type onlyJane struct{}

func (onlyJane) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetUser().GetName() == "jane" {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionDeny, "", nil
}

func newHouse(t testing.TB) *house {
	h := &house{TB: t, notes: map[string]string{}}
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
	o := policy.Options{Client: h.Client, Authorizer: onlyJane{}, Fields: object.NewFieldManagers(), Metrics: policy.NewMetrics(nil), Conditions: match.NewMetrics(nil), Log: slog.New(slog.DiscardHandler)}
	chain.Admission = admission.NewChain(policy.NewMutating(h.hub, o), policy.ParamAccess{Client: h.Client, Authorizer: onlyJane{}}, policy.NewValidating(h.hub, o))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.hub.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		s.Close()
	})
	h.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{"team": "a"}}})
	return h
}

// apply creates objects of one type from YAML and waits until they are in force.
func apply[T object.Object](h *house, o T, text string) T {
	h.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		h.Fatal(err)
	}
	out := h.create(o)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := reconcile.ViewOf[T](h.hub).WaitRevision(ctx, object.RevisionOf(out)); err != nil {
		h.Fatal(err)
	}
	return out.(T)
}

func (h *house) policy(text string) *admissionregistrationv1.ValidatingAdmissionPolicy {
	h.Helper()
	return apply(h, &admissionregistrationv1.ValidatingAdmissionPolicy{}, text)
}

func (h *house) binding(text string) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	h.Helper()
	return apply(h, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}, text)
}

func (h *house) mutation(text string) *admissionregistrationv1.MutatingAdmissionPolicy {
	h.Helper()
	return apply(h, &admissionregistrationv1.MutatingAdmissionPolicy{}, text)
}

func (h *house) mutationBinding(text string) *admissionregistrationv1.MutatingAdmissionPolicyBinding {
	h.Helper()
	return apply(h, &admissionregistrationv1.MutatingAdmissionPolicyBinding{}, text)
}

func (h *house) target(o object.Object) resource.Target {
	return resource.Target{Kind: h.engine.Kind(h.Scheme().ByObject(o)), Namespace: o.GetNamespace(), Name: o.GetName()}
}

func (h *house) try(o object.Object) (object.Object, error) {
	h.Helper()
	t := h.target(o)
	t.Name = ""
	it, err := h.engine.Create(context.Background(), h.caller, t, o.DeepCopyObject().(object.Object), &metav1.CreateOptions{})
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

func userNamed(name string) user.Info { return &user.DefaultInfo{Name: name} }
