package webhook_test

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject validating webhook configurations with invalid match conditions [Conformance]
// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject mutating webhook configurations with invalid match conditions [Conformance]
// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update validating webhook configurations with match conditions [Conformance]
// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update mutating webhook configurations with match conditions [Conformance]
func TestMatchConditionsOfConfigurations(t *testing.T) {
	h := newHouse(t)
	with := func(list ...admissionregistrationv1.MatchCondition) func(*admissionregistrationv1.MutatingWebhook) {
		return func(w *admissionregistrationv1.MutatingWebhook) { w.MatchConditions = list }
	}
	bad := admissionregistrationv1.MatchCondition{Name: "bad", Expression: "... [] bad expression"}
	good := admissionregistrationv1.MatchCondition{Name: "good", Expression: "request.userInfo.username != 'x'"}
	r := rule([]string{"configmaps"}, create)
	_, err := h.try(&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Webhooks: []admissionregistrationv1.ValidatingWebhook{h.validating("/x", r, with(bad))}})
	wantDenied(t, err, `webhooks[0].matchConditions[0].expression: Invalid value: "... [] bad expression": compilation failed`)
	_, err = h.try(&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Webhooks: []admissionregistrationv1.MutatingWebhook{h.mutating("/x", r, with(bad))}})
	wantDenied(t, err, "compilation failed")
	v := h.registerValidating("v", h.validating("/x", r, with(good)))
	m := h.registerMutating("m", h.mutating("/x", r, with(good)))
	if v.Webhooks[0].MatchConditions[0] != good || m.Webhooks[0].MatchConditions[0] != good {
		t.Error("match conditions are not stored")
	}
	m = m.DeepCopy()
	m.Webhooks[0].MatchConditions = append(m.Webhooks[0].MatchConditions, admissionregistrationv1.MatchCondition{Name: "more", Expression: "true"})
	o, err := h.update(m)
	if err != nil || len(o.(*admissionregistrationv1.MutatingWebhookConfiguration).Webhooks[0].MatchConditions) != 2 {
		t.Errorf("update: %v", err)
	}
}

// A rule for another version of the same objects: Equivalent converts for the
// webhook and back, Exact leaves it alone.
func TestEquivalentVersions(t *testing.T) {
	h := newHouse(t)
	v1 := admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{create},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{"autoscaling"}, APIVersions: []string{"v1"}, Resources: []string{"horizontalpodautoscalers"}},
	}
	exact := admissionregistrationv1.Exact
	h.on("/v1", func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if !strings.Contains(string(q.Object.Raw), `"apiVersion":"autoscaling/v1"`) || !strings.Contains(string(q.Object.Raw), `"targetCPUUtilizationPercentage":80`) ||
			q.RequestKind.Version != "v2" || q.Resource.Version != "v1" {
			return deny("not converted: " + string(q.Object.Raw))(q)
		}
		return patchWith(`[{"op":"replace","path":"/spec/targetCPUUtilizationPercentage","value":70}]`)(q)
	})
	h.on("/exact", deny("asked about a version it does not name"))
	h.registerMutating("m", h.mutating("/v1", v1), h.mutating("/exact", v1, func(w *admissionregistrationv1.MutatingWebhook) { w.MatchPolicy = &exact }))
	percent := int32(80)
	o := h.create(&autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "h"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			MaxReplicas: 3, ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "d", APIVersion: "apps/v1"},
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent}}}},
		},
	}).(*autoscalingv2.HorizontalPodAutoscaler)
	if got := *o.Spec.Metrics[0].Resource.Target.AverageUtilization; got != 70 {
		t.Errorf("target is %d", got)
	}
}

// The same across groups: an event of events.k8s.io for a webhook that knows those
// of the core group. A refusal names the resource that was requested.
func TestEquivalentGroups(t *testing.T) {
	h := newHouse(t)
	core := rule([]string{"events"}, create)
	core.APIGroups = []string{""}
	h.on("/core", func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if q.Kind.Group != "" || q.Resource.Group != "" || q.RequestKind.Group != "events.k8s.io" || q.RequestResource.Group != "events.k8s.io" || q.RequestSubResource != "" ||
			!strings.HasPrefix(string(q.Object.Raw), `{"kind":"Event","apiVersion":"v1",`) || !strings.Contains(string(q.Object.Raw), `"message":"as written"`) {
			return deny("not converted: " + string(q.Object.Raw))(q)
		}
		return patchWith(`[{"op":"replace","path":"/message","value":"as patched"}]`)(q)
	})
	m := h.registerMutating("m", h.mutating("/core", core))
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "e"}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "p"},
		Message: "as written", Reason: "R", Action: "a", Type: "Normal", EventTime: metav1.NowMicro(), ReportingController: "example.com/c", ReportingInstance: "i",
	}
	at := h.target(e, "")
	at.Name, at.Version = "", at.Codec.Version(schema.GroupVersion{Group: "events.k8s.io", Version: "v1"})
	it, err := h.engine.Create(t.Context(), h.caller, at, e.DeepCopy(), &metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if o, err := it.Object(); err != nil || o.(*corev1.Event).Message != "as patched" {
		t.Errorf("event %v, %v", o, err)
	}
	h.unregister(m)
	h.registerMutating("m", h.mutating("/core", core, func(w *admissionregistrationv1.MutatingWebhook) {
		w.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "c", Expression: "object.nothing == 1"}}
	}))
	e.Name = "f"
	_, err = h.engine.Create(t.Context(), h.caller, at, e.DeepCopy(), &metav1.CreateOptions{})
	wantDenied(t, err, `events.events.k8s.io "f" is forbidden: `)
}

// A webhook that wants to is asked again after a later one changed the object,
// once; and what is asked again sees the change.
func TestReinvocation(t *testing.T) {
	h := newHouse(t)
	again := admissionregistrationv1.IfNeededReinvocationPolicy
	h.on("/a", func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if strings.Contains(string(q.Object.Raw), `"b":"1"`) {
			return patchWith(`[{"op":"add","path":"/data/sawB","value":"1"}]`)(q)
		}
		return allow(q)
	})
	h.on("/b", patchWith(`[{"op":"add","path":"/data/b","value":"1"}]`))
	r := rule([]string{"configmaps"}, create)
	h.registerMutating("m", h.mutating("/a", r, func(w *admissionregistrationv1.MutatingWebhook) { w.ReinvocationPolicy = &again }), h.mutating("/b", r))
	c := h.create(configMap("c", "x", "y")).(*corev1.ConfigMap)
	if c.Data["sawB"] != "1" {
		t.Errorf("data %v", c.Data)
	}
	paths := make([]string, len(h.asked))
	for i, s := range h.asked {
		paths[i], _, _ = strings.Cut(s, ":")
	}
	if !slices.Equal(paths, []string{"/a", "/b", "/a"}) {
		t.Errorf("asked %v", paths)
	}
	if h.notes["mutation.webhook.admission.k8s.io/round_1_index_0"] == "" {
		t.Errorf("annotations %v", h.notes)
	}
}

func TestOrderDryRunWarningsAndAnnotations(t *testing.T) {
	h := newHouse(t)
	r := rule([]string{"configmaps"}, create)
	for _, name := range []string{"/z", "/a"} {
		h.on(name, func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			return &admissionv1.AdmissionResponse{Allowed: true, Warnings: []string{"from " + name, strconv.FormatBool(*q.DryRun)}, AuditAnnotations: map[string]string{"k": "v"}}
		})
	}
	h.registerMutating("b", h.mutating("/a", r))
	h.registerMutating("a", h.mutating("/z", r))
	if _, err := h.try(configMap("c"), metav1.DryRunAll); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(h.warnings, ","); got != "from /z,true,from /a,true" {
		t.Errorf("warnings %s", got)
	}
	if h.notes["z.example.com/k"] != "v" || h.notes["a.example.com/k"] != "v" {
		t.Errorf("annotations %v", h.notes)
	}
}

func TestObjectSelectorSeesOldAndNew(t *testing.T) {
	h := newHouse(t)
	h.on("/deny", func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if q.Operation == admissionv1.Update && len(q.OldObject.Raw) > 0 {
			return deny("no")(q)
		}
		return allow(q)
	})
	h.registerValidating("v", h.validating("/deny", rule([]string{"*"}, create, update), func(w *admissionregistrationv1.MutatingWebhook) {
		w.ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"guard": "yes"}}
	}))
	c := configMap("c")
	c.Labels = map[string]string{"guard": "yes"}
	now := h.create(c).DeepCopyObject().(*corev1.ConfigMap)
	now.Labels = nil
	_, err := h.update(now)
	wantDenied(t, err, "denied the request: no")
	h.create(configMap("free"))
	if len(h.asked) != 2 {
		t.Errorf("asked %v", h.asked)
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	h := newHouse(t)
	sort, none := admissionv1.PatchTypeJSONPatch, admissionv1.PatchType("")
	for name, tc := range map[string]struct {
		validating bool
		answer     func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse
		want       string
	}{
		"patch from one that validates": {true, patchWith(`[]`), "received invalid webhook response: validating webhook may not return response.patch"},
		"no type": {false, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte("[]")}
		}, "webhook returned response.patch but not response.patchType"},
		"no patch": {false, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			return &admissionv1.AdmissionResponse{Allowed: true, PatchType: &sort}
		}, "webhook returned response.patchType but not response.patch"},
		"empty type": {false, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte("[]"), PatchType: &none}
		}, `webhook returned invalid response.patchType of ""`},
		"no JSON patch":   {false, patchWith(`{}`), "received undecodable patch in webhook response"},
		"test that fails": {false, patchWith(`[{"op":"test","path":"/data","value":1}]`), "Internal error occurred"},
		"another kind":    {false, patchWith(`[{"op":"replace","path":"/data","value":7}]`), "Internal error occurred"},
		"another name":    {false, patchWith(`[{"op":"replace","path":"/metadata/name","value":"A_b"}]`), `ConfigMap "A_b" is invalid: metadata.name`},
		"without reason": {true, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			return &admissionv1.AdmissionResponse{}
		}, `admission webhook "x.example.com" denied the request without explanation`},
		"code below 400": {true, func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			return &admissionv1.AdmissionResponse{Result: &metav1.Status{Status: metav1.StatusSuccess, Code: 200, Reason: "Because"}}
		}, `admission webhook "x.example.com" denied the request: Because`},
	} {
		t.Run(name, func(t *testing.T) {
			h.on("/x", tc.answer)
			r := rule([]string{"configmaps"}, create)
			var err error
			if tc.validating {
				c := h.registerValidating("v", h.validating("/x", r))
				_, err = h.try(configMap("c", "a", "b"))
				h.unregister(c)
			} else {
				c := h.registerMutating("m", h.mutating("/x", r))
				_, err = h.try(configMap("c", "a", "b"))
				h.unregister(c)
			}
			wantDenied(t, err, tc.want)
			if s, ok := err.(apierrors.APIStatus); ok && (s.Status().Code < 400 || s.Status().Status != metav1.StatusFailure) {
				t.Errorf("status %+v", s.Status())
			}
		})
	}
}

// A webhook of version v1beta1 gets and gives that version, and its answer is
// not checked for what v1 is strict about.
func TestReviewV1beta1(t *testing.T) {
	h := newHouse(t)
	h.on("/old", func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(`[{"op":"add","path":"/data/x","value":"y"}]`)}
	})
	h.registerMutating("m", h.mutating("/old", rule([]string{"configmaps"}, create), func(w *admissionregistrationv1.MutatingWebhook) {
		w.AdmissionReviewVersions = []string{"v2", "v1beta1", "v1"}
	}))
	if c := h.create(configMap("c", "a", "b")).(*corev1.ConfigMap); c.Data["x"] != "y" {
		t.Errorf("data %v", c.Data)
	}
}

// A webhook behind a Service is reached through its endpoints, and proves to be
// <service>.<namespace>.svc.
func TestByService(t *testing.T) {
	h := newHouse(t)
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(h.url, "https://"))
	n, _ := strconv.Atoi(port)
	at := int32(n)
	h.create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "hook"}, Spec: corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Port: 443}}}})
	yes := true
	// Loopback is no address that the API takes for an endpoint.
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "hook-1", Labels: map[string]string{discoveryv1.LabelServiceName: "hook"}}, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Port: &at}}, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{host}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
	}
	empty := ""
	slice.Ports[0].Name = &empty
	if err := h.engine.Seed(context.Background(), h.Scheme().ByObject(slice), slice); err != nil {
		t.Fatal(err)
	}
	h.on("/path", deny("by service"))
	path := "path"
	h.registerValidating("v", h.validating("/path", rule([]string{"configmaps"}, create), func(w *admissionregistrationv1.MutatingWebhook) {
		path := "/" + path
		w.ClientConfig = admissionregistrationv1.WebhookClientConfig{CABundle: h.ca, Service: &admissionregistrationv1.ServiceReference{Namespace: "ns", Name: "hook", Path: &path}}
	}))
	_, err := h.try(configMap("c"))
	wantDenied(t, err, "by service")
}

// What a webhook is asked, field by field.
func TestTheQuestion(t *testing.T) {
	h := newHouse(t)
	var got admissionv1.AdmissionRequest
	h.on("/q", func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { got = *q; return allow(q) })
	c := h.create(configMap("c", "a", "b"))
	h.registerValidating("v", h.validating("/q", rule([]string{"*"}, remove)))
	if err := h.delete(c); err != nil {
		t.Fatal(err)
	}
	got.UID = ""
	old := got.OldObject.Raw
	got.OldObject.Raw = nil
	b, _ := json.Marshal(got)
	const want = `{"uid":"","kind":{"group":"","version":"v1","kind":"ConfigMap"},"resource":{"group":"","version":"v1","resource":"configmaps"},` +
		`"requestKind":{"group":"","version":"v1","kind":"ConfigMap"},"requestResource":{"group":"","version":"v1","resource":"configmaps"},"name":"c","namespace":"ns",` +
		`"operation":"DELETE","userInfo":{"username":"jane","groups":["dev"]},"object":null,"oldObject":null,"dryRun":false,"options":{"kind":"DeleteOptions","apiVersion":"meta.k8s.io/v1"}}`
	if string(b) != want {
		t.Errorf("asked %s", b)
	}
	if !strings.HasPrefix(string(old), `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"c","namespace":"ns","uid":`) || !strings.Contains(string(old), `"resourceVersion":`) {
		t.Errorf("old object %s", old)
	}
}

// Managed fields that nobody can read are not let in.
func TestManagedFieldsStayReadable(t *testing.T) {
	h := newHouse(t)
	h.on("/m", patchWith(`[{"op":"add","path":"/metadata/managedFields","value":[{"manager":"m","operation":"Nonsense","apiVersion":"v1","fieldsType":"FieldsV1"}]},{"op":"add","path":"/data/x","value":"y"}]`))
	h.registerMutating("m", h.mutating("/m", rule([]string{"configmaps"}, create)))
	c := h.create(configMap("c", "a", "b")).(*corev1.ConfigMap)
	if len(c.ManagedFields) != 0 || c.Data["x"] != "y" {
		t.Errorf("object %+v", c)
	}
	if len(h.warnings) != 1 || !strings.HasPrefix(h.warnings[0], ".metadata.managedFields was in an invalid state after admission") {
		t.Errorf("warnings %q", h.warnings)
	}
}
