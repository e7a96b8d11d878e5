package quota_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/admission/quota"
	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/client/direct"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
	"sagong/store"
)

// rule is a ledger as the only rule of admission. A pod named "cursed" is refused
// after the ledger let it through.
type rule struct{ *quota.Ledger }

func (rule) Admit(context.Context, *resource.Attributes) error { return nil }

func (r rule) Validate(ctx context.Context, a *resource.Attributes) error {
	if err := r.Ledger.Validate(ctx, a); err != nil || a.Name != "cursed" {
		return err
	}
	return errors.New("cursed")
}

var errFailed = errors.New("failed")

type cluster struct {
	testing.TB
	ledger *quota.Ledger
	client.Client
	engine *resource.Engine
	clock  atomic.Int64 // seconds added to the time
}

func start(t testing.TB) *cluster {
	t.Helper()
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	var r rule
	c := &cluster{TB: t}
	c.engine = resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Admission: &r})
	c.Client = direct.New(c.engine, &user.DefaultInfo{Name: "admin", Groups: []string{user.SystemPrivilegedGroup}}, "test", nil)
	log := slog.New(slog.DiscardHandler)
	hub := reconcile.NewHub(c.Client, log)
	r.Ledger = quota.New(hub, func() time.Time { return time.Now().Add(time.Duration(c.clock.Load()) * time.Second) })
	c.ledger = r.Ledger
	parts := reconcile.NewEngine(c.Client, log, nil)
	if err := parts.Add(r.Ledger.Controller()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hub.Run(ctx) })
	wg.Go(func() { _ = parts.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		s.Close()
	})
	return c
}

func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = kresource.MustParse(pairs[i+1])
	}
	return l
}

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "ns", Name: name} }

func (c *cluster) must(o object.Object) object.Object {
	c.Helper()
	out, err := c.Create(c.Context(), c.Scheme().ByObject(o), o)
	if err != nil {
		c.Fatalf("cannot create %T %s: %v", o, o.GetName(), err)
	}
	return out
}

func (c *cluster) refused(o object.Object, want string) {
	c.Helper()
	_, err := c.Create(c.Context(), c.Scheme().ByObject(o), o)
	if err == nil || err.Error() != want {
		c.Errorf("creating %T %s: %v, want %q", o, o.GetName(), err, want)
	}
}

func (c *cluster) delete(o object.Object) {
	c.Helper()
	zero, background := int64(0), metav1.DeletePropagationBackground
	if err := c.Delete(c.Context(), c.Scheme().ByObject(o), o.GetNamespace(), o.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &zero, PropagationPolicy: &background}); err != nil {
		c.Fatalf("cannot delete %T %s: %v", o, o.GetName(), err)
	}
}

func (c *cluster) quota(name string, hard corev1.ResourceList, change ...func(*corev1.ResourceQuotaSpec)) *corev1.ResourceQuota {
	c.Helper()
	q := &corev1.ResourceQuota{ObjectMeta: meta(name), Spec: corev1.ResourceQuotaSpec{Hard: hard}}
	for _, f := range change {
		f(&q.Spec)
	}
	return c.must(q).(*corev1.ResourceQuota)
}

func scoped(s ...corev1.ResourceQuotaScope) func(*corev1.ResourceQuotaSpec) {
	return func(q *corev1.ResourceQuotaSpec) { q.Scopes = s }
}

// used waits until a quota's status says that this is used, of what its spec
// allows.
func (c *cluster) used(name string, pairs ...string) {
	c.Helper()
	want := list(pairs...)
	c.status(name, func(q *corev1.ResourceQuota) string {
		if !same(q.Status.Hard, q.Spec.Hard) {
			return fmt.Sprintf("hard %v", q.Status.Hard)
		}
		if !same(q.Status.Used, want) {
			return fmt.Sprintf("used %v, want %v", q.Status.Used, want)
		}
		return ""
	})
}

func (c *cluster) status(name string, wrong func(*corev1.ResourceQuota) string) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	def := object.Of[*corev1.ResourceQuota](c.Scheme())
	all, rev, err := client.ListOf[*corev1.ResourceQuota](ctx, c, "ns", client.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		c.Fatal(err)
	}
	why := "there is none"
	for _, q := range all {
		if why = wrong(q); why == "" {
			return
		}
	}
	w, err := c.Watch(ctx, def, "ns", client.WatchOptions{From: rev, FieldSelector: "metadata.name=" + name})
	if err != nil {
		c.Fatal(err)
	}
	defer w.Close()
	for {
		events, err := w.Next(ctx)
		if err != nil {
			c.Fatalf("quota %s: %s (%v)", name, why, err)
		}
		for _, e := range events {
			if q, ok := e.Object.(*corev1.ResourceQuota); ok && e.Type != client.Deleted {
				if why = wrong(q); why == "" {
					return
				}
			}
		}
	}
}

func same(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for n, q := range a {
		if o, ok := b[n]; !ok || o.Cmp(q) != 0 {
			return false
		}
	}
	return true
}

func pod(name string, requests, limits corev1.ResourceList, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: meta(name), Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}},
	}}
	for _, f := range change {
		f(p)
	}
	return p
}

// conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated. [Conformance]
func TestStatusIsPromptlyCalculated(t *testing.T) {
	c := start(t)
	c.quota("q", list("cpu", "1", "memory", "500Mi", "pods", "5", "services", "10", "resourcequotas", "1", "count/replicasets.apps", "5", "services.nodeports", "1", "count/nothings.example.com", "3"))
	c.used("q", "cpu", "0", "memory", "0", "pods", "0", "services", "0", "resourcequotas", "1", "count/replicasets.apps", "0", "services.nodeports", "0")
	c.refused(&corev1.ResourceQuota{ObjectMeta: meta("r")}, `resourcequotas "r" is forbidden: exceeded quota: q, requested: resourcequotas=1, used: resourcequotas=1, limited: resourcequotas=1`)
}

// conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap. [Conformance]
// conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a secret. [Conformance]
// conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replica set. [Conformance]
// conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replication controller. [Conformance]
func TestLifeOfWhatIsCounted(t *testing.T) {
	labels := map[string]string{"a": "b"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod("p", nil, nil).Spec}
	for _, tc := range []struct {
		name string
		obj  func(name string) object.Object
		text string
	}{
		{"configmaps", func(n string) object.Object { return &corev1.ConfigMap{ObjectMeta: meta(n)} }, "configmaps"},
		{"count/configmaps", func(n string) object.Object { return &corev1.ConfigMap{ObjectMeta: meta(n)} }, "configmaps"},
		{"secrets", func(n string) object.Object { return &corev1.Secret{ObjectMeta: meta(n)} }, "secrets"},
		{"count/replicasets.apps", func(n string) object.Object {
			return &appsv1.ReplicaSet{ObjectMeta: meta(n), Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template}}
		}, "replicasets.apps"},
		{"replicationcontrollers", func(n string) object.Object {
			return &corev1.ReplicationController{ObjectMeta: meta(n), Spec: corev1.ReplicationControllerSpec{Selector: labels, Template: &template}}
		}, "replicationcontrollers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := start(t)
			c.must(tc.obj("before"))
			c.quota("q", list(tc.name, "2"))
			c.used("q", tc.name, "1")
			o := c.must(tc.obj("o"))
			c.refused(tc.obj("p"), fmt.Sprintf("%s %q is forbidden: exceeded quota: q, requested: %s=1, used: %s=2, limited: %s=2", tc.text, "p", tc.name, tc.name, tc.name))
			c.used("q", tc.name, "2")
			c.delete(o)
			c.used("q", tc.name, "1")
			c.must(tc.obj("p"))
			c.used("q", tc.name, "2")
		})
	}
}

// conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a pod. [Conformance]
func TestLifeOfAPod(t *testing.T) {
	c := start(t)
	c.quota("q", list("pods", "5", "cpu", "1", "memory", "500Mi", "requests.ephemeral-storage", "50Gi", "requests.example.com/dongle", "3", "limits.cpu", "2", "count/pods", "5"))
	p := c.must(pod("p", list("cpu", "500m", "memory", "252Mi", "ephemeral-storage", "30Gi", "example.com/dongle", "2"), list("cpu", "1", "example.com/dongle", "2"))).(*corev1.Pod)
	usage := []string{"pods", "1", "cpu", "500m", "memory", "252Mi", "requests.ephemeral-storage", "30Gi", "requests.example.com/dongle", "2", "limits.cpu", "1", "count/pods", "1"}
	c.used("q", usage...)
	c.refused(pod("too-large", list("cpu", "600m", "memory", "100Mi"), list("cpu", "1")), `pods "too-large" is forbidden: exceeded quota: q, requested: cpu=600m, used: cpu=500m, limited: cpu=1`)
	c.refused(pod("too-many", list("cpu", "1m", "memory", "1", "example.com/dongle", "2"), list("cpu", "1", "example.com/dongle", "2")),
		`pods "too-many" is forbidden: exceeded quota: q, requested: requests.example.com/dongle=2, used: requests.example.com/dongle=2, limited: requests.example.com/dongle=3`)
	c.refused(pod("silent", nil, nil), `pods "silent" is forbidden: failed quota: q: must specify cpu for: c; limits.cpu for: c; memory for: c`)
	more := p.DeepCopy()
	more.Spec.Containers[0].Resources.Requests["cpu"] = kresource.MustParse("600m")
	if _, err := client.Update(t.Context(), c, more); err == nil {
		t.Error("a pod's requests changed by an update")
	}
	c.used("q", usage...)
	c.delete(p)
	c.used("q", "pods", "0", "cpu", "0", "memory", "0", "requests.ephemeral-storage", "0", "requests.example.com/dongle", "0", "limits.cpu", "0", "count/pods", "0")
}

func TestPodsThatEndFreeWhatTheyUsed(t *testing.T) {
	c := start(t)
	c.quota("q", list("requests.cpu", "1", "pods", "2", "count/pods", "3"))
	p := c.must(pod("p", list("cpu", "1"), nil)).(*corev1.Pod)
	c.used("q", "requests.cpu", "1", "pods", "1", "count/pods", "1")
	ended := *p
	ended.Status.Phase = corev1.PodSucceeded
	if _, err := client.UpdateStatus(t.Context(), c, &ended); err != nil {
		t.Fatal(err)
	}
	c.used("q", "requests.cpu", "0", "pods", "0", "count/pods", "1")
	// A pod that should be gone, but whose node is lost.
	lost := c.must(pod("lost", list("cpu", "1"), nil, func(p *corev1.Pod) { p.Spec.NodeName = "lost" })).(*corev1.Pod)
	c.used("q", "requests.cpu", "1", "pods", "1", "count/pods", "2")
	grace := int64(60)
	if err := client.Delete[*corev1.Pod](t.Context(), c, "ns", lost.Name, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		t.Fatal(err)
	}
	marker := c.must(pod("marker", list("cpu", "0"), nil)) // once it is booked, so is the deletion
	c.used("q", "requests.cpu", "1", "pods", "2", "count/pods", "3")
	c.delete(marker)
	c.used("q", "requests.cpu", "1", "pods", "1", "count/pods", "2")
	c.refused(pod("next", list("cpu", "1"), nil), `pods "next" is forbidden: exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=1, limited: requests.cpu=1`)
	c.clock.Store(120)
	c.must(pod("next", list("cpu", "1"), nil))
	c.used("q", "requests.cpu", "1", "pods", "1", "count/pods", "3")
	c.delete(lost)
	c.used("q", "requests.cpu", "1", "pods", "1", "count/pods", "2")
}

// conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a service. [Conformance]
func TestLifeOfAService(t *testing.T) {
	c := start(t)
	service := func(name string, typ corev1.ServiceType, ports int) *corev1.Service {
		s := &corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{Type: typ, ClusterIP: "None", ClusterIPs: []string{"None"}}}
		if typ != corev1.ServiceTypeClusterIP {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		}
		for i := range ports {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: int32(80 + i), Protocol: corev1.ProtocolTCP})
		}
		return s
	}
	c.quota("q", list("services", "3", "services.nodeports", "2", "services.loadbalancers", "1", "count/services", "3"))
	plain := c.must(service("plain", corev1.ServiceTypeClusterIP, 1))
	node := c.must(service("node", corev1.ServiceTypeNodePort, 1)).(*corev1.Service)
	c.used("q", "services", "2", "services.nodeports", "1", "services.loadbalancers", "0", "count/services", "2")
	c.refused(service("many", corev1.ServiceTypeLoadBalancer, 2), `services "many" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=1, limited: services.nodeports=2`)
	c.must(service("balancer", corev1.ServiceTypeLoadBalancer, 1))
	c.used("q", "services", "3", "services.nodeports", "2", "services.loadbalancers", "1", "count/services", "3")
	changed := node.DeepCopy()
	changed.Spec.Ports = append(changed.Spec.Ports, corev1.ServicePort{Name: "q", Port: 90, Protocol: corev1.ProtocolTCP})
	_, err := client.Update(t.Context(), c, changed)
	if want := `services "node" is forbidden: exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=2, limited: services.nodeports=2`; err == nil || err.Error() != want {
		t.Errorf("one more port: %v", err)
	}
	c.delete(plain)
	c.used("q", "services", "2", "services.nodeports", "2", "services.loadbalancers", "1", "count/services", "2")
}

// conformance: [sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope. [Conformance]
// conformance: [sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes. [Conformance]
func TestScopes(t *testing.T) {
	c := start(t)
	class := corev1.ScopedResourceSelectorRequirement{ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: corev1.ScopeSelectorOpIn, Values: []string{"high"}}
	hard := func() corev1.ResourceList { return list("pods", "5") }
	c.quota("best-effort", hard(), scoped(corev1.ResourceQuotaScopeBestEffort))
	c.quota("not-best-effort", hard(), scoped(corev1.ResourceQuotaScopeNotBestEffort))
	c.quota("terminating", list("pods", "5", "requests.cpu", "1"), scoped(corev1.ResourceQuotaScopeTerminating))
	c.quota("not-terminating", hard(), scoped(corev1.ResourceQuotaScopeNotTerminating))
	c.quota("affinity", list("pods", "0"), scoped(corev1.ResourceQuotaScopeCrossNamespacePodAffinity))
	c.quota("high", hard(), func(s *corev1.ResourceQuotaSpec) {
		s.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{class}}
	})
	c.used("terminating", "pods", "0", "requests.cpu", "0")
	lazy := c.must(pod("lazy", nil, nil))
	c.used("best-effort", "pods", "1")
	c.used("not-best-effort", "pods", "0")
	c.used("not-terminating", "pods", "1")
	c.delete(lazy)
	c.used("best-effort", "pods", "0")
	second := int64(3600)
	brief := c.must(pod("brief", list("cpu", "500m"), nil, func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &second; p.Spec.PriorityClassName = "high" }))
	c.used("terminating", "pods", "1", "requests.cpu", "500m")
	c.used("not-best-effort", "pods", "1")
	c.used("not-terminating", "pods", "0")
	c.used("high", "pods", "1")
	c.refused(pod("near", nil, nil, func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: "kubernetes.io/hostname", NamespaceSelector: &metav1.LabelSelector{}, LabelSelector: &metav1.LabelSelector{}},
		}}}
	}), `pods "near" is forbidden: exceeded quota: affinity, requested: pods=1, used: pods=0, limited: pods=0`)
	c.delete(brief)
	c.used("terminating", "pods", "0", "requests.cpu", "0")
	c.used("high", "pods", "0")
}

func TestClaims(t *testing.T) {
	c := start(t)
	gold := "gold"
	claim := func(name, size string, class *string) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: meta(name), Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: class,
			Resources: corev1.VolumeResourceRequirements{Requests: list("storage", size)},
		}}
	}
	c.quota("q", list("persistentvolumeclaims", "3", "requests.storage", "10Gi", "gold.storageclass.storage.k8s.io/requests.storage", "3Gi", "gold.storageclass.storage.k8s.io/persistentvolumeclaims", "2"))
	c.must(claim("a", "5Gi", nil))
	c.must(claim("b", "2Gi", &gold))
	c.used("q", "persistentvolumeclaims", "2", "requests.storage", "7Gi", "gold.storageclass.storage.k8s.io/requests.storage", "2Gi", "gold.storageclass.storage.k8s.io/persistentvolumeclaims", "1")
	c.refused(claim("c", "2Gi", &gold), `persistentvolumeclaims "c" is forbidden: exceeded quota: q, requested: gold.storageclass.storage.k8s.io/requests.storage=2Gi, used: gold.storageclass.storage.k8s.io/requests.storage=2Gi, limited: gold.storageclass.storage.k8s.io/requests.storage=3Gi`)
}

// conformance: [sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota. [Conformance]
// conformance: [sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota [Conformance]
// conformance: [sig-api-machinery] ResourceQuota should apply changes to a resourcequota status [Conformance]
func TestLifeOfAQuota(t *testing.T) {
	c := start(t)
	c.must(pod("p", list("cpu", "500m", "memory", "1Mi"), nil))
	q := c.quota("q", list("cpu", "1", "memory", "500Mi"))
	c.used("q", "cpu", "500m", "memory", "1Mi")
	// A status written by somebody else is put right.
	for _, sub := range []string{"status", ""} {
		patch := []byte(`{"status":{"hard":{"cpu":"7","memory":"7Gi"},"used":{"cpu":"0"}}}`)
		if sub == "" {
			patch = []byte(`{"spec":{"hard":{"cpu":"2","memory":"1Gi","pods":"1"}}}`)
		}
		if _, err := c.Patch(t.Context(), object.Of[*corev1.ResourceQuota](c.Scheme()), "ns", "q", client.Patch{Type: "application/merge-patch+json", Data: patch, Subresource: sub}); err != nil {
			t.Fatal(err)
		}
		if sub == "status" {
			c.used("q", "cpu", "500m", "memory", "1Mi")
		}
	}
	c.refused(pod("r", list("cpu", "1m", "memory", "1Mi"), nil), `pods "r" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1`)
	c.used("q", "cpu", "500m", "memory", "1Mi", "pods", "1")
	c.delete(q)
	if _, err := client.Get[*corev1.ResourceQuota](t.Context(), c, "ns", "q"); err == nil {
		t.Error("the quota is still there")
	}
	labelled := &corev1.ResourceQuota{ObjectMeta: meta("r"), Spec: corev1.ResourceQuotaSpec{Hard: list("pods", "1")}}
	labelled.Labels = map[string]string{"a": "b"}
	c.must(labelled)
	c.quota("s", list("pods", "1"))
	def := object.Of[*corev1.ResourceQuota](c.Scheme())
	selector, err := object.ParseSelector(def, "a=b", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.engine.DeleteCollection(t.Context(), resource.Caller{}, resource.Target{Kind: c.engine.Kind(def), Namespace: "ns"}, &metav1.DeleteOptions{}, resource.ListOptions{Selector: selector}); err != nil {
		t.Fatal(err)
	}
	left, _, err := client.ListOf[*corev1.ResourceQuota](t.Context(), c, "", client.ListOptions{})
	if err != nil || len(left) != 1 || left[0].Name != "s" {
		t.Errorf("%d are left, %v", len(left), err)
	}
}

// A quota may name a kind before there is one; it counts once there is.
func TestKindsMadeAtRunTimeAreCounted(t *testing.T) {
	c := start(t)
	c.quota("q", list("count/widgets.example.org", "1"))
	c.used("q")
	fresh := func(kind string) map[string]any { return map[string]any{"apiVersion": "example.org/v1", "kind": kind} }
	d := &object.Definition{
		Group: "example.org", Version: "v1", Kind: "Widget", Resource: "widgets", Singular: "widget", Namespaced: true,
		New:     func() object.Object { return &unstructured.Unstructured{Object: fresh("Widget")} },
		NewList: func() runtime.Object { return &unstructured.UnstructuredList{Object: fresh("WidgetList")} },
	}
	if err := c.Scheme().Add(d); err != nil {
		t.Fatal(err)
	}
	c.used("q", "count/widgets.example.org", "0")
	make := func(name string) error {
		o := d.New()
		o.SetNamespace("ns")
		o.SetName(name)
		_, err := c.Create(t.Context(), d, o)
		return err
	}
	if err := make("a"); err != nil {
		t.Fatal(err)
	}
	if err := make("b"); err == nil || !strings.Contains(err.Error(), "exceeded quota: q, requested: count/widgets.example.org=1, used: count/widgets.example.org=1, limited: count/widgets.example.org=1") {
		t.Errorf("one too many: %v", err)
	}
	c.used("q", "count/widgets.example.org", "1")
	if err := c.Delete(t.Context(), d, "ns", "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.used("q", "count/widgets.example.org", "0")
}

func TestConcurrentCreatesNeverExceed(t *testing.T) {
	c := start(t)
	c.quota("q", list("pods", "20", "requests.cpu", "100"))
	c.quota("r", list("count/configmaps", "10"))
	def := object.Of[*corev1.Pod](c.Scheme())
	maps := object.Of[*corev1.ConfigMap](c.Scheme())
	for round := range 3 {
		var wg sync.WaitGroup
		var made, counted atomic.Int64
		for i := range 40 {
			wg.Go(func() {
				if i%4 == 0 { // several in one commit
					var writes []client.Write
					for j := range 5 {
						writes = append(writes, client.Write{Op: client.OpCreate, Definition: def, Object: pod(fmt.Sprintf("b%d-%d-%d", round, i, j), list("cpu", "1"), nil)})
					}
					for _, r := range c.Batch(t.Context(), writes) {
						if r.Err == nil {
							made.Add(1)
						} else if !strings.Contains(r.Err.Error(), "exceeded quota: q") {
							t.Error(r.Err)
						}
					}
					return
				}
				if _, err := c.Create(t.Context(), def, pod(fmt.Sprintf("p%d-%d", round, i), list("cpu", "1"), nil)); err == nil {
					made.Add(1)
				}
				// Lost to a later refusal, and to a name that is taken: no charge stays.
				_, _ = c.Create(t.Context(), def, pod("cursed", list("cpu", "50"), nil))
				if _, err := c.Create(t.Context(), maps, &corev1.ConfigMap{ObjectMeta: meta(fmt.Sprintf("m%d", i%15))}); err == nil {
					counted.Add(1)
				}
			})
		}
		wg.Wait()
		if made.Load() > 20 || counted.Load() > 10 {
			t.Fatalf("%d pods of 20, %d maps of 10", made.Load(), counted.Load())
		}
		// Refused for a charge that came to nothing: there is room for the rest.
		for i := made.Load(); i < 20; i++ {
			c.must(pod(fmt.Sprintf("rest%d-%d", round, i), list("cpu", "1"), nil))
		}
		c.refused(pod("more", list("cpu", "1"), nil), `pods "more" is forbidden: exceeded quota: q, requested: pods=1, used: pods=20, limited: pods=20`)
		c.used("q", "pods", "20", "requests.cpu", "20")
		all, _, err := client.ListOf[*corev1.Pod](t.Context(), c, "ns", client.ListOptions{})
		if err != nil || len(all) != 20 {
			t.Fatalf("%d pods, %v", len(all), err)
		}
		for _, p := range all {
			c.delete(p)
		}
		c.used("q", "pods", "0", "requests.cpu", "0")
		kept, _, err := client.ListOf[*corev1.ConfigMap](t.Context(), c, "ns", client.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c.used("r", "count/configmaps", fmt.Sprint(len(kept)))
		for _, m := range kept {
			c.delete(m)
		}
		c.used("r", "count/configmaps", "0")
	}
}

func TestDryRunReservesNothing(t *testing.T) {
	c := start(t)
	c.quota("q", list("pods", "1"))
	def := object.Of[*corev1.Pod](c.Scheme())
	target := resource.Target{Kind: c.engine.Kind(def), Namespace: "ns"}
	who := resource.Caller{User: &user.DefaultInfo{Name: "admin"}}
	for range 3 {
		if _, err := c.engine.Create(t.Context(), who, target, pod("dry", nil, nil), &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
			t.Fatal(err)
		}
	}
	c.must(pod("wet", nil, nil))
	_, err := c.engine.Create(t.Context(), who, target, pod("dry", nil, nil), &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err == nil || !strings.Contains(err.Error(), "exceeded quota") {
		t.Errorf("a dry run beyond the quota: %v", err)
	}
}
