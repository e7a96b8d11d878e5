package conformance

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func replicaSet(name, image string, n int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{ObjectMeta: meta(name, "app", name), Spec: appsv1.ReplicaSetSpec{Replicas: &n, Selector: selector(name), Template: template(name, image)}}
}

func replicationController(name, image string, n int32) *corev1.ReplicationController {
	t := template(name, image)
	return &corev1.ReplicationController{ObjectMeta: meta(name, "app", name), Spec: corev1.ReplicationControllerSpec{Replicas: &n, Selector: map[string]string{"app": name}, Template: &t}}
}

func TestReplicaSet(t *testing.T) {
	conform(t, "[sig-apps] ReplicaSet should serve a basic image on each replica with a public image [Conformance]", func(c *cluster) {
		must(c.AppsV1().ReplicaSets(ns).Create(c.ctx, replicaSet("basic", "v1", 2), metav1.CreateOptions{}))
		c.eventually("two ready pods", func() bool { return c.readyPods("app=basic") == 2 })
	})
	conform(t, "[sig-apps] ReplicaSet should adopt matching pods on creation and release no longer matching pods [Conformance]", func(c *cluster) {
		p := template("adopted", "v1")
		must(c.CoreV1().Pods(ns).Create(c.ctx, &corev1.Pod{ObjectMeta: meta("orphan", "app", "adopted"), Spec: p.Spec}, metav1.CreateOptions{}))
		rs := must(c.AppsV1().ReplicaSets(ns).Create(c.ctx, replicaSet("adopted", "v1", 1), metav1.CreateOptions{}))
		owned := func() bool {
			o := metav1.GetControllerOf(must(c.CoreV1().Pods(ns).Get(c.ctx, "orphan", metav1.GetOptions{})))
			return o != nil && o.UID == rs.UID
		}
		c.eventually("adoption", owned)
		c.want(len(c.pods("app=adopted")) == 1, "a pod too many")
		must(c.CoreV1().Pods(ns).Patch(c.ctx, "orphan", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"app":"free"}}}`), metav1.PatchOptions{}))
		c.eventually("release", func() bool { return !owned() && c.readyPods("app=adopted") == 1 })
	})
	conform(t, "[sig-apps] ReplicaSet Replicaset should have a working scale subresource [Conformance]", func(c *cluster) {
		sets := c.AppsV1().ReplicaSets(ns)
		must(sets.Create(c.ctx, replicaSet("scale", "v1", 1), metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.readyPods("app=scale") == 1 })
		s := must(sets.GetScale(c.ctx, "scale", metav1.GetOptions{}))
		c.want(s.Spec.Replicas == 1 && s.Status.Replicas == 1 && s.Status.Selector == "app=scale", "%+v", s)
		s.Spec.Replicas, s.ResourceVersion = 2, ""
		c.want(must(sets.UpdateScale(c.ctx, "scale", s, metav1.UpdateOptions{})).Spec.Replicas == 2, "not updated")
		c.want(*must(sets.Get(c.ctx, "scale", metav1.GetOptions{})).Spec.Replicas == 2, "not scaled")
		must(sets.Patch(c.ctx, "scale", types.MergePatchType, []byte(`{"spec":{"replicas":4}}`), metav1.PatchOptions{}, "scale"))
		c.eventually("four pods", func() bool { return c.readyPods("app=scale") == 4 })
	})
	conform(t, "[sig-apps] ReplicaSet Replace and Patch tests [Conformance]", func(c *cluster) {
		sets := c.AppsV1().ReplicaSets(ns)
		must(sets.Create(c.ctx, replicaSet("changed", "v1", 1), metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.readyPods("app=changed") == 1 })
		rs := must(sets.Get(c.ctx, "changed", metav1.GetOptions{}))
		two := int32(2)
		rs.Spec.Replicas = &two
		must(sets.Update(c.ctx, rs, metav1.UpdateOptions{}))
		c.eventually("two pods", func() bool { return c.readyPods("app=changed") == 2 })
		got := must(sets.Patch(c.ctx, "changed", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"test-rs":"patched"}},"spec":{"replicas":3,"template":{"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"c","image":"v2"}]}}}}`), metav1.PatchOptions{}))
		c.want(got.Labels["test-rs"] == "patched" && got.Spec.Template.Spec.Containers[0].Image == "v2" && *got.Spec.Replicas == 3, "%+v", got)
		c.eventually("three pods", func() bool { return c.readyPods("app=changed") == 3 })
	})
	conform(t, "[sig-apps] ReplicaSet should list and delete a collection of ReplicaSets [Conformance]", func(c *cluster) {
		sets := c.AppsV1().ReplicaSets(ns)
		for _, n := range []string{"one", "two", "three"} {
			rs := replicaSet(n, "v1", 1)
			rs.Labels["e2e"] = "collection"
			must(sets.Create(c.ctx, rs, metav1.CreateOptions{}))
		}
		all := metav1.ListOptions{LabelSelector: "e2e=collection"}
		c.want(len(must(c.AppsV1().ReplicaSets("").List(c.ctx, all)).Items) == 3, "not all listed")
		c.ok(sets.DeleteCollection(c.ctx, metav1.DeleteOptions{}, all))
		c.eventually("none", func() bool { return len(must(sets.List(c.ctx, all)).Items) == 0 && len(c.pods("")) == 0 })
	})
	conform(t, "[sig-apps] ReplicaSet should validate Replicaset Status endpoints [Conformance]", func(c *cluster) {
		sets := c.AppsV1().ReplicaSets(ns)
		must(sets.Create(c.ctx, replicaSet("status", "v1", 1), metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.readyPods("app=status") == 1 })
		c.settle(0)
		rs := must(sets.Get(c.ctx, "status", metav1.GetOptions{}))
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{Type: "StatusUpdate", Status: "True", Reason: "E2E", Message: "Set from e2e test"})
		must(sets.UpdateStatus(c.ctx, rs, metav1.UpdateOptions{}))
		got := must(sets.Patch(c.ctx, "status", types.MergePatchType, []byte(`{"status":{"conditions":[{"type":"StatusPatched","status":"True"}]}}`), metav1.PatchOptions{}, "status"))
		c.want(len(got.Status.Conditions) == 1 && got.Status.Conditions[0].Type == "StatusPatched" && got.Status.ReadyReplicas == 1, "%+v", got.Status)
		c.settle(0)
		c.want(len(must(sets.Get(c.ctx, "status", metav1.GetOptions{})).Status.Conditions) == 1, "the controller took a condition of others")
	})
}

func TestReplicationController(t *testing.T) {
	conform(t, "[sig-apps] ReplicationController should serve a basic image on each replica with a public image [Conformance]", func(c *cluster) {
		must(c.CoreV1().ReplicationControllers(ns).Create(c.ctx, replicationController("basic", "v1", 2), metav1.CreateOptions{}))
		c.eventually("two ready pods", func() bool { return c.readyPods("app=basic") == 2 })
	})
	conform(t, "[sig-apps] ReplicationController should adopt matching pods on creation [Conformance]", func(c *cluster) {
		must(c.CoreV1().Pods(ns).Create(c.ctx, &corev1.Pod{ObjectMeta: meta("orphan", "app", "adopted"), Spec: template("", "v1").Spec}, metav1.CreateOptions{}))
		must(c.CoreV1().ReplicationControllers(ns).Create(c.ctx, replicationController("adopted", "v1", 1), metav1.CreateOptions{}))
		c.eventually("adoption", func() bool {
			o := metav1.GetControllerOf(must(c.CoreV1().Pods(ns).Get(c.ctx, "orphan", metav1.GetOptions{})))
			return o != nil && o.Kind == "ReplicationController" && o.Name == "adopted" && len(c.pods("app=adopted")) == 1
		})
	})
	conform(t, "[sig-apps] ReplicationController should release no longer matching pods [Conformance]", func(c *cluster) {
		must(c.CoreV1().ReplicationControllers(ns).Create(c.ctx, replicationController("released", "v1", 1), metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.readyPods("app=released") == 1 })
		name := c.pods("app=released")[0].Name
		must(c.CoreV1().Pods(ns).Patch(c.ctx, name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"app":"free"}}}`), metav1.PatchOptions{}))
		c.eventually("release", func() bool {
			return metav1.GetControllerOf(must(c.CoreV1().Pods(ns).Get(c.ctx, name, metav1.GetOptions{}))) == nil && c.readyPods("app=released") == 1
		})
	})
	conform(t, "[sig-apps] ReplicationController should get and update a ReplicationController scale [Conformance]", func(c *cluster) {
		rcs := c.CoreV1().ReplicationControllers(ns)
		must(rcs.Create(c.ctx, replicationController("scale", "v1", 1), metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.readyPods("app=scale") == 1 })
		s := must(rcs.GetScale(c.ctx, "scale", metav1.GetOptions{}))
		c.want(s.Spec.Replicas == 1 && s.Status.Replicas == 1, "%+v", s)
		must(rcs.UpdateScale(c.ctx, "scale", &autoscalingv1.Scale{ObjectMeta: meta("scale"), Spec: autoscalingv1.ScaleSpec{Replicas: 2}}, metav1.UpdateOptions{}))
		c.eventually("two pods", func() bool { return c.readyPods("app=scale") == 2 })
	})
	conform(t, "[sig-apps] ReplicationController should test the lifecycle of a ReplicationController [Conformance]", func(c *cluster) {
		rcs := c.CoreV1().ReplicationControllers(ns)
		rc := replicationController("life", "v1", 1)
		rc.Labels["test-rc-static"] = "true"
		must(rcs.Create(c.ctx, rc, metav1.CreateOptions{}))
		w := must(rcs.Watch(c.ctx, metav1.ListOptions{LabelSelector: "test-rc-static=true", ResourceVersion: "1"}))
		defer w.Stop()
		until := func(what string, ok func(e string, rc *corev1.ReplicationController) bool) {
			for e := range w.ResultChan() {
				if ok(string(e.Type), e.Object.(*corev1.ReplicationController)) {
					return
				}
			}
			c.Fatalf("the watch ended before %s", what)
		}
		until("a ready replica", func(_ string, rc *corev1.ReplicationController) bool { return rc.Status.ReadyReplicas == 1 })
		must(rcs.Patch(c.ctx, "life", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"test-rc":"patched"}}}`), metav1.PatchOptions{}))
		until("the label", func(e string, rc *corev1.ReplicationController) bool { return rc.Labels["test-rc"] == "patched" })
		must(rcs.Patch(c.ctx, "life", types.StrategicMergePatchType, []byte(`{"status":{"readyReplicas":0,"availableReplicas":0}}`), metav1.PatchOptions{}, "status"))
		until("the patched status", func(e string, rc *corev1.ReplicationController) bool { return rc.Status.ReadyReplicas == 0 })
		until("the controller's answer", func(e string, rc *corev1.ReplicationController) bool { return rc.Status.ReadyReplicas == 1 })
		must(rcs.Patch(c.ctx, "life", types.StrategicMergePatchType, []byte(`{"spec":{"replicas":2}}`), metav1.PatchOptions{}, "scale"))
		until("the second replica", func(e string, rc *corev1.ReplicationController) bool { return rc.Status.ReadyReplicas == 2 })
		l := must(c.CoreV1().ReplicationControllers("").List(c.ctx, metav1.ListOptions{LabelSelector: "test-rc-static=true"}))
		c.want(len(l.Items) == 1, "%d listed", len(l.Items))
		c.ok(rcs.DeleteCollection(c.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "test-rc-static=true"}))
		until("the end", func(e string, rc *corev1.ReplicationController) bool { return e == "DELETED" })
	})
}
