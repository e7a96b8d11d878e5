package controller_test

import (
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// free has the pods of a set go when they are deleted.
func free(s *appsv1.StatefulSet) {
	s.Spec.Template.Finalizers = nil
}

// A pod that a set takes in, or that somebody has changed, gets the labels that the
// set's pods are known by.
func TestStatefulSetNamesItsPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		make1(c, lone("db-0", "v1", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "db"} }))
		c.stateful(1, free)
		settle(20 * time.Second)
		named := func(when string) {
			t.Helper()
			p := there[*corev1.Pod](c, "db-0")
			if metav1.GetControllerOf(p) == nil || p.Labels[appsv1.StatefulSetPodNameLabel] != "db-0" || p.Labels[appsv1.PodIndexLabel] != "0" || p.Labels["app"] != "db" {
				t.Errorf("%s: %v", when, p.Labels)
			}
		}
		named("taken in")
		edit(c, "db-0", func(p *corev1.Pod) { p.Labels[appsv1.StatefulSetPodNameLabel] = "db-1" })
		settle(20 * time.Second)
		named("renamed")
		if !c.told("SuccessfulUpdate", "update Pod db-0 in StatefulSet db successful") {
			t.Error("nobody is told")
		}
	})
}

// A pod that cannot be made holds up neither the others of a parallel set nor what the
// set tells of them.
func TestStatefulSetTellsOfThePodsItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		claim := claimOn("data-db-0", "v")
		claim.Finalizers = append(claim.Finalizers, "test/keep")
		if err := c.c.Seed(claim); err != nil {
			t.Fatal(err)
		}
		remove1[*corev1.PersistentVolumeClaim](c, "data-db-0", metav1.DeleteOptions{})
		c.stateful(3, free, func(s *appsv1.StatefulSet) { s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement })
		settle(20 * time.Second)
		s := there[*appsv1.StatefulSet](c, "db").Status
		if s.Replicas != 2 || s.ReadyReplicas != 2 || s.AvailableReplicas != 2 || s.CurrentReplicas != 2 || s.UpdatedReplicas != 2 || there[*corev1.Pod](c, "db-0") != nil {
			t.Errorf("%+v", s)
		}
		if !c.told("FailedCreate", "create Pod db-0 in StatefulSet db failed error: pvc data-db-0 is being deleted") {
			t.Error("nobody is told why")
		}
		edit(c, "data-db-0", func(x *corev1.PersistentVolumeClaim) { x.Finalizers = nil })
		settle(20 * time.Second)
		if s := there[*appsv1.StatefulSet](c, "db").Status; s.ReadyReplicas != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// A set that grows again waits for the claim that goes with the pod it had before.
func TestStatefulSetWaitsForAClaimThatGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := startBlinded(t)
		pod := make1(c, lone("db-0", "v1", nil))
		claim := claimOn("data-db-0", "v")
		claim.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))}
		if err := c.c.Seed(claim); err != nil {
			t.Fatal(err)
		}
		settle(20 * time.Second)
		show := b.hold("PersistentVolumeClaim")
		remove1[*corev1.Pod](c, "db-0", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
		c.stateful(1, free)
		settle(10 * time.Second)
		if p := there[*corev1.Pod](c, "db-0"); p != nil {
			t.Error("a pod takes a claim that is to go")
		}
		show()
		settle(20 * time.Second)
		x, p := there[*corev1.PersistentVolumeClaim](c, "data-db-0"), there[*corev1.Pod](c, "db-0")
		if p == nil || x == nil || x.UID == claim.UID || len(x.OwnerReferences) > 0 {
			t.Errorf("%v %v", p, x)
		}
	})
}
