package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
	"sagong/scheduler/configuration"
)

func deviceClass(name, expression string) *resourcev1.DeviceClass {
	c := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if expression != "" {
		c.Spec.Selectors = []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: expression}}}
	}
	return c
}

// deviceSlice offers k devices on a node.
func deviceSlice(node string, k int, f ...func(i int, d *resourcev1.Device)) *resourcev1.ResourceSlice {
	s := &resourcev1.ResourceSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "slice-" + node},
		Spec: resourcev1.ResourceSliceSpec{
			Driver: "gpu.example.com", NodeName: &node, Pool: resourcev1.ResourcePool{Name: node, ResourceSliceCount: 1},
		},
	}
	for i := range k {
		d := resourcev1.Device{Name: fmt.Sprint("gpu-", i)}
		for _, f := range f {
			f(i, &d)
		}
		s.Spec.Devices = append(s.Spec.Devices, d)
	}
	return s
}

func exactly(class string, count int64) *resourcev1.ExactDeviceRequest {
	return &resourcev1.ExactDeviceRequest{DeviceClassName: class, AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: count}
}

func deviceClaim(name string, requests ...resourcev1.DeviceRequest) *resourcev1.ResourceClaim {
	return &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: requests}},
	}
}

func gpus(count int64) resourcev1.DeviceRequest {
	return resourcev1.DeviceRequest{Name: "gpu", Exactly: exactly("gpu", count)}
}

func uses(claims ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, c := range claims {
			p.Spec.ResourceClaims = append(p.Spec.ResourceClaims, corev1.PodResourceClaim{Name: c, ResourceClaimName: &c})
		}
	}
}

// claimUntil waits for a claim to satisfy a condition.
func claimUntil(t *testing.T, h *reconcile.Hub, name, what string, ok func(*resourcev1.ResourceClaim) bool) *resourcev1.ResourceClaim {
	t.Helper()
	v := reconcile.ViewOf[*resourcev1.ResourceClaim](h)
	found := make(chan *resourcev1.ResourceClaim, 1)
	stop := v.OnChange(func(_, c *resourcev1.ResourceClaim) {
		if c != nil && c.Name == name && ok(c) {
			select {
			case found <- c:
			default:
			}
		}
	})
	defer stop()
	select {
	case c := <-found:
		return c
	case <-t.Context().Done():
		t.Fatal("never: " + what)
		return nil
	}
}

const alone = " preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."

func TestDevicesAreAllocated(t *testing.T) {
	c, v, events := startWith(t, nil, space(), node("n1"), node("n2"), deviceClass("gpu", `device.driver == "gpu.example.com"`), deviceSlice("n2", 2), deviceClaim("a", gpus(2)))
	create(t, c, testPod("user", uses("a")))
	until(t, v, "the pod beside its devices", func(all []*corev1.Pod) bool { return count(all, onNode("user", "n2")) == 1 })
	claim, err := client.Get[*resourcev1.ResourceClaim](t.Context(), c, "default", "a")
	if err != nil {
		t.Fatal(err)
	}
	s := claim.Status
	if s.Allocation == nil || len(s.Allocation.Devices.Results) != 2 || len(s.ReservedFor) != 1 || s.ReservedFor[0].Name != "user" || claim.Finalizers[0] != resourcev1.Finalizer || s.Allocation.AllocationTimestamp == nil {
		t.Fatalf("claim %+v %v", s, claim.Finalizers)
	}
	if sel := s.Allocation.NodeSelector; sel == nil || sel.NodeSelectorTerms[0].MatchFields[0].Values[0] != "n2" {
		t.Errorf("available on %+v", sel)
	}
	// Another pod may share them, and must go where they are.
	create(t, c, testPod("sharer", uses("a")))
	until(t, v, "the sharer beside them", func(all []*corev1.Pod) bool { return count(all, onNode("sharer", "n2")) == 1 })
	// There are none left for another claim.
	create(t, c, deviceClaim("b", gpus(1)))
	create(t, c, testPod("late", uses("b")))
	const why = "0/2 nodes are available: 2 cannot allocate all claims. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	until(t, v, "nothing left", says("late", why))
	if !events.has("late Warning FailedScheduling: " + why) {
		t.Errorf("events %q", events.list)
	}
	// A claim given back lets the pod in.
	claim, _ = client.Get[*resourcev1.ResourceClaim](t.Context(), c, "default", "a")
	claim = claim.DeepCopy()
	claim.Status = resourcev1.ResourceClaimStatus{}
	if _, err := client.UpdateStatus(t.Context(), c, claim); err != nil {
		t.Fatal(err)
	}
	until(t, v, "the late pod in", func(all []*corev1.Pod) bool { return count(all, onNode("late", "n2")) == 1 })
}

func TestPodsWaitForWhatTheirClaimsNeed(t *testing.T) {
	c, v, _ := startWith(t, nil, space(), node("n1"))
	create(t, c, testPod("p", uses("a")))
	until(t, v, "no claim", says("p", `0/1 nodes are available: resourceclaim.resource.k8s.io "a" not found. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.`))
	create(t, c, deviceClaim("a", gpus(1)))
	until(t, v, "no class", says("p", `0/1 nodes are available: request gpu: device class gpu does not exist. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.`))
	create(t, c, deviceClass("gpu", ""))
	until(t, v, "no device", says("p", "0/1 nodes are available: 1 cannot allocate all claims."+alone))
	create(t, c, deviceSlice("n1", 1))
	until(t, v, "the pod in", func(all []*corev1.Pod) bool { return count(all, onNode("p", "n1")) == 1 })
}

// Pods whose claims come from one template are of one class, and each gets a
// device of its own.
func TestPodsOfOneTemplate(t *testing.T) {
	c, v, _ := startWith(t, nil, space(), node("n1"), node("n2"), deviceClass("gpu", ""), deviceSlice("n1", 2), deviceSlice("n2", 2))
	for i := range 5 {
		name := fmt.Sprint("p", i)
		p := testPod(name, func(p *corev1.Pod) {
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimTemplateName: new("gpu")}}
		})
		create(t, c, p)
		made, err := client.Get[*corev1.Pod](t.Context(), c, "default", name)
		if err != nil {
			t.Fatal(err)
		}
		x := deviceClaim(name+"-gpu", gpus(1))
		x.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(made, corev1.SchemeGroupVersion.WithKind("Pod"))}
		create(t, c, x)
		changeStatus("default", name, func(p *corev1.Pod) {
			p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "gpu", ResourceClaimName: &x.Name}}
		})(t, c)
	}
	until(t, v, "four bound, one refused", func(all []*corev1.Pod) bool {
		return count(all, func(p *corev1.Pod) bool { return p.Spec.NodeName != "" }) == 4 && count(all, func(p *corev1.Pod) bool {
			x := conditionOf(p, corev1.PodScheduled)
			return p.Spec.NodeName == "" && x != nil && strings.HasPrefix(x.Message, "0/2 nodes are available: 2 cannot allocate all claims.")
		}) == 1
	})
	list, _, err := client.ListOf[*resourcev1.ResourceClaim](t.Context(), c, "default", client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, x := range list {
		if x.Status.Allocation == nil {
			continue
		}
		d := x.Status.Allocation.Devices.Results[0]
		if other := seen[d.Pool+"/"+d.Device]; other != "" {
			t.Errorf("%s and %s have the same device", x.Name, other)
		}
		seen[d.Pool+"/"+d.Device] = x.Name
	}
	if len(seen) != 4 {
		t.Errorf("devices given: %v", seen)
	}
}

func TestAlternativesAndTaints(t *testing.T) {
	kind := func(i int, d *resourcev1.Device) {
		d.Attributes = map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"kind": {StringValue: new([]string{"big", "small"}[i%2])}}
	}
	c, v, _ := startWith(t, nil, space(), node("n1"), deviceClass("big", `device.attributes["gpu.example.com"].kind == "big"`),
		deviceClass("small", `device.attributes["gpu.example.com"].kind == "small"`), deviceSlice("n1", 2, kind),
		&resourcev1.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Name: "broken"}, Spec: resourcev1.DeviceTaintRuleSpec{
			DeviceSelector: &resourcev1.DeviceTaintSelector{Device: new("gpu-1")}, Taint: resourcev1.DeviceTaint{Key: "broken", Effect: resourcev1.DeviceTaintEffectNoSchedule},
		}})
	either := resourcev1.DeviceRequest{Name: "gpu", FirstAvailable: []resourcev1.DeviceSubRequest{
		{Name: "big", DeviceClassName: "big", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1},
		{Name: "small", DeviceClassName: "small", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1},
	}}
	create(t, c, deviceClaim("a", either))
	create(t, c, testPod("first", uses("a")))
	until(t, v, "the first in", func(all []*corev1.Pod) bool { return count(all, onNode("first", "n1")) == 1 })
	if x, _ := client.Get[*resourcev1.ResourceClaim](t.Context(), c, "default", "a"); x.Status.Allocation.Devices.Results[0].Request != "gpu/big" {
		t.Errorf("allocated %+v", x.Status.Allocation.Devices)
	}
	create(t, c, deviceClaim("b", either))
	create(t, c, testPod("second", uses("b")))
	until(t, v, "what is left is tainted", says("second", "0/1 nodes are available: 1 cannot allocate all claims."+alone))
	if err := client.Delete[*resourcev1.DeviceTaintRule](t.Context(), c, "", "broken", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, v, "the second in", func(all []*corev1.Pod) bool { return count(all, onNode("second", "n1")) == 1 })
	if x, _ := client.Get[*resourcev1.ResourceClaim](t.Context(), c, "default", "b"); x.Status.Allocation.Devices.Results[0].Request != "gpu/small" {
		t.Errorf("allocated %+v", x.Status.Allocation.Devices)
	}
}

// A pod is bound when its devices say that they are ready, and tried elsewhere
// when they say that they will not be.
func TestBindingConditions(t *testing.T) {
	attached := func(_ int, d *resourcev1.Device) {
		d.BindsToNode, d.BindingConditions, d.BindingFailureConditions = new(true), []string{"Attached"}, []string{"Failed"}
	}
	quick := configuration.Default()
	quick.InitialBackoff, quick.MaxBackoff = time.Millisecond, time.Millisecond
	c, v, _ := startWith(t, quick, space(), node("n1"), deviceClass("gpu", ""), deviceSlice("n1", 1, attached), deviceClaim("a", gpus(1)))
	hub := reconcile.NewHub(c, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hub.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	report := func(x *resourcev1.ResourceClaim, condition string) {
		t.Helper()
		x = x.DeepCopy()
		r := x.Status.Allocation.Devices.Results[0]
		x.Status.Devices = []resourcev1.AllocatedDeviceStatus{{Driver: r.Driver, Pool: r.Pool, Device: r.Device, Conditions: []metav1.Condition{
			{Type: condition, Status: metav1.ConditionTrue, Reason: "Said", LastTransitionTime: metav1.Now()},
		}}}
		if _, err := client.UpdateStatus(t.Context(), c, x); err != nil {
			t.Fatal(err)
		}
	}
	create(t, c, testPod("p", uses("a")))
	has := func(x *resourcev1.ResourceClaim) bool {
		return x.Status.Allocation != nil && len(x.Status.Devices) == 0
	}
	x := claimUntil(t, hub, "a", "allocated", has)
	first := object.RevisionOf(x)
	until(t, v, "the pod expected on its node", func(all []*corev1.Pod) bool { return len(all) == 1 && all[0].Status.NominatedNodeName == "n1" })
	report(x, "Failed")
	x = claimUntil(t, hub, "a", "allocated again", func(x *resourcev1.ResourceClaim) bool { return has(x) && object.RevisionOf(x) > first })
	if n := count(v.All(), onNode("p", "n1")); n != 0 {
		t.Error("bound before its device was ready")
	}
	report(x, "Attached")
	until(t, v, "the pod in", func(all []*corev1.Pod) bool {
		return count(all, onNode("p", "n1")) == 1 && all[0].Status.NominatedNodeName == ""
	})
}

// What a claim got from a scheduler that did not come to bind its pod, and that
// keeps the pod from every node that would do, is given back.
func TestDevicesThatConfineAPodAreGivenBack(t *testing.T) {
	c, v, _ := startWith(t, nil, space(), node("n1", cordoned), node("n2"), deviceClass("gpu", ""), deviceSlice("n1", 1), deviceSlice("n2", 1))
	p := testPod("p", func(p *corev1.Pod) {
		p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimTemplateName: new("gpu")}}
	})
	create(t, c, p)
	made, err := client.Get[*corev1.Pod](t.Context(), c, "default", "p")
	if err != nil {
		t.Fatal(err)
	}
	x := deviceClaim("p-gpu", gpus(1))
	x.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(made, corev1.SchemeGroupVersion.WithKind("Pod"))}
	x, err = client.Create(t.Context(), c, x)
	if err != nil {
		t.Fatal(err)
	}
	x = x.DeepCopy()
	x.Status.Allocation = &resourcev1.AllocationResult{
		Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{Request: "gpu", Driver: "gpu.example.com", Pool: "n1", Device: "gpu-0"}}},
		NodeSelector: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}},
		}}},
	}
	x.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "p", UID: made.UID}}
	if _, err := client.UpdateStatus(t.Context(), c, x); err != nil {
		t.Fatal(err)
	}
	changeStatus("default", "p", func(p *corev1.Pod) {
		p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "gpu", ResourceClaimName: new("p-gpu")}}
	})(t, c)
	until(t, v, "the pod on the other node", func(all []*corev1.Pod) bool { return count(all, onNode("p", "n2")) == 1 })
	if x, err = client.Get[*resourcev1.ResourceClaim](t.Context(), c, "default", "p-gpu"); err != nil || x.Status.Allocation.Devices.Results[0].Pool != "n2" {
		t.Errorf("the claim has %+v, %v", x.Status.Allocation, err)
	}
}
