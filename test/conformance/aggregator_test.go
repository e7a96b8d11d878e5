package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregation "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"
)

// flunders is a server of the API wardle.example.com/v1alpha1, which is that of
// upstream's sample API server. It believes the proxy's word of who asks.
type flunders struct {
	mu    sync.Mutex
	all   map[string]map[string]any
	users map[string]bool
}

func (f *flunders) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users[r.Header.Get("X-Remote-User")] = true
	w.Header().Set("Content-Type", "application/json")
	answer := func(code int, v any) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	}
	const version, collection = "/apis/wardle.example.com/v1alpha1", "/apis/wardle.example.com/v1alpha1/namespaces/" + ns + "/flunders"
	name := strings.TrimPrefix(r.URL.Path, collection+"/")
	success := metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess}
	switch {
	case r.URL.Path == version:
		answer(http.StatusOK, metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "wardle.example.com/v1alpha1",
			APIResources: []metav1.APIResource{{Name: "flunders", SingularName: "flunder", Namespaced: true, Kind: "Flunder", Verbs: []string{"create", "delete", "deletecollection", "get", "list"}}},
		})
	case r.URL.Path == collection && r.Method == http.MethodPost:
		m := map[string]any{}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			answer(http.StatusBadRequest, apierrors.NewBadRequest(err.Error()).Status())
			return
		}
		u := unstructured.Unstructured{Object: m}
		u.SetUID(types.UID(fmt.Sprint("uid-", u.GetName())))
		u.SetCreationTimestamp(metav1.Now())
		f.all[u.GetName()] = m
		answer(http.StatusCreated, m)
	case r.URL.Path == collection && r.Method == http.MethodGet:
		items := []any{}
		for _, m := range f.all {
			items = append(items, m)
		}
		answer(http.StatusOK, map[string]any{"apiVersion": "wardle.example.com/v1alpha1", "kind": "FlunderList", "metadata": map[string]any{"resourceVersion": "1"}, "items": items})
	case r.URL.Path == collection && r.Method == http.MethodDelete:
		clear(f.all)
		answer(http.StatusOK, success)
	case f.all[name] != nil && r.Method == http.MethodGet:
		answer(http.StatusOK, f.all[name])
	case f.all[name] != nil && r.Method == http.MethodDelete:
		delete(f.all, name)
		answer(http.StatusOK, success)
	default:
		answer(http.StatusNotFound, apierrors.NewNotFound(schema.GroupResource{Group: "wardle.example.com", Resource: "flunders"}, name).Status())
	}
}

func TestAggregator(t *testing.T) {
	// The sample server's image is nowhere to be had; flunders stands in for it.
	conform(t, "[sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator [LinuxOnly] [Conformance]", func(c *cluster) {
		server := &flunders{all: map[string]map[string]any{}, users: map[string]bool{}}
		c.behindService("sample-api", 9444, server)
		services := must(aggregation.NewForConfig(c.config)).APIServices()
		const name = "v1alpha1.wardle.example.com"
		must(services.Create(c.ctx, &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: apiregistrationv1.APIServiceSpec{
			Group: "wardle.example.com", Version: "v1alpha1", GroupPriorityMinimum: 2000, VersionPriority: 200, CABundle: c.net.authority.CertPEM,
			Service: &apiregistrationv1.ServiceReference{Namespace: ns, Name: "sample-api"},
		}}, metav1.CreateOptions{}))
		available := func() bool {
			s := must(services.Get(c.ctx, name, metav1.GetOptions{}))
			return slices.ContainsFunc(s.Status.Conditions, func(x apiregistrationv1.APIServiceCondition) bool {
				return x.Type == apiregistrationv1.Available && x.Status == apiregistrationv1.ConditionTrue
			})
		}
		c.eventually("an available service", available)
		wardle := schema.GroupVersion{Group: "wardle.example.com", Version: "v1alpha1"}
		c.eventually("its resources in discovery", func() bool {
			_, lists, err := c.Discovery().ServerGroupsAndResources()
			return err == nil && slices.ContainsFunc(lists, func(l *metav1.APIResourceList) bool {
				return l.GroupVersion == wardle.String() && len(l.APIResources) == 1
			})
		})
		c.inDiscovery(wardle, "flunders")
		flunders := c.objects(wardle.WithResource("flunders")).Namespace(ns)
		create := func(name string) {
			c.Helper()
			u := must(flunders.Create(c.ctx, parse("apiVersion: wardle.example.com/v1alpha1\nkind: Flunder\nmetadata: {name: "+name+", labels: {sample-label: 'true'}}\nspec: {}\n"), metav1.CreateOptions{}))
			c.want(u.GetName() == name && u.GetUID() != "", "%v", u)
		}
		create("rest-flunder")
		u := must(flunders.Get(c.ctx, "rest-flunder", metav1.GetOptions{}))
		c.want(u.GetLabels()["sample-label"] == "true", "%v", u)
		c.want(len(must(flunders.List(c.ctx, metav1.ListOptions{})).Items) == 1, "it is not listed")
		c.ok(flunders.Delete(c.ctx, "rest-flunder", metav1.DeleteOptions{}))
		_, err := flunders.Get(c.ctx, "rest-flunder", metav1.GetOptions{})
		c.want(apierrors.IsNotFound(err), "%v", err)
		create("dynamic-flunder")
		c.ok(flunders.DeleteCollection(c.ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
		c.want(len(must(flunders.List(c.ctx, metav1.ListOptions{})).Items) == 0, "some are left")
		c.want(server.users["admin"], "users %v", server.users)

		status := &apiregistrationv1.APIService{}
		c.ok(c.objectsOf("apiregistration.k8s.io", "v1", "apiservices", name, status, "status"))
		c.want(len(status.Status.Conditions) == 1, "%+v", status.Status)
		has := func(s *apiregistrationv1.APIService, sort apiregistrationv1.APIServiceConditionType) bool {
			return slices.ContainsFunc(s.Status.Conditions, func(x apiregistrationv1.APIServiceCondition) bool { return x.Type == sort })
		}
		status.Status.Conditions = append(status.Status.Conditions, apiregistrationv1.APIServiceCondition{
			Type: "StatusUpdated", Status: apiregistrationv1.ConditionTrue, LastTransitionTime: metav1.Now(), Reason: "E2E", Message: "Set from e2e test",
		})
		updated := must(services.UpdateStatus(c.ctx, status, metav1.UpdateOptions{}))
		c.want(has(updated, "StatusUpdated") && has(updated, apiregistrationv1.Available), "%+v", updated.Status)
		patched := must(services.Patch(c.ctx, name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"e2e":"patched"}},"spec":{"versionPriority":400}}`), metav1.PatchOptions{}))
		c.want(patched.Spec.VersionPriority == 400 && has(patched, "StatusUpdated"), "%+v", patched)
		c.want(slices.ContainsFunc(patched.ManagedFields, func(f metav1.ManagedFieldsEntry) bool { return f.Subresource == "status" }), "managed fields %v", patched.ManagedFields)
		patched.Labels["e2e"] = "updated"
		must(services.Update(c.ctx, patched, metav1.UpdateOptions{}))
		mine := metav1.ListOptions{LabelSelector: "e2e=updated"}
		c.want(len(must(services.List(c.ctx, mine)).Items) == 1, "it is not listed by its label")
		c.settle(time.Minute)
		c.want(available(), "it is not available any more")
		c.ok(services.DeleteCollection(c.ctx, metav1.DeleteOptions{}, mine))
		c.eventually("the end of its paths", func() bool {
			_, err := flunders.List(c.ctx, metav1.ListOptions{})
			return apierrors.IsNotFound(err)
		})
	})
}
