package conformance

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func daemonSet(name, image string) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: meta(name, "app", name), Spec: appsv1.DaemonSetSpec{Selector: selector(name), Template: template(name, image)}}
}

// onNodes names the nodes that have a ready pod of a daemon set.
func (c *cluster) onNodes(name string) map[string]types.UID {
	out := map[string]types.UID{}
	for _, p := range c.pods("app=" + name) {
		if isReady(&p) {
			out[p.Spec.NodeName] = p.UID
		}
	}
	return out
}

func (c *cluster) patchDaemons(name, patch string) {
	c.Helper()
	must(c.AppsV1().DaemonSets(ns).Patch(c.ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}))
}

func (c *cluster) label(node, patch string) {
	c.Helper()
	must(c.CoreV1().Nodes().Patch(c.ctx, node, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":`+patch+`}}`), metav1.PatchOptions{}))
}

func TestDaemonSet(t *testing.T) {
	conform(t, "[sig-apps] Daemon set [Serial] should run and stop simple daemon [Conformance]", func(c *cluster) {
		must(c.AppsV1().DaemonSets(ns).Create(c.ctx, daemonSet("simple", "v1"), metav1.CreateOptions{}))
		c.eventually("a pod on each node", func() bool { return len(c.onNodes("simple")) == 2 })
		gone := c.pods("app=simple")[0]
		c.ok(c.CoreV1().Pods(ns).Delete(c.ctx, gone.Name, metav1.DeleteOptions{}))
		c.eventually("its revival", func() bool {
			on := c.onNodes("simple")
			return len(on) == 2 && on[gone.Spec.NodeName] != gone.UID
		})
	})
	conform(t, "[sig-apps] Daemon set [Serial] should run and stop complex daemon [Conformance]", func(c *cluster) {
		ds := daemonSet("complex", "v1")
		ds.Spec.Template.Spec.NodeSelector = map[string]string{"color": "blue"}
		must(c.AppsV1().DaemonSets(ns).Create(c.ctx, ds, metav1.CreateOptions{}))
		c.settle(0)
		c.want(len(c.pods("")) == 0, "pods on nodes not chosen")
		c.label("n1", `{"color":"blue"}`)
		c.eventually("a pod on the blue node", func() bool { on := c.onNodes("complex"); return len(on) == 1 && on["n1"] != "" })
		c.label("n1", `{"color":"green"}`)
		c.eventually("none", func() bool { return len(c.pods("")) == 0 })
		c.patchDaemons("complex", `{"spec":{"template":{"spec":{"nodeSelector":{"color":"green"}}},"updateStrategy":{"type":"RollingUpdate"}}}`)
		c.eventually("a pod on the green node", func() bool { on := c.onNodes("complex"); return len(on) == 1 && on["n1"] != "" })
	})
	conform(t, "[sig-apps] Daemon set [Serial] should retry creating failed daemon pods [Conformance]", func(c *cluster) {
		must(c.AppsV1().DaemonSets(ns).Create(c.ctx, daemonSet("retry", "v1"), metav1.CreateOptions{}))
		c.eventually("pods", func() bool { return len(c.onNodes("retry")) == 2 })
		p := c.pods("app=retry")[0]
		p.Status.Phase = corev1.PodFailed
		must(c.CoreV1().Pods(ns).UpdateStatus(c.ctx, &p, metav1.UpdateOptions{}))
		c.eventually("its revival", func() bool { on := c.onNodes("retry"); return len(on) == 2 && on[p.Spec.NodeName] != p.UID })
	})
	conform(t, "[sig-apps] Daemon set [Serial] should update pod when spec was updated and update strategy is RollingUpdate [Conformance]", func(c *cluster) {
		must(c.AppsV1().DaemonSets(ns).Create(c.ctx, daemonSet("update", "v1"), metav1.CreateOptions{}))
		c.eventually("pods", func() bool { return len(c.onNodes("update")) == 2 })
		c.patchDaemons("update", image("v2"))
		c.eventually("the second version", func() bool {
			n := 0
			for _, p := range c.pods("app=update") {
				if p.Spec.Containers[0].Image == "v2" && isReady(&p) {
					n++
				}
			}
			return n == 2 && len(must(c.AppsV1().ControllerRevisions(ns).List(c.ctx, metav1.ListOptions{})).Items) == 2
		})
		hash := c.pods("app=update")[0].Labels[appsv1.ControllerRevisionHashLabelKey]
		c.want(hash != "" && len(c.pods(appsv1.ControllerRevisionHashLabelKey+"="+hash)) == 2, "hash %q", hash)
	})
	conform(t, "[sig-apps] Daemon set [Serial] should rollback without unnecessary restarts [Conformance]", func(c *cluster) {
		must(c.AppsV1().DaemonSets(ns).Create(c.ctx, daemonSet("back", "v1"), metav1.CreateOptions{}))
		c.eventually("pods", func() bool { return len(c.onNodes("back")) == 2 })
		before := c.onNodes("back")
		c.patchDaemons("back", image("slow"))
		c.eventually("a stuck roll-out", func() bool { return len(c.onNodes("back")) == 1 })
		kept := c.onNodes("back")
		c.patchDaemons("back", image("v1"))
		c.eventually("the first version", func() bool { return len(c.onNodes("back")) == 2 })
		c.settle(0)
		for node, uid := range kept {
			c.want(c.onNodes("back")[node] == uid && before[node] == uid, "the pod on %s was restarted", node)
		}
	})
	conform(t, "[sig-apps] Daemon set [Serial] should list and delete a collection of DaemonSets [Conformance]", func(c *cluster) {
		must(c.AppsV1().DaemonSets(ns).Create(c.ctx, daemonSet("all", "v1"), metav1.CreateOptions{}))
		c.eventually("pods", func() bool { return len(c.onNodes("all")) == 2 })
		o := metav1.ListOptions{LabelSelector: "app=all"}
		c.want(len(must(c.AppsV1().DaemonSets("").List(c.ctx, o)).Items) == 1, "not listed")
		c.ok(c.AppsV1().DaemonSets(ns).DeleteCollection(c.ctx, metav1.DeleteOptions{}, o))
		c.eventually("the end", func() bool {
			return len(must(c.AppsV1().DaemonSets(ns).List(c.ctx, o)).Items) == 0 && len(c.pods("")) == 0
		})
	})
	conform(t, "[sig-apps] Daemon set [Serial] should verify changes to a daemon set status [Conformance]", func(c *cluster) {
		sets := c.AppsV1().DaemonSets(ns)
		must(sets.Create(c.ctx, daemonSet("status", "v1"), metav1.CreateOptions{}))
		c.eventually("pods", func() bool { return len(c.onNodes("status")) == 2 })
		c.settle(0)
		ds := must(sets.Get(c.ctx, "status", metav1.GetOptions{}))
		c.want(ds.Status.NumberReady == 2 && ds.Status.DesiredNumberScheduled == 2 && ds.Status.CurrentNumberScheduled == 2, "%+v", ds.Status)
		ds.Status.Conditions = append(ds.Status.Conditions, appsv1.DaemonSetCondition{Type: "StatusUpdate", Status: "True", Reason: "E2E"})
		must(sets.UpdateStatus(c.ctx, ds, metav1.UpdateOptions{}))
		c.settle(0)
		got := must(sets.Get(c.ctx, "status", metav1.GetOptions{}))
		c.want(len(got.Status.Conditions) == 1 && got.Status.Conditions[0].Type == "StatusUpdate", "%+v", got.Status)
		must(sets.Patch(c.ctx, "status", types.MergePatchType, []byte(`{"status":{"conditions":[{"type":"StatusPatched","status":"True"}]}}`), metav1.PatchOptions{}, "status"))
		c.settle(0)
		got = must(sets.Get(c.ctx, "status", metav1.GetOptions{}))
		c.want(len(got.Status.Conditions) == 1 && got.Status.Conditions[0].Type == "StatusPatched" && got.Status.NumberReady == 2, "%+v", got.Status)
	})
}
