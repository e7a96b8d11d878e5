package scheduler

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
)

func standsFor(c *resourcev1.DeviceClass, name string) *resourcev1.DeviceClass {
	c.Spec.ExtendedResourceName = &name
	return c
}

func takes(name corev1.ResourceName, k int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		r := &p.Spec.Containers[0].Resources
		r.Limits = corev1.ResourceList{name: *resource.NewQuantity(k, resource.DecimalSI)}
		r.Requests = corev1.ResourceList{name: r.Limits[name], corev1.ResourceCPU: resource.MustParse("1")}
	}
}

const gpu = "example.com/gpu"

// One node has the resource by a device plugin, the other has devices.
func TestExtendedResourcesFromPluginsAndFromDevices(t *testing.T) {
	plugged := func(n *corev1.Node) { n.Status.Allocatable[gpu] = resource.MustParse("1") }
	c, v, _ := startWith(t, nil, space(), node("n1", plugged), node("n2"), standsFor(deviceClass("gpu", ""), gpu), deviceSlice("n2", 3))
	for i := range 3 {
		create(t, c, testPod(fmt.Sprint("p", i), takes(gpu, 1)))
	}
	until(t, v, "all bound", func(all []*corev1.Pod) bool {
		return count(all, func(p *corev1.Pod) bool { return p.Spec.NodeName == "n1" }) == 1 && count(all, func(p *corev1.Pod) bool { return p.Spec.NodeName == "n2" }) == 2
	})
	claims, _, err := client.ListOf[*resourcev1.ResourceClaim](t.Context(), c, "default", client.ListOptions{})
	if err != nil || len(claims) != 2 {
		t.Fatalf("%d claims, %v", len(claims), err)
	}
	for _, p := range v.All() {
		s := p.Status.ExtendedResourceClaimStatus
		if p.Spec.NodeName == "n1" {
			if s != nil {
				t.Errorf("%s has a device of its node's plugin and the claim %s", p.Name, s.ResourceClaimName)
			}
			continue
		}
		if s == nil || !slices.Equal(s.RequestMappings, []corev1.ContainerExtendedResourceRequest{{ContainerName: "c", ResourceName: gpu, RequestName: "container-0-request-1"}}) {
			t.Fatalf("status of %s: %+v", p.Name, s)
		}
		i := slices.IndexFunc(claims, func(c *resourcev1.ResourceClaim) bool { return c.Name == s.ResourceClaimName })
		if i < 0 {
			t.Fatalf("%s names the claim %s, which is not there", p.Name, s.ResourceClaimName)
		}
		x := claims[i]
		if !metav1.IsControlledBy(x, p) || x.GenerateName != p.Name+"-extended-resources-" || x.Annotations[resourcev1.ExtendedResourceClaimAnnotation] != "true" ||
			len(x.Status.ReservedFor) != 1 || x.Status.ReservedFor[0].UID != p.UID || len(x.Status.Allocation.Devices.Results) != 1 || !slices.Contains(x.Finalizers, resourcev1.Finalizer) {
			t.Errorf("claim of %s: %+v", p.Name, x)
		}
	}
	// The class's own name means the same devices, of which one is left.
	create(t, c, testPod("other", takes(gpu, 2)))
	until(t, v, "no room", says("other", "0/2 nodes are available: 1 Insufficient example.com/gpu, 1 cannot allocate all claims. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."))
	create(t, c, testPod("two", takes("deviceclass.resource.kubernetes.io/gpu", 2)))
	until(t, v, "no room for two", says("two", "0/2 nodes are available: 2 cannot allocate all claims. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."))
}

// A pod waits for a class that stands for what it asks for.
func TestPodsWaitForAClassThatStandsForTheirResource(t *testing.T) {
	c, v, _ := startWith(t, nil, space(), node("n1"), deviceSlice("n1", 1))
	create(t, c, testPod("p", takes(gpu, 1)))
	until(t, v, "nobody has it", says("p", "0/1 nodes are available: 1 Insufficient example.com/gpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."))
	create(t, c, standsFor(deviceClass("gpu", ""), gpu))
	until(t, v, "the pod in", func(all []*corev1.Pod) bool { return count(all, onNode("p", "n1")) == 1 })
}

// What a scheduler left that did not come to bind its pod is deleted, and the pod
// gets a claim anew.
func TestStaleClaimsForExtendedResourcesAreDeleted(t *testing.T) {
	p := testPod("p", takes(gpu, 1))
	left := deviceClaim("left", resourcev1.DeviceRequest{Name: "container-0-request-0", Exactly: exactly("gpu", 1)})
	left.Finalizers, left.Annotations = []string{resourcev1.Finalizer}, map[string]string{resourcev1.ExtendedResourceClaimAnnotation: "true"}
	left.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(p, corev1.SchemeGroupVersion.WithKind("Pod"))}
	left.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
		{Request: "container-0-request-0", Driver: "gpu.example.com", Pool: "n1", Device: "gpu-0"},
	}}}
	c, v, _ := startWith(t, nil, space(), node("n1"), standsFor(deviceClass("gpu", ""), gpu), deviceSlice("n1", 1), p, left)
	until(t, v, "the pod in", func(all []*corev1.Pod) bool { return count(all, onNode("p", "n1")) == 1 })
	p, err := client.Get[*corev1.Pod](t.Context(), c, "default", "p")
	if err != nil || p.Status.ExtendedResourceClaimStatus == nil || p.Status.ExtendedResourceClaimStatus.ResourceClaimName == "left" {
		t.Errorf("%+v, %v", p.Status, err)
	}
	if x, err := client.Get[*resourcev1.ResourceClaim](t.Context(), c, "default", "left"); err == nil {
		t.Errorf("still there: %+v", x)
	}
}
