package controller_test

import (
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/object"
)

// What is here has the name of a thing that is gone, unseen: it is another's, and
// stays as it is.

// anew replaces an object of namespace default by another of its name.
func anew[T object.Object](c *cluster, next T) T {
	c.Helper()
	remove1[T](c, next.GetName(), metav1.DeleteOptions{GracePeriodSeconds: new(int64(0)), PropagationPolicy: new(metav1.DeletePropagationBackground)})
	return make1(c, next)
}

// A Job that somebody made in the place of a CronJob's neither ends with its history
// nor makes room for the next.
func TestCronJobLeavesNamesakes(t *testing.T) {
	for name, x := range map[string]struct {
		image  string
		change func(*batchv1.CronJob)
	}{
		"history": {"done", func(cj *batchv1.CronJob) { cj.Spec.SuccessfulJobsHistoryLimit = new(int32(0)) }},
		"replace": {"v1", func(cj *batchv1.CronJob) { cj.Spec.ConcurrencyPolicy = batchv1.ReplaceConcurrent }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, b := startBlinded(t)
				c.cron("tick", "*/10 * * * *", func(s *batchv1.CronJobSpec) { s.JobTemplate.Spec.Template.Spec.Containers[0].Image = x.image })
				settle(10*time.Minute + 30*time.Second)
				all := c.jobs("tick")
				if len(all) != 1 {
					t.Fatalf("jobs are %q", all)
				}
				show := b.hold("Job")
				j := &batchv1.Job{ObjectMeta: inDefault(all[0]), Spec: batchv1.JobSpec{Suspend: new(true), Template: template("other", "v1")}}
				j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
				j = anew(c, j)
				edit(c, "tick", x.change)
				settle(10 * time.Minute)
				if now := there[*batchv1.Job](c, j.Name); now == nil || now.UID != j.UID || now.DeletionTimestamp != nil {
					t.Errorf("the job is %v", now)
				}
				show()
				settle(time.Minute)
			})
		})
	}
}

// A pod that somebody made in the place of a set's is not the one to scale away.
func TestStatefulSetLeavesNamesakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := startBlinded(t)
		c.stateful(1, free)
		settle(20 * time.Second)
		show := b.hold("Pod")
		p := anew(c, lone("db-0", "v1", nil))
		edit(c, "db", func(s *appsv1.StatefulSet) { s.Spec.Replicas = new(int32(0)) })
		settle(10 * time.Second)
		if now := there[*corev1.Pod](c, "db-0"); now == nil || now.UID != p.UID || now.DeletionTimestamp != nil {
			t.Errorf("the pod is %v", now)
		}
		show()
		settle(10 * time.Second)
	})
}

// A claim does not come to belong to a set that is gone, although the set that is
// there looks the same: it would go with it.
func TestClaimIsNotOfASetThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := startBlinded(t)
		lasts := func(s *appsv1.StatefulSet) {
			s.Spec.MinReadySeconds = 30 // it is looked at again after that time
			s.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
		}
		c.stateful(1, free, lasts)
		settle(10 * time.Second)
		set := there[*appsv1.StatefulSet](c, "db")
		claim := func() *corev1.PersistentVolumeClaim { return there[*corev1.PersistentVolumeClaim](c, "data-db-0") }
		if !metav1.IsControlledBy(claim(), set) {
			t.Fatalf("the claim is of %v", claim().OwnerReferences)
		}
		show := b.hold("StatefulSet", "Pod", "ControllerRevision")
		edit(c, "data-db-0", func(x *corev1.PersistentVolumeClaim) { x.OwnerReferences = nil })
		uid := claim().UID
		remove1[*appsv1.StatefulSet](c, "db", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)})
		c.stateful(1, free, lasts)
		settle(30 * time.Second)
		if x := claim(); x == nil || x.UID != uid || x.DeletionTimestamp != nil || metav1.IsControlledBy(x, set) {
			t.Errorf("the claim is %v", x)
		}
		show()
		settle(time.Minute)
	})
}

// A slice that somebody made in the place of a Service's stays.
func TestSlicesLeaveNamesakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := startBlinded(t)
		make1(c, &corev1.Service{ObjectMeta: inDefault("svc"), Spec: corev1.ServiceSpec{
			ClusterIP: "None", ClusterIPs: []string{"None"}, Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}},
		}})
		make1(c, web(1, "v1"))
		settle(10 * time.Second)
		all := list[*discoveryv1.EndpointSlice](c, "default")
		if len(all) != 1 {
			t.Fatalf("%d slices", len(all))
		}
		show := b.hold("EndpointSlice")
		s := anew(c, &discoveryv1.EndpointSlice{ObjectMeta: inDefault(all[0].Name), AddressType: discoveryv1.AddressTypeIPv4})
		// The slices of a Service go when it selects nothing any more.
		edit(c, "svc", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "none"} })
		settle(10 * time.Second)
		if now := there[*discoveryv1.EndpointSlice](c, s.Name); now == nil || now.UID != s.UID {
			t.Errorf("the slice is %v", now)
		}
		show()
		settle(10 * time.Second)
	})
}

// What goes is not taken in, and who goes lets nothing go.
func TestOwnershipOfWhatGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		set := func(name string) *appsv1.ReplicaSet {
			return &appsv1.ReplicaSet{ObjectMeta: inDefault(name), Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(1)), Selector: by(name), Template: template(name, "v1")}}
		}
		owner := func(name string) types.UID {
			if ref := metav1.GetControllerOf(there[*corev1.Pod](c, name)); ref != nil {
				return ref.UID
			}
			return ""
		}
		make1(c, lone("going", "v1", func(p *corev1.Pod) { p.Labels, p.Finalizers = map[string]string{"app": "late"}, []string{"test/keep"} }))
		remove1[*corev1.Pod](c, "going", metav1.DeleteOptions{})
		make1(c, set("late"))
		settle(20 * time.Second)
		if uid := owner("going"); uid != "" {
			t.Errorf("a pod that goes was taken in by %s", uid)
		}
		early := set("early")
		early.Finalizers = []string{"test/keep"}
		early = make1(c, early)
		settle(5 * time.Second)
		name := ""
		for _, p := range list[*corev1.Pod](c, "default") {
			if metav1.IsControlledBy(p, early) {
				name = p.Name
			}
		}
		remove1[*appsv1.ReplicaSet](c, "early", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationOrphan)})
		edit(c, name, func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(early, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}
			p.Labels["app"] = "other"
		})
		settle(5 * time.Second)
		if uid := owner(name); uid != early.UID {
			t.Errorf("a set that goes has let its pod go, to %q", uid)
		}
	})
}
