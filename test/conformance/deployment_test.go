package conformance

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func deployment(name, image string, n int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: meta(name, "app", name), Spec: appsv1.DeploymentSpec{Replicas: &n, Selector: selector(name), Template: template(name, image)}}
}

// complete says whether all of a deployment's pods are of its template and there.
func (c *cluster) complete(name string) bool {
	d := must(c.AppsV1().Deployments(ns).Get(c.ctx, name, metav1.GetOptions{}))
	s := d.Status
	return s.ObservedGeneration == d.Generation && s.UpdatedReplicas == *d.Spec.Replicas && s.Replicas == *d.Spec.Replicas && s.AvailableReplicas == *d.Spec.Replicas
}

func (c *cluster) patchDeployment(name, patch string) {
	c.Helper()
	must(c.AppsV1().Deployments(ns).Patch(c.ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}))
}

func image(v string) string {
	return fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":%q}]}}}}`, v)
}

func TestDeployment(t *testing.T) {
	conform(t, "[sig-apps] Deployment RollingUpdateDeployment should delete old pods and create new ones [Conformance]", func(c *cluster) {
		rs := replicaSet("rolling", "v1", 1)
		rs.Annotations = map[string]string{"deployment.kubernetes.io/revision": "3546343826724305832"}
		must(c.AppsV1().ReplicaSets(ns).Create(c.ctx, rs, metav1.CreateOptions{}))
		c.eventually("the old pod", func() bool { return c.readyPods("app=rolling") == 1 })
		must(c.AppsV1().Deployments(ns).Create(c.ctx, deployment("rolling", "v2", 1), metav1.CreateOptions{}))
		c.eventually("the new one alone", func() bool {
			ps := c.pods("app=rolling")
			return c.complete("rolling") && len(ps) == 1 && ps[0].Spec.Containers[0].Image == "v2"
		})
		d := must(c.AppsV1().Deployments(ns).Get(c.ctx, "rolling", metav1.GetOptions{}))
		c.want(d.Annotations["deployment.kubernetes.io/revision"] == "3546343826724305833", "%v", d.Annotations)
		old := must(c.AppsV1().ReplicaSets(ns).Get(c.ctx, "rolling", metav1.GetOptions{}))
		c.want(metav1.GetControllerOf(old) != nil && *old.Spec.Replicas == 0, "the old set was not adopted: %+v", old)
	})
	conform(t, "[sig-apps] Deployment RecreateDeployment should delete old pods and create new ones [Conformance]", func(c *cluster) {
		d := deployment("recreate", "v1", 2)
		d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
		must(c.AppsV1().Deployments(ns).Create(c.ctx, d, metav1.CreateOptions{}))
		c.eventually("the first", func() bool { return c.complete("recreate") })
		stop := c.observe("app=recreate")
		c.patchDeployment("recreate", image("v2"))
		c.eventually("the second", func() bool { return c.complete("recreate") })
		live, events := map[string]string{}, stop()
		c.want(len(events) > 6, "%d events", len(events))
		for _, e := range events {
			p, ok := e.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			live[p.Name] = p.Spec.Containers[0].Image
			if e.Type == "DELETED" || p.Status.Phase == corev1.PodSucceeded {
				delete(live, p.Name)
			}
			kinds := map[string]bool{}
			for _, i := range live {
				kinds[i] = true
			}
			c.want(len(kinds) < 2, "old and new at a time: %v", live)
		}
	})
	conform(t, "[sig-apps] Deployment deployment should delete old replica sets [Conformance]", func(c *cluster) {
		must(c.AppsV1().ReplicaSets(ns).Create(c.ctx, replicaSet("clean", "v0", 1), metav1.CreateOptions{}))
		d := deployment("clean", "v1", 1)
		d.Spec.RevisionHistoryLimit = new(int32)
		must(c.AppsV1().Deployments(ns).Create(c.ctx, d, metav1.CreateOptions{}))
		c.eventually("one set", func() bool {
			return c.complete("clean") && len(must(c.AppsV1().ReplicaSets(ns).List(c.ctx, metav1.ListOptions{})).Items) == 1
		})
	})
	conform(t, "[sig-apps] Deployment deployment should support rollover [Conformance]", func(c *cluster) {
		must(c.AppsV1().ReplicaSets(ns).Create(c.ctx, replicaSet("over", "v1", 1), metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.readyPods("app=over") == 1 })
		d := deployment("over", "slow", 1)
		none, one := intstr.FromInt32(0), intstr.FromInt32(1)
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &none, MaxSurge: &one}}
		d.Spec.MinReadySeconds = 10
		must(c.AppsV1().Deployments(ns).Create(c.ctx, d, metav1.CreateOptions{}))
		c.eventually("a stuck pod", func() bool { return len(c.pods("app=over")) == 2 })
		c.patchDeployment("over", image("v2"))
		c.eventually("the rollover", func() bool { return c.complete("over") && len(c.pods("app=over")) == 1 })
		for _, rs := range must(c.AppsV1().ReplicaSets(ns).List(c.ctx, metav1.ListOptions{})).Items {
			newest := rs.Spec.Template.Spec.Containers[0].Image == "v2"
			c.want(newest == (*rs.Spec.Replicas == 1), "%s has %d", rs.Name, *rs.Spec.Replicas)
		}
	})
	conform(t, "[sig-apps] Deployment deployment should support proportional scaling [Conformance]", func(c *cluster) {
		d := deployment("share", "v1", 10)
		surge, gone := intstr.FromInt32(3), intstr.FromInt32(2)
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &gone}}
		must(c.AppsV1().Deployments(ns).Create(c.ctx, d, metav1.CreateOptions{}))
		c.eventually("ten pods", func() bool { return c.complete("share") })
		sizes := func() map[string]int32 {
			m := map[string]int32{}
			for _, rs := range must(c.AppsV1().ReplicaSets(ns).List(c.ctx, metav1.ListOptions{})).Items {
				m[rs.Spec.Template.Spec.Containers[0].Image] = *rs.Spec.Replicas
			}
			return m
		}
		c.patchDeployment("share", image("slow"))
		c.eventually("8 and 5", func() bool { s := sizes(); return s["v1"] == 8 && s["slow"] == 5 })
		c.patchDeployment("share", `{"spec":{"replicas":30}}`)
		c.eventually("20 and 13", func() bool { s := sizes(); return s["v1"] == 20 && s["slow"] == 13 })
	})
	conform(t, "[sig-apps] Deployment Deployment should have a working scale subresource [Conformance]", func(c *cluster) {
		ds := c.AppsV1().Deployments(ns)
		must(ds.Create(c.ctx, deployment("scale", "v1", 1), metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.complete("scale") })
		s := must(ds.GetScale(c.ctx, "scale", metav1.GetOptions{}))
		s.ResourceVersion, s.Spec.Replicas = "", 2
		c.want(must(ds.UpdateScale(c.ctx, "scale", s, metav1.UpdateOptions{})).Spec.Replicas == 2, "not updated")
		c.want(*must(ds.Get(c.ctx, "scale", metav1.GetOptions{})).Spec.Replicas == 2, "not scaled")
		must(ds.Patch(c.ctx, "scale", types.StrategicMergePatchType, []byte(`{"spec":{"replicas":4}}`), metav1.PatchOptions{}, "scale"))
		c.eventually("four pods", func() bool { return c.complete("scale") && c.readyPods("app=scale") == 4 })
	})
	conform(t, "[sig-apps] Deployment should run the lifecycle of a Deployment [Conformance]", func(c *cluster) {
		ds := c.AppsV1().Deployments(ns)
		d := deployment("life", "v1", 1)
		d.Labels["test-deployment-static"] = "true"
		must(ds.Create(c.ctx, d, metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.complete("life") })
		c.patchDeployment("life", `{"metadata":{"labels":{"test-deployment":"patched"}},"spec":{"replicas":2,"template":{"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"c","image":"v2"}]}}}}`)
		c.eventually("the patch", func() bool { return c.complete("life") && c.readyPods("app=life") == 2 })
		must(ds.Patch(c.ctx, "life", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"test-deployment":"updated"}},"status":{"readyReplicas":1,"availableReplicas":1}}`), metav1.PatchOptions{}, "status"))
		c.eventually("the controller's answer", func() bool {
			return must(ds.Get(c.ctx, "life", metav1.GetOptions{})).Status.ReadyReplicas == 2
		})
		l := must(c.AppsV1().Deployments("").List(c.ctx, metav1.ListOptions{LabelSelector: "test-deployment-static=true"}))
		c.want(len(l.Items) == 1, "%d listed", len(l.Items))
		got := must(ds.Get(c.ctx, "life", metav1.GetOptions{}))
		got.Spec.Template.Spec.Containers[0].Image = "v3"
		must(ds.Update(c.ctx, got, metav1.UpdateOptions{}))
		c.eventually("the update", func() bool { return c.complete("life") })
		c.ok(ds.DeleteCollection(c.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "test-deployment-static=true"}))
		c.eventually("the end", func() bool {
			return len(must(ds.List(c.ctx, metav1.ListOptions{})).Items) == 0 && len(c.pods("")) == 0
		})
	})
	conform(t, "[sig-apps] Deployment should validate Deployment Status endpoints [Conformance]", func(c *cluster) {
		ds := c.AppsV1().Deployments(ns)
		must(ds.Create(c.ctx, deployment("status", "v1", 1), metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.complete("status") })
		d := must(ds.Get(c.ctx, "status", metav1.GetOptions{}))
		d.Status.Conditions = append(d.Status.Conditions, appsv1.DeploymentCondition{Type: "StatusUpdate", Status: "True", Reason: "E2E", Message: "Set from e2e test"})
		must(ds.UpdateStatus(c.ctx, d, metav1.UpdateOptions{}))
		has := func(kind string) bool {
			for _, x := range must(ds.Get(c.ctx, "status", metav1.GetOptions{})).Status.Conditions {
				if string(x.Type) == kind {
					return true
				}
			}
			return false
		}
		c.settle(0)
		c.want(has("StatusUpdate") && has("Available"), "the condition is lost")
		must(ds.Patch(c.ctx, "status", types.MergePatchType, []byte(`{"status":{"conditions":[{"type":"StatusPatched","status":"True"}]}}`), metav1.PatchOptions{}, "status"))
		c.settle(0)
		c.want(has("StatusPatched"), "the patched condition is lost")
	})
}

func TestControllerRevision(t *testing.T) {
	conform(t, "[sig-apps] ControllerRevision [Serial] should manage the lifecycle of a ControllerRevision [Conformance]", func(c *cluster) {
		crs := c.AppsV1().ControllerRevisions(ns)
		must(c.AppsV1().DaemonSets(ns).Create(c.ctx, daemonSet("life", "v1"), metav1.CreateOptions{}))
		c.eventually("pods", func() bool { return c.readyPods("app=life") == 2 })
		first := must(crs.List(c.ctx, metav1.ListOptions{LabelSelector: "app=life"})).Items[0]
		must(crs.Patch(c.ctx, first.Name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"`+first.Name+`":"patched"}}}`), metav1.PatchOptions{}))
		c.want(must(crs.Get(c.ctx, first.Name, metav1.GetOptions{})).Labels[first.Name] == "patched", "not patched")
		made := must(crs.Create(c.ctx, &appsv1.ControllerRevision{
			ObjectMeta: metav1.ObjectMeta{Name: "made-by-hand", Labels: first.Labels, OwnerReferences: first.OwnerReferences}, Data: first.Data, Revision: first.Revision + 1,
		}, metav1.CreateOptions{}))
		c.settle(0)
		c.ok(crs.Delete(c.ctx, first.Name, metav1.DeleteOptions{}))
		c.eventually("its end", func() bool {
			for _, r := range must(crs.List(c.ctx, metav1.ListOptions{})).Items {
				if r.UID == first.UID {
					return false
				}
			}
			return true
		})
		got := must(crs.Get(c.ctx, made.Name, metav1.GetOptions{}))
		got.Labels[made.Name] = "updated"
		c.want(must(crs.Update(c.ctx, got, metav1.UpdateOptions{})).Labels[made.Name] == "updated", "not updated")
		must(c.AppsV1().DaemonSets(ns).Patch(c.ctx, "life", types.StrategicMergePatchType, []byte(`{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":5}},"updateStrategy":{"type":"RollingUpdate"}}}`), metav1.PatchOptions{}))
		c.eventually("a new revision", func() bool { return len(must(crs.List(c.ctx, metav1.ListOptions{})).Items) >= 2 })
		c.ok(crs.DeleteCollection(c.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: made.Name + "=updated"}))
		_, err := crs.Get(c.ctx, made.Name, metav1.GetOptions{})
		c.want(err != nil, "the collection is still there")
	})
}
