package plugins

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"sagong/scheduler/state"
)

func classNamed(name, stands string, age int) *resourcev1.DeviceClass {
	c := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(int64(1000-age), 0)}}
	if stands != "" {
		c.Spec.ExtendedResourceName = &stands
	}
	return c
}

func TestWhichClassStandsForAResource(t *testing.T) {
	d := NewDevices(Deps{Now: time.Now})
	is := func(name corev1.ResourceName, want string) {
		t.Helper()
		got := ""
		if c := d.classFor(name); c != nil {
			got = c.Name
		}
		if got != want {
			t.Errorf("%s is class %q, want %q", name, got, want)
		}
	}
	old, young := classNamed("old", "example.com/gpu", 2), classNamed("young", "example.com/gpu", 1)
	d.ClassChanged(nil, young)
	d.ClassChanged(nil, old)
	is("example.com/gpu", "young")
	is("deviceclass.resource.kubernetes.io/old", "old")
	same := classNamed("asold", "example.com/gpu", 1)
	d.ClassChanged(nil, same)
	is("example.com/gpu", "asold")
	before := d.mapping
	d.ClassChanged(same, nil)
	d.ClassChanged(young, classNamed("young", "example.com/other", 1))
	is("example.com/gpu", "old")
	is("example.com/other", "young")
	is("deviceclass.resource.kubernetes.io/asold", "")
	if d.mapping != before+2 {
		t.Errorf("the mapping changed %d times", d.mapping-before)
	}
	d.ClassChanged(old, old)
	if d.mapping != before+2 {
		t.Error("a class that stands for the same changed the mapping")
	}
}

// What the containers of random pods get: as many devices as each asks for, no
// two that run at once the same, and not more in all than the pod counts for.
func TestContainersShareTheClaimOfTheirPod(t *testing.T) {
	d := NewDevices(Deps{Now: time.Now})
	d.ClassChanged(nil, classNamed("gpu", "example.com/gpu", 0))
	d.ClassChanged(nil, classNamed("nic", "example.com/nic", 0))
	names := []corev1.ResourceName{"example.com/gpu", "example.com/nic"}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 3))
		p := &corev1.Pod{}
		some := func(name string, list *[]corev1.Container, side bool) {
			for i := range r.IntN(4) {
				c := corev1.Container{Name: fmt.Sprint(name, i), Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1")}}}
				for _, n := range names {
					if k := r.IntN(4); k > 0 {
						c.Resources.Requests[n] = *resource.NewQuantity(int64(k), resource.DecimalSI)
					}
				}
				if side && r.IntN(2) == 0 {
					c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
				}
				*list = append(*list, c)
			}
		}
		some("init", &p.Spec.InitContainers, true)
		some("main", &p.Spec.Containers, false)
		hard, _ := state.Requests(p)
		claim, mappings := d.specialClaim(p, names)
		count, sum := map[string]int64{}, map[string]int64{}
		for _, q := range claim.Spec.Devices.Requests {
			if count[q.Name] != 0 {
				t.Fatalf("seed %d: request %s twice", seed, q.Name)
			}
			count[q.Name] = q.Exactly.Count
			sum[q.Exactly.DeviceClassName] += q.Exactly.Count
		}
		all := slices.Concat(p.Spec.InitContainers, p.Spec.Containers)
		for _, name := range names {
			if want := hard.Other[name]; sum[string(name[len(name)-3:])] != want {
				t.Fatalf("seed %d: %d of %s in all, the pod counts for %d", seed, sum[string(name[len(name)-3:])], name, want)
			}
			has := func(c string) (list []string, k int64) {
				for _, m := range mappings {
					if m.ContainerName == c && m.ResourceName == string(name) {
						list, k = append(list, m.RequestName), k+count[m.RequestName]
					}
				}
				return list, k
			}
			var held []string // by containers that began before and have not ended
			for i, c := range all {
				list, k := has(c.Name)
				want := c.Resources.Requests[name]
				if k < want.Value() || want.IsZero() && len(list) > 0 {
					t.Fatalf("seed %d: %s wants %s of %s and has %d", seed, c.Name, want.String(), name, k)
				}
				if slices.ContainsFunc(list, func(q string) bool { return slices.Contains(held, q) }) {
					t.Fatalf("seed %d: %s has what runs beside it has: %v", seed, c.Name, mappings)
				}
				if i >= len(p.Spec.InitContainers) || c.RestartPolicy != nil {
					held = append(held, list...)
				}
			}
		}
	}
}

// Where a profile weighs a resource that devices stand for, they count.
func TestDevicesCountWhereNodesAreCompared(t *testing.T) {
	d := NewDevices(Deps{Now: time.Now})
	class := classNamed("gpu", "example.com/gpu", 0)
	class.Spec.Selectors = []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: `device.driver == "d"`}}}
	d.ClassChanged(nil, class)
	n := stateNode()
	slice := func(driver string) *resourcev1.ResourceSlice {
		s := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: driver}, Spec: resourcev1.ResourceSliceSpec{Driver: driver, NodeName: new("n"), Pool: resourcev1.ResourcePool{Name: "p", ResourceSliceCount: 1}}}
		for i := range 4 {
			s.Spec.Devices = append(s.Spec.Devices, resourcev1.Device{Name: fmt.Sprint(i)})
		}
		return s
	}
	d.SliceChanged(nil, slice("d"))
	d.SliceChanged(nil, slice("other"))
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "c", UID: "c"}}
	c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
		{Driver: "d", Pool: "p", Device: "0"}, {Driver: "other", Pool: "p", Device: "0"},
	}}}
	d.ClaimChanged(nil, c)
	args := fitArgs(configv1.LeastAllocated)
	args.ScoringStrategy.Resources = []configv1.ResourceSpec{{Name: "example.com/gpu", Weight: 1}}
	fit := NewNodeResourcesFit(args)
	fit.devices = d
	pod := classOf(t, corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"example.com/gpu": resource.MustParse("2")}}}}})
	if got := fit.Scorer(pod, nil)(n); got != 25 { // one of four stays free
		t.Errorf("score %d", got)
	}
	if no := fit.Filter(pod, n); no != nil {
		t.Errorf("refused for want of room: %v", no.Reasons)
	}
}
