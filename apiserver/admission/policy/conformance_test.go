package policy_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
		},
	}
}

const onDeployments = `
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], resources: [deployments], operations: [CREATE, UPDATE]}
`

func validating(name, spec string) string {
	return "metadata: {name: " + name + "}\nspec:" + onDeployments + spec
}

func bind(name, policy, rest string) string {
	return fmt.Sprintf("metadata: {name: %s}\nspec:\n  policyName: %s\n%s", name, policy, rest)
}

func wantDenied(t *testing.T, err error, code int32, text string) {
	t.Helper()
	s, ok := err.(apierrors.APIStatus)
	if !ok || s.Status().Code != code || s.Status().Message != text {
		t.Errorf("error %v, want %d %s", err, code, text)
	}
}

// conformance: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate against a Deployment [Conformance]
func TestShouldValidateAgainstADeployment(t *testing.T) {
	h := newHouse(t)
	h.policy(validating("replicas", `
  validations:
  - expression: "object.spec.replicas > 1"
    messageExpression: "'wants replicas > 1, got ' + string(object.spec.replicas)"
  - expression: "namespaceObject.metadata.name == 'ns' && request.operation == 'CREATE' && object.kind == 'Deployment' && !has(object.status.replicas)"
    message: " the request is not as it should be "
`))
	if _, err := h.try(deployment("unbound", 1)); err != nil {
		t.Errorf("a policy without binding: %v", err)
	}
	h.binding(bind("b", "replicas", "  validationActions: [Deny]"))
	_, err := h.try(deployment("d", 1))
	wantDenied(t, err, 422, `deployments.apps "d" is forbidden: ValidatingAdmissionPolicy 'replicas' with binding 'b' denied request: wants replicas > 1, got 1`)
	if s := err.(apierrors.APIStatus).Status(); s.Reason != metav1.StatusReasonInvalid || len(s.Details.Causes) != 1 {
		t.Errorf("status %+v", s)
	}
	d := h.create(deployment("d", 2)).DeepCopyObject().(*appsv1.Deployment)
	three := int32(3)
	d.Spec.Replicas = &three
	_, _, err = h.engine.Update(context.Background(), h.caller, h.target(d), d, &metav1.UpdateOptions{})
	wantDenied(t, err, 422, `deployments.apps "d" is forbidden: ValidatingAdmissionPolicy 'replicas' with binding 'b' denied request: the request is not as it should be`)
}

// conformance: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer variables. [Conformance]
func TestShouldAllowExpressionsToReferVariables(t *testing.T) {
	h := newHouse(t)
	h.policy(validating("even", `
  variables:
  - {name: replicas, expression: object.spec.replicas}
  - {name: oddReplicas, expression: "variables.replicas % 2 == 1"}
  validations:
  - {expression: variables.replicas > 1, reason: Forbidden}
  - {expression: variables.oddReplicas}
`))
	h.binding(bind("b", "even", "  validationActions: [Deny]"))
	_, err := h.try(deployment("d", 1))
	wantDenied(t, err, 403, `deployments.apps "d" is forbidden: ValidatingAdmissionPolicy 'even' with binding 'b' denied request: failed expression: variables.replicas > 1`)
	_, err = h.try(deployment("d", 2))
	wantDenied(t, err, 422, `deployments.apps "d" is forbidden: ValidatingAdmissionPolicy 'even' with binding 'b' denied request: failed expression: variables.oddReplicas`)
	h.create(deployment("d", 3))
}

func TestParams(t *testing.T) {
	h := newHouse(t)
	h.policy(validating("limit", `
  paramKind: {apiVersion: v1, kind: ConfigMap}
  validations:
  - expression: "params != null && params.kind == 'ConfigMap' && object.spec.replicas <= int(params.data.most)"
    messageExpression: "'at most ' + params.data.most + ' by ' + params.metadata.name"
`))
	h.binding(bind("named", "limit", "  validationActions: [Deny]\n  paramRef: {name: most, parameterNotFoundAction: Deny}"))
	_, err := h.try(deployment("d", 1))
	wantDenied(t, err, 422, `deployments.apps "d" is forbidden: ValidatingAdmissionPolicy 'limit' with binding 'named' denied request: failed to configure binding: no params found for policy binding with `+"`Deny` parameterNotFoundAction")
	config := func(name, most string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{"limit": "yes"}}, Data: map[string]string{"most": most}}
	}
	h.create(config("most", "3"))
	h.create(deployment("d", 3))
	_, err = h.try(deployment("e", 4))
	wantDenied(t, err, 422, `deployments.apps "e" is forbidden: ValidatingAdmissionPolicy 'limit' with binding 'named' denied request: at most 3 by most`)
	h.create(config("tight", "1"))
	h.binding(bind("selected", "limit", "  validationActions: [Deny]\n  paramRef: {selector: {matchLabels: {limit: 'yes'}}, namespace: ns, parameterNotFoundAction: Allow}"))
	_, err = h.try(deployment("e", 2))
	wantDenied(t, err, 422, `deployments.apps "e" is forbidden: ValidatingAdmissionPolicy 'limit' with binding 'selected' denied request: at most 1 by tight`)

	h.policy(validating("lost", `
  paramKind: {apiVersion: example.com/v1, kind: Limit}
  validations: [{expression: "true"}]
`))
	h.binding(bind("lost", "lost", "  validationActions: [Deny]\n  paramRef: {name: x, parameterNotFoundAction: Allow}"))
	_, err = h.try(deployment("e", 1))
	wantDenied(t, err, 422, `deployments.apps "e" is forbidden: ValidatingAdmissionPolicy 'lost' denied request: failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Limit'`)
}

func TestActionsAndAnnotations(t *testing.T) {
	h := newHouse(t)
	h.policy(validating("says", `
  matchConditions: [{name: not-exempt, expression: "object.metadata.name != 'exempt'"}]
  validations: [{expression: object.spec.replicas > 1, message: too few}]
  auditAnnotations:
  - {key: count, valueExpression: "'replicas ' + string(object.spec.replicas)"}
  - {key: none, valueExpression: "object.spec.replicas > 1 ? 'many' : ' '"}
`))
	h.binding(bind("b", "says", "  validationActions: [Warn, Audit]"))
	h.create(deployment("exempt", 1))
	if len(h.warnings)+len(h.notes) != 0 {
		t.Errorf("an excluded write: %v %v", h.warnings, h.notes)
	}
	h.create(deployment("d", 1))
	if want := "Validation failed for ValidatingAdmissionPolicy 'says' with binding 'b': too few"; len(h.warnings) != 1 || h.warnings[0] != want {
		t.Errorf("warnings %q", h.warnings)
	}
	if h.notes["says/count"] != "replicas 1" || len(h.notes) != 2 ||
		h.notes["validation.policy.admission.k8s.io/validation_failure"] != `[{"message":"too few","policy":"says","binding":"b","expressionIndex":0,"validationActions":["Warn","Audit"]}]` {
		t.Errorf("annotations %v", h.notes)
	}
}

func TestFailurePolicyAndCost(t *testing.T) {
	h := newHouse(t)
	h.policy(validating("breaks", `
  validations: [{expression: "object.spec.template.metadata.labels['absent'] == 'x'"}]
`))
	h.binding(bind("b", "breaks", "  validationActions: [Deny]\n  matchResources: {namespaceSelector: {matchLabels: {team: a}}}"))
	_, err := h.try(deployment("d", 1))
	wantDenied(t, err, 422, `deployments.apps "d" is forbidden: ValidatingAdmissionPolicy 'breaks' with binding 'b' denied request: expression 'object.spec.template.metadata.labels['absent'] == 'x'' resulted in error: no such key: absent`)
	h.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
	d := deployment("d", 1)
	d.Namespace = "other"
	h.create(d)

	h = newHouse(t)
	h.policy(validating("ignored", `
  failurePolicy: Ignore
  validations: [{expression: "object.spec.template.metadata.labels['absent'] == 'x'"}]
`))
	h.binding(bind("b", "ignored", "  validationActions: [Deny]"))
	h.create(deployment("d", 1))

	h = newHouse(t)
	long := "[" + strings.TrimSuffix(strings.Repeat("1,", 100), ",") + "]"
	h.policy(validating("costly", `
  variables: [{name: l, expression: "`+long+`"}]
  validations: [{expression: "variables.l.all(a, variables.l.all(b, variables.l.all(c, variables.l.all(d, a+b+c+d > 0))))"}]
`))
	h.binding(bind("b", "costly", "  validationActions: [Deny]"))
	_, err = h.try(deployment("d", 1))
	if err == nil || !strings.Contains(err.Error(), "cost") {
		t.Errorf("an expression without end: %v", err)
	}

	// No cost limit knows how long these take.
	h = newHouse(t)
	h.policy(validating("huge", `
  validations: [{expression: "!isQuantity(object.metadata.labels['size']) && quantity('1e' + object.metadata.labels['size']).isLessThan(quantity('1'))"}]
`))
	h.binding(bind("b", "huge", "  validationActions: [Deny]"))
	d = deployment("d", 1)
	d.Labels = map[string]string{"size": "1e1000000000"}
	if _, err = h.try(d); err == nil || !strings.Contains(err.Error(), "unable to parse quantity's suffix") {
		t.Errorf("a quantity without end: %v", err)
	}
}

func TestAuthorizerAndExclusions(t *testing.T) {
	h := newHouse(t)
	h.policy(`
metadata: {name: asks}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: ["*"], apiVersions: ["*"], resources: ["*"], operations: ["*"]}]
    excludeResourceRules: [{apiGroups: [""], apiVersions: [v1], resources: [configmaps], resourceNames: [free], operations: ["*"]}]
  validations:
  - {expression: "authorizer.requestResource.check('delete').allowed() || request.userInfo.username == 'jane'"}
  - {expression: "authorizer.group('').resource('secrets').namespace('ns').check('get').allowed()", message: you may not read secrets}
`)
	h.binding(bind("b", "asks", "  validationActions: [Deny]"))
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}}
	h.create(c)
	h.caller.User = userNamed("joe")
	_, err := h.try(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "d"}})
	if err == nil || !strings.Contains(err.Error(), "denied request: failed expression: authorizer.requestResource") {
		t.Errorf("err %v", err)
	}
	if _, err := h.try(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "free"}}); err != nil {
		t.Error(err)
	}
	if _, _, err := h.engine.Delete(context.Background(), h.caller, h.target(c), &metav1.DeleteOptions{}); err == nil {
		t.Error("a deletion was not judged")
	}
}

const never = "  reinvocationPolicy: Never\n"

// conformance: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment [Conformance]
func TestShouldMutateADeployment(t *testing.T) {
	h := newHouse(t)
	h.mutation(validating("scale", never+`
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >
        Object{spec: Object.spec{replicas: object.spec.replicas + 5, template: Object.spec.template{spec: Object.spec.template.spec{
          containers: [Object.spec.template.spec.containers{name: "added", image: "x"}]}}}}
`))
	h.mutationBinding(bind("b", "scale", ""))
	d := h.create(deployment("d", 1)).(*appsv1.Deployment)
	if *d.Spec.Replicas != 6 || len(d.Spec.Template.Spec.Containers) != 2 || d.Spec.Template.Spec.Containers[1].ImagePullPolicy == "" {
		t.Errorf("spec %+v", d.Spec)
	}
}

// conformance: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment with annotations [Conformance]
func TestShouldMutateADeploymentWithAnnotations(t *testing.T) {
	h := newHouse(t)
	h.mutation(validating("annotate", never+`
  variables: [{name: team, expression: "namespaceObject.metadata.labels['team']"}]
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: 'Object{metadata: Object.metadata{annotations: {"team": variables.team}}}'}
  - patchType: JSONPatch
    jsonPatch:
      expression: >
        [JSONPatch{op: "test", path: "/metadata/annotations/team", value: "a"},
         JSONPatch{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey("example.com/second"), value: object.metadata.annotations["team"] + "2"}]
`))
	h.mutationBinding(bind("b", "annotate", ""))
	d := h.create(deployment("d", 1)).(*appsv1.Deployment)
	if d.Annotations["team"] != "a" || d.Annotations["example.com/second"] != "a2" {
		t.Errorf("annotations %v", d.Annotations)
	}
}

// A policy that wants to is asked again when a later one changed the object, and
// one that does not is not.
func TestReinvocation(t *testing.T) {
	h := newHouse(t)
	count := func(key string) string {
		return `
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: 'Object{metadata: Object.metadata{annotations: {"` + key + `": (has(object.metadata.annotations) && "` + key + `" in object.metadata.annotations ? object.metadata.annotations["` + key + `"] : "") + "x"}}}'}
`
	}
	h.mutation(validating("a-again", "  reinvocationPolicy: IfNeeded"+count("again")))
	h.mutation(validating("b-never", never[:len(never)-1]+count("never")))
	h.mutationBinding(bind("a", "a-again", ""))
	h.mutationBinding(bind("b", "b-never", ""))
	d := h.create(deployment("d", 1)).(*appsv1.Deployment)
	if d.Annotations["again"] != "xx" || d.Annotations["never"] != "x" {
		t.Errorf("annotations %v", d.Annotations)
	}
}

func TestMutationsThatFail(t *testing.T) {
	h := newHouse(t)
	h.mutation(validating("atomic", never+`
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: 'Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {"a": "b"}}}}'}
`))
	h.mutationBinding(bind("b", "atomic", ""))
	_, err := h.try(deployment("d", 1))
	wantDenied(t, err, 403, `policy 'atomic' with binding 'b' denied request: error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector`)

	h = newHouse(t)
	h.mutation(validating("unknown", never+`
  failurePolicy: Ignore
  mutations:
  - patchType: JSONPatch
    jsonPatch: {expression: '[JSONPatch{op: "replace", path: "/spec/absent/x", value: 1}]'}
`))
	h.mutationBinding(bind("b", "unknown", ""))
	h.create(deployment("d", 1))
}
