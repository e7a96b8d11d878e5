package webhook_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"sagong/apiserver/resource"
	"sagong/object"
)

// widgets is a definition of two versions that differ in their name alone.
const widgets = `
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - {name: v1, served: true, storage: %t, schema: {openAPIV3Schema: {type: object, properties: {data: {type: object, %s}}}}}
  - {name: v2, served: true, storage: %t, schema: {openAPIV3Schema: {type: object, properties: {data: {type: object, %s}}}}}
`

const (
	anything = "x-kubernetes-preserve-unknown-fields: true"
	oneField = "properties: {mutation-start: {type: string}, mutation-stage-1: {type: string}}"
)

// define puts an established definition into service.
func (h *house) define(text string) {
	h.Helper()
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict([]byte(text), d); err != nil {
		h.Fatal(err)
	}
	d.Status.AcceptedNames = d.Spec.Names
	d.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{
		{Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue}, {Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue},
	}
	def := object.Of[*apiextensionsv1.CustomResourceDefinition](h.Scheme())
	if err := h.engine.Seed(context.Background(), def, d); err != nil {
		h.Fatal(err)
	}
	timeout := time.After(time.Minute)
	for {
		changed := h.Scheme().Changed()
		if h.Scheme().ByKind(schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"}) != nil {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			h.Fatal("the definition is not served")
		}
	}
}

func (h *house) widget(version, name string, data map[string]any) (resource.Target, *unstructured.Unstructured) {
	gvk := schema.GroupVersionKind{Group: "example.com", Version: version, Kind: "Widget"}
	u := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": name, "namespace": "ns"}, "data": data}}
	u.SetGroupVersionKind(gvk)
	return resource.Target{Kind: h.engine.Kind(h.Scheme().ByKind(gvk)), Namespace: "ns"}, u
}

func (h *house) createWidget(version, name string, data map[string]any) (*unstructured.Unstructured, error) {
	t, u := h.widget(version, name, data)
	it, err := h.engine.Create(context.Background(), h.caller, t, u, &metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	o, err := it.Object()
	if err != nil {
		h.Fatal(err)
	}
	return o.(*unstructured.Unstructured), nil
}

func onWidgets(versions []string, ops ...admissionregistrationv1.OperationType) admissionregistrationv1.RuleWithOperations {
	return admissionregistrationv1.RuleWithOperations{Operations: ops, Rule: admissionregistrationv1.Rule{APIGroups: []string{"example.com"}, APIVersions: versions, Resources: []string{"widgets"}}}
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom resource creation, update and deletion [Conformance]
func TestShouldBeAbleToDenyCustomResources(t *testing.T) {
	h := newHouse(t)
	h.define(fmt.Sprintf(widgets, true, anything, false, anything))
	h.on("/cr", func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if strings.Contains(string(q.Object.Raw), "unwanted") || strings.Contains(string(q.OldObject.Raw), "undeletable") && q.Operation == admissionv1.Delete {
			return deny("the custom resource contains unwanted data")(q)
		}
		return allow(q)
	})
	h.registerValidating("cr", h.validating("/cr", onWidgets([]string{"v1"}, create, update, remove)))
	const text = "the custom resource contains unwanted data"
	for _, version := range []string{"v1", "v2"} { // a rule for v1 is for v2 as well
		_, err := h.createWidget(version, "bad", map[string]any{"k": "unwanted"})
		wantDenied(t, err, text)
	}
	u, err := h.createWidget("v1", "w", map[string]any{"k": "undeletable"})
	if err != nil {
		t.Fatal(err)
	}
	target, _ := h.widget("v1", "w", nil)
	target.Name = "w"
	changed := u.DeepCopy()
	changed.Object["data"] = map[string]any{"k": "unwanted"}
	_, _, err = h.engine.Update(context.Background(), h.caller, target, changed, &metav1.UpdateOptions{})
	wantDenied(t, err, text)
	_, _, err = h.engine.Delete(context.Background(), h.caller, target, &metav1.DeleteOptions{})
	wantDenied(t, err, text)
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation [Conformance]
func TestShouldDenyCRDCreation(t *testing.T) {
	h := newHouse(t)
	h.on("/crd", func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if strings.Contains(string(q.Object.Raw), `"webhook-e2e-test":"webhook-disallow"`) {
			return deny("the crd contains unwanted label")(q)
		}
		return allow(q)
	})
	r := rule([]string{"customresourcedefinitions"}, create)
	r.APIGroups = []string{"apiextensions.k8s.io"}
	h.registerValidating("crd", h.validating("/crd", r))
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(fmt.Appendf(nil, widgets, true, anything, false, anything), d); err != nil {
		t.Fatal(err)
	}
	d.Labels = map[string]string{"webhook-e2e-test": "webhook-disallow"}
	_, err := h.try(d)
	wantDenied(t, err, "the crd contains unwanted label")
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource [Conformance]
// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning [Conformance]
func TestShouldMutateCustomResource(t *testing.T) {
	for name, data := range map[string]string{"whole": anything, "pruned": oneField} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.define(fmt.Sprintf(widgets, true, data, false, data))
			h.on("/one", patchWith(`[{"op":"add","path":"/data/mutation-stage-1","value":"yes"}]`))
			h.on("/two", patchWith(`[{"op":"add","path":"/data/mutation-stage-2","value":"yes"}]`))
			r := onWidgets([]string{"v1"}, create)
			h.registerMutating("m", h.mutating("/one", r), h.mutating("/two", r))
			u, err := h.createWidget("v1", "w", map[string]any{"mutation-start": "yes"})
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(u.Object["data"])
			want := "map[mutation-stage-1:yes mutation-stage-2:yes mutation-start:yes]"
			if name == "pruned" {
				want = "map[mutation-stage-1:yes mutation-start:yes]"
			}
			if got != want {
				t.Errorf("data %s, want %s", got, want)
			}
		})
	}
}

// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with different stored version [Conformance]
func TestShouldMutateCustomResourceWithDifferentStoredVersion(t *testing.T) {
	h := newHouse(t)
	h.define(fmt.Sprintf(widgets, true, anything, false, anything))
	if _, err := h.createWidget("v1", "w", map[string]any{"mutation-start": "yes"}); err != nil {
		t.Fatal(err)
	}
	// From now on objects are stored as v2; this one still lies as v1.
	def := object.Of[*apiextensionsv1.CustomResourceDefinition](h.Scheme())
	crds := resource.Target{Kind: h.engine.Kind(def), Name: "widgets.example.com"}
	changed := h.Scheme().Changed()
	_, _, err := h.engine.Patch(context.Background(), h.caller, crds, resource.Patch{Type: types.JSONPatchType, Data: []byte(
		`[{"op":"replace","path":"/spec/versions/0/storage","value":false},{"op":"replace","path":"/spec/versions/1/storage","value":true}]`)}, &metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-changed
	h.on("/m", func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if q.Kind.Version != "v2" || !strings.Contains(string(q.Object.Raw), `"apiVersion":"example.com/v2"`) || !strings.Contains(string(q.OldObject.Raw), `"apiVersion":"example.com/v2"`) {
			return deny(fmt.Sprintf("asked in %s about %s", q.Kind.Version, q.Object.Raw))(q)
		}
		return patchWith(`[{"op":"add","path":"/data/mutation-stage-1","value":"yes"}]`)(q)
	})
	h.registerMutating("m", h.mutating("/m", onWidgets([]string{"v2"}, create, update)))
	target, _ := h.widget("v1", "w", nil)
	target.Name = "w"
	it, _, err := h.engine.Patch(context.Background(), h.caller, target, resource.Patch{Type: types.MergePatchType, Data: []byte(`{"data":{"new":"field"}}`)}, &metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := it.Object()
	if err != nil {
		t.Fatal(err)
	}
	u := o.(*unstructured.Unstructured)
	if got := fmt.Sprint(u.GetAPIVersion(), u.Object["data"]); got != "example.com/v1map[mutation-stage-1:yes mutation-start:yes new:field]" {
		t.Errorf("object %s", got)
	}
}

// A rule for a version that is listed but not served is for those that are: the
// webhook is asked in it, and what it says gets that version's defaults.
func TestRuleForUnservedVersion(t *testing.T) {
	h := newHouse(t)
	h.define(`
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v0
    served: false
    storage: false
    schema: {openAPIV3Schema: {type: object, properties: {data: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {old: {type: string, default: yes-old}}}}}}
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {data: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}}
`)
	h.on("/m", func(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if q.Kind.Version != "v0" || q.Resource.Version != "v0" || q.RequestKind.Version != "v1" || q.RequestResource.Version != "v1" || !strings.Contains(string(q.Object.Raw), `"apiVersion":"example.com/v0"`) {
			return deny(fmt.Sprintf("asked in %s about %s", q.Kind.Version, q.Object.Raw))(q)
		}
		return patchWith(`[{"op":"add","path":"/data/b","value":"c"}]`)(q)
	})
	h.on("/exact", deny("asked about a version it does not name"))
	exact := admissionregistrationv1.Exact
	h.registerMutating("m", h.mutating("/m", onWidgets([]string{"v0"}, create)),
		h.mutating("/exact", onWidgets([]string{"v0"}, create), func(w *admissionregistrationv1.MutatingWebhook) { w.MatchPolicy = &exact }))
	u, err := h.createWidget("v1", "w", map[string]any{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(u.GetAPIVersion(), u.Object["data"]); got != "example.com/v1map[a:b b:c old:yes-old]" {
		t.Errorf("object %s", got)
	}
}
