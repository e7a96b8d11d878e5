package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
	"sagong/reconcile"
)

const (
	create  = admissionregistrationv1.Create
	update  = admissionregistrationv1.Update
	remove  = admissionregistrationv1.Delete
	connect = admissionregistrationv1.Connect
)

func wantDenied(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want %q", err, text)
	}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
}

// deniesBad denies objects that carry data or a label "bad".
func deniesBad(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if strings.Contains(string(q.Object.Raw), `"bad"`) {
		return deny("the object contains unwanted key")(q)
	}
	return allow(q)
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation [Conformance]
func TestShouldBeAbleToDenyPodAndConfigMapCreation(t *testing.T) {
	h := newHouse(t)
	h.on("/deny", deniesBad)
	h.on("/hang", hang)
	one := int32(1)
	exempt := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "skip-webhook-admission", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"yes"}}}}
	h.registerValidating("deny", h.validating("/deny", rule([]string{"pods", "configmaps"}, create, update), func(w *admissionregistrationv1.MutatingWebhook) {
		w.NamespaceSelector = exempt
	}), h.validating("/hang", rule([]string{"pods"}, create), func(w *admissionregistrationv1.MutatingWebhook) {
		w.TimeoutSeconds, w.ObjectSelector = &one, &metav1.LabelSelector{MatchLabels: map[string]string{"hangs": "yes"}}
	}))
	const text = `admission webhook "deny.example.com" denied the request: the object contains unwanted key`
	bad := pod("p")
	bad.Labels = map[string]string{"bad": "x"}
	_, err := h.try(bad)
	wantDenied(t, err, text)
	if s, ok := err.(apierrors.APIStatus); !ok || s.Status().Code != 400 || s.Status().Status != "Failure" {
		t.Errorf("status %v", err)
	}
	_, err = h.try(configMap("c", "bad", "x"))
	wantDenied(t, err, text)
	good := h.create(configMap("c", "good", "x")).DeepCopyObject().(*corev1.ConfigMap)
	good.Data["bad"] = "x"
	_, err = h.update(good)
	wantDenied(t, err, text)
	hangs := pod("p")
	hangs.Labels = map[string]string{"hangs": "yes"}
	_, err = h.try(hangs)
	wantDenied(t, err, `Internal error occurred: failed calling webhook "hang.example.com": failed to call webhook: Post "`+h.url+`/hang?timeout=1s": context deadline exceeded`)
	h.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "exempt", Labels: map[string]string{"skip-webhook-admission": "yes"}}})
	free := configMap("c", "bad", "x")
	free.Namespace = "exempt"
	h.create(free)
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod [Conformance]
func TestShouldBeAbleToDenyAttachingPod(t *testing.T) {
	h := newHouse(t)
	h.on("/attach", func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if q.Kind.Kind != "PodAttachOptions" || !strings.Contains(string(q.Object.Raw), `"kind":"PodAttachOptions"`) {
			return allow(q)
		}
		return deny("attaching to pod 'to-be-attached-pod' is not allowed")(q)
	})
	h.registerValidating("deny-attach", h.validating("/attach", rule([]string{"pods/attach"}, connect)))
	p := h.create(pod("to-be-attached-pod"))
	err := h.engine.Connect(context.Background(), h.caller, h.target(p, "attach"), &corev1.PodAttachOptions{Stdin: true})
	wantDenied(t, err, "attaching to pod 'to-be-attached-pod' is not allowed")
	if err := h.engine.Connect(context.Background(), h.caller, h.target(p, "exec"), &corev1.PodExecOptions{}); err != nil {
		t.Error(err)
	}
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject operations on fail closed webhook [Conformance]
func TestShouldUnconditionallyRejectOperationsOnFailClosedWebhook(t *testing.T) {
	h := newHouse(t)
	closed := h.registerValidating("closed", h.validating("/deny", rule([]string{"configmaps"}, create), func(w *admissionregistrationv1.MutatingWebhook) { w.ClientConfig.CABundle = nil }))
	_, err := h.try(configMap("c"))
	if !apierrors.IsInternalError(err) {
		t.Errorf("err = %v", err)
	}
	wantDenied(t, err, `failed calling webhook "deny.example.com": failed to call webhook:`)
	if len(h.asked) != 0 {
		t.Error("a webhook was spoken to over a connection that it could not prove to be its own")
	}
	open := closed.DeepCopy()
	ignore := admissionregistrationv1.Ignore
	open.Webhooks[0].FailurePolicy = &ignore
	if _, err := h.update(open); err != nil {
		t.Fatal(err)
	}
	h.settled()
	h.create(configMap("c"))
	if h.notes["failed-open.validating.webhook.admission.k8s.io/round_0_index_0"] != "deny.example.com" {
		t.Errorf("audit annotations %v", h.notes)
	}
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout [Conformance]
func TestShouldHonorTimeout(t *testing.T) {
	h := newHouse(t)
	h.on("/slow", hang)
	for _, ignore := range []bool{false, true} {
		policy, one := admissionregistrationv1.Fail, int32(1)
		if ignore {
			policy = admissionregistrationv1.Ignore
		}
		c := h.registerMutating("slow", h.mutating("/slow", rule([]string{"configmaps"}, create), func(w *admissionregistrationv1.MutatingWebhook) {
			w.FailurePolicy, w.TimeoutSeconds = &policy, &one
		}))
		_, err := h.try(configMap(fmt.Sprint("c", ignore)))
		if ignore && err != nil || !ignore && (err == nil || !strings.Contains(err.Error(), "context deadline exceeded")) {
			t.Errorf("ignore %v: %v", ignore, err)
		}
		// A request that has no time left is told so, whatever the policy.
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		_, err = h.engine.Create(ctx, h.caller, h.target(configMap("d"), ""), configMap("d"), &metav1.CreateOptions{})
		cancel()
		if err == nil || ignore && !apierrors.IsTimeout(err) {
			t.Errorf("ignore %v, without time: %v", ignore, err)
		}
		h.unregister(c)
	}
	h.on("/slow", allow)
	ten := int32(10)
	h.registerMutating("slow", h.mutating("/slow", rule([]string{"configmaps"}, create), func(w *admissionregistrationv1.MutatingWebhook) { w.TimeoutSeconds = &ten }))
	h.create(configMap("in-time"))
}

// unregister removes a configuration and waits until it is out of force.
func (h *house) unregister(o object.Object) {
	h.Helper()
	gone := make(chan struct{})
	var stop func()
	switch o.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		stop = reconcile.ViewOf[*admissionregistrationv1.MutatingWebhookConfiguration](h.hub).OnChange(func(old, now *admissionregistrationv1.MutatingWebhookConfiguration) {
			if now == nil && old.Name == o.GetName() {
				close(gone)
			}
		})
	default:
		stop = reconcile.ViewOf[*admissionregistrationv1.ValidatingWebhookConfiguration](h.hub).OnChange(func(old, now *admissionregistrationv1.ValidatingWebhookConfiguration) {
			if now == nil && old.Name == o.GetName() {
				close(gone)
			}
		})
	}
	defer stop()
	if err := h.delete(o); err != nil {
		h.Fatal(err)
	}
	<-gone
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap [Conformance]
func TestShouldMutateConfigMap(t *testing.T) {
	h := newHouse(t)
	stage := func(needs, adds string) func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			var c corev1.ConfigMap
			if json.Unmarshal(q.Object.Raw, &c); c.Data[needs] != "yes" || c.Kind != "ConfigMap" || c.APIVersion != "v1" {
				return allow(q)
			}
			return patchWith(`[{"op":"add","path":"/data/` + adds + `","value":"yes"}]`)(q)
		}
	}
	h.on("/stage1", stage("mutation-start", "mutation-stage-1"))
	h.on("/stage2", stage("mutation-stage-1", "mutation-stage-2"))
	r := rule([]string{"configmaps"}, create)
	h.registerMutating("stages", h.mutating("/stage1", r), h.mutating("/stage2", r))
	c := h.create(configMap("c", "mutation-start", "yes")).(*corev1.ConfigMap)
	if c.Data["mutation-stage-1"] != "yes" || c.Data["mutation-stage-2"] != "yes" {
		t.Errorf("data %v", c.Data)
	}
	if got := h.notes["mutation.webhook.admission.k8s.io/round_0_index_1"]; got != `{"configuration":"stages","webhook":"stage2.example.com","mutated":true}` {
		t.Errorf("audit annotation %s", got)
	}
	if got := h.notes["patch.webhook.admission.k8s.io/round_0_index_1"]; got != `{"configuration":"stages","webhook":"stage2.example.com","patch":[{"op":"add","path":"/data/mutation-stage-2","value":"yes"}],"patchType":"JSONPatch"}` {
		t.Errorf("audit annotation of the patch %s", got)
	}
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate pod and apply defaults after mutation [Conformance]
func TestShouldMutatePodAndApplyDefaultsAfterMutation(t *testing.T) {
	h := newHouse(t)
	h.on("/pods", patchWith(`[{"op":"add","path":"/spec/initContainers","value":[{"image":"webhook-added-image","name":"webhook-added-init-container","resources":{}}]}]`))
	h.registerMutating("pods", h.mutating("/pods", rule([]string{"pods"}, create)))
	p := h.create(pod("p")).(*corev1.Pod)
	if len(p.Spec.InitContainers) != 1 || p.Spec.InitContainers[0].TerminationMessagePolicy != corev1.TerminationMessageReadFile {
		t.Errorf("init containers %+v", p.Spec.InitContainers)
	}
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or prevent deletion of webhook configuration objects [Conformance]
func TestShouldNotTouchWebhookConfigurations(t *testing.T) {
	h := newHouse(t)
	h.on("/mutate", patchWith(`[{"op":"add","path":"/metadata/labels/mutated","value":"yes"}]`))
	h.on("/deny", deny("no"))
	every := rule([]string{"*/*"}, admissionregistrationv1.OperationAll)
	every.APIVersions = []string{"*"}
	onConfigurations := func(w *admissionregistrationv1.MutatingWebhook) {
		w.Rules[0].APIGroups = []string{"admissionregistration.k8s.io"}
	}
	h.registerMutating("mutates", h.mutating("/mutate", every, onConfigurations))
	h.registerValidating("denies", h.validating("/deny", every, onConfigurations))
	c := h.registerValidating("victim", h.validating("/deny", rule([]string{"x"}, create)))
	if c.Labels["mutated"] != "" || len(h.asked) != 0 {
		t.Errorf("labels %v, asked %v", c.Labels, h.asked)
	}
	if err := h.delete(c); err != nil {
		t.Error(err)
	}
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate everything except 'skip-me' configmaps [Conformance]
func TestShouldMutateEverythingExceptSkipMe(t *testing.T) {
	h := newHouse(t)
	h.on("/mutate", patchWith(`[{"op":"add","path":"/data/mutated","value":"yes"}]`))
	h.registerMutating("skips", h.mutating("/mutate", rule([]string{"configmaps"}, create), func(w *admissionregistrationv1.MutatingWebhook) {
		w.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "skip-me", Expression: "object.metadata.name != 'skip-me'"}}
	}))
	for _, name := range []string{"skip-me", "other"} {
		c := h.create(configMap(name, "a", "b")).(*corev1.ConfigMap)
		if (c.Data["mutated"] == "yes") != (name == "other") {
			t.Errorf("%s: %v", name, c.Data)
		}
	}
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work [Conformance]
// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work [Conformance]
func TestUpdatingAMutatingWebhookShouldWork(t *testing.T) {
	h := newHouse(t)
	h.on("/mutate", patchWith(`[{"op":"add","path":"/data/mutated","value":"yes"}]`))
	c := h.registerMutating("m", h.mutating("/mutate", rule([]string{"configmaps"}, create)))
	mutated := func(name string) bool {
		return h.create(configMap(name, "a", "b")).(*corev1.ConfigMap).Data["mutated"] == "yes"
	}
	if !mutated("a") {
		t.Error("not mutated")
	}
	set := func(op admissionregistrationv1.OperationType) {
		n := c.DeepCopy()
		n.Webhooks[0].Rules[0].Operations = []admissionregistrationv1.OperationType{op}
		o, err := h.update(n)
		if err != nil {
			t.Fatal(err)
		}
		c = o.(*admissionregistrationv1.MutatingWebhookConfiguration)
		h.settled()
	}
	if set(update); mutated("b") {
		t.Error("mutated by a webhook for updates")
	}
	if set(create); !mutated("c") {
		t.Error("not mutated any more")
	}
	if h.unregister(c); mutated("d") {
		t.Error("mutated by a webhook that is gone")
	}
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work [Conformance]
// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work [Conformance]
func TestUpdatingAValidatingWebhookShouldWork(t *testing.T) {
	h := newHouse(t)
	h.on("/deny", deny("no"))
	c := h.registerValidating("v", h.validating("/deny", rule([]string{"configmaps"}, update)))
	h.create(configMap("a"))
	n := c.DeepCopy()
	n.Webhooks[0].Rules[0].Operations = []admissionregistrationv1.OperationType{create}
	if _, err := h.update(n); err != nil {
		t.Fatal(err)
	}
	h.settled()
	_, err := h.try(configMap("b"))
	wantDenied(t, err, "no")
	h.unregister(c)
	h.create(configMap("b"))
}
