package policy_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"sagong/apiserver/resource"
)

// What these tests want is what Kubernetes 1.37 answered when asked the same.

func about(name, group, res, ops, spec string) string {
	return "metadata: {name: " + name + "}\nspec:\n  matchConstraints:\n    resourceRules:\n    - {apiGroups: ['" + group + "'], apiVersions: [v1], resources: [" + res + "], operations: [" + ops + "]}\n" + spec
}

// A kind of params that is not served is the policy's fault, before its bindings
// are looked at; one that has no objects at all the binding's.
func TestParamKindsThatAreNotThere(t *testing.T) {
	const lost = `deployments.apps "d" is forbidden: ValidatingAdmissionPolicy 'lost' denied request: failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Limit'`
	const kind = "\n  paramKind: {apiVersion: example.com/v1, kind: Limit}\n"
	for _, rest := range []string{
		"  validationActions: [Deny]",
		"  validationActions: [Warn]",
		"  validationActions: [Deny]\n  matchResources: {objectSelector: {matchLabels: {no: match}}}",
	} {
		h := newHouse(t)
		h.policy(validating("lost", kind+"  validations: [{expression: 'true'}]\n"))
		h.binding(bind("b", "lost", rest))
		_, err := h.try(deployment("d", 1))
		wantDenied(t, err, 422, lost)
	}
	h := newHouse(t)
	h.policy(validating("ignored", "\n  failurePolicy: Ignore"+kind+"  validations: [{expression: 'false'}]\n"))
	h.binding(bind("b", "ignored", "  validationActions: [Deny]"))
	h.create(deployment("d", 1))
	h.mutation(validating("lost", never+kind+"  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{}'}}]\n"))
	h.mutationBinding(bind("b", "lost", ""))
	_, err := h.try(deployment("e", 1))
	wantDenied(t, err, 403, `policy "lost" denied request: failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Limit'`)

	h = newHouse(t)
	h.policy(validating("virtual", "\n  paramKind: {apiVersion: authorization.k8s.io/v1, kind: SubjectAccessReview}\n  validations: [{expression: 'true'}]\n"))
	h.binding(bind("b", "virtual", "  validationActions: [Deny]\n  paramRef: {name: x, parameterNotFoundAction: Deny}"))
	_, err = h.try(deployment("d", 1))
	wantDenied(t, err, 422, `deployments.apps "d" is forbidden: ValidatingAdmissionPolicy 'virtual' with binding 'b' denied request: failed to configure binding: paramKind kind `+"`&ParamKind{APIVersion:authorization.k8s.io/v1,Kind:SubjectAccessReview,}`"+` not yet synced to use for admission`)
}

// Match conditions see the requested resource, validations the matched one.
func TestResourceThatConditionsSee(t *testing.T) {
	h := newHouse(t)
	h.policy(about("v", "autoscaling", "horizontalpodautoscalers", "CREATE", `
  matchConditions: [{name: m, expression: "request.resource.version == 'v2' && request.kind.version == 'v1' && object.apiVersion == 'autoscaling/v1'"}]
  validations: [{expression: "false", messageExpression: "request.resource.version + request.kind.version + request.requestResource.version"}]
`))
	h.binding(bind("b", "v", "  validationActions: [Deny]"))
	a := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 2, ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "d", APIVersion: "apps/v1"}}}
	_, err := h.try(a)
	wantDenied(t, err, 422, `horizontalpodautoscalers.autoscaling "a" is forbidden: ValidatingAdmissionPolicy 'v' with binding 'b' denied request: v1v1v2`)
}

// Annotations may declare the authorizer, and cannot use it.
func TestAnnotationsHaveNoAuthorizer(t *testing.T) {
	h := newHouse(t)
	const e = "string(authorizer.group('').resource('pods').check('get').allowed())"
	h.policy(validating("a", `
  auditAnnotations: [{key: k, valueExpression: "`+e+`"}]
`))
	h.binding(bind("b", "a", "  validationActions: [Warn]"))
	_, err := h.try(deployment("d", 1))
	wantDenied(t, err, 422, `deployments.apps "d" is forbidden: ValidatingAdmissionPolicy 'a' with binding 'b' denied request: expression '`+e+`' resulted in error: no such attribute(s): authorizer`)
}

// Policies judge the configuration of webhooks, but not that of policies.
func TestWebhookConfigurationsAreJudged(t *testing.T) {
	h := newHouse(t)
	h.policy(about("w", "*", "'*'", "CREATE", "  validations: [{expression: 'false', message: 'no'}]\n"))
	h.binding(bind("b", "w", "  validationActions: [Deny]"))
	_, err := h.try(&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
	wantDenied(t, err, 422, `validatingwebhookconfigurations.admissionregistration.k8s.io "x" is forbidden: ValidatingAdmissionPolicy 'w' with binding 'b' denied request: no`)
	h.binding(bind("c", "w", "  validationActions: [Deny]"))
}

// What is deleted with a collection has no name that the request gave.
func TestDeletionOfACollection(t *testing.T) {
	h := newHouse(t)
	h.policy(about("d", "", "configmaps", "DELETE", `
  validations: [{expression: "has(request.name)", messageExpression: "oldObject.metadata.name == 'c' ? 'unnamed' : '-'"}]
`))
	h.binding(bind("b", "d", "  validationActions: [Deny]"))
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}}
	h.create(c)
	t1 := h.target(c)
	t1.Name = ""
	_, err := h.engine.DeleteCollection(context.Background(), h.caller, t1, &metav1.DeleteOptions{}, resource.ListOptions{})
	wantDenied(t, err, 422, `configmaps "Unknown" is forbidden: ValidatingAdmissionPolicy 'd' with binding 'b' denied request: unnamed`)
	if _, _, err := h.engine.Delete(context.Background(), h.caller, h.target(c), &metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

// A Scale is judged as a Scale, and the object it changes is not.
func TestScaleIsJudgedOnce(t *testing.T) {
	h := newHouse(t)
	h.create(deployment("d", 1))
	h.policy(about("s", "apps", "deployments", "'*'", "  validations: [{expression: 'false', message: 'no'}]\n"))
	h.binding(bind("b", "s", "  validationActions: [Deny]"))
	target := h.target(deployment("d", 1))
	target.Subresource = "scale"
	scale := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "d"}, Spec: autoscalingv1.ScaleSpec{Replicas: 3}}
	handler, _ := h.engine.Handler(target)
	if _, err := handler.Update(context.Background(), h.caller, target, scale, &metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
}

// Mutations that want to be asked again are, after their own patches too, and
// even when these changed nothing.
func TestMutationsAreAskedAgainAfterThemselves(t *testing.T) {
	h := newHouse(t)
	h.mutation(validating("again", `  reinvocationPolicy: IfNeeded
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >
        [JSONPatch{op: "add", path: "/spec/replicas", value: object.spec.replicas + 1}]
`))
	h.mutationBinding(bind("b", "again", ""))
	if d := h.create(deployment("d", 1)); !strings.Contains(specOf(t, d), `"replicas":3`) {
		t.Error(specOf(t, d))
	}
}

// Native params of mutations do not say what they are.
func TestParamsOfMutations(t *testing.T) {
	h := newHouse(t)
	h.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Data: map[string]string{"k": "v"}})
	h.mutation(validating("p", never+`
  paramKind: {apiVersion: v1, kind: ConfigMap}
  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{metadata: Object.metadata{labels: {"k": string(params.kind)}}}'}}]
`))
	h.mutationBinding(bind("b", "p", "  paramRef: {name: p, parameterNotFoundAction: Deny}"))
	_, err := h.try(deployment("d", 1))
	wantDenied(t, err, 403, `policy 'p' with binding 'b' denied request: expression 'Object{metadata: Object.metadata{labels: {"k": string(params.kind)}}}' resulted in error: no such key: kind`)
}

// Kinds that client-go does not know are patched as all others.
func TestPatchesOfDefinitions(t *testing.T) {
	for patch, want := range map[string]string{
		`{op: "add", path: "/spec/names/shortNames", value: ["zz"]}`: "",
		`{op: "add", path: "/spec/names/shortNames", value: "zz"}`:   `Internal error occurred: json: cannot unmarshal string into Go struct field CustomResourceDefinitionNames.spec.names.shortNames of type []string`,
		`{op: "add", path: "/spec/zzz", value: "zz"}`:                `Internal error occurred: strict decoding error: unknown field "spec.zzz"`,
	} {
		h := newHouse(t)
		h.mutation(about("c", "apiextensions.k8s.io", "customresourcedefinitions", "CREATE", never+"  mutations: [{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch"+patch+"]'}}]\n"))
		h.mutationBinding(bind("b", "c", ""))
		out, err := h.try(&apiextensionsv1.CustomResourceDefinition{
			ObjectMeta: metav1.ObjectMeta{Name: "as.example.com"},
			Spec: apiextensionsv1.CustomResourceDefinitionSpec{
				Group: "example.com", Scope: apiextensionsv1.NamespaceScoped, Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "as", Kind: "A"},
				Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}}}},
			},
		})
		switch {
		case want != "":
			wantDenied(t, err, 500, want)
		case err != nil:
			t.Error(err)
		case out.(*apiextensionsv1.CustomResourceDefinition).Spec.Names.ShortNames[0] != "zz":
			t.Errorf("%+v", out)
		}
	}
}

// An object gets its uid when it has been changed by others, and cannot be moved.
func TestWhatMutationsSee(t *testing.T) {
	h := newHouse(t)
	h.mutation(validating("m", never+`
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: 'Object{metadata: Object.metadata{labels: {"uid": string(has(object.metadata.uid)), "time": string(has(object.metadata.creationTimestamp))}}}'}
`))
	h.mutationBinding(bind("b", "m", ""))
	if d := h.create(deployment("d", 1)); d.GetLabels()["uid"] != "false" || d.GetUID() == "" {
		t.Errorf("labels %v, uid %q", d.GetLabels(), d.GetUID())
	}
	h.mutation(validating("n", never+`
  mutations: [{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{op: "replace", path: "/metadata/namespace", value: "other"}]'}}]
`))
	h.mutationBinding(bind("n", "n", ""))
	_, err := h.try(deployment("e", 1))
	wantDenied(t, err, 400, "the namespace of the provided object does not match the namespace sent on the request")
}

func specOf(t *testing.T, o any) string {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A policy about events of one group is for those of the other, which it sees as
// its own; the refusal names what was requested.
func TestEquivalentGroups(t *testing.T) {
	h := newHouse(t)
	h.policy(about("p", "", "events", "CREATE", "  validations: [{expression: \"object.apiVersion == 'v1' && object.message == 'm' && request.kind.group == '' && request.requestKind.group == 'events.k8s.io' && object.reason != 'bad'\"}]\n"))
	h.binding(bind("b", "p", "  validationActions: [Deny]"))
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "good"}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "p"},
		Message: "m", Reason: "good", Action: "a", Type: "Normal", EventTime: metav1.NowMicro(), ReportingController: "example.com/c", ReportingInstance: "i",
	}
	at := h.target(e)
	at.Name, at.Version = "", at.Codec.Version(schema.GroupVersion{Group: "events.k8s.io", Version: "v1"})
	if _, err := h.engine.Create(t.Context(), h.caller, at, e.DeepCopy(), &metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	e.Name, e.Reason = "bad", "bad"
	_, err := h.engine.Create(t.Context(), h.caller, at, e.DeepCopy(), &metav1.CreateOptions{})
	if err == nil || !strings.HasPrefix(err.Error(), `events.events.k8s.io "bad" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: `) {
		t.Errorf("err = %v", err)
	}
}
