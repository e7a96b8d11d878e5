package controller_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"

	"sagong/client"
	"sagong/object"
)

// What is here holds each protection against an old view, a name that is another's
// by now, and the like, to one case that happens every time: the storm may or may
// not come upon it.

// there is an object of namespace default, the zero T when it is gone.
func there[T object.Object](c *cluster, name string) T {
	c.Helper()
	o, err := client.Get[T](c.Context(), c.c, "default", name)
	if err != nil && !apierrors.IsNotFound(err) {
		c.Fatal(err)
	}
	return o
}

func make1[T object.Object](c *cluster, o T) T {
	c.Helper()
	made := must(client.Create(c.Context(), c.c, o))
	synctest.Wait()
	return made
}

func remove1[T object.Object](c *cluster, name string, o metav1.DeleteOptions) {
	c.Helper()
	if err := client.Delete[T](c.Context(), c.c, "default", name, o); err != nil {
		c.Fatal(err)
	}
	synctest.Wait()
}

// A Job of the name that the next one would have, and one of the name of another
// that has gone, are not the CronJob's.
func TestCronJobKnowsItsJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		taken := fmt.Sprintf("tick-%d", time.Now().Add(time.Minute).Unix()/60)
		j := &batchv1.Job{ObjectMeta: inDefault(taken), Spec: batchv1.JobSpec{Suspend: new(true), Template: template("other", "v1")}}
		j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
		j = make1(c, j)
		c.cron("tick", "* * * * *", nil)
		settle(61 * time.Second)
		cj := there[*batchv1.CronJob](c, "tick")
		if len(cj.Status.Active) > 0 || cj.Status.LastScheduleTime != nil {
			t.Errorf("the Job of another counts: %+v", cj.Status)
		}
		editStatus(c, "tick", func(cj *batchv1.CronJob) {
			cj.Status.Active = []corev1.ObjectReference{{APIVersion: "batch/v1", Kind: "Job", Namespace: "default", Name: taken, UID: "gone"}}
		})
		synctest.Wait()
		if cj := there[*batchv1.CronJob](c, "tick"); len(cj.Status.Active) > 0 || !c.told("MissingJob", "Active job went missing: "+taken) {
			t.Errorf("one of the name of a Job that has gone is taken for it: %+v", cj.Status)
		}
		if got := there[*batchv1.Job](c, taken); got == nil || got.UID != j.UID {
			t.Error("the Job of another is gone")
		}
	})
}

// A Job that a CronJob noted and does not see is still at work.
func TestCronJobForgetsNoUnseenJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := startBlinded(t)
		defer b.hold("Job")()
		c.cron("tick", "* * * * *", func(s *batchv1.CronJobSpec) { s.ConcurrencyPolicy = batchv1.ForbidConcurrent })
		settle(6 * time.Minute) // an own write holds its key back for a minute at most
		if n, all := len(there[*batchv1.CronJob](c, "tick").Status.Active), c.jobs("tick"); n != 1 || len(all) != 1 || c.told("MissingJob", "") {
			t.Errorf("%d active of %v", n, all)
		}
	})
}

// stateful makes a set of n pods, each with a claim that goes when its pod is scaled
// away.
func (c *cluster) stateful(n int32, changes ...func(*appsv1.StatefulSet)) {
	c.Helper()
	s := &appsv1.StatefulSet{ObjectMeta: inDefault("db"), Spec: appsv1.StatefulSetSpec{
		Replicas: &n, Selector: by("db"), Template: template("db", "v1"),
		PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
			WhenScaled: appsv1.DeletePersistentVolumeClaimRetentionPolicyType, WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
		},
		VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		}}},
	}}
	s.Spec.Template.Finalizers = []string{"test/keep"}
	for _, change := range changes {
		change(s)
	}
	make1(c, s)
}

// A claim that is not in view goes all the same when its pod is scaled away: nobody
// comes back to it.
func TestClaimOfPodScaledAwayIsFoundUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := startBlinded(t)
		show := b.hold("PersistentVolumeClaim")
		defer show()
		c.stateful(1)
		settle(2 * time.Minute) // an own write holds its key back for a minute at most
		edit(c, "db", func(s *appsv1.StatefulSet) { s.Spec.Replicas = new(int32(0)) })
		settle(30 * time.Second)
		if claim := there[*corev1.PersistentVolumeClaim](c, "data-db-0"); claim != nil && metav1.GetControllerOf(claim) == nil {
			t.Errorf("the claim would stay: %+v", claim.ObjectMeta)
		}
	})
}

// A set that has grown again, unseen, keeps the claim of the pod that was to go.
func TestClaimIsKeptBySetThatHasGrownAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := startBlinded(t)
		c.stateful(2)
		settle(time.Minute)
		edit(c, "db", func(s *appsv1.StatefulSet) { s.Spec.Replicas = new(int32(1)) })
		settle(time.Minute)
		owner := func() *metav1.OwnerReference {
			return metav1.GetControllerOf(there[*corev1.PersistentVolumeClaim](c, "data-db-1"))
		}
		if owner() == nil {
			t.Fatal("the claim does not go with its pod")
		}
		show := b.hold("StatefulSet")
		edit(c, "db", func(s *appsv1.StatefulSet) { s.Spec.Replicas = new(int32(2)) })
		edit(c, "data-db-1", func(x *corev1.PersistentVolumeClaim) { x.OwnerReferences = nil })
		edit(c, "db-0", func(p *corev1.Pod) { p.Annotations = map[string]string{"look": "again"} })
		settle(10 * time.Second)
		if owner() != nil {
			t.Error("the claim goes with its pod, although the set has grown again")
		}
		show()
		settle(time.Minute)
	})
}

// A ReplicaSet that a Deployment made and does not see is no collision.
func TestOwnReplicaSetIsNoCollision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := startBlinded(t)
		show := b.hold("ReplicaSet")
		make1(c, web(1, "v1"))
		settle(3 * time.Minute)
		if n := c.deployment().Status.CollisionCount; n != nil {
			t.Errorf("%d collisions", *n)
		}
		show()
		settle(time.Minute)
		if all := list[*appsv1.ReplicaSet](c, "default"); len(all) != 1 || !c.complete(1, "v1")() {
			t.Errorf("%d sets, %+v", len(all), c.deployment().Status)
		}
	})
}

// A ReplicaSet of the name that a Deployment's next one would have, but another's or of
// another template, is a collision: the Deployment goes on under another name.
func TestReplicaSetOfAnotherIsACollision(t *testing.T) {
	for name, ours := range map[string]bool{"of another": false, "of another template": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := start(t)
				make1(before, web(1, "v2"))
				settle(time.Minute)
				taken := list[*appsv1.ReplicaSet](before, "default")[0].Name

				c := start(t)
				d := make1(c, web(1, "v1"))
				settle(time.Minute)
				s := &appsv1.ReplicaSet{ObjectMeta: inDefault(taken), Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(0)), Selector: by("web"), Template: *d.Spec.Template.DeepCopy()}}
				owner := metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))
				s.Spec.Template.Spec.Containers[0].Image = "v3"
				if !ours {
					m := make1(c, &corev1.ConfigMap{ObjectMeta: inDefault("owner")})
					owner = metav1.NewControllerRef(m, corev1.SchemeGroupVersion.WithKind("ConfigMap"))
					s.Spec.Template.Spec.Containers[0].Image = "v2"
				}
				s.Labels, s.OwnerReferences = s.Spec.Template.Labels, []metav1.OwnerReference{*owner}
				make1(c, s)
				edit(c, "web", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" })
				settle(5 * time.Minute)
				if n := c.deployment().Status.CollisionCount; n == nil || *n != 1 || !c.complete(1, "v2")() {
					t.Errorf("%+v", c.deployment().Status)
				}
				if got := there[*appsv1.ReplicaSet](c, taken); got == nil || !metav1.IsControlledBy(got, &metav1.ObjectMeta{UID: owner.UID}) || got.Spec.Template.Spec.Containers[0].Image != s.Spec.Template.Spec.Containers[0].Image {
					t.Errorf("the set that was there: %v", got)
				}
			})
		})
	}
}

// A slice on its way out holds nothing for readers to rely on.
func TestEndpointsLeaveASliceThatGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		make1(c, &corev1.Service{ObjectMeta: inDefault("svc"), Spec: corev1.ServiceSpec{
			ClusterIP: "None", ClusterIPs: []string{"None"}, Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}},
		}})
		make1(c, web(1, "v1"))
		settle(time.Minute)
		all := list[*discoveryv1.EndpointSlice](c, "default")
		if len(all) != 1 || len(all[0].Endpoints) != 1 {
			t.Fatalf("%d slices", len(all))
		}
		edit(c, all[0].Name, func(s *discoveryv1.EndpointSlice) { s.Finalizers = []string{"test/keep"} })
		remove1[*discoveryv1.EndpointSlice](c, all[0].Name, metav1.DeleteOptions{})
		settle(time.Minute)
		n := 0
		for _, s := range list[*discoveryv1.EndpointSlice](c, "default") {
			if s.DeletionTimestamp == nil {
				n += len(s.Endpoints)
			}
		}
		if n != 1 {
			t.Errorf("%d endpoints in slices that stay", n)
		}
	})
}

// An owner that is to go, or has gone and was made anew, adopts nothing.
func TestOwnersThatGoAdoptNothing(t *testing.T) {
	for name, anew := range map[string]bool{"goes": false, "made anew": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, b := startBlinded(t)
				set := func(app string) *appsv1.ReplicaSet {
					return &appsv1.ReplicaSet{ObjectMeta: inDefault("left"), Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(0)), Selector: by(app), Template: template(app, "v1")}}
				}
				s := set("left")
				if !anew {
					s.Finalizers = []string{"test/keep"}
				}
				make1(c, s)
				show := b.hold("ReplicaSet")
				remove1[*appsv1.ReplicaSet](c, "left", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)})
				if anew {
					make1(c, set("other"))
				}
				make1(c, lone("orphan", "v1", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "left"} }))
				settle(30 * time.Second)
				if p := there[*corev1.Pod](c, "orphan"); p == nil || p.DeletionTimestamp != nil || metav1.GetControllerOf(p) != nil {
					t.Errorf("the orphan was taken: %v", p)
				}
				show()
				settle(30 * time.Second)
			})
		})
	}
}

// A Job that is to be kept after all is, whether that is seen or not.
func TestJobKeptUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := startBlinded(t)
		j := &batchv1.Job{ObjectMeta: inDefault("kept"), Spec: batchv1.JobSpec{TTLSecondsAfterFinished: new(int32(60)), Template: template("kept", "done")}}
		j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
		make1(c, j)
		settle(30 * time.Second)
		if n := len(there[*batchv1.Job](c, "kept").Status.Conditions); n == 0 {
			t.Fatal("the Job does not end")
		}
		show := b.hold("Job")
		defer show()
		edit(c, "kept", func(j *batchv1.Job) { j.Spec.TTLSecondsAfterFinished = nil })
		settle(2 * time.Minute)
		if j := there[*batchv1.Job](c, "kept"); j == nil || j.DeletionTimestamp != nil {
			t.Error("deleted although it is to be kept")
		}
	})
}

// Pods of a node that is there, but not in view, are not given up.
func TestPodsOfUnseenNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := startBlinded(t)
		show := b.hold("Node")
		defer show()
		make1(c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "late"}})
		if err := c.c.Seed(lone("there", "broken", func(p *corev1.Pod) { p.Spec.NodeName, p.Status.Phase = "late", corev1.PodRunning })); err != nil {
			t.Fatal(err)
		}
		settle(2 * time.Minute)
		if p := there[*corev1.Pod](c, "there"); p == nil || p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil {
			t.Errorf("given up: %v", p)
		}
	})
}

// volumeOf is a volume that is bound to a claim.
func volumeOf(name string, claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data"}},
	}}
	v.Status.Phase = corev1.VolumeBound
	v.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID}
	return v
}

// claimOn is a claim that is bound to a volume.
func claimOn(name, on string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: inDefault(name), Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: new(""), VolumeName: on,
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
	}}
	c.UID = types.UID("uid of " + name)
	c.Annotations = map[string]string{volume.AnnBindCompleted: "yes"}
	c.Finalizers = []string{"kubernetes.io/pvc-protection"}
	c.Status.Phase, c.Status.Capacity = corev1.ClaimBound, c.Spec.Resources.Requests
	return c
}

// What volumes and claims are bound to is asked for live before data are given up.
func TestBindingsUnseen(t *testing.T) {
	seed := func(c *cluster, all ...object.Object) {
		c.Helper()
		for _, o := range all {
			if err := c.c.Seed(o); err != nil {
				c.Fatal(err)
			}
		}
		settle(10 * time.Second)
	}
	pv := func(c *cluster, name string) *corev1.PersistentVolume {
		return must(client.Get[*corev1.PersistentVolume](c.Context(), c.c, "", name))
	}
	for name, f := range map[string]func(*cluster, *blinded){
		"the claim is not in view": func(c *cluster, b *blinded) {
			defer b.hold("PersistentVolumeClaim")()
			claim := claimOn("c", "v")
			seed(c, claim, volumeOf("v", claim))
			if got := pv(c, "v").Status.Phase; got != corev1.VolumeBound {
				c.Errorf("the volume is %s", got)
			}
		},
		"the volume has come to the claim unseen": func(c *cluster, b *blinded) {
			seed(c, volumeOf("v", claimOn("gone", "v")))
			show := b.hold("PersistentVolume")
			claim := claimOn("c", "v")
			edit(c, "v", func(v *corev1.PersistentVolume) { v.Spec.ClaimRef.Name, v.Spec.ClaimRef.UID = claim.Name, claim.UID })
			seed(c, claim)
			if got := there[*corev1.PersistentVolumeClaim](c, "c").Status.Phase; got != corev1.ClaimBound {
				c.Errorf("the claim is %s", got)
			}
			show()
			settle(10 * time.Second)
		},
		"two claims on one volume": func(c *cluster, _ *blinded) {
			claim := claimOn("c", "v")
			seed(c, claim, volumeOf("v", claim), claimOn("d", "v"))
			if first, second := there[*corev1.PersistentVolumeClaim](c, "c").Status.Phase, there[*corev1.PersistentVolumeClaim](c, "d").Status.Phase; first != corev1.ClaimBound || second != corev1.ClaimLost {
				c.Errorf("they are %s and %s", first, second)
			}
			if !c.told("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly") || pv(c, "v").Spec.ClaimRef.Name != "c" {
				c.Errorf("the volume is %s's", pv(c, "v").Spec.ClaimRef.Name)
			}
		},
		"a claim of the volume's claim's name": func(c *cluster, _ *blinded) {
			claim := claimOn("c", "v")
			claim.UID = "another"
			seed(c, claim, volumeOf("v", claimOn("c", "v")))
			if got := pv(c, "v").Status.Phase; got != corev1.VolumeReleased {
				c.Errorf("the volume is %s", got)
			}
		},
		"a pod uses the claim unseen": func(c *cluster, b *blinded) {
			claim := claimOn("c", "v")
			seed(c, claim, volumeOf("v", claim))
			defer b.hold("Pod")()
			seed(c, lone("user", "broken", func(p *corev1.Pod) {
				p.Spec.NodeName = "n1"
				p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
			}))
			remove1[*corev1.PersistentVolumeClaim](c, "c", metav1.DeleteOptions{})
			settle(10 * time.Second)
			if there[*corev1.PersistentVolumeClaim](c, "c") == nil {
				c.Error("the claim is gone")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, b := startBlinded(t)
				f(c, b)
			})
		})
	}
}
