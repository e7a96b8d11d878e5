package conformance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func job(name, image string, parallel, completions int32, change ...func(*batchv1.JobSpec)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: meta(name), Spec: batchv1.JobSpec{Parallelism: &parallel, Completions: &completions, Template: template(name, image)}}
	j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	for _, f := range change {
		f(&j.Spec)
	}
	return j
}

func indexed(s *batchv1.JobSpec) {
	mode := batchv1.IndexedCompletion
	s.CompletionMode = &mode
}

func (c *cluster) job(name string) *batchv1.Job {
	return must(c.BatchV1().Jobs(ns).Get(c.ctx, name, metav1.GetOptions{}))
}

func (c *cluster) createJob(j *batchv1.Job) *batchv1.Job {
	c.Helper()
	return must(c.BatchV1().Jobs(ns).Create(c.ctx, j, metav1.CreateOptions{}))
}

// ended waits for a condition of a job and checks its reason.
func (c *cluster) ended(name string, kind batchv1.JobConditionType, reason string) *batchv1.Job {
	c.Helper()
	var j *batchv1.Job
	c.eventually(string(kind), func() bool {
		j = c.job(name)
		return slices.ContainsFunc(j.Status.Conditions, func(x batchv1.JobCondition) bool { return x.Type == kind && x.Status == corev1.ConditionTrue })
	})
	for _, x := range j.Status.Conditions {
		c.want(x.Type != kind || reason == "" || x.Reason == reason, "%s: %+v", name, x)
	}
	return j
}

func TestJob(t *testing.T) {
	const group = "[sig-apps] Job "
	conform(t, group+"should run a job to completion when tasks sometimes fail and are locally restarted [Conformance]", func(c *cluster) {
		j := job("local", "flaky", 2, 4)
		j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		c.createJob(j)
		got := c.ended("local", batchv1.JobComplete, "CompletionsReached")
		c.want(got.Status.Succeeded == 4 && got.Status.Active == 0 && got.Status.Failed == 0, "%+v", got.Status)
	})
	conform(t, group+"should create pods for an Indexed job with completion indexes and specified hostname [Conformance]", func(c *cluster) {
		c.createJob(job("indexed", "exit:0", 2, 4, indexed))
		got := c.ended("indexed", batchv1.JobComplete, "")
		c.want(got.Status.CompletedIndexes == "0-3", "%q", got.Status.CompletedIndexes)
		var hosts []string
		for _, p := range c.pods("batch.kubernetes.io/job-name=indexed") {
			c.want(p.Labels[batchv1.JobCompletionIndexAnnotation] == p.Annotations[batchv1.JobCompletionIndexAnnotation], "%+v", p.ObjectMeta)
			c.want(p.Spec.Hostname == "indexed-"+p.Annotations[batchv1.JobCompletionIndexAnnotation], "host name %s", p.Spec.Hostname)
			c.want(slices.ContainsFunc(p.Spec.Containers[0].Env, func(e corev1.EnvVar) bool { return e.Name == "JOB_COMPLETION_INDEX" }), "no JOB_COMPLETION_INDEX")
			hosts = append(hosts, p.Spec.Hostname)
		}
		slices.Sort(hosts)
		c.want(slices.Equal(hosts, []string{"indexed-0", "indexed-1", "indexed-2", "indexed-3"}), "%v", hosts)
	})
	conform(t, group+"should execute all indexes despite some failing when using backoffLimitPerIndex [Conformance]", func(c *cluster) {
		one := int32(1)
		c.createJob(job("each", "exit:1,0,1,0", 2, 4, indexed, func(s *batchv1.JobSpec) { s.BackoffLimitPerIndex = &one }))
		got := c.ended("each", batchv1.JobFailed, "FailedIndexes")
		c.want(got.Status.CompletedIndexes == "1,3" && *got.Status.FailedIndexes == "0,2" && got.Status.Failed == 4 && got.Status.Succeeded == 2, "%+v", got.Status)
	})
	conform(t, group+"should terminate job execution when the number of failed indexes exceeds maxFailedIndexes [Conformance]", func(c *cluster) {
		c.createJob(job("most", "exit:1", 10, 10, indexed, func(s *batchv1.JobSpec) {
			s.BackoffLimitPerIndex, s.MaxFailedIndexes = new(int32), new(int32(4))
			s.Parallelism = new(int32(1))
		}))
		got := c.ended("most", batchv1.JobFailed, "MaxFailedIndexesExceeded")
		c.want(got.Status.Failed == 5 && *got.Status.FailedIndexes == "0-4" && got.Status.Succeeded == 0, "%+v", got.Status)
	})
	conform(t, group+"should mark indexes as failed when the FailIndex action is matched in podFailurePolicy [Conformance]", func(c *cluster) {
		c.createJob(job("mark", "exit:42,0", 1, 2, indexed, func(s *batchv1.JobSpec) {
			s.BackoffLimitPerIndex = new(int32(1))
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
				Action:      batchv1.PodFailurePolicyActionFailIndex,
				OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}},
			}}}
		}))
		got := c.ended("mark", batchv1.JobFailed, "FailedIndexes")
		c.want(got.Status.Failed == 1 && *got.Status.FailedIndexes == "0" && got.Status.CompletedIndexes == "1", "%+v", got.Status)
	})
	conform(t, group+"should allow to use the pod failure policy on exit code to fail the job early [Conformance]", func(c *cluster) {
		c.createJob(job("early", "exit:42", 1, 1, func(s *batchv1.JobSpec) {
			s.BackoffLimit = new(int32(6))
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
				Action:      batchv1.PodFailurePolicyActionFailJob,
				OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}},
			}}}
		}))
		got := c.ended("early", batchv1.JobFailed, "PodFailurePolicy")
		c.want(got.Status.Failed == 1, "%+v", got.Status)
	})
	conform(t, group+"should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition [Conformance]", func(c *cluster) {
		c.createJob(job("ignore", "v1", 2, 2, func(s *batchv1.JobSpec) {
			s.BackoffLimit = new(int32)
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
				Action:          batchv1.PodFailurePolicyActionIgnore,
				OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
			}}}
		}))
		c.eventually("two pods", func() bool { return c.readyPods("batch.kubernetes.io/job-name=ignore") == 2 })
		end := func(p corev1.Pod, phase corev1.PodPhase, conditions ...corev1.PodCondition) {
			got := must(c.CoreV1().Pods(ns).Get(c.ctx, p.Name, metav1.GetOptions{}))
			got.Status.Phase = phase
			got.Status.Conditions = append(got.Status.Conditions, conditions...)
			must(c.CoreV1().Pods(ns).UpdateStatus(c.ctx, got, metav1.UpdateOptions{}))
		}
		first := c.pods("batch.kubernetes.io/job-name=ignore")[0]
		end(first, corev1.PodFailed, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI"})
		running := func() []corev1.Pod {
			return slices.DeleteFunc(c.pods("batch.kubernetes.io/job-name=ignore"), func(p corev1.Pod) bool { return p.Status.Phase != corev1.PodRunning })
		}
		c.eventually("its replacement", func() bool { return len(running()) == 2 })
		c.want(c.job("ignore").Status.Failed == 0, "the disruption was counted: %+v", c.job("ignore").Status)
		for _, p := range running() {
			end(p, corev1.PodSucceeded)
		}
		c.ended("ignore", batchv1.JobComplete, "")
	})
	conform(t, group+"should adopt matching orphans and release non-matching pods [Conformance]", func(c *cluster) {
		c.createJob(job("adopt", "v1", 2, 2))
		c.eventually("two pods", func() bool { return c.readyPods("batch.kubernetes.io/job-name=adopt") == 2 })
		name := c.pods("batch.kubernetes.io/job-name=adopt")[0].Name
		owner := func() *metav1.OwnerReference {
			p, err := c.CoreV1().Pods(ns).Get(c.ctx, name, metav1.GetOptions{})
			if err != nil {
				return nil
			}
			return metav1.GetControllerOf(p)
		}
		must(c.CoreV1().Pods(ns).Patch(c.ctx, name, types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null}}`), metav1.PatchOptions{}))
		c.eventually("adoption", func() bool { return owner() != nil })
		must(c.CoreV1().Pods(ns).Patch(c.ctx, name, types.MergePatchType, []byte(`{"metadata":{"labels":null}}`), metav1.PatchOptions{}))
		c.eventually("release", func() bool { return owner() == nil })
	})
	conform(t, group+"should delete a job [Conformance]", func(c *cluster) {
		c.createJob(job("gone", "v1", 2, 4))
		c.eventually("two pods", func() bool { return c.readyPods("batch.kubernetes.io/job-name=gone") == 2 })
		foreground := metav1.DeletePropagationForeground
		c.ok(c.BatchV1().Jobs(ns).Delete(c.ctx, "gone", metav1.DeleteOptions{PropagationPolicy: &foreground}))
		c.eventually("its end", func() bool {
			_, err := c.BatchV1().Jobs(ns).Get(c.ctx, "gone", metav1.GetOptions{})
			return apierrors.IsNotFound(err) && len(c.pods("")) == 0
		})
	})
	conform(t, group+"should apply changes to a job status [Conformance]", func(c *cluster) {
		jobs := c.BatchV1().Jobs(ns)
		c.createJob(job("status", "v1", 2, 4))
		c.eventually("two pods", func() bool { return c.job("status").Status.Active == 2 })
		at := metav1.NewTime(time.Now().Truncate(time.Second))
		must(jobs.Patch(c.ctx, "status", types.MergePatchType, []byte(fmt.Sprintf(`{"metadata":{"annotations":{"patchedstatus":"true"}},"status":{"conditions":[{"type":"CustomConditionType","status":"True","lastTransitionTime":%q}]}}`, at.Format(time.RFC3339))), metav1.PatchOptions{}, "status"))
		c.settle(0)
		has := func(kind string) bool {
			return slices.ContainsFunc(c.job("status").Status.Conditions, func(x batchv1.JobCondition) bool { return string(x.Type) == kind })
		}
		c.want(has("CustomConditionType"), "the condition is lost")
		j := c.job("status")
		j.Status.Conditions = append(j.Status.Conditions, batchv1.JobCondition{Type: "Second", Status: "True", LastTransitionTime: at})
		must(jobs.UpdateStatus(c.ctx, j, metav1.UpdateOptions{}))
		c.settle(0)
		c.want(has("Second") && has("CustomConditionType"), "a condition is lost")
	})
	conform(t, group+"should manage the lifecycle of a job [Conformance]", func(c *cluster) {
		jobs := c.BatchV1().Jobs(ns)
		j := job("life", "v1", 1, 2)
		j.Spec.Suspend = new(true)
		c.createJob(j)
		c.settle(time.Second)
		c.want(len(c.pods("")) == 0, "a suspended job has pods")
		got := must(jobs.Patch(c.ctx, "life", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"e2e":"patched"}}}`), metav1.PatchOptions{}))
		c.want(got.Labels["e2e"] == "patched", "not patched")
		got = c.job("life")
		got.Annotations = map[string]string{"updated": "true"}
		got.Spec.Suspend = new(bool)
		c.want(must(jobs.Update(c.ctx, got, metav1.UpdateOptions{})).Annotations["updated"] == "true", "the annotation is lost")
		c.eventually("a pod", func() bool { return c.readyPods("batch.kubernetes.io/job-name=life") == 1 })
		o := metav1.ListOptions{LabelSelector: "e2e=patched"}
		c.want(len(must(c.BatchV1().Jobs("").List(c.ctx, o)).Items) == 1, "not listed")
		background := metav1.DeletePropagationBackground
		c.ok(jobs.DeleteCollection(c.ctx, metav1.DeleteOptions{PropagationPolicy: &background}, o))
		c.eventually("the end", func() bool { return len(must(jobs.List(c.ctx, o)).Items) == 0 && len(c.pods("")) == 0 })
	})
	// Success policies: the pods that are left are taken away when a rule holds.
	conform(t, group+"with successPolicy should succeeded when all indexes succeeded [Conformance]", func(c *cluster) {
		c.createJob(job("all", "exit:0", 2, 2, indexed, func(s *batchv1.JobSpec) {
			s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: new("0-1")}}}
		}))
		c.ended("all", batchv1.JobSuccessCriteriaMet, "SuccessPolicy")
		got := c.ended("all", batchv1.JobComplete, "SuccessPolicy")
		c.want(got.Status.CompletedIndexes == "0,1" && got.Status.Succeeded == 2, "%+v", got.Status)
	})
	conform(t, group+"with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending [Conformance]", func(c *cluster) {
		c.createJob(job("some", "exit:0", 2, 5, indexed, func(s *batchv1.JobSpec) {
			s.Parallelism = new(int32(1))
			s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: new("0")}}}
		}))
		c.ended("some", batchv1.JobSuccessCriteriaMet, "SuccessPolicy")
		got := c.ended("some", batchv1.JobComplete, "SuccessPolicy")
		c.want(got.Status.CompletedIndexes == "0" && got.Status.Succeeded == 1 && got.Status.Active == 0, "%+v", got.Status)
	})
	conform(t, group+"with successPolicy succeededCount rule should succeeded even when some indexes remain pending [Conformance]", func(c *cluster) {
		c.createJob(job("count", "exit:0", 1, 5, indexed, func(s *batchv1.JobSpec) {
			s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededCount: new(int32(1))}}}
		}))
		c.ended("count", batchv1.JobSuccessCriteriaMet, "SuccessPolicy")
		got := c.ended("count", batchv1.JobComplete, "SuccessPolicy")
		c.want(got.Status.Succeeded == 1 && got.Status.CompletedIndexes == "0", "%+v", got.Status)
	})
}

func cronJob(name, image string, policy batchv1.ConcurrencyPolicy) *batchv1.CronJob {
	cj := &batchv1.CronJob{ObjectMeta: meta(name), Spec: batchv1.CronJobSpec{
		Schedule: "*/1 * * * ?", ConcurrencyPolicy: policy, JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template(name, image)}},
	}}
	cj.Spec.JobTemplate.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	return cj
}

func TestCronJob(t *testing.T) {
	const group = "[sig-apps] CronJob "
	active := func(c *cluster, name string) int {
		return len(must(c.BatchV1().CronJobs(ns).Get(c.ctx, name, metav1.GetOptions{})).Status.Active)
	}
	jobs := func(c *cluster) []batchv1.Job {
		return must(c.BatchV1().Jobs(ns).List(c.ctx, metav1.ListOptions{})).Items
	}
	conform(t, group+"should schedule multiple jobs concurrently [Conformance]", func(c *cluster) {
		must(c.BatchV1().CronJobs(ns).Create(c.ctx, cronJob("allow", "v1", batchv1.AllowConcurrent), metav1.CreateOptions{}))
		c.eventually("two jobs at a time", func() bool { return active(c, "allow") >= 2 && len(jobs(c)) >= 2 })
	})
	conform(t, group+"should not schedule jobs when suspended [Slow] [Conformance]", func(c *cluster) {
		cj := cronJob("suspended", "v1", batchv1.AllowConcurrent)
		cj.Spec.Suspend = new(true)
		must(c.BatchV1().CronJobs(ns).Create(c.ctx, cj, metav1.CreateOptions{}))
		c.settle(5 * time.Minute)
		c.want(len(jobs(c)) == 0 && active(c, "suspended") == 0, "%d jobs", len(jobs(c)))
	})
	conform(t, group+"should not schedule new jobs when ForbidConcurrent [Slow] [Conformance]", func(c *cluster) {
		must(c.BatchV1().CronJobs(ns).Create(c.ctx, cronJob("forbid", "v1", batchv1.ForbidConcurrent), metav1.CreateOptions{}))
		c.eventually("a job", func() bool { return active(c, "forbid") == 1 })
		c.settle(5 * time.Minute)
		c.want(active(c, "forbid") == 1 && len(jobs(c)) == 1, "%d jobs", len(jobs(c)))
	})
	conform(t, group+"should replace jobs when ReplaceConcurrent [Conformance]", func(c *cluster) {
		must(c.BatchV1().CronJobs(ns).Create(c.ctx, cronJob("replace", "v1", batchv1.ReplaceConcurrent), metav1.CreateOptions{}))
		c.eventually("a job", func() bool { return active(c, "replace") == 1 })
		first := jobs(c)[0].Name
		c.eventually("another", func() bool { all := jobs(c); return len(all) == 1 && all[0].Name != first && active(c, "replace") == 1 })
	})
	conform(t, group+"should support CronJob API operations [Conformance]", func(c *cluster) {
		cjs := c.BatchV1().CronJobs(ns)
		cj := cronJob("api", "v1", batchv1.AllowConcurrent)
		cj.Labels["special-label"] = "x"
		cj.Spec.Suspend = new(true)
		must(cjs.Create(c.ctx, cj, metav1.CreateOptions{}))
		o := metav1.ListOptions{LabelSelector: "special-label=x"}
		w := must(cjs.Watch(c.ctx, metav1.ListOptions{LabelSelector: "special-label=x", ResourceVersion: must(cjs.List(c.ctx, o)).ResourceVersion}))
		defer w.Stop()
		c.want(len(must(c.BatchV1().CronJobs("").List(c.ctx, o)).Items) == 1, "not listed")
		c.want(must(cjs.Patch(c.ctx, "api", types.MergePatchType, []byte(`{"metadata":{"annotations":{"patched":"true"}}}`), metav1.PatchOptions{})).Annotations["patched"] == "true", "not patched")
		got := must(cjs.Get(c.ctx, "api", metav1.GetOptions{}))
		got.Annotations["updated"] = "true"
		must(cjs.Update(c.ctx, got, metav1.UpdateOptions{}))
		for _, key := range []string{"patched", "updated"} {
			e := <-w.ResultChan()
			c.want(e.Type == "MODIFIED" && e.Object.(*batchv1.CronJob).Annotations[key] == "true", "%+v", e)
		}
		at := metav1.NewTime(time.Now().Truncate(time.Second))
		patched := must(cjs.Patch(c.ctx, "api", types.MergePatchType, []byte(fmt.Sprintf(`{"metadata":{"annotations":{"patchedstatus":"true"}},"status":{"lastScheduleTime":%q}}`, at.Format(time.RFC3339))), metav1.PatchOptions{}, "status"))
		c.want(patched.Status.LastScheduleTime.Equal(&at) && patched.Annotations["patchedstatus"] == "true", "%+v", patched)
		later := metav1.NewTime(at.Add(time.Hour))
		got = must(cjs.Get(c.ctx, "api", metav1.GetOptions{}))
		got.Status.LastScheduleTime = &later
		c.want(must(cjs.UpdateStatus(c.ctx, got, metav1.UpdateOptions{})).Status.LastScheduleTime.Equal(&later), "status not updated")
		c.ok(cjs.Delete(c.ctx, "api", metav1.DeleteOptions{}))
		must(cjs.Create(c.ctx, cj, metav1.CreateOptions{}))
		c.ok(cjs.DeleteCollection(c.ctx, metav1.DeleteOptions{}, o))
		c.want(len(must(cjs.List(c.ctx, o)).Items) == 0, "the collection is still there")
	})
}
