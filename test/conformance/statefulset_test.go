package conformance

import (
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func statefulSet(name, image string, n int32) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{ObjectMeta: meta(name, "app", name), Spec: appsv1.StatefulSetSpec{Replicas: &n, ServiceName: name, Selector: selector(name), Template: template(name, image)}}
}

// versions are the images of a set's pods by name, of those that are ready.
func (c *cluster) versions(name string) map[string]string {
	out := map[string]string{}
	for _, p := range c.pods("app=" + name) {
		if isReady(&p) {
			out[p.Name] = p.Spec.Containers[0].Image
		}
	}
	return out
}

func (c *cluster) patchStateful(name, patch string) {
	c.Helper()
	must(c.AppsV1().StatefulSets(ns).Patch(c.ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}))
}

func (c *cluster) stateful(name string) *appsv1.StatefulSet {
	return must(c.AppsV1().StatefulSets(ns).Get(c.ctx, name, metav1.GetOptions{}))
}

// rolled says whether all pods of a set are of an image, and its status says so.
func (c *cluster) rolled(name, image string, n int) bool {
	vs, s := c.versions(name), c.stateful(name)
	for _, v := range vs {
		if v != image {
			return false
		}
	}
	return len(vs) == n && s.Status.CurrentRevision == s.Status.UpdateRevision && s.Status.ObservedGeneration == s.Generation
}

// order of creation or deletion of a set's pods while f runs.
func (c *cluster) order(name string, event string, f func()) (names []string) {
	stop := c.observe("app=" + name)
	f()
	for _, e := range stop() {
		if p, ok := e.Object.(*corev1.Pod); ok && string(e.Type) == event {
			names = append(names, p.Name)
		}
	}
	return names
}

func TestStatefulSet(t *testing.T) {
	const basic = "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] "
	conform(t, basic+"should perform rolling updates and roll backs of template modifications [Conformance]", func(c *cluster) {
		must(c.AppsV1().StatefulSets(ns).Create(c.ctx, statefulSet("db", "v1", 3), metav1.CreateOptions{}))
		c.eventually("three pods", func() bool { return c.rolled("db", "v1", 3) })
		first := c.stateful("db").Status.CurrentRevision
		for _, v := range []string{"v2", "v1"} {
			gone := c.order("db", "DELETED", func() {
				c.patchStateful("db", image(v))
				c.eventually(v, func() bool { return c.rolled("db", v, 3) })
			})
			c.want(slices.Equal(gone, []string{"db-2", "db-1", "db-0"}), "to %s in the order %v", v, gone)
		}
		c.want(c.stateful("db").Status.CurrentRevision == first, "rolling back made a revision of its own")
	})
	conform(t, basic+"should perform canary updates and phased rolling updates of template modifications [Conformance]", func(c *cluster) {
		s := statefulSet("db", "v1", 3)
		three := int32(3)
		s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &three}}
		must(c.AppsV1().StatefulSets(ns).Create(c.ctx, s, metav1.CreateOptions{}))
		c.eventually("three pods", func() bool { return c.rolled("db", "v1", 3) })
		c.patchStateful("db", image("v2"))
		c.settle(time.Minute)
		for _, v := range c.versions("db") {
			c.want(v == "v1", "updated beyond the partition")
		}
		partition := func(p string) {
			c.patchStateful("db", `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":`+p+`}}}}`)
		}
		partition("2")
		c.eventually("the canary", func() bool { v := c.versions("db"); return v["db-2"] == "v2" && v["db-0"] == "v1" && v["db-1"] == "v1" })
		// Pods that go come back in the version of their side of the partition.
		for _, n := range []string{"db-0", "db-2"} {
			c.ok(c.CoreV1().Pods(ns).Delete(c.ctx, n, metav1.DeleteOptions{}))
		}
		c.settle(time.Second)
		c.eventually("both back", func() bool { v := c.versions("db"); return v["db-2"] == "v2" && v["db-0"] == "v1" && v["db-1"] == "v1" })
		partition("1")
		c.eventually("the second phase", func() bool { v := c.versions("db"); return v["db-2"] == "v2" && v["db-0"] == "v1" && v["db-1"] == "v2" })
		partition("0")
		c.eventually("the end", func() bool { return c.rolled("db", "v2", 3) })
	})
	conform(t, basic+"Scaling should happen in predictable order and halt if any stateful pod is unhealthy [Slow] [Conformance]", func(c *cluster) {
		made := c.order("db", "ADDED", func() {
			must(c.AppsV1().StatefulSets(ns).Create(c.ctx, statefulSet("db", "v1", 1), metav1.CreateOptions{}))
			c.eventually("a pod", func() bool { return c.rolled("db", "v1", 1) })
			c.turn("db-0", false)
			c.patchStateful("db", `{"spec":{"replicas":3}}`)
			c.settle(time.Minute)
			c.want(len(c.pods("app=db")) == 1, "scaled past an unhealthy pod")
			c.turn("db-0", true)
			c.eventually("three pods", func() bool { return c.rolled("db", "v1", 3) })
		})
		c.want(slices.Equal(made, []string{"db-0", "db-1", "db-2"}), "made in the order %v", made)
		gone := c.order("db", "DELETED", func() {
			for _, n := range []string{"db-0", "db-1", "db-2"} {
				c.turn(n, false)
			}
			c.patchStateful("db", `{"spec":{"replicas":0}}`)
			c.settle(time.Minute)
			c.want(len(c.pods("app=db")) == 3, "scaled down past an unhealthy pod")
			// The first unhealthy pod of all goes as it is, as upstream has it.
			c.turn("db-2", true)
			c.turn("db-1", true)
			c.eventually("none", func() bool { return len(c.pods("app=db")) == 0 })
		})
		c.want(slices.Equal(gone, []string{"db-2", "db-1", "db-0"}), "gone in the order %v", gone)
	})
	conform(t, basic+"Burst scaling should run to completion even with unhealthy pods [Slow] [Conformance]", func(c *cluster) {
		s := statefulSet("db", "v1", 1)
		s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
		must(c.AppsV1().StatefulSets(ns).Create(c.ctx, s, metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.rolled("db", "v1", 1) })
		c.turn("db-0", false)
		c.patchStateful("db", `{"spec":{"replicas":3}}`)
		c.eventually("three pods", func() bool { return len(c.pods("app=db")) == 3 })
		c.turn("db-1", false)
		c.patchStateful("db", `{"spec":{"replicas":0}}`)
		c.eventually("none", func() bool { return len(c.pods("app=db")) == 0 })
		c.eventually("the status", func() bool { return c.stateful("db").Status.Replicas == 0 })
	})
	conform(t, basic+"Should recreate evicted statefulset [Conformance]", func(c *cluster) {
		busy := &corev1.Pod{ObjectMeta: meta("busy"), Spec: template("busy", "v1").Spec}
		busy.Spec.NodeName = "n1"
		busy.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 21017, HostPort: 21017}}
		must(c.CoreV1().Pods(ns).Create(c.ctx, busy, metav1.CreateOptions{}))
		s := statefulSet("db", "v1", 1)
		s.Spec.Template.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "n1"}
		must(c.AppsV1().StatefulSets(ns).Create(c.ctx, s, metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.rolled("db", "v1", 1) })
		p := must(c.CoreV1().Pods(ns).Get(c.ctx, "db-0", metav1.GetOptions{}))
		p.Status.Phase = corev1.PodFailed // the node refused it
		must(c.CoreV1().Pods(ns).UpdateStatus(c.ctx, p, metav1.UpdateOptions{}))
		c.ok(c.CoreV1().Pods(ns).Delete(c.ctx, "busy", metav1.DeleteOptions{}))
		c.eventually("its revival", func() bool {
			got, err := c.CoreV1().Pods(ns).Get(c.ctx, "db-0", metav1.GetOptions{})
			return err == nil && got.UID != p.UID && isReady(got)
		})
	})
	conform(t, basic+"should have a working scale subresource [Conformance]", func(c *cluster) {
		sets := c.AppsV1().StatefulSets(ns)
		must(sets.Create(c.ctx, statefulSet("db", "v1", 1), metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.rolled("db", "v1", 1) })
		s := must(sets.GetScale(c.ctx, "db", metav1.GetOptions{}))
		s.ResourceVersion, s.Spec.Replicas = "", 2
		c.want(must(sets.UpdateScale(c.ctx, "db", s, metav1.UpdateOptions{})).Spec.Replicas == 2, "not updated")
		c.want(*c.stateful("db").Spec.Replicas == 2, "not scaled")
		must(sets.Patch(c.ctx, "db", types.StrategicMergePatchType, []byte(`{"spec":{"replicas":4}}`), metav1.PatchOptions{}, "scale"))
		c.eventually("four pods", func() bool { return c.rolled("db", "v1", 4) })
	})
	conform(t, basic+"should list, patch and delete a collection of StatefulSets [Conformance]", func(c *cluster) {
		sets := c.AppsV1().StatefulSets(ns)
		s := statefulSet("all", "v1", 1)
		must(sets.Create(c.ctx, s, metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.rolled("all", "v1", 1) })
		c.patchStateful("all", `{"metadata":{"labels":{"test-ss":"patched"}},"spec":{"replicas":2,"template":{"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"c","image":"v2"}]}}}}`)
		c.eventually("the patch", func() bool { return c.rolled("all", "v2", 2) })
		o := metav1.ListOptions{LabelSelector: "test-ss=patched"}
		c.want(len(must(c.AppsV1().StatefulSets("").List(c.ctx, o)).Items) == 1, "not listed")
		c.ok(sets.DeleteCollection(c.ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, o))
		c.eventually("the end", func() bool { return len(must(sets.List(c.ctx, o)).Items) == 0 && len(c.pods("")) == 0 })
	})
	conform(t, basic+"should validate Statefulset Status endpoints [Conformance]", func(c *cluster) {
		sets := c.AppsV1().StatefulSets(ns)
		must(sets.Create(c.ctx, statefulSet("status", "v1", 1), metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.rolled("status", "v1", 1) })
		s := c.stateful("status")
		s.Status.Conditions = append(s.Status.Conditions, appsv1.StatefulSetCondition{Type: "StatusUpdate", Status: "True", Reason: "E2E"})
		must(sets.UpdateStatus(c.ctx, s, metav1.UpdateOptions{}))
		c.settle(0)
		c.want(len(c.stateful("status").Status.Conditions) == 1, "the condition is lost")
		must(sets.Patch(c.ctx, "status", types.MergePatchType, []byte(`{"status":{"conditions":[{"type":"StatusPatched","status":"True"}]}}`), metav1.PatchOptions{}, "status"))
		c.settle(0)
		got := c.stateful("status").Status
		c.want(len(got.Conditions) == 1 && got.Conditions[0].Type == "StatusPatched" && got.ReadyReplicas == 1, "%+v", got)
	})
}
