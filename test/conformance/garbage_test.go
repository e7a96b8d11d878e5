package conformance

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

func TestGarbageCollector(t *testing.T) {
	propagate := func(p metav1.DeletionPropagation) metav1.DeleteOptions {
		return metav1.DeleteOptions{PropagationPolicy: &p}
	}
	background, foreground, orphan := propagate(metav1.DeletePropagationBackground), propagate(metav1.DeletePropagationForeground), propagate(metav1.DeletePropagationOrphan)
	const many = 30
	controller := func(c *cluster, name string, replicas int32) *corev1.ReplicationController {
		rc := must(c.CoreV1().ReplicationControllers(ns).Create(c.ctx, replicationController(name, "v1", replicas), metav1.CreateOptions{}))
		c.eventually("pods", func() bool { return len(c.pods("app="+name)) == int(replicas) })
		return rc
	}
	noController := func(c *cluster, name string) func() bool {
		return func() bool {
			_, err := c.CoreV1().ReplicationControllers(ns).Get(c.ctx, name, metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		}
	}
	conform(t, "[sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning [Conformance]", func(c *cluster) {
		controller(c, "gc", 2)
		c.ok(c.CoreV1().ReplicationControllers(ns).Delete(c.ctx, "gc", background))
		c.want(noController(c, "gc")(), "the controller waits for its pods")
		c.eventually("the end of the pods", func() bool { return len(must(c.CoreV1().Pods(ns).List(c.ctx, metav1.ListOptions{})).Items) == 0 })
	})
	conform(t, "[sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so [Serial] [Conformance]", func(c *cluster) {
		controller(c, "gc", many)
		c.ok(c.CoreV1().ReplicationControllers(ns).Delete(c.ctx, "gc", orphan))
		c.eventually("the end of the controller", noController(c, "gc"))
		c.settle(30 * time.Second)
		left := c.pods("app=gc")
		c.want(len(left) == many, "%d pods are left", len(left))
		for _, p := range left {
			c.want(len(p.OwnerReferences) == 0, "%s has owners %v", p.Name, p.OwnerReferences)
		}
	})
	rolledOut := func(c *cluster) types.UID {
		must(c.AppsV1().Deployments(ns).Create(c.ctx, deployment("gc", "v1", 2), metav1.CreateOptions{}))
		c.eventually("the deployment", func() bool { return c.complete("gc") })
		return must(c.AppsV1().ReplicaSets(ns).List(c.ctx, metav1.ListOptions{})).Items[0].UID
	}
	conform(t, "[sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning [Conformance]", func(c *cluster) {
		rolledOut(c)
		c.ok(c.AppsV1().Deployments(ns).Delete(c.ctx, "gc", background))
		c.eventually("the end of all", func() bool {
			return len(must(c.AppsV1().ReplicaSets(ns).List(c.ctx, metav1.ListOptions{})).Items) == 0 && len(must(c.CoreV1().Pods(ns).List(c.ctx, metav1.ListOptions{})).Items) == 0
		})
	})
	conform(t, "[sig-api-machinery] Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan [Conformance]", func(c *cluster) {
		set := rolledOut(c)
		c.ok(c.AppsV1().Deployments(ns).Delete(c.ctx, "gc", orphan))
		c.eventually("the end of the deployment", func() bool {
			_, err := c.AppsV1().Deployments(ns).Get(c.ctx, "gc", metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		})
		c.settle(30 * time.Second)
		sets := must(c.AppsV1().ReplicaSets(ns).List(c.ctx, metav1.ListOptions{})).Items
		c.want(len(sets) == 1 && sets[0].UID == set && len(sets[0].OwnerReferences) == 0, "sets %v", sets)
		pods := c.pods("app=gc")
		c.want(len(pods) == 2, "%d pods are left", len(pods))
		for _, p := range pods {
			c.want(len(p.OwnerReferences) == 1 && p.OwnerReferences[0].UID == set, "%s has owners %v", p.Name, p.OwnerReferences)
		}
	})
	conform(t, "[sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions says so [Serial] [Conformance]", func(c *cluster) {
		controller(c, "gc", many)
		rcs := must(c.CoreV1().ReplicationControllers(ns).Watch(c.ctx, metav1.ListOptions{}))
		defer rcs.Stop()
		from := must(c.CoreV1().Pods(ns).List(c.ctx, metav1.ListOptions{})).ResourceVersion
		pods := must(c.CoreV1().Pods(ns).Watch(c.ctx, metav1.ListOptions{ResourceVersion: from}))
		defer pods.Stop()
		c.ok(c.CoreV1().ReplicationControllers(ns).Delete(c.ctx, "gc", foreground))
		c.eventually("the end of the controller", noController(c, "gc"))
		// The revision at which each was removed tells the order.
		removed := func(w watch.Interface) (at []int) {
			for {
				synctest.Wait()
				select {
				case e := <-w.ResultChan():
					if e.Type == watch.Deleted {
						at = append(at, must(strconv.Atoi(e.Object.(metav1.Object).GetResourceVersion())))
					}
				default:
					return at
				}
			}
		}
		last, ends := removed(rcs), removed(pods)
		c.want(len(last) == 1 && len(ends) == many && slices.Max(ends) < last[0], "the controller ended at %v, its pods at %v", last, ends)
	})
	conform(t, "[sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted [Serial] [Conformance]", func(c *cluster) {
		controller(c, "going", many)
		stays := controller(c, "staying", 0)
		pods := c.pods("app=going")
		for _, p := range pods[:many/2] {
			patch := fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ReplicationController","name":"staying","uid":%q}]}}`, stays.UID)
			must(c.CoreV1().Pods(ns).Patch(c.ctx, p.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}))
		}
		c.ok(c.CoreV1().ReplicationControllers(ns).Delete(c.ctx, "going", foreground))
		c.eventually("the end of the controller", noController(c, "going"))
		c.settle(30 * time.Second)
		left := must(c.CoreV1().Pods(ns).List(c.ctx, metav1.ListOptions{})).Items
		c.want(len(left) == many/2, "%d pods are left", len(left))
		for _, p := range left {
			c.want(p.DeletionTimestamp == nil && slices.ContainsFunc(p.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == stays.UID }), "%s: %v", p.Name, p.ObjectMeta)
		}
	})
	conform(t, "[sig-api-machinery] Garbage collector should not be blocked by dependency circle [Conformance]", func(c *cluster) {
		uids := map[string]types.UID{}
		for _, name := range []string{"pod1", "pod2", "pod3"} {
			uids[name] = must(c.CoreV1().Pods(ns).Create(c.ctx, &corev1.Pod{ObjectMeta: meta(name), Spec: template(name, "v1").Spec}, metav1.CreateOptions{})).UID
		}
		for name, owner := range map[string]string{"pod1": "pod3", "pod2": "pod1", "pod3": "pod2"} {
			patch := fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":%q,"uid":%q,"controller":true,"blockOwnerDeletion":true}]}}`, owner, uids[owner])
			must(c.CoreV1().Pods(ns).Patch(c.ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}))
		}
		c.ok(c.CoreV1().Pods(ns).Delete(c.ctx, "pod1", foreground))
		c.eventually("the end of all", func() bool { return len(must(c.CoreV1().Pods(ns).List(c.ctx, metav1.ListOptions{})).Items) == 0 })
	})
}
