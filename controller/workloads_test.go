package controller_test

import (
	"context"
	"slices"
	"strings"
	"testing"
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

func template(app, image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}},
	}
}

// edit changes an object, again when somebody was faster.
func edit[T object.Object](c *cluster, name string, f func(T)) {
	c.Helper()
	write(c, name, f, client.Update)
}

// editStatus is edit of the status.
func editStatus[T object.Object](c *cluster, name string, f func(T)) {
	c.Helper()
	write(c, name, f, client.UpdateStatus)
}

func write[T object.Object](c *cluster, name string, f func(T), update func(context.Context, client.Client, T) (T, error)) {
	c.Helper()
	ns := "default"
	switch any(*new(T)).(type) {
	case *corev1.Node, *corev1.PersistentVolume:
		ns = ""
	}
	for {
		o, err := client.Get[T](context.Background(), c.c, ns, name)
		if err != nil {
			c.Fatal(err)
		}
		next := o.DeepCopyObject().(T)
		f(next)
		if _, err := update(context.Background(), c.c, next); !apierrors.IsConflict(err) {
			if err != nil {
				c.Fatal(err)
			}
			return
		}
	}
}

func TestDaemonSetFromStartToEnd(t *testing.T) {
	c := start(t)
	must(client.Create(t.Context(), c.c, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "log"},
		Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "log"}}, Template: template("log", "v1")},
	}))
	served := func(image string) func() bool {
		return func() bool {
			ds := must(client.Get[*appsv1.DaemonSet](t.Context(), c.c, "default", "log"))
			ps := list[*corev1.Pod](c, "default")
			return ds.Status.NumberAvailable == 1 && ds.Status.UpdatedNumberScheduled == 1 && ds.Status.ObservedGeneration == ds.Generation &&
				len(ps) == 1 && ps[0].Spec.Containers[0].Image == image
		}
	}
	c.eventually("a pod on the node", served("v1"))
	p := list[*corev1.Pod](c, "default")[0]
	if p.Labels["controller-revision-hash"] == "" || len(p.Spec.Tolerations) < 6 {
		t.Fatalf("%+v", p)
	}
	edit(c, "log", func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Containers[0].Image = "v2" })
	c.eventually("the second version", served("v2"))
	if n := count[*appsv1.ControllerRevision](c, "default"); n != 2 {
		t.Fatalf("%d revisions", n)
	}
	edit(c, "log", func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Containers[0].Image = "v1" })
	c.eventually("the first version again", served("v1"))
	for _, r := range list[*appsv1.ControllerRevision](c, "default") {
		if strings.Contains(string(r.Data.Raw), `"image":"v1"`) != (r.Revision == 3) || !strings.Contains(string(r.Data.Raw), `"$patch":"replace"`) {
			t.Fatalf("revision %d: %s", r.Revision, r.Data.Raw)
		}
	}
	must(client.Create(t.Context(), c.c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}))
	c.eventually("a pod for the second node", func() bool { return count[*corev1.Pod](c, "default") == 2 })
}

func TestStatefulSetFromStartToEnd(t *testing.T) {
	c := start(t)
	three := int32(3)
	must(client.Create(t.Context(), c.c, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &three, ServiceName: "db", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}, Template: template("db", "v1"),
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			}}},
			PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
				WhenDeleted: appsv1.DeletePersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
			},
		},
	}))
	settled := func(n int32, image string) func() bool {
		return func() bool {
			s := must(client.Get[*appsv1.StatefulSet](t.Context(), c.c, "default", "db"))
			return s.Status.ReadyReplicas == n && s.Status.Replicas == n && s.Status.UpdatedReplicas == n && s.Status.CurrentRevision == s.Status.UpdateRevision &&
				s.Status.ObservedGeneration == s.Generation && count[*corev1.Pod](c, "default") == int(n) &&
				!slices.ContainsFunc(list[*corev1.Pod](c, "default"), func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image != image })
		}
	}
	c.eventually("three pods", settled(3, "v1"))
	p := must(client.Get[*corev1.Pod](t.Context(), c.c, "default", "db-2"))
	if p.Spec.Hostname != "db-2" || p.Spec.Subdomain != "db" || p.Labels["statefulset.kubernetes.io/pod-name"] != "db-2" || p.Labels["apps.kubernetes.io/pod-index"] != "2" ||
		!slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
			return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == "data-db-2"
		}) {
		t.Fatalf("%+v", p)
	}
	edit(c, "db", func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "v2" })
	c.eventually("the second version", settled(3, "v2"))
	edit(c, "db", func(s *appsv1.StatefulSet) { *s.Spec.Replicas = 1 })
	c.eventually("one pod, and the claims of the others gone", func() bool {
		return settled(1, "v2")() && count[*corev1.PersistentVolumeClaim](c, "default") == 1
	})
	if err := client.Delete[*appsv1.StatefulSet](t.Context(), c.c, "default", "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the end", func() bool {
		return count[*corev1.Pod](c, "default")+count[*corev1.PersistentVolumeClaim](c, "default")+count[*appsv1.ControllerRevision](c, "default") == 0
	})
}

func TestJobFromStartToEnd(t *testing.T) {
	c := start(t)
	n, parallel, none := int32(5), int32(2), int32(0)
	job := func(name, image string) *batchv1.Job {
		j := &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec:       batchv1.JobSpec{Completions: &n, Parallelism: &parallel, BackoffLimit: &none, Template: template(name, image)},
		}
		j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
		return j
	}
	must(client.Create(t.Context(), c.c, job("good", "done")))
	must(client.Create(t.Context(), c.c, job("bad", "fail")))
	c.eventually("the end of the good one", func() bool {
		j := must(client.Get[*batchv1.Job](t.Context(), c.c, "default", "good"))
		return j.Status.Succeeded == 5 && j.Status.Failed == 0 && j.Status.Active == 0 && j.Status.CompletionTime != nil &&
			slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == batchv1.JobComplete })
	})
	c.eventually("the end of the bad one", func() bool {
		j := must(client.Get[*batchv1.Job](t.Context(), c.c, "default", "bad"))
		return j.Status.Failed >= 1 && slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
			return c.Type == batchv1.JobFailed && c.Reason == "BackoffLimitExceeded"
		})
	})
	c.eventually("no pod that waits to be counted", func() bool {
		return !slices.ContainsFunc(list[*corev1.Pod](c, "default"), func(p *corev1.Pod) bool { return len(p.Finalizers) > 0 })
	})
	// One that is deleted while it runs takes its pods along.
	must(client.Create(t.Context(), c.c, job("endless", "v1")))
	c.eventually("running pods", func() bool {
		j := must(client.Get[*batchv1.Job](t.Context(), c.c, "default", "endless"))
		return j.Status.Active == 2 && j.Status.Ready != nil && *j.Status.Ready == 2
	})
	background := metav1.DeletePropagationBackground
	if err := client.Delete[*batchv1.Job](t.Context(), c.c, "default", "endless", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	c.eventually("its end", func() bool {
		return !slices.ContainsFunc(list[*corev1.Pod](c, "default"), func(p *corev1.Pod) bool { return strings.HasPrefix(p.Name, "endless") })
	})
	expired := job("expired", "done")
	expired.Spec.TTLSecondsAfterFinished = &none
	must(client.Create(t.Context(), c.c, expired))
	c.eventually("expiry", func() bool {
		_, err := client.Get[*batchv1.Job](t.Context(), c.c, "default", "expired")
		return apierrors.IsNotFound(err)
	})
}

func TestCronJobStartsWhatIsDue(t *testing.T) {
	c := start(t)
	cj := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "tick", UID: "tick", CreationTimestamp: metav1.NewTime(time.Now().Add(-90 * time.Second))},
		Spec:       batchv1.CronJobSpec{Schedule: "* * * * *", ConcurrencyPolicy: batchv1.ForbidConcurrent, JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template("tick", "done")}}},
	}
	cj.Spec.JobTemplate.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	if err := c.c.Seed(cj); err != nil {
		t.Fatal(err)
	}
	c.eventually("a job, noted", func() bool {
		now := must(client.Get[*batchv1.CronJob](t.Context(), c.c, "default", "tick"))
		return now.Status.LastScheduleTime != nil && now.Status.LastSuccessfulTime != nil && len(now.Status.Active) == 0
	})
	j := list[*batchv1.Job](c, "default")[0]
	if !strings.HasPrefix(j.Name, "tick-") || j.Annotations[batchv1.CronJobScheduledTimestampAnnotation] == "" || j.OwnerReferences[0].Name != "tick" {
		t.Fatalf("%+v", j.ObjectMeta)
	}
}

func TestDisruptionBudget(t *testing.T) {
	c := start(t)
	must(client.Create(t.Context(), c.c, web(3, "v1")))
	one := intstr.FromInt32(1)
	must(client.Create(t.Context(), c.c, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}))
	c.eventually("one allowed disruption", func() bool {
		s := must(client.Get[*policyv1.PodDisruptionBudget](t.Context(), c.c, "default", "web")).Status
		return s.DisruptionsAllowed == 1 && s.ExpectedPods == 3 && s.CurrentHealthy == 3 && s.DesiredHealthy == 2
	})
}
