package native

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sagong/lib/cgroup"
	"sagong/runtime"
)

// machine is a runtime with its own directories and cgroups, and a root file
// system of busybox.
type machine struct {
	t    testing.TB
	rt   *Runtime
	opts Options
	root string
}

var machines atomic.Int32

// newMachine starts a runtime and checks, when the test ends, that it left
// nothing behind.
func newMachine(t testing.TB, edit ...func(*Options)) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	busybox := "/bin/busybox"
	if _, err := os.Stat(busybox); err != nil {
		t.Skip("needs a static busybox: apt-get install busybox-static")
	}
	dir, err := os.MkdirTemp("", "native-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeTree(dir); err != nil {
			t.Error(err)
		}
	})
	m := &machine{t: t, root: filepath.Join(dir, "root")}
	makeRoot(t, m.root, busybox)
	m.opts = Options{DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"),
		CgroupRoot: fmt.Sprintf("/sagong-test-%d-%d", os.Getpid(), machines.Add(1)),
		Log:        slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	for _, f := range edit {
		f(&m.opts)
	}
	before := snapshot(t, dir)
	m.open()
	t.Cleanup(func() {
		m.rt.Close()
		if err := Purge(m.opts); err != nil {
			t.Errorf("purge: %v", err)
		}
		if after := snapshot(t, dir); after != before {
			t.Errorf("left behind:\nbefore:\n%s\nafter:\n%s", before, after)
		}
		if _, err := os.Stat(filepath.Join(m.opts.DataDir, "runtime")); !os.IsNotExist(err) {
			t.Errorf("data left behind: %v", err)
		}
	})
	return m
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

func (m *machine) open() {
	m.t.Helper()
	rt, err := Open(m.opts)
	if err != nil {
		m.t.Fatal(err)
	}
	m.rt = rt
}

func makeRoot(t testing.TB, root, busybox string) {
	t.Helper()
	for _, d := range []string{"bin", "etc", "tmp", "root", "home/app"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"bin/busybox": string(data),
		"etc/passwd":  "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n",
		"etc/group":   "root:x:0:\napp:x:1001:\nextra:x:2000:app,other\nmore:x:2001:app\n",
		"bin/noexec":  "nothing to run\n",
	}
	for name, content := range files {
		mode := os.FileMode(0o644)
		if name == "bin/busybox" {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range strings.Fields("sh cat echo ls sleep id env stat mount touch true false kill head tail dd printf hostname ulimit ps mkdir rm grep tty stty wc seq yes nc ip df od readlink umount ln dmesg nproc mknod date tr test cut") {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
}

// snapshot is what must be the same before and after.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(mounts)) {
		// Others may mount on this machine meanwhile.
		if strings.Contains(line, dir) {
			b.WriteString(line)
		}
	}
	l, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(sortedValues(l.V1), l.Unified) {
		if names, err := filepath.Glob(filepath.Join(m, fmt.Sprintf("sagong-test-%d-*", os.Getpid()))); err == nil {
			for _, n := range names {
				b.WriteString(n + "\n")
			}
		}
	}
	b.WriteString(shims(t))
	return b.String()
}

func sortedValues(m map[string]string) []string {
	var out []string
	for _, k := range sortedKeys(m) {
		out = append(out, m[k])
	}
	return out
}

// shims lists the shims that this process's runtimes started.
func shims(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		data, err := os.ReadFile(p)
		if err != nil || !strings.HasPrefix(string(data), "sagong-shim\x00") || !strings.Contains(string(data), fmt.Sprintf("t%d-", os.Getpid())) {
			continue
		}
		fmt.Fprintf(&b, "%s %q\n", p, data)
	}
	return b.String()
}

var uids atomic.Int32

// sandbox makes a pod; edit may change its description.
func (m *machine) sandbox(edit ...func(*runtime.Sandbox)) string {
	m.t.Helper()
	uid := fmt.Sprintf("t%d-%d", os.Getpid(), uids.Add(1))
	s := runtime.Sandbox{UID: uid, Namespace: "default", Name: "test", Hostname: "testpod", CgroupParent: "kubepods/besteffort/pod" + uid}
	for _, f := range edit {
		f(&s)
	}
	if err := m.rt.CreateSandbox(m.ctx(), s); err != nil {
		m.t.Fatal(err)
	}
	return uid
}

func (m *machine) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	m.t.Cleanup(cancel)
	return ctx
}

// spec describes a container that runs a shell script.
func (m *machine) spec(uid, script string, edit ...func(*runtime.Container)) runtime.Container {
	id := fmt.Sprintf("c%d", uids.Add(1))
	c := runtime.Container{ID: id, SandboxUID: uid, Name: "main", Rootfs: runtime.Rootfs{Layers: []string{m.root}},
		Args: []string{"sh", "-c", script}, LogPath: filepath.Join(filepath.Dir(m.root), id+".log")}
	for _, f := range edit {
		f(&c)
	}
	return c
}

// start runs a container and returns its id.
func (m *machine) start(c runtime.Container) string {
	m.t.Helper()
	if err := m.rt.CreateContainer(m.ctx(), c); err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.rt.StartContainer(m.ctx(), c.ID); err != nil {
		m.t.Fatal(err)
	}
	return c.ID
}

// wait waits until a container has exited.
func (m *machine) wait(id string) runtime.ContainerStatus {
	m.t.Helper()
	c, err := m.rt.container(id)
	if err != nil {
		m.t.Fatal(err)
	}
	select {
	case <-c.gone:
	case <-m.ctx().Done():
		m.t.Fatalf("container %s does not end; its log: %s", id, m.output(c.spec))
	}
	s, err := m.rt.Status(m.ctx(), id)
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

// run runs a container to its end and returns what it wrote.
func (m *machine) run(c runtime.Container) (string, runtime.ContainerStatus) {
	m.t.Helper()
	s := m.wait(m.start(c))
	return m.output(c), s
}

// output is the content of a log without its tags.
func (m *machine) output(c runtime.Container) string {
	m.t.Helper()
	data, err := os.ReadFile(c.LogPath)
	if err != nil {
		m.t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(f) != 4 {
			m.t.Fatalf("malformed log line %q", line)
		}
		b.WriteString(f[3])
		if f[2] == "F" {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// exec runs a shell script in a container.
func (m *machine) exec(id, script string) (string, int) {
	m.t.Helper()
	var out bytes.Buffer
	code, err := m.rt.Exec(m.ctx(), id, runtime.ExecOptions{Args: []string{"sh", "-c", script}, Stdout: &out, Stderr: &out})
	if err != nil {
		m.t.Fatal(err)
	}
	return out.String(), code
}

func itoa(n int) string { return strconv.Itoa(n) }
