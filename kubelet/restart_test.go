package kubelet_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/kubelet/pod"
	"sagong/object"
	"sagong/runtime"
)

// An agent that ends at any moment, again and again, neither loses nor doubles
// anything: in the end every pod runs with one instance of each container, and
// after the pods are deleted nothing is left.
func TestAgentEndsAtAnyMoment(t *testing.T) {
	m := newMachine(t)
	var names []string
	for round := range 12 {
		for i := range 3 {
			name := fmt.Sprintf("p%d-%d", round, i)
			p := newPod(name, "a", "b")
			p.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "app:1"}}
			m.runtime.mu.Lock()
			m.runtime.instant["setup"] = 0
			m.runtime.mu.Unlock()
			m.create(p)
			names = append(names, name)
		}
		if round%3 == 2 {
			gone := names[0]
			names = names[1:]
			grace := int64(rand.IntN(2))
			if err := client.Delete[*corev1.Pod](t.Context(), m.api, "default", gone, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Duration(rand.IntN(12)) * time.Millisecond)
		m.stop()
		m.runtime = m.runtime.reopened()
		m.start()
	}
	for _, n := range names {
		m.await(n, "ready", ready)
	}
	for name, most := range m.runtime.most {
		if most > 1 {
			t.Errorf("%d instances of %s ran at once in one pod", most, name)
		}
	}
	m.eventually("only the pods that exist have a sandbox", func() bool {
		l, _ := m.runtime.List(t.Context())
		return len(l) == len(names)
	})
	for _, n := range names {
		grace := int64(1)
		if err := client.Delete[*corev1.Pod](t.Context(), m.api, "default", n, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range names {
		m.await(n, "gone", gone)
	}
	defer func() {
		l, _ := m.runtime.List(t.Context())
		dirs, _ := filepath.Glob(filepath.Join(m.cfg.Dir, "pods", "*"))
		logs, _ := filepath.Glob(filepath.Join(m.cfg.Dir, "logs", "*"))
		if t.Failed() {
			t.Logf("left: sandboxes %v, directories %v, logs %v, addresses %v, pins %v", l, dirs, logs, m.network.held, m.images.Pins())
		}
	}()
	m.eventually("nothing is left", func() bool {
		l, _ := m.runtime.List(t.Context())
		dirs, _ := filepath.Glob(filepath.Join(m.cfg.Dir, "pods", "*"))
		logs, _ := filepath.Glob(filepath.Join(m.cfg.Dir, "logs", "*"))
		m.network.mu.Lock()
		defer m.network.mu.Unlock()
		return len(l)+len(dirs)+len(logs)+len(m.network.held)+len(m.images.Pins()) == 0
	})
}

func TestResize(t *testing.T) {
	m := newMachine(t)
	p := newPod("web", "a")
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: *quantity("100m")}}
	m.create(p)
	m.await("web", "ready", ready)
	resize := func(cpu string) {
		t.Helper()
		p, err := client.Get[*corev1.Pod](t.Context(), m.api, "default", "web")
		if err != nil {
			t.Fatal(err)
		}
		p = p.DeepCopy()
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = *quantity(cpu)
		if _, err := m.api.Update(t.Context(), object.Of[*corev1.Pod](m.api.Scheme()), p, "resize"); err != nil {
			t.Fatal(err)
		}
	}
	resize("200m")
	m.await("web", "resized", func(p *corev1.Pod) bool {
		r := p.Status.ContainerStatuses[0].Resources
		return r != nil && r.Requests.Cpu().MilliValue() == 200 && p.Status.ContainerStatuses[0].RestartCount == 0
	})
	resize("5k")
	m.await("web", "infeasible", func(p *corev1.Pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodResizePending && c.Reason == corev1.PodReasonInfeasible {
				return p.Status.ContainerStatuses[0].Resources.Requests.Cpu().MilliValue() == 200
			}
		}
		return false
	})
}

func TestResizeOfThePodAsAWhole(t *testing.T) {
	m := newMachine(t)
	p := newPod("web", "a")
	p.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: *quantity("100m")}}
	m.create(p)
	m.await("web", "ready", func(p *corev1.Pod) bool {
		return ready(p) && p.Status.Resources != nil && p.Status.AllocatedResources.Cpu().MilliValue() == 100
	})
	resize := func(cpu string) {
		t.Helper()
		p, err := client.Get[*corev1.Pod](t.Context(), m.api, "default", "web")
		if err != nil {
			t.Fatal(err)
		}
		p = p.DeepCopy()
		p.Spec.Resources.Requests[corev1.ResourceCPU] = *quantity(cpu)
		if _, err := m.api.Update(t.Context(), object.Of[*corev1.Pod](m.api.Scheme()), p, "resize"); err != nil {
			t.Fatal(err)
		}
	}
	resize("200m")
	m.await("web", "resized", func(p *corev1.Pod) bool {
		r := p.Status.Resources
		return r != nil && r.Requests.Cpu().MilliValue() == 200 && p.Status.AllocatedResources.Cpu().MilliValue() == 200
	})
	if all, err := m.runtime.List(t.Context()); err != nil || len(all) != 1 || all[0].Sandbox.Resources.CPUShares != pod.CPUShares(200) {
		t.Errorf("the pod's cgroup has %+v, %v", all, err)
	}
	resize("5k")
	m.await("web", "infeasible", func(p *corev1.Pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodResizePending && c.Reason == corev1.PodReasonInfeasible {
				return p.Status.Resources.Requests.Cpu().MilliValue() == 200
			}
		}
		return false
	})
}

// weights tells of each weight that a class is given.
type weights chan string

func (w weights) CreateParent(path string) error { return nil }
func (w weights) Apply(path string, r runtime.Resources) error {
	w <- fmt.Sprintf("%s=%d", path, r.CPUShares)
	return nil
}

func TestClassesAreWeighed(t *testing.T) {
	m := newMachine(t)
	m.stop()
	told := make(weights, 100)
	m.slices = told
	p := newPod("web", "a")
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: *quantity("250m")}}
	m.create(p)
	m.cfg.Resource.Interval = 5 * time.Millisecond
	m.start()
	want := map[string]bool{"kubepods/burstable=256": true, "kubepods/besteffort=2": true}
	for len(want) > 0 {
		select {
		case w := <-told:
			delete(want, w)
		case <-time.After(time.Minute):
			t.Fatalf("never: %v", want)
		}
	}
}
