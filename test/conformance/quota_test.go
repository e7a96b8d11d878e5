package conformance

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestReplicationControllerFailure(t *testing.T) {
	conform(t, "[sig-apps] ReplicationController should surface a failure condition on a common issue like exceeded quota [Conformance]", func(c *cluster) {
		must(c.CoreV1().ResourceQuotas(ns).Create(c.ctx, &corev1.ResourceQuota{ObjectMeta: meta("condition-test"), Spec: corev1.ResourceQuotaSpec{
			Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("2")},
		}}, metav1.CreateOptions{}))
		c.eventually("the quota", func() bool {
			q := must(c.CoreV1().ResourceQuotas(ns).Get(c.ctx, "condition-test", metav1.GetOptions{}))
			hard := q.Status.Hard[corev1.ResourcePods]
			return hard.Value() == 2
		})
		must(c.CoreV1().ReplicationControllers(ns).Create(c.ctx, replicationController("condition-test", "v1", 3), metav1.CreateOptions{}))
		failing := func() bool {
			rc := must(c.CoreV1().ReplicationControllers(ns).Get(c.ctx, "condition-test", metav1.GetOptions{}))
			return slices.ContainsFunc(rc.Status.Conditions, func(x corev1.ReplicationControllerCondition) bool {
				return x.Type == corev1.ReplicationControllerReplicaFailure && x.Status == corev1.ConditionTrue && strings.Contains(x.Message, "exceeded quota")
			})
		}
		c.eventually("the failure", failing)
		must(c.CoreV1().ReplicationControllers(ns).Patch(c.ctx, "condition-test", types.MergePatchType, []byte(`{"spec":{"replicas":2}}`), metav1.PatchOptions{}))
		c.eventually("its end", func() bool { return !failing() && c.readyPods("app=condition-test") == 2 })
	})
}
