package controller_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/controller"
	"sagong/reconcile"
)

// A group of pods stays until the last of its pods has ended, or is gone.
func TestPodGroupsInUseStay(t *testing.T) {
	c := startWith(t, controller.Deps{Workloads: true})
	// No agent touches their state.
	pod := func(name string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Finalizers: []string{"example.com/keep"}},
			Spec: corev1.PodSpec{
				Containers: []corev1.Container{{Name: "c", Image: "broken"}}, SchedulingGroup: &corev1.PodSchedulingGroup{PodGroupName: new("g")},
			},
		}
	}
	group := func(name string) *schedulingv1beta1.PodGroup {
		g := &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Finalizers: []string{"scheduling.k8s.io/podgroup-protection"}}}
		g.Spec.SchedulingPolicy.Basic = &schedulingv1beta1.BasicSchedulingPolicy{}
		return g
	}
	for _, p := range []*corev1.Pod{pod("a"), pod("b")} {
		if _, err := client.Create(t.Context(), c.c, p); err != nil {
			t.Fatal(err)
		}
	}
	groups := reconcile.ViewOf[*schedulingv1beta1.PodGroup](c.hub)
	gone := map[string]chan struct{}{"g": make(chan struct{}), "empty": make(chan struct{})}
	defer groups.OnChange(func(old, new *schedulingv1beta1.PodGroup) {
		if new == nil {
			close(gone[old.Name])
		}
	})()
	for _, name := range []string{"g", "empty"} {
		if _, err := client.Create(t.Context(), c.c, group(name)); err != nil {
			t.Fatal(err)
		}
		if err := client.Delete[*schedulingv1beta1.PodGroup](t.Context(), c.c, "default", name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	<-gone["empty"]
	finish := func(name string) {
		t.Helper()
		for {
			p, err := client.Get[*corev1.Pod](t.Context(), c.c, "default", name)
			if err != nil {
				t.Fatal(err)
			}
			p = p.DeepCopy()
			p.Status.Phase = corev1.PodSucceeded
			if _, err = client.UpdateStatus(t.Context(), c.c, p); err == nil {
				return
			} else if !apierrors.IsConflict(err) {
				t.Fatal(err)
			}
		}
	}
	finish("a")
	g, err := client.Get[*schedulingv1beta1.PodGroup](t.Context(), c.c, "default", "g")
	if err != nil || g.DeletionTimestamp == nil {
		t.Fatalf("with a pod in it: %v, %v", g, err)
	}
	finish("b")
	<-gone["g"]
}
