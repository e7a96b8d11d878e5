package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"
)

func (c *cluster) definitions() apiextensions.CustomResourceDefinitionInterface {
	return must(apiextensions.NewForConfig(c.config)).CustomResourceDefinitions()
}

// definition has one version with a schema in flow YAML.
func definition(group, plural, kind, schema string) string {
	return fmt.Sprintf(`
metadata: {name: %[2]s.%[1]s}
spec:
  group: %[1]s
  scope: Namespaced
  names: {plural: %[2]s, kind: %[3]s, listKind: %[3]sList}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: %[4]s}, subresources: {status: {}}}
`, group, plural, kind, schema)
}

const anything = "{type: object, x-kubernetes-preserve-unknown-fields: true}"

// define creates a definition and waits until it is established.
func (c *cluster) define(text string, change ...func(*apiextensionsv1.CustomResourceDefinition)) *apiextensionsv1.CustomResourceDefinition {
	c.Helper()
	d := &apiextensionsv1.CustomResourceDefinition{}
	c.ok(yaml.UnmarshalStrict([]byte(text), d))
	for _, f := range change {
		f(d)
	}
	name := must(c.definitions().Create(c.ctx, d, metav1.CreateOptions{})).Name
	c.eventually("an established definition", func() bool {
		d = must(c.definitions().Get(c.ctx, name, metav1.GetOptions{}))
		return slices.ContainsFunc(d.Status.Conditions, func(x apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return x.Type == apiextensionsv1.Established && x.Status == apiextensionsv1.ConditionTrue
		})
	})
	return d
}

func TestCustomResourceDefinition(t *testing.T) {
	const group = "crd.example.com"
	conform(t, "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition creating/deleting custom resource definition objects works [Conformance]", func(c *cluster) {
		c.define(definition(group, "noxus", "Noxu", anything))
		c.ok(c.definitions().Delete(c.ctx, "noxus."+group, metav1.DeleteOptions{}))
		c.eventually("its end", func() bool {
			_, err := c.definitions().Get(c.ctx, "noxus."+group, metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		})
	})
	conform(t, "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition listing custom resource definition objects works [Conformance]", func(c *cluster) {
		for i := range 10 {
			c.define(definition(group, fmt.Sprintf("noxu%cs", 'a'+i), fmt.Sprintf("Noxu%c", 'a'+i), anything), func(d *apiextensionsv1.CustomResourceDefinition) {
				d.Labels = map[string]string{"e2e-list-test-uuid": "mine"}
			})
		}
		c.define(definition(group, "others", "Other", anything))
		mine := metav1.ListOptions{LabelSelector: "e2e-list-test-uuid=mine"}
		c.want(len(must(c.definitions().List(c.ctx, mine)).Items) == 10, "not all are listed")
		c.ok(c.definitions().DeleteCollection(c.ctx, metav1.DeleteOptions{}, mine))
		c.eventually("their end", func() bool { return len(must(c.definitions().List(c.ctx, mine)).Items) == 0 })
		left := must(c.definitions().List(c.ctx, metav1.ListOptions{})).Items
		c.want(len(left) == 1 && left[0].Name == "others."+group, "%v", left)
	})
	conform(t, "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works [Conformance]", func(c *cluster) {
		name := c.define(definition(group, "noxus", "Noxu", anything)).Name
		d := must(c.definitions().Get(c.ctx, name, metav1.GetOptions{}))
		status := &apiextensionsv1.CustomResourceDefinition{}
		c.ok(c.objectsOf("apiextensions.k8s.io", "v1", "customresourcedefinitions", name, status, "status"))
		c.want(status.UID == d.UID && len(status.Status.Conditions) == len(d.Status.Conditions), "%+v", status.Status)
		has := func(sort apiextensionsv1.CustomResourceDefinitionConditionType) bool {
			d := must(c.definitions().Get(c.ctx, name, metav1.GetOptions{}))
			return slices.ContainsFunc(d.Status.Conditions, func(x apiextensionsv1.CustomResourceDefinitionCondition) bool { return x.Type == sort })
		}
		condition := apiextensionsv1.CustomResourceDefinitionCondition{Type: "StatusUpdate", Status: apiextensionsv1.ConditionTrue, Reason: "E2E", Message: "Set from e2e test"}
		d.Status.Conditions = append(d.Status.Conditions, condition)
		must(c.definitions().UpdateStatus(c.ctx, d, metav1.UpdateOptions{}))
		c.want(has("StatusUpdate") && has(apiextensionsv1.Established), "the update of the status cannot be read")
		condition.Type = "StatusPatched"
		patch := must(json.Marshal(map[string]any{"status": map[string]any{"conditions": append(d.Status.Conditions, condition)}}))
		must(c.definitions().Patch(c.ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"))
		c.want(has("StatusUpdate") && has("StatusPatched"), "the patch of the status cannot be read")
	})
	conform(t, "[sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch on custom resource definition objects [Conformance]", func(c *cluster) {
		definitions := c.objects(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
		w := must(definitions.Watch(c.ctx, metav1.ListOptions{}))
		defer w.Stop()
		name := c.define(definition(group, "noxus", "Noxu", anything)).Name
		c.until(w, watch.Added, name, whatever)
		c.until(w, watch.Modified, name, whatever)
		noxus := c.objects(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "noxus"}).Namespace(ns)
		a, b := must(noxus.Watch(c.ctx, metav1.ListOptions{FieldSelector: "metadata.name=name1"})), must(noxus.Watch(c.ctx, metav1.ListOptions{FieldSelector: "metadata.name=name2"}))
		defer a.Stop()
		defer b.Stop()
		for one, w := range map[string]watch.Interface{"name1": a, "name2": b} {
			must(noxus.Create(c.ctx, parse("apiVersion: "+group+"/v1\nkind: Noxu\nmetadata: {name: "+one+"}\n"), metav1.CreateOptions{}))
			c.until(w, watch.Added, one, whatever)
			must(noxus.Patch(c.ctx, one, types.MergePatchType, []byte(`{"dummy":"test"}`), metav1.PatchOptions{}))
			c.until(w, watch.Modified, one, func(u *unstructured.Unstructured) bool { return u.Object["dummy"] == "test" })
			c.ok(noxus.Delete(c.ctx, one, metav1.DeleteOptions{}))
			c.until(w, watch.Deleted, one, whatever)
		}
		c.ok(c.definitions().Delete(c.ctx, name, metav1.DeleteOptions{}))
		c.until(w, watch.Deleted, name, whatever)
	})
	conform(t, "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for requests and from storage works [Conformance]", func(c *cluster) {
		d := c.define(definition(group, "noxus", "Noxu", "{type: object, properties: {a: {type: string}, b: {type: string}}}"))
		noxus := c.objects(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "noxus"}).Namespace(ns)
		create := func(name string) *unstructured.Unstructured {
			return must(noxus.Create(c.ctx, parse("apiVersion: "+group+"/v1\nkind: Noxu\nmetadata: {name: "+name+"}\n"), metav1.CreateOptions{}))
		}
		// reads says what a and b are.
		reads := func(name string) string {
			u := must(noxus.Get(c.ctx, name, metav1.GetOptions{}))
			return fmt.Sprint(u.Object["a"], " ", u.Object["b"])
		}
		defaults := func(patch string) {
			must(c.definitions().Patch(c.ctx, d.Name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{}))
		}
		u := create("one")
		c.want(u.Object["a"] == nil && u.Object["b"] == nil, "%v", u)
		const properties = "/spec/versions/0/schema/openAPIV3Schema/properties/"
		defaults(`[{"op":"add","path":"` + properties + `a/default","value":"A"}]`)
		c.eventually("the default", func() bool { return reads("one") == "A <nil>" })
		u = create("two")
		c.want(u.Object["a"] == "A" && u.Object["b"] == nil, "%v", u)
		defaults(`[{"op":"remove","path":"` + properties + `a/default"},{"op":"add","path":"` + properties + `b/default","value":"B"}]`)
		c.eventually("the other default", func() bool { return reads("two") == "A B" })
		c.want(reads("one") == "<nil> B", "%s", reads("one"))
	})
	conform(t, "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource definition resources in discovery documents [Conformance]", func(c *cluster) {
		c.inDiscovery(schema.GroupVersion{Group: "apiextensions.k8s.io", Version: "v1"}, "customresourcedefinitions")
	})
}

// objectsOf reads an object, or a part of it, into out.
func (c *cluster) objectsOf(group, version, resource, name string, out any, part string) error {
	b, err := c.CoreV1().RESTClient().Get().AbsPath("/apis", group, version, resource, name, part).DoRaw(c.ctx)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

// gates has versions between which a webhook converts: v1 has hostPort, v2 host
// and port. stored is the one in the store.
func (c *cluster) gates(stored string) *apiextensionsv1.CustomResourceDefinition {
	c.Helper()
	c.behindService("converter", 9443, http.HandlerFunc(convertGates))
	return c.define(fmt.Sprintf(`
metadata: {name: gates.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: gates, kind: Gate, listKind: GateList}
  conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v1], clientConfig: {service: {namespace: %s, name: converter, path: /convert}}}}
  versions:
  - name: v1
    served: true
    storage: %t
    selectableFields: [{jsonPath: .hostPort}]
    schema: {openAPIV3Schema: {type: object, properties: {hostPort: {type: string}}}}
  - name: v2
    served: true
    storage: %t
    selectableFields: [{jsonPath: .host}, {jsonPath: .port}]
    schema: {openAPIV3Schema: {type: object, properties: {host: {type: string}, port: {type: string}}}}
`, ns, stored == "v1", stored == "v2"), func(d *apiextensionsv1.CustomResourceDefinition) {
		d.Spec.Conversion.Webhook.ClientConfig.CABundle = c.net.authority.CertPEM
	})
}

func convertGates(w http.ResponseWriter, r *http.Request) {
	var review apiextensionsv1.ConversionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := &apiextensionsv1.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
	for _, o := range review.Request.Objects {
		m := map[string]any{}
		_ = json.Unmarshal(o.Raw, &m)
		if to := review.Request.DesiredAPIVersion; m["apiVersion"] != to {
			m["apiVersion"] = to
			if both, ok := m["hostPort"].(string); ok {
				delete(m, "hostPort")
				m["host"], m["port"], _ = strings.Cut(both, ":")
			} else if host, ok := m["host"].(string); ok {
				m["hostPort"] = fmt.Sprint(host, ":", m["port"])
				delete(m, "host")
				delete(m, "port")
			}
		}
		b, _ := json.Marshal(m)
		out.ConvertedObjects = append(out.ConvertedObjects, runtime.RawExtension{Raw: b})
	}
	review.Request, review.Response = nil, out
	_ = json.NewEncoder(w).Encode(review)
}

var (
	gates1 = schema.GroupVersionResource{Group: "stable.example.com", Version: "v1", Resource: "gates"}
	gates2 = schema.GroupVersionResource{Group: "stable.example.com", Version: "v2", Resource: "gates"}
)

func gate1(name, hostPort string) *unstructured.Unstructured {
	return parse(fmt.Sprintf("apiVersion: stable.example.com/v1\nkind: Gate\nmetadata: {name: %s}\nhostPort: %q\n", name, hostPort))
}

func gate2(name, host, port string) *unstructured.Unstructured {
	return parse(fmt.Sprintf("apiVersion: stable.example.com/v2\nkind: Gate\nmetadata: {name: %s}\nhost: %s\nport: %q\n", name, host, port))
}

func TestCustomResourceConversion(t *testing.T) {
	conform(t, "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert from CR v1 to CR v2 [Conformance]", func(c *cluster) {
		c.gates("v1")
		must(c.objects(gates1).Namespace(ns).Create(c.ctx, gate1("a", "host1:8080"), metav1.CreateOptions{}))
		u := must(c.objects(gates2).Namespace(ns).Get(c.ctx, "a", metav1.GetOptions{}))
		c.want(u.GetAPIVersion() == "stable.example.com/v2" && u.Object["host"] == "host1" && u.Object["port"] == "8080" && u.Object["hostPort"] == nil, "%v", u)
	})
	conform(t, "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert a non homogeneous list of CRs [Conformance]", func(c *cluster) {
		d := c.gates("v1")
		must(c.objects(gates1).Namespace(ns).Create(c.ctx, gate1("a", "host1:8080"), metav1.CreateOptions{}))
		must(c.definitions().Patch(c.ctx, d.Name, types.JSONPatchType, []byte(
			`[{"op":"replace","path":"/spec/versions/0/storage","value":false},{"op":"replace","path":"/spec/versions/1/storage","value":true}]`), metav1.PatchOptions{}))
		c.settle(0)
		must(c.objects(gates2).Namespace(ns).Create(c.ctx, gate2("b", "host2", "80"), metav1.CreateOptions{}))
		for version, want := range map[schema.GroupVersionResource]string{gates1: "host1:8080 host2:80", gates2: "host1 8080 host2 80"} {
			var got []string
			l := must(c.objects(version).Namespace(ns).List(c.ctx, metav1.ListOptions{}))
			for _, u := range l.Items {
				c.want(u.GetAPIVersion() == version.GroupVersion().String(), "%s in a list of %s", u.GetAPIVersion(), version)
				for _, f := range []string{"hostPort", "host", "port"} {
					if v, ok := u.Object[f].(string); ok {
						got = append(got, v)
					}
				}
			}
			c.want(strings.Join(got, " ") == want, "%s: %v", version, got)
		}
	})
}

func TestCustomResourceFieldSelectors(t *testing.T) {
	conform(t, "[sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector [Conformance]", func(c *cluster) {
		c.gates("v1")
		v1, v2 := c.objects(gates1).Namespace(ns), c.objects(gates2).Namespace(ns)
		ofHost := metav1.ListOptions{FieldSelector: "host=host1"}
		ofBoth := metav1.ListOptions{FieldSelector: "hostPort=host1:80"}
		ofPort := metav1.ListOptions{FieldSelector: "host=host1,port=80"}
		w1, w2, w3 := must(v1.Watch(c.ctx, ofBoth)), must(v2.Watch(c.ctx, ofHost)), must(v2.Watch(c.ctx, ofPort))
		defer w1.Stop()
		defer w2.Stop()
		defer w3.Stop()
		// An informer knows the names that it saw come and not go.
		ctx, cancel := context.WithCancel(c.ctx)
		var mu sync.Mutex
		known := map[string][]string{}
		var factories []dynamicinformer.DynamicSharedInformerFactory
		inform := func(key string, r schema.GroupVersionResource, o metav1.ListOptions) {
			f := dynamicinformer.NewFilteredDynamicSharedInformerFactory(must(dynamic.NewForConfig(c.config)), 0, ns, func(to *metav1.ListOptions) { to.FieldSelector = o.FieldSelector })
			must(f.ForResource(r).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
				AddFunc: func(o any) {
					mu.Lock()
					defer mu.Unlock()
					known[key] = append(known[key], o.(metav1.Object).GetName())
				},
				DeleteFunc: func(o any) {
					mu.Lock()
					defer mu.Unlock()
					known[key] = slices.DeleteFunc(known[key], func(n string) bool { return n == o.(metav1.Object).GetName() })
				},
			}))
			f.Start(ctx.Done())
			factories = append(factories, f)
		}
		inform("both", gates1, ofBoth)
		inform("host", gates2, ofHost)
		inform("port", gates2, ofPort)
		defer func() {
			cancel()
			for _, f := range factories {
				f.Shutdown()
			}
		}()
		see := func(both, host, port string) {
			c.Helper()
			synctest.Wait()
			for key, want := range map[string]string{"both": both, "host": host, "port": port} {
				r, o := gates2, ofHost
				switch key {
				case "both":
					r, o = gates1, ofBoth
				case "port":
					o = ofPort
				}
				var listed []string
				for _, u := range must(c.objects(r).Namespace(ns).List(c.ctx, o)).Items {
					listed = append(listed, u.GetName())
				}
				mu.Lock()
				informed := slices.Sorted(slices.Values(known[key]))
				mu.Unlock()
				c.want(strings.Join(listed, " ") == want && strings.Join(informed, " ") == want, "%s: listed %v, informed of %v, want %s", key, listed, informed, want)
			}
		}
		see("", "", "")
		must(v1.Create(c.ctx, gate1("a", "host1:80"), metav1.CreateOptions{}))
		must(v2.Create(c.ctx, gate2("b", "host1", "8080"), metav1.CreateOptions{}))
		must(v2.Create(c.ctx, gate2("c", "host2", "80"), metav1.CreateOptions{}))
		see("a", "a b", "a")
		c.until(w1, watch.Added, "a", whatever)
		c.until(w2, watch.Added, "a", whatever)
		c.until(w2, watch.Added, "b", whatever)
		c.until(w3, watch.Added, "a", whatever)
		must(v2.Patch(c.ctx, "b", types.MergePatchType, []byte(`{"port":"80"}`), metav1.PatchOptions{}))
		see("a b", "a b", "a b")
		c.until(w1, watch.Added, "b", whatever)
		c.until(w2, watch.Modified, "b", whatever)
		c.until(w3, watch.Added, "b", whatever)
		must(v1.Patch(c.ctx, "a", types.MergePatchType, []byte(`{"hostPort":"host2:80"}`), metav1.PatchOptions{}))
		see("b", "b", "b")
		for _, w := range []watch.Interface{w1, w2, w3} {
			c.until(w, watch.Deleted, "a", whatever)
		}
		c.ok(v2.DeleteCollection(c.ctx, metav1.DeleteOptions{}, ofPort))
		see("", "", "")
		for _, w := range []watch.Interface{w1, w2, w3} {
			c.until(w, watch.Deleted, "b", whatever)
		}
		c.want(len(must(v1.List(c.ctx, metav1.ListOptions{})).Items) == 2, "more was deleted than the selector chose")
		_, err := v2.List(c.ctx, metav1.ListOptions{FieldSelector: "hostPort=host1:80"})
		c.want(apierrors.IsBadRequest(err), "a field of another version: %v", err)
	})
}
