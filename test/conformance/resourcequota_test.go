package conformance

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// resources reads pairs of a name and an amount.
func resources(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i+1 < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

// quota creates one whose hard limits are as given and waits until its status
// says so.
func (c *cluster) quota(name string, hard corev1.ResourceList, scopes ...corev1.ResourceQuotaScope) {
	c.Helper()
	must(c.CoreV1().ResourceQuotas(ns).Create(c.ctx, &corev1.ResourceQuota{ObjectMeta: meta(name), Spec: corev1.ResourceQuotaSpec{Hard: hard, Scopes: scopes}}, metav1.CreateOptions{}))
	c.eventually("the quota's status", func() bool {
		q := must(c.CoreV1().ResourceQuotas(ns).Get(c.ctx, name, metav1.GetOptions{}))
		return same(q.Status.Hard, hard) && len(q.Status.Used) == len(hard)
	})
}

func same(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for k, x := range a {
		if y, ok := b[k]; !ok || x.Cmp(y) != 0 {
			return false
		}
	}
	return true
}

// used waits until a quota says that so much is used, of what is named.
func (c *cluster) used(name string, pairs ...string) {
	c.Helper()
	want := resources(pairs...)
	c.eventually(fmt.Sprint(name, " with ", pairs), func() bool {
		q := must(c.CoreV1().ResourceQuotas(ns).Get(c.ctx, name, metav1.GetOptions{}))
		for k, x := range want {
			if y, ok := q.Status.Used[k]; !ok || x.Cmp(y) != 0 {
				return false
			}
		}
		return true
	})
}

func TestResourceQuota(t *testing.T) {
	pod := func(name string, requests, limits corev1.ResourceList) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: meta(name), Spec: template(name, "v1").Spec}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: requests, Limits: limits}
		return p
	}
	exceeds := func(c *cluster, err error) {
		c.Helper()
		c.want(apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"), "%v", err)
	}
	conform(t, "[sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated. [Conformance]", func(c *cluster) {
		began := time.Now()
		c.quota("q", resources("cpu", "1", "memory", "500Mi", "pods", "5", "services", "10", "resourcequotas", "1", "configmaps", "10", "count/replicasets.apps", "5"))
		c.want(time.Since(began) < time.Second, "after %s", time.Since(began))
		c.used("q", "cpu", "0", "memory", "0", "pods", "0", "services", "0", "resourcequotas", "1", "configmaps", "1", "count/replicasets.apps", "0")
	})
	// counted holds a quota to counting objects of one kind.
	counted := func(what string, make func(c *cluster, name string) error, remove func(c *cluster, name string) error) func(c *cluster) {
		return func(c *cluster) {
			var before int
			if what == "configmaps" { // the authorities' certificates
				before = 1
			}
			n := func(more int) string { return fmt.Sprint(before + more) }
			c.quota("q", resources(what, n(2), "resourcequotas", "1"))
			c.used("q", what, n(0), "resourcequotas", "1")
			c.ok(make(c, "one"))
			c.used("q", what, n(1), "resourcequotas", "1")
			c.ok(make(c, "two"))
			c.used("q", what, n(2))
			exceeds(c, make(c, "three"))
			c.ok(remove(c, "one"))
			c.used("q", what, n(1))
			c.ok(remove(c, "two"))
			c.used("q", what, n(0), "resourcequotas", "1")
		}
	}
	const life = "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a "
	none := metav1.DeleteOptions{}
	// [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap. [Conformance]
	conform(t, life+"configMap. [Conformance]", counted("configmaps", func(c *cluster, name string) error {
		_, err := c.tryMap(name, nil)
		return err
	}, func(c *cluster, name string) error { return c.CoreV1().ConfigMaps(ns).Delete(c.ctx, name, none) }))
	// [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a secret. [Conformance]
	conform(t, life+"secret. [Conformance]", counted("secrets", func(c *cluster, name string) error {
		_, err := c.CoreV1().Secrets(ns).Create(c.ctx, &corev1.Secret{ObjectMeta: meta(name), Data: map[string][]byte{"data-1": []byte("value-1\n")}}, metav1.CreateOptions{})
		return err
	}, func(c *cluster, name string) error { return c.CoreV1().Secrets(ns).Delete(c.ctx, name, none) }))
	// [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replica set. [Conformance]
	conform(t, life+"replica set. [Conformance]", counted("count/replicasets.apps", func(c *cluster, name string) error {
		_, err := c.AppsV1().ReplicaSets(ns).Create(c.ctx, &appsv1.ReplicaSet{ObjectMeta: meta(name), Spec: replicaSet(name, "v1", 0).Spec}, metav1.CreateOptions{})
		return err
	}, func(c *cluster, name string) error { return c.AppsV1().ReplicaSets(ns).Delete(c.ctx, name, none) }))
	// [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replication controller. [Conformance]
	conform(t, life+"replication controller. [Conformance]", counted("replicationcontrollers", func(c *cluster, name string) error {
		_, err := c.CoreV1().ReplicationControllers(ns).Create(c.ctx, replicationController(name, "v1", 0), metav1.CreateOptions{})
		return err
	}, func(c *cluster, name string) error {
		return c.CoreV1().ReplicationControllers(ns).Delete(c.ctx, name, none)
	}))
	conform(t, "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a service. [Conformance]", func(c *cluster) {
		c.quota("q", resources("services", "10", "services.nodeports", "1", "services.loadbalancers", "1", "resourcequotas", "1"))
		create := func(name string, sort corev1.ServiceType) error {
			_, err := c.CoreV1().Services(ns).Create(c.ctx, &corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{Type: sort, Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{})
			return err
		}
		c.ok(create("cluster", corev1.ServiceTypeClusterIP))
		c.ok(create("node", corev1.ServiceTypeNodePort))
		c.used("q", "services", "2", "services.nodeports", "1", "services.loadbalancers", "0", "resourcequotas", "1")
		exceeds(c, create("balancer", corev1.ServiceTypeLoadBalancer)) // it would need a node port as well
		c.used("q", "services", "2", "services.nodeports", "1", "services.loadbalancers", "0")
		for _, name := range []string{"cluster", "node"} {
			c.ok(c.CoreV1().Services(ns).Delete(c.ctx, name, none))
		}
		c.used("q", "services", "0", "services.nodeports", "0", "services.loadbalancers", "0", "resourcequotas", "1")
	})
	conform(t, "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a pod. [Conformance]", func(c *cluster) {
		const dongle = "example.com/dongle"
		pods := c.CoreV1().Pods(ns)
		c.quota("q", resources("cpu", "1", "memory", "500Mi", "requests.ephemeral-storage", "50Gi", "requests."+dongle, "3", "pods", "5"))
		p := must(pods.Create(c.ctx, pod("p", resources("cpu", "500m", "memory", "252Mi", "ephemeral-storage", "30Gi", dongle, "2"), resources(dongle, "2")), metav1.CreateOptions{}))
		usage := []string{"cpu", "500m", "memory", "252Mi", "requests.ephemeral-storage", "30Gi", "requests." + dongle, "2", "pods", "1"}
		c.used("q", usage...)
		_, err := pods.Create(c.ctx, pod("cpu", resources("cpu", "600m", "memory", "100Mi", "ephemeral-storage", "1Gi"), nil), metav1.CreateOptions{})
		exceeds(c, err)
		_, err = pods.Create(c.ctx, pod("extended", resources("cpu", "500m", "memory", "100Mi", "ephemeral-storage", "10Gi", dongle, "2"), resources(dongle, "2")), metav1.CreateOptions{})
		exceeds(c, err)
		p = must(pods.Get(c.ctx, p.Name, metav1.GetOptions{}))
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("100m")
		_, err = pods.Update(c.ctx, p, metav1.UpdateOptions{})
		c.want(apierrors.IsInvalid(err) || apierrors.IsForbidden(err), "requests changed by an update: %v", err)
		c.used("q", usage...)
		c.ok(pods.Delete(c.ctx, "p", none))
		c.used("q", "cpu", "0", "memory", "0", "requests.ephemeral-storage", "0", "requests."+dongle, "0", "pods", "0")
	})
	conform(t, "[sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota. [Conformance]", func(c *cluster) {
		quotas := c.CoreV1().ResourceQuotas(ns)
		c.quota("q", resources("cpu", "1", "memory", "500Mi"))
		q := must(quotas.Get(c.ctx, "q", metav1.GetOptions{}))
		c.want(same(q.Spec.Hard, resources("cpu", "1", "memory", "500Mi")), "%v", q.Spec.Hard)
		q.Spec.Hard = resources("cpu", "2", "memory", "1Gi")
		q = must(quotas.Update(c.ctx, q, metav1.UpdateOptions{}))
		c.want(same(q.Spec.Hard, resources("cpu", "2", "memory", "1Gi")), "%v", q.Spec.Hard)
		q = must(quotas.Get(c.ctx, "q", metav1.GetOptions{}))
		c.want(same(q.Spec.Hard, resources("cpu", "2", "memory", "1Gi")), "%v", q.Spec.Hard)
		c.ok(quotas.Delete(c.ctx, "q", none))
		_, err := quotas.Get(c.ctx, "q", metav1.GetOptions{})
		c.want(apierrors.IsNotFound(err), "%v", err)
	})
	conform(t, "[sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota [Conformance]", func(c *cluster) {
		quotas := c.CoreV1().ResourceQuotas(ns)
		q := &corev1.ResourceQuota{ObjectMeta: meta("q", "e2e", "mine"), Spec: corev1.ResourceQuotaSpec{Hard: resources("cpu", "1", "memory", "500Mi")}}
		must(quotas.Create(c.ctx, q, metav1.CreateOptions{}))
		must(quotas.Create(c.ctx, &corev1.ResourceQuota{ObjectMeta: meta("other")}, metav1.CreateOptions{}))
		mine := metav1.ListOptions{LabelSelector: "e2e=mine"}
		c.want(len(must(c.CoreV1().ResourceQuotas("").List(c.ctx, mine)).Items) == 1, "not one is listed in all namespaces")
		q = must(quotas.Patch(c.ctx, "q", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"patched":"true"}},"spec":{"hard":{"memory":"750Mi"}}}`), metav1.PatchOptions{}))
		c.want(q.Labels["patched"] == "true" && same(q.Spec.Hard, resources("cpu", "1", "memory", "750Mi")), "%v %v", q.Labels, q.Spec.Hard)
		c.ok(quotas.DeleteCollection(c.ctx, none, mine))
		left := must(quotas.List(c.ctx, metav1.ListOptions{})).Items
		c.want(len(left) == 1 && left[0].Name == "other", "%v", left)
	})
	conform(t, "[sig-api-machinery] ResourceQuota should apply changes to a resourcequota status [Conformance]", func(c *cluster) {
		quotas := c.CoreV1().ResourceQuotas(ns)
		// inForce waits until the reported limits are those of the spec.
		inForce := func(hard corev1.ResourceList) *corev1.ResourceQuota {
			c.Helper()
			var q *corev1.ResourceQuota
			c.eventually("the limits in the status", func() bool {
				q = must(quotas.Get(c.ctx, "q", metav1.GetOptions{}))
				return same(q.Spec.Hard, hard) && same(q.Status.Hard, hard)
			})
			return q
		}
		first, second := resources("cpu", "500m", "memory", "500Mi"), resources("cpu", "1", "memory", "1Gi")
		c.quota("q", first)
		q := inForce(first)
		q.Status.Hard = second
		q = must(quotas.UpdateStatus(c.ctx, q, metav1.UpdateOptions{}))
		c.want(same(q.Status.Hard, second) && same(q.Spec.Hard, first), "updated: %v, %v", q.Status.Hard, q.Spec.Hard)
		inForce(first)
		q = must(quotas.Patch(c.ctx, "q", types.MergePatchType, []byte(`{"spec":{"hard":{"cpu":"1","memory":"1Gi"}}}`), metav1.PatchOptions{}))
		c.want(same(q.Spec.Hard, second), "patched: %v", q.Spec.Hard)
		inForce(second)
		patch := must(json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{"a": "b"}}, "spec": map[string]any{"hard": resources("cpu", "7")}, "status": map[string]any{"hard": first}}))
		for range 2 {
			q = must(quotas.Patch(c.ctx, "q", types.MergePatchType, patch, metav1.PatchOptions{}, "status"))
			c.want(same(q.Status.Hard, first) && same(q.Spec.Hard, second), "patched: %v, %v", q.Status.Hard, q.Spec.Hard)
			inForce(second)
			status := &corev1.ResourceQuota{}
			c.ok(c.CoreV1().RESTClient().Get().Namespace(ns).Resource("resourcequotas").Name("q").SubResource("status").Do(c.ctx).Into(status))
			c.want(same(status.Status.Hard, second) && same(status.Spec.Hard, second), "read: %v", status.Status.Hard)
		}
	})
	conform(t, "[sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope. [Conformance]", func(c *cluster) {
		c.quota("best", resources("pods", "5"), corev1.ResourceQuotaScopeBestEffort)
		c.quota("not-best", resources("pods", "5"), corev1.ResourceQuotaScopeNotBestEffort)
		for _, tc := range []struct {
			pod           *corev1.Pod
			counts, other string
		}{
			{pod("p", nil, nil), "best", "not-best"},
			{pod("q", resources("cpu", "500m", "memory", "200Mi"), resources("cpu", "1", "memory", "400Mi")), "not-best", "best"},
		} {
			p := must(c.CoreV1().Pods(ns).Create(c.ctx, tc.pod, metav1.CreateOptions{}))
			c.used(tc.counts, "pods", "1")
			c.used(tc.other, "pods", "0")
			c.ok(c.CoreV1().Pods(ns).Delete(c.ctx, p.Name, none))
			c.used(tc.counts, "pods", "0")
		}
	})
	conform(t, "[sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes. [Conformance]", func(c *cluster) {
		hard := func() corev1.ResourceList {
			return resources("pods", "5", "requests.cpu", "1", "requests.memory", "500Mi", "limits.cpu", "2", "limits.memory", "1Gi")
		}
		c.quota("ends", hard(), corev1.ResourceQuotaScopeTerminating)
		c.quota("stays", hard(), corev1.ResourceQuotaScopeNotTerminating)
		nothing := []string{"pods", "0", "requests.cpu", "0", "requests.memory", "0", "limits.cpu", "0", "limits.memory", "0"}
		all := []string{"pods", "1", "requests.cpu", "500m", "requests.memory", "200Mi", "limits.cpu", "1", "limits.memory", "400Mi"}
		c.used("ends", nothing...)
		c.used("stays", nothing...)
		for counts, other := range map[string]string{"stays": "ends", "ends": "stays"} {
			p := pod(counts, resources("cpu", "500m", "memory", "200Mi"), resources("cpu", "1", "memory", "400Mi"))
			if counts == "ends" {
				p.Spec.ActiveDeadlineSeconds = new(int64(3600))
			}
			must(c.CoreV1().Pods(ns).Create(c.ctx, p, metav1.CreateOptions{}))
			c.used(counts, all...)
			c.used(other, nothing...)
			c.ok(c.CoreV1().Pods(ns).Delete(c.ctx, p.Name, none))
			c.used(counts, nothing...)
		}
	})
}
