package state

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func randomList(r *rand.Rand) corev1.ResourceList {
	l := corev1.ResourceList{}
	for _, name := range []corev1.ResourceName{"cpu", "memory", "ephemeral-storage", "a.example/gpu", "hugepages-2Mi"} {
		if r.IntN(2) == 0 {
			l[name] = resource.MustParse(fmt.Sprint(r.IntN(5)))
		}
	}
	if len(l) == 0 {
		return nil
	}
	return l
}

// The short way gives what the long way gives.
func TestPlainRequestsAreTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		p := &corev1.Pod{}
		for range 1 + r.IntN(3) {
			c := corev1.Container{}
			c.Resources.Requests = randomList(r)
			p.Spec.Containers = append(p.Spec.Containers, c)
		}
		if r.IntN(3) == 0 {
			p.Spec.Overhead = randomList(r)
		}
		if !plain(p) {
			t.Fatal("not plain")
		}
		a, b := plainRequests(p)
		c, d := anyRequests(p)
		if !same(&a, &c) || !same(&b, &d) {
			t.Fatalf("%+v %+v and %+v %+v for %v", a, b, c, d, p.Spec)
		}
	}
}

// same is Equal with a missing entry meaning none.
func same(a, b *Resources) bool {
	x, y := a.Clone(), b.Clone()
	for _, m := range []map[corev1.ResourceName]int64{x.Other, y.Other} {
		for k, v := range m {
			if v == 0 {
				delete(m, k)
			}
		}
	}
	if len(x.Other)+len(y.Other) == 0 {
		x.Other, y.Other = nil, nil
	}
	return x.Equal(&y)
}

func requests(cpu string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}
}

// A pod that is being resized takes the most of what it asks for, was allocated
// and has; what its node found infeasible does not count.
func TestResizes(t *testing.T) {
	status := func(allocated, has string) []corev1.ContainerStatus {
		q := requests(has)
		return []corev1.ContainerStatus{{Name: "c", AllocatedResources: requests(allocated).Requests, Resources: &q}}
	}
	infeasible := []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonInfeasible}}
	deferred := []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonDeferred}}
	for name, x := range map[string]struct {
		asks       string
		status     []corev1.ContainerStatus
		conditions []corev1.PodCondition
		want       int64
	}{
		"not resized":      {"1", status("1", "1"), nil, 1000},
		"growing":          {"2", status("1", "1"), nil, 2000},
		"growing, given":   {"2", status("2", "1"), nil, 2000},
		"shrinking":        {"1", status("1", "2"), nil, 2000},
		"deferred":         {"3", status("1", "1"), deferred, 3000},
		"infeasible":       {"9", status("1", "1"), infeasible, 1000},
		"without statuses": {"2", nil, nil, 2000},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: requests(x.asks)}}}}
		p.Status.ContainerStatuses, p.Status.Conditions = x.status, x.conditions
		if hard, _ := Requests(p); hard.MilliCPU != x.want {
			t.Errorf("%s: %dm, want %dm", name, hard.MilliCPU, x.want)
		}
	}
}

func TestRequestsOfInitContainersOverheadAndPodLevel(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	p := &corev1.Pod{Spec: corev1.PodSpec{
		Containers:     []corev1.Container{{Name: "c", Resources: requests("1")}},
		InitContainers: []corev1.Container{{Name: "sidecar", RestartPolicy: &always, Resources: requests("500m")}, {Name: "big", Resources: requests("3")}},
		Overhead:       requests("250m").Requests,
	}}
	if hard, _ := Requests(p); hard.MilliCPU != 3750 {
		t.Errorf("%dm, want the init container beside the sidecar, and overhead: 3750m", hard.MilliCPU)
	}
	r := requests("5")
	p.Spec.Resources = &r
	hard, compared := Requests(p)
	if hard.MilliCPU != 5250 || compared.MilliCPU != 5250 {
		t.Errorf("%dm and %dm, want what the pod as a whole asks for, and overhead", hard.MilliCPU, compared.MilliCPU)
	}
	if compared.Memory == 0 {
		t.Error("no default for memory, which nobody asks for")
	}
}
