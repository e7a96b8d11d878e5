package kubelet_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/kubelet"
	"sagong/kubelet/pod"
	"sagong/kubelet/volume"
	"sagong/object"
)

// machine is a node under test: a cluster in memory, a runtime in memory, and
// an agent that can be killed and started anew.
type machine struct {
	t       testing.TB
	dir     string
	api     *fake.Client
	runtime *fakeRuntime
	images  *fakeImages
	network *fakeNetwork
	events  *eventLog
	slices  kubelet.Slices
	cfg     kubelet.Config
	agent   *kubelet.Agent
	halt    func()
}

type eventLog struct {
	mu   sync.Mutex
	list []string
}

func (l *eventLog) Eventf(o object.Object, typ, reason, format string, args ...any) {
	l.EventForField(o, "", typ, reason, format, args...)
}

func (l *eventLog) EventForField(o object.Object, path, typ, reason, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprintf("%s %s %s %s: %s", o.GetName(), path, typ, reason, fmt.Sprintf(format, args...)))
}

func (l *eventLog) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.list {
		if strings.Contains(e, part) {
			return true
		}
	}
	return false
}

func newMachine(t testing.TB, objs ...object.Object) *machine {
	t.Helper()
	for _, ns := range []string{"default", "kube-node-lease"} {
		objs = append(objs, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}})
	}
	m := &machine{t: t, dir: t.TempDir(), api: fake.New(object.NewScheme(kinds.All()...), objs...), runtime: newFakeRuntime(),
		images: &fakeImages{pins: map[string]string{}}, network: &fakeNetwork{held: map[string]netip.Addr{}}, events: &eventLog{}}
	m.cfg = kubelet.Config{NodeName: "n1", HostIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		Dir: filepath.Join(m.dir, "kubelet"), RunDir: filepath.Join(m.dir, "run"), PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")},
		ClusterDNS: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}
	m.cfg.Resource.NodefsAvailable, m.cfg.Resource.NodefsInodesFree, m.cfg.Resource.MemoryAvailable = 1e-9, 1e-9, 1 // whatever this machine has
	t.Cleanup(func() {
		m.stop()
		m.api.Close()
		if err := volume.Purge(volume.Config{Dir: filepath.Join(m.cfg.Dir, "pods"), MemoryDir: filepath.Join(m.cfg.RunDir, "secrets")}); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, e := range m.events.list {
				t.Log(e)
			}
		}
	})
	m.start()
	return m
}

func (m *machine) start() {
	m.t.Helper()
	a, err := kubelet.New(m.cfg, kubelet.Deps{
		Client: m.api, Runtime: m.runtime, Images: m.images, Recorder: m.events, Slices: m.slices,
		OpenNetwork: func(context.Context, []netip.Prefix) (kubelet.Network, error) { return m.network, nil },
		Log:         m.log(),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.agent = a
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	m.halt = func() { cancel(); <-done }
}

func (m *machine) log() *slog.Logger {
	if t, ok := m.t.(*testing.T); ok {
		return slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	return slog.New(slog.DiscardHandler)
}

func (m *machine) stop() {
	if m.halt != nil {
		m.halt()
		m.halt = nil
	}
}

// pod makes a pod bound to the node.
func newPod(name string, containers ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways}}
	for _, c := range containers {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c, Image: "app:1"})
	}
	return p
}

func (m *machine) create(p *corev1.Pod) *corev1.Pod {
	m.t.Helper()
	p, err := client.Create(context.Background(), m.api, p)
	if err != nil {
		m.t.Fatal(err)
	}
	return p
}

// await watches a pod until it is as the test wants it.
func (m *machine) await(name, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	def := object.Of[*corev1.Pod](m.api.Scheme())
	list, err := m.api.List(ctx, def, "default", client.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		m.t.Fatal(err)
	}
	var last *corev1.Pod
	for _, o := range list.Items {
		last = o.(*corev1.Pod)
	}
	if ok(last) {
		return last
	}
	w, err := m.api.Watch(ctx, def, "default", client.WatchOptions{FieldSelector: "metadata.name=" + name, From: list.Revision})
	if err != nil {
		m.t.Fatal(err)
	}
	defer w.Close()
	for {
		events, err := w.Next(ctx)
		if err != nil {
			m.t.Fatalf("pod %s is not %s: %v\n%+v", name, what, err, status(last))
		}
		for _, e := range events {
			if e.Object == nil {
				continue
			}
			last = e.Object.(*corev1.Pod)
			if e.Type == client.Deleted {
				last = nil
			}
			if ok(last) {
				return last
			}
		}
	}
}

func status(p *corev1.Pod) any {
	if p == nil {
		return "gone"
	}
	return p.Status
}

func running(p *corev1.Pod) bool { return p != nil && p.Status.Phase == corev1.PodRunning }
func ready(p *corev1.Pod) bool {
	if p == nil {
		return false
	}
	c := pod.FindCondition(&p.Status, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}
func gone(p *corev1.Pod) bool { return p == nil }

func TestNodeRegisters(t *testing.T) {
	m := newMachine(t)
	def := object.Of[*corev1.Node](m.api.Scheme())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w, err := m.api.Watch(ctx, def, "", client.WatchOptions{From: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	events, err := w.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n := events[len(events)-1].Object.(*corev1.Node)
	if n.Name != "n1" || n.Labels[corev1.LabelHostname] != "n1" || n.Spec.PodCIDR != "10.244.0.0/24" {
		t.Errorf("node is %+v", n)
	}
	want := map[corev1.NodeConditionType]corev1.ConditionStatus{corev1.NodeReady: "True", corev1.NodeMemoryPressure: "False", corev1.NodeDiskPressure: "False", corev1.NodePIDPressure: "False"}
	for _, c := range n.Status.Conditions {
		if want[c.Type] != c.Status {
			t.Errorf("condition %s is %s", c.Type, c.Status)
		}
		delete(want, c.Type)
	}
	if len(want) > 0 {
		t.Errorf("conditions are missing: %v", want)
	}
	if n.Status.NodeInfo.ContainerRuntimeVersion != "sagong://test" || n.Status.Capacity.Pods().Value() != 110 {
		t.Errorf("status is %+v", n.Status)
	}
	lw, err := m.api.Watch(ctx, object.Of[*coordinationv1.Lease](m.api.Scheme()), "kube-node-lease", client.WatchOptions{From: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer lw.Close()
	if _, err := lw.Next(ctx); err != nil {
		t.Fatalf("no lease: %v", err)
	}
}

func TestPodRuns(t *testing.T) {
	m := newMachine(t)
	p := m.create(newPod("web", "a", "b"))
	p = m.await("web", "running and ready", func(p *corev1.Pod) bool { return running(p) && ready(p) })
	if p.Status.PodIP != "10.244.0.1" || p.Status.HostIP != "192.0.2.1" || p.Status.StartTime == nil || p.Status.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("status is %+v", p.Status)
	}
	for _, cs := range p.Status.ContainerStatuses {
		if !cs.Ready || cs.State.Running == nil || !strings.HasPrefix(cs.ContainerID, "sagong://") || cs.Image != "docker.io/library/app:1" || cs.ImageID == "" || cs.Started == nil || !*cs.Started {
			t.Errorf("container status is %+v", cs)
		}
	}
	for _, e := range []string{"Normal Pulled: Container image \"app:1\" already present on machine and can be accessed by the pod", "spec.containers{a} Normal Created: Container created", "spec.containers{b} Normal Started: Container started"} {
		if !m.events.has(e) {
			t.Errorf("no event %q", e)
		}
	}
}

func TestPodRestartsAndBacksOff(t *testing.T) {
	m := newMachine(t)
	p := m.create(newPod("web", "a"))
	m.await("web", "ready", ready)
	m.runtime.exit(string(p.UID), "a", 1)
	p = m.await("web", "restarted", func(p *corev1.Pod) bool { return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if lt := p.Status.ContainerStatuses[0].LastTerminationState.Terminated; lt == nil || lt.ExitCode != 1 || lt.Reason != "Error" {
		t.Errorf("last state is %+v", p.Status.ContainerStatuses[0].LastTerminationState)
	}
	m.runtime.exit(string(p.UID), "a", 1)
	p = m.await("web", "backing off", func(p *corev1.Pod) bool {
		w := p.Status.ContainerStatuses[0].State.Waiting
		return w != nil && w.Reason == "CrashLoopBackOff"
	})
	if p.Status.Phase != corev1.PodRunning || !strings.Contains(p.Status.ContainerStatuses[0].State.Waiting.Message, "back-off 10s restarting failed container=a pod=web_default(") {
		t.Errorf("status is %+v", p.Status)
	}
	if !m.events.has("Warning BackOff: Back-off restarting failed container a in pod web_default(") {
		t.Error("no BackOff event")
	}
}

func TestPodIsDeleted(t *testing.T) {
	m := newMachine(t)
	p := m.create(newPod("web", "a"))
	m.await("web", "ready", ready)
	if err := client.Delete[*corev1.Pod](t.Context(), m.api, "default", "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.await("web", "gone", gone)
	if !m.events.has("Normal Killing: Stopping container a") {
		t.Error("no Killing event")
	}
	if l, _ := m.runtime.List(t.Context()); len(l) > 0 {
		t.Errorf("sandbox of %s is left", p.UID)
	}
	if len(m.network.held) > 0 || len(m.images.Pins()) > 0 {
		t.Errorf("left: addresses %v, pins %v", m.network.held, m.images.Pins())
	}
}

func TestForceDeletedPodIsCleanedUp(t *testing.T) {
	m := newMachine(t)
	m.create(newPod("web", "a"))
	m.await("web", "ready", ready)
	zero := int64(0)
	if err := client.Delete[*corev1.Pod](t.Context(), m.api, "default", "web", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	m.await("web", "gone", gone)
	m.eventually("no sandbox", func() bool { l, _ := m.runtime.List(t.Context()); return len(l) == 0 })
	logs, _ := filepath.Glob(filepath.Join(m.cfg.Dir, "logs", "*"))
	m.eventually("no logs", func() bool { logs, _ = filepath.Glob(filepath.Join(m.cfg.Dir, "logs", "*")); return len(logs) == 0 })
}

// eventually polls for what cannot be watched.
func (m *machine) eventually(what string, ok func() bool) {
	m.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	m.t.Errorf("never: %s", what)
}

func TestJobPodSucceeds(t *testing.T) {
	m := newMachine(t)
	m.runtime.instant["a"] = 0
	m.runtime.instant["setup"] = 0
	p := newPod("job", "a")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "app:1"}}
	m.create(p)
	p = m.await("job", "succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	if cs := p.Status.ContainerStatuses[0]; cs.State.Terminated == nil || cs.State.Terminated.Reason != "Completed" {
		t.Errorf("status is %+v", cs)
	}
	if c := pod.FindCondition(&p.Status, corev1.PodReady); c.Status != corev1.ConditionFalse || c.Reason != "PodCompleted" {
		t.Errorf("condition is %+v", c)
	}
	m.eventually("sandbox is released", func() bool { l, _ := m.runtime.List(t.Context()); return len(l) == 0 })
}

func TestMissingImage(t *testing.T) {
	m := newMachine(t)
	p := newPod("web", "a")
	p.Spec.Containers[0].Image = "missing:1"
	m.create(p)
	p = m.await("web", "ImagePullBackOff", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil && p.Status.ContainerStatuses[0].State.Waiting.Reason == "ImagePullBackOff"
	})
	if p.Status.Phase != corev1.PodPending {
		t.Errorf("phase is %s", p.Status.Phase)
	}
	for _, e := range []string{"Normal Pulling: Pulling image \"missing:1\"", "Warning Failed: Failed to pull image", "Warning Failed: Error: ErrImagePull", "Normal BackOff: Back-off pulling image \"missing:1\""} {
		if !m.events.has(e) {
			t.Errorf("no event %q", e)
		}
	}
}

func TestConfigMapArrivesLater(t *testing.T) {
	m := newMachine(t)
	p := newPod("web", "a")
	p.Spec.Volumes = []corev1.Volume{{Name: "cfg", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "cfg", MountPath: "/cfg"}}
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "K", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Key: "k"}}}}
	m.create(p)
	m.eventually("FailedMount", func() bool {
		return m.events.has("Warning FailedMount: MountVolume.SetUp failed for volume \"cfg\" : configmap \"cfg\" not found")
	})
	if _, err := client.Create(t.Context(), m.api, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cfg"}, Data: map[string]string{"k": "v"}}); err != nil {
		t.Fatal(err)
	}
	m.await("web", "ready", ready)
}

func TestAgentRestarts(t *testing.T) {
	m := newMachine(t)
	p := m.create(newPod("web", "a"))
	gonePod := m.create(newPod("gone", "a"))
	m.await("web", "ready", ready)
	m.await("gone", "ready", ready)
	m.runtime.exit(string(p.UID), "a", 1)
	before := m.await("web", "restarted", func(p *corev1.Pod) bool { return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	m.stop()
	// Meanwhile one container dies and one pod goes.
	m.runtime.exit(string(p.UID), "a", 7)
	zero := int64(0)
	if err := client.Delete[*corev1.Pod](t.Context(), m.api, "default", "gone", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	m.runtime = m.runtime.reopened()
	m.start()
	after := m.await("web", "backing off", func(p *corev1.Pod) bool {
		w := p.Status.ContainerStatuses[0].State.Waiting
		return w != nil && w.Reason == "CrashLoopBackOff"
	})
	if after.Status.ContainerStatuses[0].RestartCount != 1 || after.Status.PodIP != before.Status.PodIP || after.Status.ContainerStatuses[0].LastTerminationState.Terminated.ExitCode != 7 {
		t.Errorf("status is %+v", after.Status)
	}
	m.eventually("the pod that went is torn down", func() bool {
		l, _ := m.runtime.List(t.Context())
		return len(l) == 1 && l[0].Sandbox.UID != string(gonePod.UID)
	})
}

func TestSandboxLost(t *testing.T) {
	m := newMachine(t)
	p := m.create(newPod("web", "a"))
	m.await("web", "ready", ready)
	m.runtime.lose(string(p.UID))
	p = m.await("web", "running again", func(p *corev1.Pod) bool { return ready(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if lt := p.Status.ContainerStatuses[0].LastTerminationState.Terminated; lt == nil || lt.ExitCode != 137 {
		t.Errorf("last state is %+v", p.Status.ContainerStatuses[0])
	}
}

func TestOutOfCPU(t *testing.T) {
	m := newMachine(t)
	p := newPod("big", "a")
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *quantity("4k")}
	m.create(p)
	p = m.await("big", "refused", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if p.Status.Reason != "OutOfcpu" || !strings.HasPrefix(p.Status.Message, "Pod was rejected: Node didn't have enough resource: cpu, requested: 4000000, used: 0, capacity: ") {
		t.Errorf("status is %s: %s", p.Status.Reason, p.Status.Message)
	}
}

func TestLiveness(t *testing.T) {
	m := newMachine(t)
	m.runtime.exec = func(id string, args []string) (int, string) {
		if args[0] == "alive" {
			return 1, "no pulse"
		}
		return 0, ""
	}
	p := newPod("web", "a")
	p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"alive"}}}, PeriodSeconds: 1, FailureThreshold: 1}
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"ready"}}}, PeriodSeconds: 1}
	m.create(p)
	m.await("web", "restarted", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount >= 1
	})
	for _, e := range []string{"Warning Unhealthy: Liveness probe failed: no pulse", "Normal Killing: Container a failed liveness probe, will be restarted"} {
		if !m.events.has(e) {
			t.Errorf("no event %q", e)
		}
	}
	if m.runtime.most["a"] != 1 {
		t.Errorf("%d instances ran at once", m.runtime.most["a"])
	}
}
