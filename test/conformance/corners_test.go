package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestCorners are cases of upstream's documentation that its conformance suite
// leaves out.
func TestCorners(t *testing.T) {
	corner := func(name string, f func(c *cluster)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, stop := start(t)
				defer stop()
				defer func() {
					if err := recover(); err != nil {
						t.Errorf("%v", err)
					}
				}()
				f(c)
			})
		})
	}
	corner("a deployment past its deadline, then repaired", func(c *cluster) {
		d := deployment("late", "v1", 2)
		d.Spec.ProgressDeadlineSeconds = new(int32(30))
		must(c.AppsV1().Deployments(ns).Create(c.ctx, d, metav1.CreateOptions{}))
		c.eventually("pods", func() bool { return c.complete("late") })
		progressing := func() string {
			for _, x := range must(c.AppsV1().Deployments(ns).Get(c.ctx, "late", metav1.GetOptions{})).Status.Conditions {
				if x.Type == appsv1.DeploymentProgressing {
					return string(x.Status) + " " + x.Reason
				}
			}
			return ""
		}
		c.want(progressing() == "True NewReplicaSetAvailable", "%s", progressing())
		c.patchDeployment("late", image("slow"))
		c.settle(29 * time.Second)
		c.want(progressing() == "True ReplicaSetUpdated", "early: %s", progressing())
		c.settle(2 * time.Second)
		c.want(progressing() == "False ProgressDeadlineExceeded", "late: %s", progressing())
		c.patchDeployment("late", `{"spec":{"paused":true}}`)
		c.settle(time.Second)
		c.patchDeployment("late", `{"spec":{"paused":false,"template":{"spec":{"containers":[{"name":"c","image":"v2"}]}}}}`)
		c.eventually("the repair", func() bool { return c.complete("late") && progressing() == "True NewReplicaSetAvailable" })
	})
	corner("a template hash that is taken", func(c *cluster) {
		must(c.AppsV1().Deployments(ns).Create(c.ctx, deployment("clash", "v1", 1), metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.complete("clash") })
		mine := must(c.AppsV1().ReplicaSets(ns).List(c.ctx, metav1.ListOptions{})).Items[0]
		orphan := metav1.DeletePropagationOrphan
		c.ok(c.AppsV1().Deployments(ns).Delete(c.ctx, "clash", metav1.DeleteOptions{PropagationPolicy: &orphan}))
		c.settle(time.Second)
		// A set of that name that the new deployment may not adopt.
		must(c.AppsV1().ReplicaSets(ns).Patch(c.ctx, mine.Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"other"}}}`), metav1.PatchOptions{}))
		must(c.AppsV1().Deployments(ns).Create(c.ctx, deployment("clash", "v1", 1), metav1.CreateOptions{}))
		c.eventually("another name", func() bool {
			d := must(c.AppsV1().Deployments(ns).Get(c.ctx, "clash", metav1.GetOptions{}))
			return d.Status.CollisionCount != nil && *d.Status.CollisionCount == 1 && d.Status.AvailableReplicas == 1
		})
	})
	corner("the history of a deployment is as long as it says", func(c *cluster) {
		d := deployment("history", "v0", 1)
		d.Spec.RevisionHistoryLimit = new(int32(2))
		must(c.AppsV1().Deployments(ns).Create(c.ctx, d, metav1.CreateOptions{}))
		for i := range 5 {
			c.patchDeployment("history", image(fmt.Sprint("v", i)))
			c.eventually("the next", func() bool { return c.complete("history") })
		}
		c.eventually("three sets", func() bool {
			var left []string
			for _, rs := range must(c.AppsV1().ReplicaSets(ns).List(c.ctx, metav1.ListOptions{})).Items {
				left = append(left, rs.Spec.Template.Spec.Containers[0].Image)
			}
			slices.Sort(left)
			return slices.Equal(left, []string{"v2", "v3", "v4"})
		})
	})
	corner("a stateful set stuck on a bad template goes on with a good one", func(c *cluster) {
		must(c.AppsV1().StatefulSets(ns).Create(c.ctx, statefulSet("db", "v1", 3), metav1.CreateOptions{}))
		c.eventually("three pods", func() bool { return c.rolled("db", "v1", 3) })
		c.patchStateful("db", image("slow"))
		c.settle(time.Minute)
		v := c.versions("db")
		c.want(len(v) == 2 && v["db-0"] == "v1" && v["db-1"] == "v1", "%v", v)
		c.patchStateful("db", image("v2"))
		c.settle(time.Minute)
		// Upstream waits for the bad pod for ever; it must be deleted by hand.
		if len(c.versions("db")) == 2 {
			c.ok(c.CoreV1().Pods(ns).Delete(c.ctx, "db-2", metav1.DeleteOptions{}))
		}
		c.eventually("the good template", func() bool { return c.rolled("db", "v2", 3) })
	})
	corner("a stateful set replaces several pods at a time", func(c *cluster) {
		s := statefulSet("db", "v1", 4)
		two := intstr.FromInt32(2)
		s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{MaxUnavailable: &two}}
		s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
		must(c.AppsV1().StatefulSets(ns).Create(c.ctx, s, metav1.CreateOptions{}))
		c.eventually("four pods", func() bool { return c.rolled("db", "v1", 4) })
		c.patchStateful("db", image("slow"))
		c.settle(time.Minute)
		v := c.versions("db")
		c.want(len(v) == 2 && v["db-0"] == "v1" && v["db-1"] == "v1", "%v", v)
	})
	corner("a daemon set surges", func(c *cluster) {
		ds := daemonSet("surge", "v1")
		one, none := intstr.FromInt32(1), intstr.FromInt32(0)
		ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxSurge: &one, MaxUnavailable: &none}}
		must(c.AppsV1().DaemonSets(ns).Create(c.ctx, ds, metav1.CreateOptions{}))
		c.eventually("pods", func() bool { return len(c.onNodes("surge")) == 2 })
		c.patchDaemons("surge", image("slow"))
		c.settle(time.Minute)
		c.want(len(c.onNodes("surge")) == 2 && len(c.pods("app=surge")) == 3, "%d pods, %d ready", len(c.pods("app=surge")), len(c.onNodes("surge")))
		c.patchDaemons("surge", image("v2"))
		c.eventually("the end", func() bool {
			ps := c.pods("app=surge")
			return len(ps) == 2 && len(c.onNodes("surge")) == 2 && ps[0].Spec.Containers[0].Image == "v2" && ps[1].Spec.Containers[0].Image == "v2"
		})
	})
	corner("a job of another controller is left alone", func(c *cluster) {
		c.createJob(job("foreign", "exit:0", 1, 1, func(s *batchv1.JobSpec) { s.ManagedBy = new("example.org/jobs") }))
		c.settle(time.Minute)
		c.want(len(c.pods("")) == 0 && c.job("foreign").Status.StartTime == nil, "%+v", c.job("foreign").Status)
	})
	corner("a job that is suspended gives its pods up, and its clock starts anew", func(c *cluster) {
		c.createJob(job("pause", "v1", 2, 2, func(s *batchv1.JobSpec) { s.ActiveDeadlineSeconds = new(int64(60)) }))
		c.eventually("pods", func() bool { return c.job("pause").Status.Active == 2 })
		suspend := func(on string) {
			must(c.BatchV1().Jobs(ns).Patch(c.ctx, "pause", types.MergePatchType, []byte(`{"spec":{"suspend":`+on+`}}`), metav1.PatchOptions{}))
		}
		c.settle(30 * time.Second)
		suspend("true")
		c.eventually("none", func() bool { return len(c.pods("")) == 0 && c.job("pause").Status.Active == 0 })
		c.ended("pause", batchv1.JobSuspended, "JobSuspended")
		c.settle(5 * time.Minute)
		suspend("false")
		c.eventually("pods again", func() bool { return c.job("pause").Status.Active == 2 })
		c.settle(45 * time.Second)
		c.want(c.job("pause").Status.Active == 2, "the time of the suspension was counted")
		c.settle(30 * time.Second)
		c.ended("pause", batchv1.JobFailed, "DeadlineExceeded")
	})
	corner("failures of a job wait longer and longer", func(c *cluster) {
		c.createJob(job("backoff", "exit:1", 1, 1, func(s *batchv1.JobSpec) { s.BackoffLimit = new(int32(3)) }))
		began := time.Now()
		got := c.ended("backoff", batchv1.JobFailed, "BackoffLimitExceeded")
		// 10, 20 and 40 seconds between four tries.
		if took := time.Since(began); took < 70*time.Second || took > 90*time.Second || got.Status.Failed != 4 {
			c.Fatalf("%d failures in %s", got.Status.Failed, took)
		}
	})
	corner("a cron job in a time zone, and one that missed too much", func(c *cluster) {
		// The bubble's clock begins at midnight of 2000-01-01 UTC, 01:00 in Berlin.
		zone := cronJob("zone", "exit:0", batchv1.AllowConcurrent)
		zone.Spec.Schedule, zone.Spec.TimeZone = "30 1 * * *", new("Europe/Berlin")
		must(c.BatchV1().CronJobs(ns).Create(c.ctx, zone, metav1.CreateOptions{}))
		c.settle(29 * time.Minute)
		count := func(name string) (n int) {
			for _, j := range must(c.BatchV1().Jobs(ns).List(c.ctx, metav1.ListOptions{})).Items {
				if strings.HasPrefix(j.Name, name) {
					n++
				}
			}
			return n
		}
		c.want(count("zone") == 0, "too early")
		c.settle(2 * time.Minute)
		c.want(count("zone") == 1, "not at half past one in Berlin")
		long := cronJob("long", "exit:0", batchv1.AllowConcurrent)
		long.Spec.Suspend = new(true)
		must(c.BatchV1().CronJobs(ns).Create(c.ctx, long, metav1.CreateOptions{}))
		c.settle(3 * time.Hour)
		must(c.BatchV1().CronJobs(ns).Patch(c.ctx, "long", types.MergePatchType, []byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{}))
		c.eventually("one job for all that was missed", func() bool { return count("long") == 1 })
		c.eventually("the warning", func() bool {
			return slices.ContainsFunc(must(c.CoreV1().Events(ns).List(c.ctx, metav1.ListOptions{})).Items, func(e corev1.Event) bool {
				return e.Reason == "TooManyMissedTimes"
			})
		})
	})
	corner("pods that were never well may go when the policy says so", func(c *cluster) {
		must(c.AppsV1().ReplicaSets(ns).Create(c.ctx, replicaSet("guarded", "slow", 2), metav1.CreateOptions{}))
		c.eventually("pods", func() bool { return len(c.pods("app=guarded")) == 2 })
		b := budget("b", "2")
		must(c.PolicyV1().PodDisruptionBudgets(ns).Create(c.ctx, b, metav1.CreateOptions{}))
		c.eventually("its processing", func() bool {
			return must(c.PolicyV1().PodDisruptionBudgets(ns).Get(c.ctx, "b", metav1.GetOptions{})).Status.ObservedGeneration == 1
		})
		evict := func() error {
			return c.CoreV1().Pods(ns).EvictV1(c.ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: c.pods("app=guarded")[0].Name}})
		}
		c.want(evict() != nil, "an unhealthy pod went although the application is disrupted")
		must(c.PolicyV1().PodDisruptionBudgets(ns).Patch(c.ctx, "b", types.MergePatchType, []byte(`{"spec":{"unhealthyPodEvictionPolicy":"AlwaysAllow"}}`), metav1.PatchOptions{}))
		c.settle(time.Second)
		c.ok(evict())
	})
	corner("a taint is tolerated for a while", func(c *cluster) {
		rs := replicaSet("stay", "v1", 1)
		seconds := int64(60)
		rs.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}}
		must(c.AppsV1().ReplicaSets(ns).Create(c.ctx, rs, metav1.CreateOptions{}))
		c.eventually("a pod", func() bool { return c.readyPods("app=stay") == 1 })
		first := c.pods("app=stay")[0]
		must(c.CoreV1().Nodes().Patch(c.ctx, first.Spec.NodeName, types.MergePatchType, []byte(`{"spec":{"taints":[{"key":"k","effect":"NoExecute"}]}}`), metav1.PatchOptions{}))
		c.settle(59 * time.Second)
		c.want(c.pods("app=stay")[0].UID == first.UID, "gone too early")
		c.settle(2 * time.Second)
		c.eventually("its replacement", func() bool { ps := c.pods("app=stay"); return len(ps) == 1 && ps[0].UID != first.UID })
	})
}
