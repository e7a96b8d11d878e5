package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

func (c *cluster) objects(r schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return must(dynamic.NewForConfig(c.config)).Resource(r)
}

func parse(text string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		panic(err)
	}
	return u
}

// get reads a path into out.
func (c *cluster) read(path string, out any) {
	c.Helper()
	b, err := c.CoreV1().RESTClient().Get().AbsPath(path).DoRaw(c.ctx)
	c.ok(err)
	c.ok(yaml.Unmarshal(b, out))
}

// inDiscovery demands resources, and parts of them, in the three documents.
func (c *cluster) inDiscovery(gv schema.GroupVersion, resources ...string) {
	c.Helper()
	var groups metav1.APIGroupList
	c.read("/apis", &groups)
	i := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == gv.Group })
	c.want(i >= 0, "%s is not in /apis", gv.Group)
	has := func(g metav1.APIGroup) bool {
		return slices.Contains(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version})
	}
	c.want(has(groups.Groups[i]), "%s is not in /apis", gv)
	var group metav1.APIGroup
	c.read("/apis/"+gv.Group, &group)
	c.want(has(group), "%s is not in /apis/%s", gv, gv.Group)
	var list metav1.APIResourceList
	c.read("/apis/"+gv.String(), &list)
	for _, name := range resources {
		c.want(slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == name }), "%s is not in /apis/%s", name, gv)
	}
}

// event reads the next event of a watch, which must be there.
func (c *cluster) event(w watch.Interface) (watch.EventType, *unstructured.Unstructured) {
	c.Helper()
	synctest.Wait()
	select {
	case e := <-w.ResultChan():
		u, ok := e.Object.(*unstructured.Unstructured)
		c.want(ok, "%s %T", e.Type, e.Object)
		return e.Type, u
	default:
		c.Fatal("no event")
		return "", nil
	}
}

// until reads events of a watch until one is as wanted.
func (c *cluster) until(w watch.Interface, sort watch.EventType, name string, is func(*unstructured.Unstructured) bool) {
	c.Helper()
	for {
		t, u := c.event(w)
		if t == sort && u.GetName() == name && is(u) {
			return
		}
	}
}

func annotated(key string) func(*unstructured.Unstructured) bool {
	return func(u *unstructured.Unstructured) bool { return u.GetAnnotations()[key] == "true" }
}

func whatever(*unstructured.Unstructured) bool { return true }

// operations demands of a resource all that the suite's tests of "API operations"
// do. text is one of its objects, called NAME; parts are its subresources with
// the status that is written through them.
func (c *cluster) operations(r schema.GroupVersionResource, text string, parts map[string]map[string]any) {
	c.Helper()
	all := c.objects(r)
	names := []string{r.Resource}
	for p := range parts {
		names = append(names, r.Resource+"/"+p)
	}
	c.inDiscovery(r.GroupVersion(), names...)
	set := metav1.ListOptions{LabelSelector: "special-label=" + ns}
	create := func(name string) *unstructured.Unstructured {
		u := parse(strings.Replace(text, "NAME", name, 1))
		u.SetLabels(map[string]string{"special-label": ns})
		return must(all.Create(c.ctx, u, metav1.CreateOptions{}))
	}
	one := create("one")
	c.want(one.GetUID() != "" && one.GetCreationTimestamp().Time.Equal(time.Now().Truncate(time.Second)), "%v", one)
	_, err := all.Create(c.ctx, parse(strings.Replace(text, "NAME", "one", 1)), metav1.CreateOptions{})
	c.want(apierrors.IsAlreadyExists(err), "a second of that name: %v", err)
	got := must(all.Get(c.ctx, "one", metav1.GetOptions{}))
	c.want(got.GetUID() == one.GetUID(), "uid %s, created as %s", got.GetUID(), one.GetUID())
	create("two")
	create("three")
	list := must(all.List(c.ctx, set))
	c.want(len(list.Items) == 3, "%d are listed", len(list.Items))
	w := must(all.Watch(c.ctx, metav1.ListOptions{LabelSelector: set.LabelSelector, ResourceVersion: list.GetResourceVersion()}))
	defer w.Stop()
	patched := must(all.Patch(c.ctx, "one", types.MergePatchType, []byte(`{"metadata":{"annotations":{"patched":"true"}}}`), metav1.PatchOptions{}))
	c.want(annotated("patched")(patched), "annotations %v", patched.GetAnnotations())
	c.until(w, watch.Modified, "one", annotated("patched"))
	update := func(change func(*unstructured.Unstructured), parts ...string) *unstructured.Unstructured {
		synctest.Wait() // a controller may have a word
		u := must(all.Get(c.ctx, "one", metav1.GetOptions{}))
		change(u)
		return must(all.Update(c.ctx, u, metav1.UpdateOptions{}, parts...))
	}
	updated := update(func(u *unstructured.Unstructured) {
		u.SetAnnotations(map[string]string{"patched": "true", "updated": "true"})
	})
	c.want(annotated("updated")(updated), "annotations %v", updated.GetAnnotations())
	c.until(w, watch.Modified, "one", annotated("updated"))
	for part, status := range parts {
		got := must(all.Get(c.ctx, "one", metav1.GetOptions{}, part))
		c.want(got.GetUID() == one.GetUID(), "%s: %v", part, got)
		has := func(u *unstructured.Unstructured, reason string) bool {
			conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
			return slices.ContainsFunc(conditions, func(x any) bool { return x.(map[string]any)["reason"] == reason })
		}
		condition := func(sort, reason string) map[string]any {
			x := map[string]any{"type": sort, "status": "True", "reason": reason, "message": "Set from " + part, "lastTransitionTime": "2020-01-01T00:00:00Z"}
			for k, v := range status {
				x[k] = v
			}
			return x
		}
		body := &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{"patched-" + part: "true"}},
			"status":   map[string]any{"conditions": []any{condition("Patched", "Patched"+part)}},
		}}
		patched := must(all.Patch(c.ctx, "one", types.MergePatchType, must(body.MarshalJSON()), metav1.PatchOptions{}, part))
		c.want(has(patched, "Patched"+part) && patched.GetAnnotations()["updated"] == "true", "%s patched: %v", part, patched)
		updated := update(func(u *unstructured.Unstructured) {
			conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
			c.ok(unstructured.SetNestedSlice(u.Object, append(conditions, condition("Updated", "Updated"+part)), "status", "conditions"))
		}, part)
		c.want(has(updated, "Updated"+part) && has(updated, "Patched"+part), "%s updated: %v", part, updated)
	}
	c.ok(all.Delete(c.ctx, "one", metav1.DeleteOptions{}))
	c.until(w, watch.Deleted, "one", whatever)
	_, err = all.Get(c.ctx, "one", metav1.GetOptions{})
	c.want(apierrors.IsNotFound(err), "%v", err)
	c.want(len(must(all.List(c.ctx, set)).Items) == 2, "one is still listed")
	c.ok(all.DeleteCollection(c.ctx, metav1.DeleteOptions{}, set))
	for range 2 {
		t, _ := c.event(w)
		for t == watch.Modified {
			t, _ = c.event(w)
		}
		c.want(t == watch.Deleted, "%s", t)
	}
	c.want(len(must(all.List(c.ctx, set)).Items) == 0, "some are still listed")
}

func TestFlowControl(t *testing.T) {
	gv := schema.GroupVersion{Group: "flowcontrol.apiserver.k8s.io", Version: "v1"}
	status := map[string]map[string]any{"status": {}}
	conform(t, "[sig-api-machinery] API priority and fairness should support FlowSchema API operations [Conformance]", func(c *cluster) {
		c.operations(gv.WithResource("flowschemas"), `
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: NAME}
spec:
  matchingPrecedence: 10000
  priorityLevelConfiguration: {name: global-default}
  distinguisherMethod: {type: ByUser}
  rules:
  - subjects: [{kind: User, user: {name: example-e2e-non-existent-user}}]
    nonResourceRules: [{verbs: ["*"], nonResourceURLs: ["*"]}]
`, status)
	})
	conform(t, "[sig-api-machinery] API priority and fairness should support PriorityLevelConfiguration API operations [Conformance]", func(c *cluster) {
		c.operations(gv.WithResource("prioritylevelconfigurations"), `
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: NAME}
spec: {type: Limited, limited: {nominalConcurrencyShares: 2, limitResponse: {type: Reject}}}
`, status)
	})
}

func TestAdmissionPolicyOperations(t *testing.T) {
	gv := schema.GroupVersion{Group: "admissionregistration.k8s.io", Version: "v1"}
	const head = "apiVersion: admissionregistration.k8s.io/v1\nmetadata: {name: NAME}\n"
	const constraints = "matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]}"
	conform(t, "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations [Conformance]", func(c *cluster) {
		c.operations(gv.WithResource("validatingadmissionpolicies"), head+"kind: ValidatingAdmissionPolicy\nspec:\n  "+constraints+
			"\n  validations: [{expression: object.spec.replicas <= 100}]\n", map[string]map[string]any{"status": {}})
	})
	conform(t, "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicyBinding API operations [Conformance]", func(c *cluster) {
		c.operations(gv.WithResource("validatingadmissionpolicybindings"), head+"kind: ValidatingAdmissionPolicyBinding\nspec: {policyName: nobody, validationActions: [Deny]}\n", nil)
	})
	conform(t, "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicy API operations [Conformance]", func(c *cluster) {
		c.operations(gv.WithResource("mutatingadmissionpolicies"), head+"kind: MutatingAdmissionPolicy\nspec:\n  "+constraints+
			"\n  reinvocationPolicy: Never\n  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{spec: Object.spec{replicas: 5}}'}}]\n", nil)
	})
	conform(t, "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicyBinding API operations [Conformance]", func(c *cluster) {
		c.operations(gv.WithResource("mutatingadmissionpolicybindings"), head+"kind: MutatingAdmissionPolicyBinding\nspec: {policyName: nobody}\n", nil)
	})
	conform(t, "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents [Conformance]", func(c *cluster) {
		c.inDiscovery(gv, "mutatingwebhookconfigurations", "validatingwebhookconfigurations")
	})
}

func TestCertificates(t *testing.T) {
	conform(t, "[sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations [Conformance]", func(c *cluster) {
		key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		der := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "e2e-example"}}, key))
		request := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
		requests := schema.GroupVersionResource{Group: "certificates.k8s.io", Version: "v1", Resource: "certificatesigningrequests"}
		c.operations(requests, fmt.Sprintf(`
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: NAME}
spec: {request: %s, signerName: example.com/e2e, expirationSeconds: 3600, usages: [digital signature, key encipherment, server auth]}
`, request), map[string]map[string]any{"approval": {}, "status": {}})
	})
}
