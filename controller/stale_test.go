package controller_test

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/client"
	"sagong/object"
)

// What is here was true a moment ago and is not any more: who acts on what it
// remembers, or sees late, and does not ask, takes away what others rely on.

// got reads an object of namespace default; it is the zero T for one that is gone.
func got[T object.Object](w *world, name string) T {
	w.Helper()
	o, err := client.Get[T](w.Context(), w.c, "default", name)
	if err != nil && !apierrors.IsNotFound(err) {
		w.Fatal(err)
	}
	return o
}

// stale is told when nobody has changed his mind yet.
func (w *world) stale() {
	// Pods that would have been adopted, had they come before their owner went: for
	// good, for one of its name, or not yet.
	for i := range 6 {
		name := fmt.Sprint("left", i)
		set := &appsv1.ReplicaSet{ObjectMeta: inDefault(name), Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(1)), Selector: by(name), Template: template(name, "v1")}}
		w.create(set)
		w.pass(w.storm.pause(20*time.Second, "left", i))
		w.remove(set, []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground}[i%2])
		if i%4 == 0 {
			w.create(&appsv1.ReplicaSet{ObjectMeta: inDefault(name), Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(0)), Selector: by("other"), Template: template("other", "v1")}})
		}
		w.create(lone(name, "v1", func(p *corev1.Pod) { p.Labels = map[string]string{"app": name} }))
	}
	w.clash()
	w.renew()
	w.spare()
	w.promise()
	// One that must not run twice at a time, and never ends.
	cron := &batchv1.CronJob{ObjectMeta: inDefault("endless"), Spec: batchv1.CronJobSpec{
		Schedule: "* * * * *", ConcurrencyPolicy: batchv1.ForbidConcurrent, JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template("endless", "v1")}},
	}}
	cron.Spec.JobTemplate.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	w.create(cron)
}

// clash has a Deployment find the name of its ReplicaSet taken by another's.
func (w *world) clash() {
	clash := web(1, "v1")
	clash.Name, clash.Spec.Selector, clash.Spec.Template.Labels = "clash", by("clash"), map[string]string{"app": "clash"}
	w.create(clash.DeepCopy())
	taken := func() string {
		for _, s := range list[*appsv1.ReplicaSet](w.cluster, "default") {
			if s.Labels["app"] == "clash" {
				return s.Name
			}
		}
		return ""
	}
	w.await("the set of the Deployment clash", func() bool { return taken() != "" })
	name := taken()
	w.remove(clash, metav1.DeletePropagationForeground)
	w.await("the end of the Deployment clash", func() bool {
		return got[*appsv1.Deployment](w, "clash") == nil && got[*appsv1.ReplicaSet](w, name) == nil
	})
	w.create(&appsv1.ReplicaSet{ObjectMeta: inDefault(name), Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(0)), Selector: by("other"), Template: template("other", "v1")}})
	w.create(clash)
	w.await("a set of another name", func() bool { return got[*appsv1.Deployment](w, "clash").Status.AvailableReplicas == 1 })
	if s := got[*appsv1.ReplicaSet](w, name); s == nil || len(s.OwnerReferences) > 0 {
		w.Errorf("the set whose name was taken: %+v", s)
	}
}

// renew makes namespaces anew as soon as they are gone.
func (w *world) renew() {
	for i := range 3 {
		name := fmt.Sprint("renewed", i)
		keep := func(s string) {
			w.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: s}})
		}
		w.create(namespace(name))
		keep("old")
		w.pass(w.storm.pause(20*time.Second, "renewed", i))
		w.remove(namespace(name), metav1.DeletePropagationBackground)
		w.await("the end of namespace "+name, func() bool {
			_, err := client.Get[*corev1.Namespace](w.Context(), w.c, "", name)
			return apierrors.IsNotFound(err)
		})
		w.create(namespace(name))
		keep("new")
	}
}

// spare has Jobs kept for good a moment before their time is up.
func (w *world) spare() {
	const ttl = 20
	for i := range 3 {
		name := fmt.Sprint("spared", i)
		j := &batchv1.Job{ObjectMeta: inDefault(name), Spec: batchv1.JobSpec{TTLSecondsAfterFinished: new(int32(ttl)), BackoffLimit: new(int32(100)), Template: template(name, "done")}}
		j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
		w.create(j)
		var end time.Time
		w.await("the end of Job "+name, func() bool {
			for _, c := range got[*batchv1.Job](w, name).Status.Conditions {
				if c.Type == batchv1.JobComplete {
					end = c.LastTransitionTime.Time
				}
			}
			return !end.IsZero()
		})
		w.pass(time.Until(end.Add((ttl - 1) * time.Second)))
		edit(w.cluster, name, func(j *batchv1.Job) { j.Spec.TTLSecondsAfterFinished = nil })
	}
}

// promise allows the eviction of a pod that nobody then evicts.
func (w *world) promise() {
	for _, name := range []string{"promised0", "promised1"} {
		w.create(lone(name, "v1", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "promised"} }))
	}
	least := intstr.FromInt32(1)
	w.create(&policyv1.PodDisruptionBudget{ObjectMeta: inDefault("promised"), Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: by("promised")}})
	allowed := func(n int32) func() bool {
		return func() bool {
			s := got[*policyv1.PodDisruptionBudget](w, "promised").Status
			return s.CurrentHealthy == 2 && s.DisruptionsAllowed == n && len(s.DisruptedPods) == 0
		}
	}
	w.await("a budget that allows a disruption", allowed(1))
	w.pass(2 * time.Minute) // a promise about a pod that is not in view is dropped
	w.update(func() error {
		b := got[*policyv1.PodDisruptionBudget](w, "promised").DeepCopy()
		b.Status.DisruptionsAllowed--
		b.Status.DisruptedPods = map[string]metav1.Time{"promised0": metav1.Now()}
		_, err := client.UpdateStatus(w.Context(), client.Client(w.c), b)
		return err
	})
	made := time.Now().Truncate(time.Second) // as it is written
	w.await("a promise that is forgotten", allowed(1))
	if time.Since(made) < 2*time.Minute {
		w.Error("the pod whose eviction was allowed counted as there before its two minutes were over")
	}
}

// dip has less to do for a time shorter than the window in which sizes are held.
func (w *world) dip() {
	w.await("three replicas of what grows", func() bool { return *got[*appsv1.Deployment](w, "grow").Spec.Replicas == 3 })
	w.usage.set(10)
	w.pass(2 * time.Minute)
	w.usage.set(90)
}

// growAtOnce has a claim ask for more as soon as it is bound.
func (w *world) growAtOnce(claim string) {
	w.await("claim "+claim+" is bound", func() bool { return got[*corev1.PersistentVolumeClaim](w, claim).Status.Phase == corev1.ClaimBound })
	edit(w.cluster, claim, func(c *corev1.PersistentVolumeClaim) {
		c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi")
	})
}

// endlessOnce holds the CronJob that must not run twice at a time to that.
func (w *world) endlessOnce() {
	w.Helper()
	jobs := list[*batchv1.Job](w.cluster, "default")
	jobs = slices.DeleteFunc(jobs, func(j *batchv1.Job) bool {
		ref := metav1.GetControllerOf(j)
		return ref == nil || ref.Name != "endless"
	})
	if len(jobs) != 1 {
		w.Errorf("seed %d: %d Jobs of the CronJob endless", w.storm.seed, len(jobs))
	}
}
