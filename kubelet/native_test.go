package kubelet_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/kubelet"
	"sagong/kubelet/probe"
	"sagong/kubelet/volume"
	"sagong/object"
	"sagong/runtime"
	"sagong/runtime/image"
	"sagong/runtime/native"
)

// realMachine is an agent over the native runtime with a busybox image; only
// the network is not real.
type realMachine struct {
	*machine
	rt      runtime.Runtime
	images  *image.Store
	options native.Options
}

func newRealMachine(t testing.TB, objs ...object.Object) *realMachine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	busybox := "/bin/busybox"
	st, err := os.Stat(busybox)
	if err != nil {
		t.Skip("needs a static busybox: apt-get install busybox-static")
	}
	for _, ns := range []string{"default", "kube-node-lease"} {
		objs = append(objs, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}})
	}
	dir, err := os.MkdirTemp("", "kubelet-")
	if err != nil {
		t.Fatal(err)
	}
	m := &realMachine{machine: &machine{t: t, dir: dir, api: fake.New(object.NewScheme(kinds.All()...), objs...),
		network: &fakeNetwork{held: map[string]netip.Addr{}}, events: &eventLog{}}}
	m.cfg = kubelet.Config{NodeName: "n1", HostIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		Dir: filepath.Join(dir, "kubelet"), RunDir: filepath.Join(dir, "run"), PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")},
		ClusterDNS: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}
	r := &m.cfg.Resource
	r.NodefsAvailable, r.NodefsInodesFree, r.ImagefsAvailable, r.MemoryAvailable = 1e-9, 1e-9, 1e-9, 1 // whatever this machine has
	files := []image.BuiltinFile{{Path: "bin", Mode: fs.ModeDir | 0o755}, {Path: "etc", Mode: fs.ModeDir | 0o755}, {Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Path: "etc/passwd", Mode: 0o644, Content: []byte("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/:/bin/sh\n")},
		{Path: "etc/group", Mode: 0o644, Content: []byte("root:x:0:\nextra:x:2000:app\n")},
		{Path: "bin/busybox", Mode: 0o755, Source: busybox, Size: st.Size()}}
	for _, n := range strings.Fields("sh cat echo ls sleep id env stat mount touch true false kill head tail hostname grep nc ip rm wget httpd mkdir readlink df") {
		files = append(files, image.BuiltinFile{Path: "bin/" + n, Mode: fs.ModeSymlink | 0o777, Link: "busybox"})
	}
	m.images, err = image.Open(image.Options{Dir: filepath.Join(dir, "images"), RunDir: filepath.Join(dir, "run", "images"),
		Builtins: []image.Builtin{{Name: "test.local/busybox:1", Identity: "1", Config: image.Config{Cmd: []string{"/bin/sh"}, Env: []string{"FROM=image"}}, Files: files}}})
	if err != nil {
		t.Fatal(err)
	}
	m.options = native.Options{DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "runtime"), CgroupRoot: fmt.Sprintf("/sagong-kubelet-test-%d", os.Getpid()), Log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() {
		m.close()
		m.images.Close()
		m.api.Close()
		if err := native.Purge(m.options); err != nil {
			t.Error(err)
		}
		if err := volume.Purge(volume.Config{Dir: filepath.Join(m.cfg.Dir, "pods"), MemoryDir: filepath.Join(m.cfg.RunDir, "secrets")}); err != nil {
			t.Error(err)
		}
		if mounts, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(mounts, []byte(dir)) {
			for l := range strings.Lines(string(mounts)) {
				if strings.Contains(l, dir) {
					t.Errorf("mount left: %s", l)
				}
			}
		} else {
			os.RemoveAll(dir)
		}
		if t.Failed() {
			for _, e := range m.events.list {
				t.Log(e)
			}
		}
	})
	m.open()
	return m
}

func (m *realMachine) open() {
	m.t.Helper()
	rt, err := native.Open(m.options)
	if err != nil {
		m.t.Fatal(err)
	}
	m.rt = rt
	a, err := kubelet.New(m.cfg, kubelet.Deps{
		Client: tokenClient{m.api}, Runtime: rt, Images: m.images, Recorder: m.events,
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

func (m *realMachine) close() {
	m.stop()
	if m.rt != nil {
		m.rt.Close()
		m.rt = nil
	}
}

// tokenClient answers token requests, which the fake client does not.
type tokenClient struct{ *fake.Client }

func (c tokenClient) CreateSubresource(ctx context.Context, d *object.Definition, ns, name, sub string, body kruntime.Object) (kruntime.Object, error) {
	if sub != "token" {
		return c.Client.CreateSubresource(ctx, d, ns, name, sub, body)
	}
	r := body.(*authenticationv1.TokenRequest).DeepCopy()
	r.Status = authenticationv1.TokenRequestStatus{Token: "token-of-" + name, ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour))}
	return r, nil
}

func shell(name, script string) corev1.Container {
	return corev1.Container{Name: name, Image: "test.local/busybox:1", Command: []string{"/bin/sh", "-c", script}, TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile}
}

// sh runs a command in a container of a pod.
func (m *realMachine) sh(p *corev1.Pod, container, script string) string {
	m.t.Helper()
	for _, cs := range p.Status.ContainerStatuses {
		if cs.Name != container {
			continue
		}
		out := probe.NewOutput(1 << 20)
		if _, err := m.rt.Exec(m.t.Context(), strings.TrimPrefix(cs.ContainerID, "sagong://"), runtime.ExecOptions{Args: []string{"/bin/sh", "-c", script}, Stdout: out, Stderr: out, Timeout: time.Minute}); err != nil {
			m.t.Fatalf("exec %q: %v", script, err)
		}
		return out.String()
	}
	m.t.Fatalf("no container %s", container)
	return ""
}

func TestRealPod(t *testing.T) {
	m := newRealMachine(t,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cfg"}, Data: map[string]string{"k": "v1", "other": "x"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sec"}, Data: map[string][]byte{"pw": []byte("geheim")}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "my-svc"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{{Port: 80, Protocol: "TCP"}}}},
	)
	yes, no, user, group := true, false, int64(1000), int64(3000)
	c := shell("a", "echo started; sleep 1000")
	c.Env = []corev1.EnvVar{
		{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)2 $$(A) $(C)"},
		{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}},
		{Name: "K", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Key: "k"}}},
	}
	c.EnvFrom = []corev1.EnvFromSource{{Prefix: "S_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}}}}
	c.SecurityContext = &corev1.SecurityContext{RunAsUser: &user, ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no}
	c.VolumeMounts = []corev1.VolumeMount{
		{Name: "cfg", MountPath: "/cfg"}, {Name: "sec", MountPath: "/sec"}, {Name: "work", MountPath: "/work"}, {Name: "mem", MountPath: "/mem"},
		{Name: "cfg", MountPath: "/one", SubPath: "k"}, {Name: "work", MountPath: "/sub", SubPath: "a/b"}, {Name: "tok", MountPath: "/tok"}, {Name: "down", MountPath: "/down"},
	}
	size := quantity("1Mi")
	expire := int64(3600)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Labels: map[string]string{"app": "web"}}, Spec: corev1.PodSpec{
		NodeName: "n1", Hostname: "host", Subdomain: "sub", ServiceAccountName: "default", Containers: []corev1.Container{c},
		InitContainers:  []corev1.Container{shell("init", "echo from-init > /work/init")},
		SecurityContext: &corev1.PodSecurityContext{FSGroup: &group},
		HostAliases:     []corev1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"a.example", "b.example"}}},
		Volumes: []corev1.Volume{
			{Name: "cfg", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}}},
			{Name: "sec", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "sec"}}},
			{Name: "work", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "mem", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: size}}},
			{Name: "tok", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &expire}}}}}},
			{Name: "down", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.labels"}}}}}},
		},
	}}
	p.Spec.InitContainers[0].VolumeMounts = []corev1.VolumeMount{{Name: "work", MountPath: "/work"}}
	m.create(p)
	p = m.await("web", "ready", ready)
	for _, x := range []struct{ cmd, want string }{
		{"echo $A,$B,$IP,$K,$S_pw,$MY_SVC_SERVICE_HOST,$FROM,$HOSTNAME", "1,12 $(A) $(C),10.244.0.1,v1,geheim,10.96.0.7,image,host\n"},
		{"id", "uid=1000(app) gid=1001 groups=1001,2000(extra),3000\n"},
		{"cat /cfg/k /cfg/other /sec/pw /one /work/init /tok/token /down/labels", "v1xgeheimv1from-init\ntoken-of-defaultapp=\"web\""},
		{"touch /x; touch /work/y /mem/z && echo ok", "touch: /x: Read-only file system\nok\n"},
		{"stat -c %g /work/y; stat -c %a /work; stat -c %g:%a /sec/..data/pw", "3000\n2777\n3000:644\n"},
		{"hostname; grep sub /etc/hosts; grep -c example /etc/hosts; cat /etc/resolv.conf | grep -v '^search'", "host\n10.244.0.1\thost.sub.default.svc.cluster.local\thost\n1\nnameserver 10.96.0.10\noptions ndots:5\n"},
		{"df -k /mem | tail -1 | grep -c 1024; grep NoNewPrivs /proc/self/status; ls -d /sub", "1\nNoNewPrivs:\t1\n/sub\n"},
	} {
		if got := m.sh(p, "a", x.cmd); got != x.want {
			t.Errorf("%s:\n%q, want\n%q", x.cmd, got, x.want)
		}
	}
	if u := p.Status.ContainerStatuses[0].User; u == nil || u.Linux.UID != 1000 {
		t.Errorf("user is %+v", u)
	}

	// Volumes follow their objects.
	cm, err := client.Get[*corev1.ConfigMap](t.Context(), m.api, "default", "cfg")
	if err != nil {
		t.Fatal(err)
	}
	cm = cm.DeepCopy()
	cm.Data = map[string]string{"k": "v2", "fresh": "y"}
	if _, err := client.Update(t.Context(), m.api, cm); err != nil {
		t.Fatal(err)
	}
	m.eventually("the ConfigMap's change is seen", func() bool {
		return m.sh(p, "a", "cat /cfg/k /cfg/fresh; ls /cfg; cat /one") == "v2yfresh\nk\nv1"
	})

	// A new agent and a new runtime take over.
	m.close()
	m.open()
	if _, err := client.PatchOf[*corev1.Pod](t.Context(), m.api, "default", "web", client.Patch{Type: "application/merge-patch+json", Data: []byte(`{"metadata":{"labels":{"app":"new"}}}`)}); err != nil {
		t.Fatal(err)
	}
	m.eventually("the label's change is seen", func() bool { return m.sh(p, "a", "cat /down/labels") == `app="new"` })
	if now := m.await("web", "ready", ready); now.Status.ContainerStatuses[0].RestartCount != 0 || now.Status.ContainerStatuses[0].ContainerID != p.Status.ContainerStatuses[0].ContainerID {
		t.Errorf("not taken over: %+v", now.Status.ContainerStatuses)
	}
	one := int64(1)
	if err := client.Delete[*corev1.Pod](t.Context(), m.api, "default", "web", metav1.DeleteOptions{GracePeriodSeconds: &one}); err != nil {
		t.Fatal(err)
	}
	m.await("web", "gone", gone)
	if dirs, _ := filepath.Glob(filepath.Join(m.cfg.Dir, "pods", "*")); len(dirs) > 0 {
		t.Errorf("left: %v", dirs)
	}
}

func TestRealFailures(t *testing.T) {
	m := newRealMachine(t)
	never := func(name string, c corev1.Container) {
		m.create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: "n1", RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{c}}})
	}
	failed := func(p *corev1.Pod) bool { return p != nil && p.Status.Phase == corev1.PodFailed }
	never("message", shell("a", "echo -n why > /dev/termination-log; exit 3"))
	p := m.await("message", "failed", failed)
	if term := p.Status.ContainerStatuses[0].State.Terminated; term == nil || term.ExitCode != 3 || term.Message != "why" || term.Reason != "Error" {
		t.Errorf("status is %+v", p.Status.ContainerStatuses[0].State)
	}
	c := shell("a", "echo line; exit 4")
	c.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	never("fallback", c)
	p = m.await("fallback", "failed", failed)
	if term := p.Status.ContainerStatuses[0].State.Terminated; term == nil || term.Message != "line\n" {
		t.Errorf("status is %+v", p.Status.ContainerStatuses[0].State)
	}
	c = shell("a", "")
	c.Command = []string{"/no/such"}
	never("nosuch", c)
	p = m.await("nosuch", "failed", failed)
	if term := p.Status.ContainerStatuses[0].State.Terminated; term == nil || term.Reason != "StartError" || term.ExitCode != 128 {
		t.Errorf("status is %+v", p.Status.ContainerStatuses[0].State)
	}
	yes := true
	c = shell("a", "sleep 100")
	c.SecurityContext = &corev1.SecurityContext{RunAsNonRoot: &yes}
	never("root", c)
	p = m.await("root", "refused", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil && p.Status.ContainerStatuses[0].State.Waiting.Reason == "CreateContainerConfigError"
	})
	if msg := p.Status.ContainerStatuses[0].State.Waiting.Message; !strings.HasPrefix(msg, "container has runAsNonRoot and image will run as root") {
		t.Errorf("message is %q", msg)
	}
}

func TestRealHooksAndProbes(t *testing.T) {
	m := newRealMachine(t)
	c := shell("a", "trap 'echo term >> /work/log; exit 0' TERM; touch /work/trapped; while true; do sleep 0.1; done")
	c.VolumeMounts = []corev1.VolumeMount{{Name: "work", MountPath: "/work"}}
	c.Lifecycle = &corev1.Lifecycle{
		PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/sh", "-c", "echo post >> /work/log"}}},
		PreStop:   &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/sh", "-c", "echo pre >> /work/log"}}},
	}
	c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/cat", "/work/log", "/work/trapped"}}}, PeriodSeconds: 1}
	c.StartupProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1), Host: "127.0.0.1"}}, PeriodSeconds: 1, FailureThreshold: 1000}
	dir := t.TempDir()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{c},
		Volumes: []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}}}}}}
	p.Spec.Containers[0].StartupProbe = nil
	m.create(p)
	m.await("web", "ready", ready)
	if err := client.Delete[*corev1.Pod](t.Context(), m.api, "default", "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.await("web", "gone", gone)
	if log, _ := os.ReadFile(filepath.Join(dir, "log")); string(log) != "post\npre\nterm\n" {
		t.Errorf("log is %q", log)
	}
}
