package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

type hook func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

// hooks runs a webhook server behind the Service "hooks"; its parts answer by
// path.
func (c *cluster) hooks(parts map[string]hook) {
	c.Helper()
	c.behindService("hooks", 8444, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out := parts[r.URL.Path](q.Request)
		out.UID = q.Request.UID
		q.Request, q.Response = nil, out
		_ = json.NewEncoder(w).Encode(q)
	}))
}

func allow(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Allowed: true}
}

func deny(message string) hook {
	return func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: message}}
	}
}

// denyBad denies what carries the key "bad".
func denyBad(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if strings.Contains(string(q.Object.Raw), `"bad":`) {
		return deny("contains unwanted key")(q)
	}
	return allow(q)
}

func patchWith(patch string) hook {
	return func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		sort := admissionv1.PatchTypeJSONPatch
		return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(patch), PatchType: &sort}
	}
}

// after answers when a time has passed.
func after(d time.Duration, h hook) hook {
	return func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		time.Sleep(d)
		return h(q)
	}
}

// mutating is a webhook at a path of the server that hears of the creation of
// objects of the core group in the test's namespace; change adjusts it.
func (c *cluster) mutating(path string, resources []string, change ...func(*admissionregistrationv1.MutatingWebhook)) admissionregistrationv1.MutatingWebhook {
	none, name := admissionregistrationv1.SideEffectClassNone, strings.Trim(path, "/")
	h := admissionregistrationv1.MutatingWebhook{
		Name: name + ".example.com", SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
		ClientConfig: admissionregistrationv1.WebhookClientConfig{
			Service: &admissionregistrationv1.ServiceReference{Namespace: ns, Name: "hooks", Path: &path}, CABundle: c.net.authority.CertPEM,
		},
		Rules: []admissionregistrationv1.RuleWithOperations{{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: resources},
		}},
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: ns}},
	}
	for _, f := range change {
		f(&h)
	}
	return h
}

// validating is the same for a webhook that validates.
func (c *cluster) validating(path string, resources []string, change ...func(*admissionregistrationv1.MutatingWebhook)) admissionregistrationv1.ValidatingWebhook {
	m := c.mutating(path, resources, change...)
	return admissionregistrationv1.ValidatingWebhook{
		Name: m.Name, ClientConfig: m.ClientConfig, Rules: m.Rules, SideEffects: m.SideEffects, AdmissionReviewVersions: m.AdmissionReviewVersions,
		FailurePolicy: m.FailurePolicy, TimeoutSeconds: m.TimeoutSeconds, NamespaceSelector: m.NamespaceSelector, MatchConditions: m.MatchConditions,
	}
}

// register puts a configuration into force.
func (c *cluster) registerMutating(name string, hooks ...admissionregistrationv1.MutatingWebhook) *admissionregistrationv1.MutatingWebhookConfiguration {
	c.Helper()
	defer c.settle(0)
	return must(c.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(c.ctx, &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"e2e-list": "t"}}, Webhooks: hooks,
	}, metav1.CreateOptions{}))
}

func (c *cluster) registerValidating(name string, hooks ...admissionregistrationv1.ValidatingWebhook) *admissionregistrationv1.ValidatingWebhookConfiguration {
	c.Helper()
	defer c.settle(0)
	return must(c.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(c.ctx, &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"e2e-list": "t"}}, Webhooks: hooks,
	}, metav1.CreateOptions{}))
}

// tryMap creates a ConfigMap.
func (c *cluster) tryMap(name string, data map[string]string) (*corev1.ConfigMap, error) {
	return c.CoreV1().ConfigMaps(ns).Create(c.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{})
}

// denied demands an error that says so.
func (c *cluster) denied(err error, words ...string) {
	c.Helper()
	if err == nil {
		c.Fatal("allowed")
	}
	for _, w := range words {
		c.want(strings.Contains(err.Error(), w), "%q lacks %q", err, w)
	}
}

var configMaps = []string{"configmaps"}

func TestAdmissionWebhook(t *testing.T) {
	one := metav1.ListOptions{LabelSelector: "e2e-list=t"}
	conform(t, "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work [Conformance]", func(c *cluster) {
		parts := map[string]hook{}
		for i := range 10 {
			parts[fmt.Sprint("/add-", i)] = patchWith(fmt.Sprintf(`[{"op":"add","path":"/data/added-%d","value":"yes"}]`, i))
		}
		c.hooks(parts)
		configs := c.AdmissionregistrationV1().MutatingWebhookConfigurations()
		for i := range 10 {
			c.registerMutating(fmt.Sprint("m", i), c.mutating(fmt.Sprint("/add-", i), configMaps))
		}
		c.want(len(must(configs.List(c.ctx, one)).Items) == 10, "not all are listed")
		m := must(c.tryMap("mutated", map[string]string{"a": "b"}))
		c.want(len(m.Data) == 11 && m.Data["added-0"] == "yes" && m.Data["added-9"] == "yes", "data %v", m.Data)
		c.ok(configs.DeleteCollection(c.ctx, metav1.DeleteOptions{}, one))
		c.want(len(must(configs.List(c.ctx, one)).Items) == 0, "some are left")
		c.settle(0)
		m = must(c.tryMap("plain", map[string]string{"a": "b"}))
		c.want(len(m.Data) == 1, "data %v", m.Data)
	})
	conform(t, "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work [Conformance]", func(c *cluster) {
		c.hooks(map[string]hook{"/deny": denyBad})
		configs := c.AdmissionregistrationV1().ValidatingWebhookConfigurations()
		for i := range 10 {
			c.registerValidating(fmt.Sprint("v", i), c.validating("/deny", configMaps))
		}
		c.want(len(must(configs.List(c.ctx, one)).Items) == 10, "not all are listed")
		_, err := c.tryMap("m", map[string]string{"bad": "b"})
		c.denied(err, `admission webhook "deny.example.com" denied the request: contains unwanted key`)
		c.ok(configs.DeleteCollection(c.ctx, metav1.DeleteOptions{}, one))
		c.want(len(must(configs.List(c.ctx, one)).Items) == 0, "some are left")
		c.settle(0)
		must(c.tryMap("m", map[string]string{"bad": "b"}))
	})
	const toCreates = `[{"op":"replace","path":"/webhooks/0/rules/0/operations","value":["CREATE"]}]`
	updates := []admissionregistrationv1.OperationType{admissionregistrationv1.Update}
	conform(t, "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work [Conformance]", func(c *cluster) {
		c.hooks(map[string]hook{"/add": patchWith(`[{"op":"add","path":"/data/added","value":"yes"}]`)})
		config := c.registerMutating("m", c.mutating("/add", configMaps))
		added := func(name string) bool {
			c.settle(0)
			return must(c.tryMap(name, map[string]string{"a": "b"})).Data["added"] == "yes"
		}
		c.want(added("registered"), "not mutated")
		configs := c.AdmissionregistrationV1().MutatingWebhookConfigurations()
		config.Webhooks[0].Rules[0].Operations = updates
		must(configs.Update(c.ctx, config, metav1.UpdateOptions{}))
		c.want(!added("updated"), "mutated by a webhook for updates")
		must(configs.Patch(c.ctx, "m", types.JSONPatchType, []byte(toCreates), metav1.PatchOptions{}))
		c.want(added("patched"), "not mutated any more")
	})
	conform(t, "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work [Conformance]", func(c *cluster) {
		c.hooks(map[string]hook{"/deny": denyBad})
		config := c.registerValidating("v", c.validating("/deny", configMaps))
		bad := func(name string) error {
			c.settle(0)
			_, err := c.tryMap(name, map[string]string{"bad": "b"})
			return err
		}
		c.denied(bad("registered"), "denied the request")
		configs := c.AdmissionregistrationV1().ValidatingWebhookConfigurations()
		config.Webhooks[0].Rules[0].Operations = updates
		must(configs.Update(c.ctx, config, metav1.UpdateOptions{}))
		c.ok(bad("updated"))
		must(configs.Patch(c.ctx, "v", types.JSONPatchType, []byte(toCreates), metav1.PatchOptions{}))
		c.denied(bad("patched"), "denied the request")
	})
	first := []admissionregistrationv1.MatchCondition{{Name: "expression-1", Expression: "object.metadata.namespace == 'production'"}}
	second := append(first[:1:1], admissionregistrationv1.MatchCondition{Name: "expression-2", Expression: "object.metadata.namespace == 'staging'"})
	conditions := func(list []admissionregistrationv1.MatchCondition) func(*admissionregistrationv1.MutatingWebhook) {
		return func(h *admissionregistrationv1.MutatingWebhook) { h.MatchConditions = list }
	}
	conform(t, "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update mutating webhook configurations with match conditions [Conformance]", func(c *cluster) {
		configs := c.AdmissionregistrationV1().MutatingWebhookConfigurations()
		stored := func() []admissionregistrationv1.MatchCondition {
			return must(configs.Get(c.ctx, "m", metav1.GetOptions{})).Webhooks[0].MatchConditions
		}
		config := c.registerMutating("m", c.mutating("/x", configMaps, conditions(first)))
		c.want(fmt.Sprint(stored()) == fmt.Sprint(first), "%v", stored())
		config.Webhooks[0].MatchConditions = second
		must(configs.Update(c.ctx, config, metav1.UpdateOptions{}))
		c.want(fmt.Sprint(stored()) == fmt.Sprint(second), "%v", stored())
	})
	conform(t, "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update validating webhook configurations with match conditions [Conformance]", func(c *cluster) {
		configs := c.AdmissionregistrationV1().ValidatingWebhookConfigurations()
		stored := func() []admissionregistrationv1.MatchCondition {
			return must(configs.Get(c.ctx, "v", metav1.GetOptions{})).Webhooks[0].MatchConditions
		}
		config := c.registerValidating("v", c.validating("/x", configMaps, conditions(first)))
		c.want(fmt.Sprint(stored()) == fmt.Sprint(first), "%v", stored())
		config.Webhooks[0].MatchConditions = second
		must(configs.Update(c.ctx, config, metav1.UpdateOptions{}))
		c.want(fmt.Sprint(stored()) == fmt.Sprint(second), "%v", stored())
	})
	conform(t, "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation [Conformance]", func(c *cluster) {
		c.hooks(map[string]hook{"/deny": func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			if q.Name == "hangs" {
				time.Sleep(time.Minute)
			}
			return denyBad(q)
		}})
		c.registerValidating("deny", c.validating("/deny", []string{"pods", "configmaps"}, func(h *admissionregistrationv1.MutatingWebhook) {
			h.Rules[0].Operations = append(h.Rules[0].Operations, updates...)
			h.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "skip", Operator: metav1.LabelSelectorOpDoesNotExist}}}
		}))
		const text = `admission webhook "deny.example.com" denied the request: contains unwanted key`
		pods, maps := c.CoreV1().Pods(ns), c.CoreV1().ConfigMaps(ns)
		pod := func(name string, labels ...string) *corev1.Pod {
			return &corev1.Pod{ObjectMeta: meta(name, labels...), Spec: template(name, "v1").Spec}
		}
		_, err := pods.Create(c.ctx, pod("p", "bad", "x"), metav1.CreateOptions{})
		c.denied(err, text)
		_, err = c.tryMap("m", map[string]string{"bad": "x"})
		c.denied(err, text)
		must(pods.Create(c.ctx, pod("p"), metav1.CreateOptions{}))
		m := must(c.tryMap("m", map[string]string{"good": "x"}))
		m.Data["bad"] = "x"
		_, err = maps.Update(c.ctx, m, metav1.UpdateOptions{})
		c.denied(err, text)
		_, err = maps.Patch(c.ctx, "m", types.StrategicMergePatchType, []byte(`{"data":{"bad":"x"}}`), metav1.PatchOptions{})
		c.denied(err, text)
		_, err = pods.Patch(c.ctx, "p", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"bad":"x"}}}`), metav1.PatchOptions{})
		c.denied(err, text)
		began := time.Now()
		_, err = pods.Create(c.ctx, pod("hangs"), metav1.CreateOptions{})
		c.denied(err, `failed calling webhook "deny.example.com"`, "context deadline exceeded")
		c.want(time.Since(began) == 10*time.Second, "given up after %s, not the 10 s that are the default", time.Since(began))
		must(c.CoreV1().Namespaces().Create(c.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "exempt", Labels: map[string]string{"skip": "yes"}}}, metav1.CreateOptions{}))
		must(c.CoreV1().ConfigMaps("exempt").Create(c.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Data: map[string]string{"bad": "x"}}, metav1.CreateOptions{}))
	})
	conform(t, "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod [Conformance]", func(c *cluster) {
		c.hooks(map[string]hook{"/attach": func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			if q.Kind.Kind != "PodAttachOptions" || q.SubResource != "attach" || q.Name != "to-be-attached-pod" {
				return allow(q)
			}
			return deny("attaching to pod 'to-be-attached-pod' is not allowed")(q)
		}})
		for _, name := range []string{"to-be-attached-pod", "other"} {
			must(c.CoreV1().Pods(ns).Create(c.ctx, &corev1.Pod{ObjectMeta: meta(name, "app", "attach"), Spec: template(name, "v1").Spec}, metav1.CreateOptions{}))
		}
		c.eventually("the pods", func() bool { return c.readyPods("app=attach") == 2 })
		c.registerValidating("attach", c.validating("/attach", []string{"pods/attach"}, func(h *admissionregistrationv1.MutatingWebhook) {
			h.Rules[0].Operations = []admissionregistrationv1.OperationType{admissionregistrationv1.Connect}
		}))
		attach := func(name string) error {
			return c.CoreV1().RESTClient().Post().Namespace(ns).Resource("pods").Name(name).SubResource("attach").Param("stdin", "true").Param("container", "c").Do(c.ctx).Error()
		}
		c.denied(attach("to-be-attached-pod"), "attaching to pod 'to-be-attached-pod' is not allowed")
		err := attach("other")
		c.want(apierrors.IsNotFound(err), "not the agent's answer: %v", err)
	})
	conform(t, "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout [Conformance]", func(c *cluster) {
		c.hooks(map[string]hook{"/slow": after(5*time.Second, allow)})
		try := func(name string, seconds int32, policy admissionregistrationv1.FailurePolicyType) (time.Duration, error) {
			c.registerValidating(name, c.validating("/slow", configMaps, func(h *admissionregistrationv1.MutatingWebhook) {
				h.FailurePolicy = &policy
				if seconds > 0 {
					h.TimeoutSeconds = &seconds
				}
			}))
			began := time.Now()
			_, err := c.tryMap(name, nil)
			took := time.Since(began)
			c.ok(c.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(c.ctx, name, metav1.DeleteOptions{}))
			c.settle(0)
			return took, err
		}
		took, err := try("short-fail", 1, admissionregistrationv1.Fail)
		c.denied(err, `failed calling webhook "slow.example.com"`, "deadline exceeded")
		c.want(apierrors.IsInternalError(err) && took == time.Second, "%v after %s", err, took)
		took, err = try("short-ignore", 1, admissionregistrationv1.Ignore)
		c.want(err == nil && took == time.Second, "%v after %s", err, took)
		took, err = try("long", 10, admissionregistrationv1.Fail)
		c.want(err == nil && took == 5*time.Second, "%v after %s", err, took)
		took, err = try("default", 0, admissionregistrationv1.Fail)
		c.want(err == nil && took == 5*time.Second, "%v after %s", err, took)
	})
}
