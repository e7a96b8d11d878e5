package conformance

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func budget(name, min string) *policyv1.PodDisruptionBudget {
	v := intstr.Parse(min)
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{"app": name}},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &v, Selector: selector("guarded")},
	}
}

// guarded makes n pods that budgets are about.
func (c *cluster) guarded(n int) {
	for i := range n {
		must(c.CoreV1().Pods(ns).Create(c.ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: string(rune('a' + i)), Labels: map[string]string{"app": "guarded"}}, Spec: template("guarded", "v1").Spec,
		}, metav1.CreateOptions{}))
	}
	c.eventually("pods", func() bool { return c.readyPods("app=guarded") == n })
}

func TestDisruptionController(t *testing.T) {
	const group = "[sig-apps] DisruptionController "
	conform(t, group+"should create a PodDisruptionBudget [Conformance]", func(c *cluster) {
		pdbs := c.PolicyV1().PodDisruptionBudgets(ns)
		must(pdbs.Create(c.ctx, budget("b", "1%"), metav1.CreateOptions{}))
		c.eventually("its processing", func() bool {
			return must(pdbs.Get(c.ctx, "b", metav1.GetOptions{})).Status.ObservedGeneration == 1
		})
		b := must(pdbs.Get(c.ctx, "b", metav1.GetOptions{}))
		two := intstr.Parse("2%")
		b.Spec.MinAvailable = &two
		c.want(must(pdbs.Update(c.ctx, b, metav1.UpdateOptions{})).Spec.MinAvailable.StrVal == "2%", "not updated")
		got := must(pdbs.Patch(c.ctx, "b", types.StrategicMergePatchType, []byte(`{"spec":{"minAvailable":"3%"}}`), metav1.PatchOptions{}))
		c.want(got.Spec.MinAvailable.StrVal == "3%" && got.Generation == 3, "%+v", got)
		c.eventually("its processing", func() bool {
			return must(pdbs.Get(c.ctx, "b", metav1.GetOptions{})).Status.ObservedGeneration == 3
		})
		c.ok(pdbs.Delete(c.ctx, "b", metav1.DeleteOptions{}))
		_, err := pdbs.Get(c.ctx, "b", metav1.GetOptions{})
		c.want(apierrors.IsNotFound(err), "%v", err)
	})
	conform(t, group+"should observe PodDisruptionBudget status updated [Conformance]", func(c *cluster) {
		c.guarded(3)
		must(c.PolicyV1().PodDisruptionBudgets(ns).Create(c.ctx, budget("b", "1"), metav1.CreateOptions{}))
		c.eventually("two allowed disruptions", func() bool {
			s := must(c.PolicyV1().PodDisruptionBudgets(ns).Get(c.ctx, "b", metav1.GetOptions{})).Status
			return s.DisruptionsAllowed == 2 && s.CurrentHealthy == 3 && s.DesiredHealthy == 1 && s.ExpectedPods == 3 && apimeta.IsStatusConditionTrue(s.Conditions, policyv1.DisruptionAllowedCondition)
		})
	})
	conform(t, group+"should update/patch PodDisruptionBudget status [Conformance]", func(c *cluster) {
		pdbs := c.PolicyV1().PodDisruptionBudgets(ns)
		c.guarded(2)
		must(pdbs.Create(c.ctx, budget("b", "1"), metav1.CreateOptions{}))
		c.eventually("its processing", func() bool {
			return must(pdbs.Get(c.ctx, "b", metav1.GetOptions{})).Status.DisruptionsAllowed == 1
		})
		b := must(pdbs.Get(c.ctx, "b", metav1.GetOptions{}))
		b.Status.DisruptedPods = map[string]metav1.Time{"a": metav1.NewTime(time.Now())}
		must(pdbs.UpdateStatus(c.ctx, b, metav1.UpdateOptions{}))
		c.settle(0)
		got := must(pdbs.Get(c.ctx, "b", metav1.GetOptions{})).Status
		c.want(len(got.DisruptedPods) == 1 && got.DisruptionsAllowed == 0, "%+v", got)
		must(pdbs.Patch(c.ctx, "b", types.MergePatchType, []byte(`{"status":{"disruptedPods":null}}`), metav1.PatchOptions{}, "status"))
		c.eventually("its processing", func() bool {
			s := must(pdbs.Get(c.ctx, "b", metav1.GetOptions{})).Status
			return len(s.DisruptedPods) == 0 && s.DisruptionsAllowed == 1
		})
	})
	conform(t, group+"should block an eviction until the PDB is updated to allow it [Conformance]", func(c *cluster) {
		pdbs := c.PolicyV1().PodDisruptionBudgets(ns)
		c.guarded(3)
		must(pdbs.Create(c.ctx, budget("b", "3"), metav1.CreateOptions{}))
		c.eventually("its processing", func() bool {
			return must(pdbs.Get(c.ctx, "b", metav1.GetOptions{})).Status.CurrentHealthy == 3
		})
		evict := func() error {
			return c.CoreV1().Pods(ns).EvictV1(c.ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "a"}})
		}
		err := evict()
		c.want(apierrors.IsTooManyRequests(err) && apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause), "%v", err)
		must(pdbs.Patch(c.ctx, "b", types.MergePatchType, []byte(`{"spec":{"minAvailable":2}}`), metav1.PatchOptions{}))
		c.eventually("its processing", func() bool {
			return must(pdbs.Get(c.ctx, "b", metav1.GetOptions{})).Status.DisruptionsAllowed == 1
		})
		c.ok(evict())
		c.eventually("its end", func() bool { return len(c.pods("app=guarded")) == 2 })
		must(c.CoreV1().Pods(ns).Create(c.ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "a", Labels: map[string]string{"app": "guarded"}}, Spec: template("guarded", "v1").Spec}, metav1.CreateOptions{}))
		must(pdbs.Patch(c.ctx, "b", types.MergePatchType, []byte(`{"spec":{"minAvailable":3}}`), metav1.PatchOptions{}))
		c.eventually("its processing", func() bool {
			s := must(pdbs.Get(c.ctx, "b", metav1.GetOptions{})).Status
			return s.CurrentHealthy == 3 && s.DisruptionsAllowed == 0
		})
		c.want(apierrors.IsTooManyRequests(evict()), "evicted against the budget")
		c.ok(pdbs.Delete(c.ctx, "b", metav1.DeleteOptions{}))
		c.ok(evict())
	})
	conform(t, group+"Listing PodDisruptionBudgets for all namespaces should list and delete a collection of PodDisruptionBudgets [Conformance]", func(c *cluster) {
		for _, n := range []string{"b", "d"} {
			b := budget(n, "1")
			b.Labels = map[string]string{"set": "x"}
			must(c.PolicyV1().PodDisruptionBudgets(ns).Create(c.ctx, b, metav1.CreateOptions{}))
		}
		other := budget("e", "1")
		other.Namespace, other.Labels = "default", map[string]string{"set": "x"}
		must(c.PolicyV1().PodDisruptionBudgets("default").Create(c.ctx, other, metav1.CreateOptions{}))
		o := metav1.ListOptions{LabelSelector: "set=x"}
		c.want(len(must(c.PolicyV1().PodDisruptionBudgets("").List(c.ctx, o)).Items) == 3, "not all listed")
		c.ok(c.PolicyV1().PodDisruptionBudgets(ns).DeleteCollection(c.ctx, metav1.DeleteOptions{}, o))
		c.want(len(must(c.PolicyV1().PodDisruptionBudgets("").List(c.ctx, o)).Items) == 1, "not the namespace's alone deleted")
	})
}
