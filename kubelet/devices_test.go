package kubelet_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
)

// A pod starts when its claim is its to use, and not before.
func TestPodWaitsForItsClaim(t *testing.T) {
	m := newMachine(t)
	p := newPod("web", "a")
	p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "x", ResourceClaimName: new("c")}}
	p.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "x"}}
	c, err := client.Create(t.Context(), m.api, &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	p = m.create(p)
	m.eventually("FailedPrepareDynamicResources", func() bool {
		return m.events.has("Warning FailedPrepareDynamicResources: Failed to prepare dynamic resources: ResourceClaim c is not allocated")
	})
	reserve := func(uid types.UID) {
		t.Helper()
		c = c.DeepCopy()
		c.Status.Allocation = &resourcev1.AllocationResult{} // of no device: no driver is needed
		c.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "web", UID: uid}}
		if c, err = client.UpdateStatus(t.Context(), m.api, c); err != nil {
			t.Fatal(err)
		}
	}
	reserve("another")
	m.eventually("refused", func() bool {
		return m.events.has("is not allowed to use ResourceClaim c (")
	})
	reserve(p.UID)
	m.await("web", "ready", ready)
}
