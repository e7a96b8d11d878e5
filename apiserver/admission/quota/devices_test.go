package quota_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
)

func deviceClaim(name string, requests ...resourcev1.DeviceRequest) *resourcev1.ResourceClaim {
	return &resourcev1.ResourceClaim{ObjectMeta: meta(name), Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: requests}}}
}

func devices(class string, k int64) resourcev1.DeviceRequest {
	return resourcev1.DeviceRequest{Name: class, Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: class, AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: k}}
}

func TestQuotaOfDevices(t *testing.T) {
	c := start(t)
	gpu := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}, Spec: resourcev1.DeviceClassSpec{ExtendedResourceName: new("example.com/gpu")}}
	c.must(gpu)
	const count, byClass, own, resource = "count/resourceclaims.resource.k8s.io", "gpu.deviceclass.resource.k8s.io/devices", "requests.deviceclass.resource.kubernetes.io/gpu", "requests.example.com/gpu"
	c.quota("q", list(count, "9", byClass, "6", own, "6", resource, "6"))
	c.used("q", count, "0", byClass, "0", own, "0", resource, "0")
	c.must(deviceClaim("a", devices("gpu", 2)))
	c.used("q", count, "1", byClass, "2", own, "2", resource, "2")
	// Of alternatives the largest counts, of all there are the most that can be.
	either := deviceClaim("b", resourcev1.DeviceRequest{Name: "either", FirstAvailable: []resourcev1.DeviceSubRequest{
		{Name: "x", DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1},
		{Name: "y", DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 2},
		{Name: "z", DeviceClassName: "nic", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 9},
	}})
	c.must(either)
	c.used("q", count, "2", byClass, "4", own, "4", resource, "4")
	all := deviceClaim("c", resourcev1.DeviceRequest{Name: "all", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeAll}})
	c.refused(all, `resourceclaims.resource.k8s.io "c" is forbidden: exceeded quota: q, requested: gpu.deviceclass.resource.k8s.io/devices=32,requests.deviceclass.resource.kubernetes.io/gpu=32,requests.example.com/gpu=32, used: gpu.deviceclass.resource.k8s.io/devices=4,requests.deviceclass.resource.kubernetes.io/gpu=4,requests.example.com/gpu=4, limited: gpu.deviceclass.resource.k8s.io/devices=6,requests.deviceclass.resource.kubernetes.io/gpu=6,requests.example.com/gpu=6`)
	c.delete(either)
	c.used("q", count, "1", byClass, "2", own, "2", resource, "2")

	// A pod pays for its extended resource, the claim made for it for the rest.
	p := pod("p", list("example.com/gpu", "3"), list("example.com/gpu", "3"))
	made := c.must(p).(*corev1.Pod)
	c.used("q", count, "1", byClass, "2", own, "2", resource, "5")
	x := deviceClaim("made", devices("gpu", 3))
	x.Annotations = map[string]string{resourcev1.ExtendedResourceClaimAnnotation: "true"}
	x.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(made, corev1.SchemeGroupVersion.WithKind("Pod"))}
	c.must(x)
	c.used("q", count, "2", byClass, "5", own, "5", resource, "5")
	// A second one is not paid for.
	y := deviceClaim("more", devices("gpu", 3))
	y.Annotations, y.OwnerReferences = x.Annotations, x.OwnerReferences
	c.refused(y, `resourceclaims.resource.k8s.io "more" is forbidden: exceeded quota: q, requested: gpu.deviceclass.resource.k8s.io/devices=3,requests.deviceclass.resource.kubernetes.io/gpu=3,requests.example.com/gpu=3, used: gpu.deviceclass.resource.k8s.io/devices=5,requests.deviceclass.resource.kubernetes.io/gpu=5,requests.example.com/gpu=5, limited: gpu.deviceclass.resource.k8s.io/devices=6,requests.deviceclass.resource.kubernetes.io/gpu=6,requests.example.com/gpu=6`)

	// The class stands for something else from now on.
	now, err := client.Get[*resourcev1.DeviceClass](t.Context(), c, "", "gpu")
	if err != nil {
		t.Fatal(err)
	}
	now = now.DeepCopy()
	now.Spec.ExtendedResourceName = nil
	if _, err := client.Update(t.Context(), c, now); err != nil {
		t.Fatal(err)
	}
	c.used("q", count, "2", byClass, "5", own, "5", resource, "3")
	c.delete(p)
	c.used("q", count, "2", byClass, "5", own, "5", resource, "0")
	c.delete(x)
	c.used("q", count, "1", byClass, "2", own, "2", resource, "0")
}
