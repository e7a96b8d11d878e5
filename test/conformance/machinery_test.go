package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

func TestNamespaces(t *testing.T) {
	namespace := func(c *cluster) string {
		return must(c.CoreV1().Namespaces().Create(c.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "nsdeletetest-"}}, metav1.CreateOptions{})).Name
	}
	gone := func(c *cluster, name string) func() bool {
		return func() bool {
			_, err := c.CoreV1().Namespaces().Get(c.ctx, name, metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		}
	}
	conform(t, "[sig-api-machinery] Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted [Conformance]", func(c *cluster) {
		name := namespace(c)
		must(c.CoreV1().Pods(name).Create(c.ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: template("p", "v1").Spec}, metav1.CreateOptions{}))
		c.eventually("the pod", func() bool {
			return must(c.CoreV1().Pods(name).Get(c.ctx, "p", metav1.GetOptions{})).Status.Phase == corev1.PodRunning
		})
		c.ok(c.CoreV1().Namespaces().Delete(c.ctx, name, metav1.DeleteOptions{}))
		c.eventually("the end of the namespace", gone(c, name))
		must(c.CoreV1().Namespaces().Create(c.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))
		_, err := c.CoreV1().Pods(name).Get(c.ctx, "p", metav1.GetOptions{})
		c.want(apierrors.IsNotFound(err), "the pod is in the namespace made anew: %v", err)
	})
	conform(t, "[sig-api-machinery] Namespaces [Serial] should ensure that all services are removed when a namespace is deleted [Conformance]", func(c *cluster) {
		name := namespace(c)
		must(c.CoreV1().Services(name).Create(c.ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{}))
		c.ok(c.CoreV1().Namespaces().Delete(c.ctx, name, metav1.DeleteOptions{}))
		c.eventually("the end of the namespace", gone(c, name))
		must(c.CoreV1().Namespaces().Create(c.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))
		_, err := c.CoreV1().Services(name).Get(c.ctx, "s", metav1.GetOptions{})
		c.want(apierrors.IsNotFound(err), "the service is in the namespace made anew: %v", err)
	})
	conform(t, "[sig-api-machinery] Namespaces [Serial] should patch a Namespace [Conformance]", func(c *cluster) {
		name := namespace(c)
		must(c.CoreV1().Namespaces().Patch(c.ctx, name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"testLabel":"testValue"}}}`), metav1.PatchOptions{}))
		n := must(c.CoreV1().Namespaces().Get(c.ctx, name, metav1.GetOptions{}))
		c.want(n.Labels["testLabel"] == "testValue", "labels %v", n.Labels)
	})
	conform(t, "[sig-api-machinery] Namespaces [Serial] should apply an update to a Namespace [Conformance]", func(c *cluster) {
		n := must(c.CoreV1().Namespaces().Get(c.ctx, ns, metav1.GetOptions{}))
		n.Labels["e2e"] = "updated"
		must(c.CoreV1().Namespaces().Update(c.ctx, n, metav1.UpdateOptions{}))
		n = must(c.CoreV1().Namespaces().Get(c.ctx, ns, metav1.GetOptions{}))
		c.want(n.Labels["e2e"] == "updated" && n.Labels[corev1.LabelMetadataName] == ns, "labels %v", n.Labels)
	})
	conform(t, "[sig-api-machinery] Namespaces [Serial] should apply a finalizer to a Namespace [Conformance]", func(c *cluster) {
		const fake = corev1.FinalizerName("e2e.example.com/fakeFinalizer")
		finalizers := func(change func([]corev1.FinalizerName) []corev1.FinalizerName) []corev1.FinalizerName {
			n := must(c.CoreV1().Namespaces().Get(c.ctx, ns, metav1.GetOptions{}))
			n.Spec.Finalizers = change(n.Spec.Finalizers)
			return must(c.CoreV1().Namespaces().Finalize(c.ctx, n, metav1.UpdateOptions{})).Spec.Finalizers
		}
		got := finalizers(func(f []corev1.FinalizerName) []corev1.FinalizerName { return append(f, fake) })
		c.want(slices.Contains(got, fake), "finalizers %v", got)
		got = finalizers(func(f []corev1.FinalizerName) []corev1.FinalizerName {
			return slices.DeleteFunc(f, func(x corev1.FinalizerName) bool { return x == fake })
		})
		c.want(!slices.Contains(got, fake), "finalizers %v", got)
	})
	conform(t, "[sig-api-machinery] Namespaces [Serial] should apply changes to a namespace status [Conformance]", func(c *cluster) {
		n := must(c.CoreV1().Namespaces().Get(c.ctx, ns, metav1.GetOptions{}))
		c.want(n.Status.Phase == corev1.NamespaceActive, "phase %s", n.Status.Phase)
		condition := func(message string) corev1.NamespaceCondition {
			return corev1.NamespaceCondition{Type: "StatusPatched", Status: corev1.ConditionTrue, Reason: "E2E", Message: message}
		}
		patch := must(json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{"e2e": "patched"}}, "status": map[string]any{"conditions": []any{condition("patched")}}}))
		n = must(c.CoreV1().Namespaces().Patch(c.ctx, ns, types.MergePatchType, patch, metav1.PatchOptions{}, "status"))
		c.want(slices.Contains(n.Status.Conditions, condition("patched")), "conditions %v", n.Status.Conditions)
		n.Status.Conditions = append(n.Status.Conditions, corev1.NamespaceCondition{Type: "StatusUpdate", Status: corev1.ConditionTrue, Reason: "E2E", Message: "updated"})
		n = must(c.CoreV1().Namespaces().UpdateStatus(c.ctx, n, metav1.UpdateOptions{}))
		c.want(len(n.Status.Conditions) == 2, "conditions %v", n.Status.Conditions)
	})
	conform(t, "[sig-api-machinery] OrderedNamespaceDeletion namespace deletion should delete pod first [Conformance]", func(c *cluster) {
		name := namespace(c)
		c.eventually("service account", func() bool {
			_, err := c.CoreV1().ServiceAccounts(name).Get(c.ctx, "default", metav1.GetOptions{})
			return err == nil
		})
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: template("p", "v1").Spec}
		pod.Finalizers = []string{"e2e.example.com/finalizer"}
		must(c.CoreV1().Pods(name).Create(c.ctx, pod, metav1.CreateOptions{}))
		must(c.CoreV1().ConfigMaps(name).Create(c.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m"}}, metav1.CreateOptions{}))
		c.ok(c.CoreV1().Namespaces().Delete(c.ctx, name, metav1.DeleteOptions{}))
		c.eventually("the pod's deletion", func() bool {
			return must(c.CoreV1().Pods(name).Get(c.ctx, "p", metav1.GetOptions{})).DeletionTimestamp != nil
		})
		c.settle(20 * time.Second)
		must(c.CoreV1().ConfigMaps(name).Get(c.ctx, "m", metav1.GetOptions{}))
		must(c.CoreV1().Pods(name).Patch(c.ctx, "p", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}))
		c.eventually("the end of the namespace", gone(c, name))
	})
}

func TestChunking(t *testing.T) {
	const all, limit = 400, 33
	fill := func(c *cluster) {
		for i := range all {
			must(c.CoreV1().PodTemplates(ns).Create(c.ctx, &corev1.PodTemplate{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("template-%04d", i)}, Template: template("x", "v1")}, metav1.CreateOptions{}))
		}
	}
	conform(t, "[sig-api-machinery] Servers with support for API chunking should return chunks of results for list calls [Conformance]", func(c *cluster) {
		fill(c)
		found, revision, token := 0, "", ""
		for {
			l := must(c.CoreV1().PodTemplates(ns).List(c.ctx, metav1.ListOptions{Limit: limit, Continue: token}))
			if revision == "" {
				revision = l.ResourceVersion
			}
			c.want(l.ResourceVersion == revision && len(l.Items) <= limit, "revision %s, %d items", l.ResourceVersion, len(l.Items))
			for _, x := range l.Items {
				c.want(x.Name == fmt.Sprintf("template-%04d", found), "%s as number %d", x.Name, found)
				found++
			}
			if token = l.Continue; token == "" {
				c.want(l.RemainingItemCount == nil, "something remains of all")
				break
			}
			c.want(l.RemainingItemCount != nil && *l.RemainingItemCount == int64(all-found), "remaining %v after %d", l.RemainingItemCount, found)
		}
		c.want(found == all, "%d found", found)
		l := must(c.CoreV1().PodTemplates(ns).List(c.ctx, metav1.ListOptions{}))
		c.want(len(l.Items) == all && l.Continue == "", "%d in one", len(l.Items))
	})
}

func TestFieldValidation(t *testing.T) {
	strict := func(c *cluster, verb, path, contentType, body string) error {
		return c.CoreV1().RESTClient().Verb(verb).AbsPath(path).Param("fieldValidation", "Strict").Param("fieldManager", "e2e").SetHeader("Content-Type", contentType).Body([]byte(body)).Do(c.ctx).Error()
	}
	refused := func(c *cluster, err error, words ...string) {
		c.Helper()
		if err == nil {
			c.Fatal("accepted")
		}
		for _, w := range words {
			c.want(strings.Contains(err.Error(), w), "%q lacks %q", err, w)
		}
	}
	const deployments = "/apis/apps/v1/namespaces/" + ns + "/deployments"
	conform(t, "[sig-api-machinery] FieldValidation should detect unknown and duplicate fields of a typed object [Conformance]", func(c *cluster) {
		const body = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","labels":{"app":"x"}},"spec":{"unknownField":"foo","replicas":1,"replicas":2,"selector":{"matchLabels":{"app":"x"}},"template":{"metadata":{"labels":{"app":"x"}},"spec":{"containers":[{"name":"c","image":"v1","imagePullPolicy":"Always","imagePullPolicy":"Never"}]}}}}`
		words := []string{"strict decoding error", `unknown field "spec.unknownField"`, `duplicate field "spec.replicas"`, `duplicate field "spec.template.spec.containers[0].imagePullPolicy"`}
		refused(c, strict(c, "POST", deployments, "application/json", body), words...)
	})
	conform(t, "[sig-api-machinery] FieldValidation should detect unknown metadata fields of a typed object [Conformance]", func(c *cluster) {
		const body = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","labels":{"app":"x"},"unknownMeta":"foo"},"spec":{"selector":{"matchLabels":{"app":"x"}},"template":{"metadata":{"labels":{"app":"x"}},"spec":{"containers":[{"name":"c","image":"v1"}]}}}}`
		refused(c, strict(c, "POST", deployments, "application/json", body), "strict decoding error", `unknown field "metadata.unknownMeta"`)
		refused(c, strict(c, "PATCH", deployments+"/d", "application/apply-patch+yaml", body), "metadata.unknownMeta")
	})
	const js, apply = "application/json", "application/apply-patch+yaml"
	const foos = "/apis/strict.example.com/v1/namespaces/" + ns + "/foos"
	// foo is an object as JSON, which is YAML as well.
	foo := func(name, meta, rest string) string {
		return fmt.Sprintf(`{"apiVersion":"strict.example.com/v1","kind":"Foo","metadata":{"name":%q%s},%s}`, name, meta, rest)
	}
	define := func(c *cluster, schema string) {
		c.Helper()
		c.define(definition("strict.example.com", "foos", "Foo", schema))
	}
	const typed = "{type: object, properties: {spec: {type: object, properties: {foo: {type: string}, ports: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [containerPort, protocol], " +
		"items: {type: object, required: [containerPort, protocol], properties: {containerPort: {type: integer}, protocol: {type: string}}}}}}}}"
	conform(t, "[sig-api-machinery] FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema [Conformance]", func(c *cluster) {
		define(c, anything)
		const rest = `"spec":{"foo":"foo1","unknown":{"a":1}},"more":[1]`
		c.ok(strict(c, "POST", foos, js, foo("created", "", rest)))
		c.ok(strict(c, "PATCH", foos+"/applied", apply, foo("applied", "", rest)))
		for _, name := range []string{"created", "applied"} {
			var u unstructured.Unstructured
			c.read(foos+"/"+name, &u.Object)
			a, _, _ := unstructured.NestedFloat64(u.Object, "spec", "unknown", "a")
			c.want(a == 1 && u.Object["more"] != nil, "%v", u)
		}
	})
	conform(t, "[sig-api-machinery] FieldValidation should create/apply a valid CR for CRD with validation schema [Conformance]", func(c *cluster) {
		define(c, typed)
		const rest = `"spec":{"foo":"foo1","ports":[{"containerPort":8080,"protocol":"TCP"}]}`
		c.ok(strict(c, "POST", foos, js, foo("created", "", rest)))
		c.ok(strict(c, "PATCH", foos+"/applied", apply, foo("applied", "", rest)))
		c.ok(strict(c, "PATCH", foos+"/created", apply, foo("created", "", rest)))
	})
	conform(t, "[sig-api-machinery] FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema [Conformance]", func(c *cluster) {
		define(c, typed)
		const rest = `"spec":{"foo":"foo1","extraProperty":"x","ports":[{"containerPort":8080,"protocol":"TCP","hostPort":8081}]}`
		refused(c, strict(c, "POST", foos, js, foo("f", "", rest)), "strict decoding error", `unknown field "spec.extraProperty"`, `unknown field "spec.ports[0].hostPort"`)
		refused(c, strict(c, "PATCH", foos+"/f", apply, foo("f", "", rest)), ".spec.extraProperty: field not declared in schema")
	})
	conform(t, "[sig-api-machinery] FieldValidation should detect duplicates in a CR when preserving unknown fields [Conformance]", func(c *cluster) {
		define(c, anything)
		const rest = `"spec":{"unknown":"uk1","foo":"foo1","foo":"foo2"}`
		refused(c, strict(c, "POST", foos, js, foo("f", "", rest)), "strict decoding error", `duplicate field "spec.foo"`)
		const block = "apiVersion: strict.example.com/v1\nkind: Foo\nmetadata:\n  name: f\nspec:\n  unknown: uk1\n  foo: foo1\n  foo: foo2\n"
		refused(c, strict(c, "POST", foos, "application/yaml", block), "strict decoding error", `key "foo" already set in map`)
		refused(c, strict(c, "PATCH", foos+"/f", apply, block), `line 8: key "foo" already set in map`)
	})
	conform(t, "[sig-api-machinery] FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR [Conformance]", func(c *cluster) {
		define(c, "{type: object, properties: {spec: {type: object, properties: {template: {type: object, x-kubernetes-embedded-resource: true, "+
			"properties: {metadata: {type: object, properties: {name: {type: string}}}}}}}}}")
		template := func(meta string) string {
			return `"spec":{"template":{"apiVersion":"foo/v1","kind":"Sub","metadata":{"name":"subobject"` + meta + `}}}`
		}
		c.ok(strict(c, "POST", foos, js, foo("plain", "", template(""))))
		root, embedded := `,"unknownMeta":"foo"`, template(`,"unknownSubMeta":"bar"`)
		refused(c, strict(c, "POST", foos, js, foo("f", root, embedded)), "strict decoding error", `unknown field "metadata.unknownMeta"`, `unknown field "spec.template.metadata.unknownSubMeta"`)
		refused(c, strict(c, "PATCH", foos+"/f", apply, foo("f", root, template(""))), ".metadata.unknownMeta: field not declared in schema")
		refused(c, strict(c, "PATCH", foos+"/f", apply, foo("f", "", embedded)), ".spec.template.metadata.unknownSubMeta: field not declared in schema")
	})
}

func TestTableTransformation(t *testing.T) {
	conform(t, "[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does not implement metadata [Conformance]", func(c *cluster) {
		const body = `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}`
		err := c.AuthorizationV1().RESTClient().Post().Resource("selfsubjectaccessreviews").SetHeader("Content-Type", "application/json").
			SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Body([]byte(body)).Do(c.ctx).Error()
		c.want(apierrors.ReasonForError(err) == metav1.StatusReasonNotAcceptable, "%v", err)
	})
}

func TestTwoNodes(t *testing.T) {
	conform(t, "[sig-architecture] Conformance Tests should have at least two untainted nodes [Conformance]", func(c *cluster) {
		free := func() (n int) {
			for _, node := range must(c.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{})).Items {
				if len(node.Spec.Taints) == 0 {
					n++
				}
			}
			return n
		}
		c.eventually("two untainted nodes", func() bool { return free() >= 2 })
	})
}
