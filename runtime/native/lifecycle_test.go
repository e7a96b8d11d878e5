package native

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

// events collects events until one satisfies the predicate.
func (m *machine) waitEvent(what string, ok func(runtime.Event) bool) []runtime.Event {
	m.t.Helper()
	var got []runtime.Event
	deadline := time.After(time.Minute)
	for {
		select {
		case e := <-m.rt.Events():
			got = append(got, e)
			if ok(e) {
				return got
			}
		case <-deadline:
			m.t.Fatalf("no event: %s; got %+v", what, got)
		}
	}
}

func (m *machine) ready(id, text string) {
	m.t.Helper()
	c, err := m.rt.container(id)
	if err != nil {
		m.t.Fatal(err)
	}
	waitForFile(m.t, c.spec.LogPath, text)
}

// waitForFile waits until a file has some text.
func waitForFile(t testing.TB, name, text string) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(name), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		data, _ := os.ReadFile(name)
		if strings.Contains(string(data), text) {
			return
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, max(0, int(time.Until(deadline)/time.Millisecond))); n == 0 {
			t.Fatalf("no %q in %s: %q", text, name, data)
		}
		var buf [4096]byte
		_, _ = unix.Read(fd, buf[:])
	}
}

func TestLifecycle(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	if p, err := m.rt.NetNSPath(uid); err != nil || p == "" {
		t.Errorf("network namespace %q, %v", p, err)
	}
	spec := m.spec(uid, "echo hi; exit 3", func(c *runtime.Container) {
		c.Labels, c.Image, c.Attempt = map[string]string{"a": "b"}, "image", 2
	})
	if err := m.rt.CreateContainer(m.ctx(), spec); err != nil {
		t.Fatal(err)
	}
	if err := m.rt.CreateContainer(m.ctx(), spec); !errors.Is(err, runtime.ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	started, err := m.rt.StartContainer(m.ctx(), spec.ID)
	if err != nil || started.PID < 2 || time.Since(started.At) > time.Minute {
		t.Fatalf("%+v, %v", started, err)
	}
	got := m.waitEvent("exit", func(e runtime.Event) bool { return e.Type == runtime.EventExited })
	var types []string
	for _, e := range got {
		types = append(types, string(e.Type))
	}
	if s := strings.Join(types, " "); s != "created started exited" {
		t.Errorf("events: %s", s)
	}
	st := got[len(got)-1].Container
	if st.State != runtime.StateExited || st.ExitCode != 3 || st.Signal != 0 || st.PID != 0 || st.OOMKilled || !st.StartedAt.Equal(started.At) ||
		st.FinishedAt.Before(st.StartedAt) || st.Labels["a"] != "b" || st.Image != "image" || st.Attempt != 2 || st.LogPath != spec.LogPath {
		t.Errorf("status %+v", st)
	}
	if _, err := m.rt.StartContainer(m.ctx(), spec.ID); err == nil {
		t.Error("started twice")
	}
	l, err := m.rt.List(m.ctx())
	if err != nil || len(l) != 1 || !l[0].Ready || len(l[0].Containers) != 1 || l[0].Sandbox.Name != "test" {
		t.Errorf("list %+v, %v", l, err)
	}
	if err := m.rt.StopContainer(m.ctx(), spec.ID, runtime.Stop{Grace: time.Second}); err != nil {
		t.Errorf("stopping an exited one: %v", err)
	}
	for range 2 {
		if err := m.rt.RemoveContainer(m.ctx(), spec.ID); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.rt.Status(m.ctx(), spec.ID); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
	for range 2 {
		if err := m.rt.RemoveSandbox(m.ctx(), uid); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.rt.NetNSPath(uid); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
}

func TestStop(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	polite := "trap 'echo stopping; exit 9' TERM USR1; echo ready; while :; do sleep 1000 & wait; done"
	for _, tt := range []struct {
		name, script string
		stop         runtime.Stop
		edit         func(*runtime.Container)
		code, signal int
	}{
		{"in time", polite, runtime.Stop{Grace: time.Minute}, nil, 9, 0},
		{"own signal", "trap 'exit 9' USR1; trap '' TERM; echo ready; while :; do sleep 1000 & wait; done", runtime.Stop{Grace: time.Minute},
			func(c *runtime.Container) { c.StopSignal = int(unix.SIGUSR1) }, 9, 0},
		{"over time", "trap '' TERM; echo ready; sleep 1000", runtime.Stop{Grace: 20 * time.Millisecond}, nil, 137, 9},
		{"at once", polite, runtime.Stop{}, nil, 137, 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var edit []func(*runtime.Container)
			if tt.edit != nil {
				edit = append(edit, tt.edit)
			}
			id := m.start(m.spec(uid, tt.script, edit...))
			m.ready(id, "ready")
			if err := m.rt.StopContainer(m.ctx(), id, tt.stop); err != nil {
				t.Fatal(err)
			}
			if st := m.wait(id); st.ExitCode != tt.code || st.Signal != tt.signal {
				t.Errorf("%+v", st)
			}
		})
	}
	// A later call with less patience ends the earlier one.
	id := m.start(m.spec(uid, "trap '' TERM; echo ready; sleep 1000"))
	m.ready(id, "ready")
	done := make(chan error, 1)
	go func() { done <- m.rt.StopContainer(m.ctx(), id, runtime.Stop{Grace: time.Hour}) }()
	if err := m.rt.StopContainer(m.ctx(), id, runtime.Stop{Grace: 10 * time.Millisecond}); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	id = m.start(m.spec(uid, "echo ready; sleep 1000"))
	if err := m.rt.RemoveContainer(m.ctx(), id); !errors.Is(err, runtime.ErrRunning) {
		t.Errorf("removed while it runs: %v", err)
	}
	if err := m.rt.SignalContainer(m.ctx(), id, 99); err == nil {
		t.Error("signal 99 was sent")
	}
}

func TestOOM(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	spec := m.spec(uid, "head -c 100m /dev/zero | tail -c 1 >/dev/null; echo code $?; exit 1", func(c *runtime.Container) {
		c.Resources = runtime.Resources{Memory: 16 << 20, MemorySwap: 16 << 20}
	})
	// tail keeps what it reads; it is killed, the shell is not.
	spec.Args = []string{"sh", "-c", "tail -c 100m /dev/zero; echo code $?; exit 1"}
	out, st := m.run(spec)
	if !st.OOMKilled || st.ExitCode != 1 || !strings.Contains(out, "code 137") {
		t.Errorf("%+v\n%s", st, out)
	}
	spec = m.spec(uid, "", func(c *runtime.Container) {
		c.Resources = runtime.Resources{Memory: 16 << 20, MemorySwap: 16 << 20}
		c.Args = []string{"tail", "-c", "100m", "/dev/zero"}
	})
	if _, st := m.run(spec); !st.OOMKilled || st.ExitCode != 137 || st.Signal != 9 {
		t.Errorf("%+v", st)
	}
	if _, st := m.run(m.spec(uid, "kill -9 $$; exit 0")); st.OOMKilled {
		t.Errorf("%+v", st)
	}
}

func TestResourcesAndStats(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox(func(s *runtime.Sandbox) {
		s.Resources = runtime.Resources{CPUShares: 512, Memory: 512 << 20, Pids: 100}
	})
	id := m.start(m.spec(uid, "i=0; while test $i -lt 20000; do i=$((i+1)); done; echo ready; sleep 1000", func(c *runtime.Container) {
		c.Resources = runtime.Resources{CPUShares: 256, CPUQuota: 50000, CPUPeriod: 100000, Memory: 64 << 20, Pids: 20, CPUSet: "0"}
	}))
	m.ready(id, "ready")
	st, err := m.rt.Stats(m.ctx(), id)
	if err != nil {
		t.Fatal(err)
	}
	if st.CPU.UsageNanos < 1e6 || st.Memory.Usage == 0 || st.Memory.WorkingSet > st.Memory.Usage || st.Memory.RSS == 0 ||
		st.Memory.Limit != 64<<20 || st.Pids != 1 || st.PidsLimit != 20 || st.Memory.PageFaults == 0 {
		t.Errorf("%+v", st)
	}
	if out, _ := m.exec(id, "nproc; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"); out != "1\n67108864\n" {
		t.Errorf("seen from inside: %q", out)
	}
	if err := m.rt.UpdateResources(m.ctx(), id, runtime.Resources{Memory: 128 << 20, MemorySwap: 128 << 20, CPUQuota: -1}); err != nil {
		t.Fatal(err)
	}
	if err := m.rt.UpdateResources(m.ctx(), id, runtime.Resources{Memory: 96 << 20, MemorySwap: 96 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := m.rt.UpdateSandbox(m.ctx(), uid, runtime.Resources{Memory: 256 << 20}); err != nil {
		t.Fatal(err)
	}
	ps, err := m.rt.PodStats(m.ctx(), uid)
	if err != nil || len(ps.Containers) != 1 || ps.Containers[0].Memory.Limit != 96<<20 || ps.Pod.Memory.Limit != 256<<20 || ps.Pod.CPU.UsageNanos < st.CPU.UsageNanos {
		t.Errorf("%+v, %v", ps, err)
	}
	before, err := m.rt.DiskUsage(m.ctx(), id)
	if err != nil {
		t.Fatal(err)
	}
	m.exec(id, "dd if=/dev/zero of=/tmp/big bs=1024 count=1000 2>/dev/null")
	after, err := m.rt.DiskUsage(m.ctx(), id)
	if err != nil || after.Bytes < before.Bytes+1000*1024 || after.Inodes <= before.Inodes {
		t.Errorf("%+v then %+v, %v", before, after, err)
	}
	m.start(m.spec(uid, "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo done; wait", func(c *runtime.Container) {
		c.ID, c.Resources = "few", runtime.Resources{Pids: 4}
	}))
	m.ready("few", "can't fork")
}

func TestSharedProcessNamespace(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox(func(s *runtime.Sandbox) { s.ShareProcessNamespace = true })
	a := m.start(m.spec(uid, "sleep 1000"))
	b := m.spec(uid, "cat /proc/1/comm; grep -E '^(Uid|CapBnd|NoNewPrivs)' /proc/1/status | tr '\\t' ' '; ls /proc/1/root/ 2>&1 | wc -l; ls /proc | grep -c '^[0-9]'; (sleep 1000 &)")
	out, st := m.run(b)
	if !strings.HasPrefix(out, "pause\n") || !strings.Contains(out, "Uid: 65535 65535 65535 65535\n") || !strings.Contains(out, "CapBnd: 0000000000000000\nNoNewPrivs: 1\n") || st.ExitCode != 0 {
		t.Errorf("%q %+v", out, st)
	}
	// What b left running ends with it, though the namespace goes on.
	m.empty(cgroupOf(must(m.rt.sandbox(uid)), b.ID))
	if o, _ := m.exec(a, "cat /proc/1/comm"); o != "pause\n" {
		t.Errorf("exec sees %q", o)
	}
	if err := m.rt.StopContainer(m.ctx(), a, runtime.Stop{}); err != nil {
		t.Error(err)
	}
	m.empty(cgroupOf(must(m.rt.sandbox(uid)), a))
	// Only pause is left.
	if out, _ := m.run(m.spec(uid, "ps | wc -l")); strings.TrimSpace(out) > "5" {
		t.Errorf("%s processes", out)
	}
}

// empty waits until all processes of a cgroup have ended.
func (m *machine) empty(path string) {
	m.t.Helper()
	for {
		pids, err := m.rt.tree.Procs(path)
		if err != nil {
			m.t.Fatal(err)
		}
		if len(pids) == 0 {
			return
		}
		if fd, err := unix.PidfdOpen(pids[0], 0); err == nil {
			if err := waitPidfd(fd, time.Minute); err != nil {
				m.t.Fatal(err)
			}
			unix.Close(fd)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTargetContainer(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	a := m.start(m.spec(uid, "sleep 1234"))
	out, _ := m.run(m.spec(uid, "ps", func(c *runtime.Container) { c.TargetID = a }))
	if !strings.Contains(out, "sleep 1234") {
		t.Errorf("the debugger sees %q", out)
	}
	if o, code := m.exec(a, "echo still"); o != "still\n" || code != 0 {
		t.Errorf("%q %d", o, code)
	}
}

// TestContainersShareThePod checks the namespaces that are the pod's.
func TestContainersShareThePod(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	a := m.start(m.spec(uid, "echo shared > /dev/shm/x; nc -l -p 8080 127.0.0.1; sleep 1000"))
	out, _ := m.run(m.spec(uid, "while ! test -s /dev/shm/x; do :; done; cat /dev/shm/x; readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts; touch /only-mine"))
	in, _ := m.exec(a, "cat /dev/shm/x; readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts; test -e /only-mine && echo leak")
	if out != in || !strings.HasPrefix(out, "shared\n") {
		t.Errorf("one container sees\n%s, another\n%s", out, in)
	}
	p, _ := m.rt.NetNSPath(uid)
	var st unix.Stat_t
	if err := unix.Stat(p, &st); err != nil || !strings.Contains(out, fmt.Sprintf("net:[%d]", st.Ino)) {
		t.Errorf("pinned namespace %d, %v; in the pod %s", st.Ino, err, out)
	}
}

func TestRemoveSandboxWithAllRunning(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	for range 3 {
		m.start(m.spec(uid, "trap '' TERM; (sleep 1000 &) ; sleep 1000"))
	}
	out := newBuffer()
	c := must(m.rt.sandbox(uid)).containers[0]
	go m.rt.Exec(context.Background(), c.spec.ID, runtime.ExecOptions{Args: []string{"sh", "-c", "echo x; sleep 1000"}, Stdout: out})
	out.waitFor(t, "x")
	if err := m.rt.RemoveSandbox(m.ctx(), uid); err != nil {
		t.Fatal(err)
	}
	if s := shims(t); s != "" {
		t.Errorf("left: %s", s)
	}
	for _, d := range []string{m.rt.dirs.podData(uid), m.rt.dirs.podRun(uid)} {
		if _, err := os.Stat(d); !os.IsNotExist(err) {
			t.Errorf("%s: %v", d, err)
		}
	}
	if m.rt.tree.Exists("kubepods/besteffort/pod" + uid) {
		t.Error("cgroup left")
	}
}

func TestShimKilled(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	id := m.start(m.spec(uid, "sleep 1000"))
	st := must(m.rt.Status(m.ctx(), id))
	fd, err := unix.PidfdOpen(st.PID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Kill(must(m.rt.sandbox(uid)).shim.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	got := m.waitEvent("sandbox lost", func(e runtime.Event) bool { return e.Type == runtime.EventSandboxLost })
	if err := waitPidfd(fd, time.Minute); err != nil {
		t.Errorf("the container lives on: %v", err)
	}
	last := got[len(got)-2].Container
	if last.ID != id || last.State != runtime.StateUnknown || last.ExitCode != 137 || last.Reason != "ContainerStatusUnknown" {
		t.Errorf("%+v", last)
	}
	if l, _ := m.rt.List(m.ctx()); len(l) != 1 || l[0].Ready {
		t.Errorf("%+v", l)
	}
	if err := m.rt.CreateContainer(m.ctx(), m.spec(uid, "")); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("created in a dead sandbox: %v", err)
	}
	// The caller makes it anew under the same UID.
	if err := m.rt.CreateSandbox(m.ctx(), runtime.Sandbox{UID: uid, Hostname: "again", CgroupParent: "kubepods/besteffort/pod" + uid}); err != nil {
		t.Fatal(err)
	}
	if out, _ := m.run(m.spec(uid, "hostname")); out != "again\n" {
		t.Errorf("%q", out)
	}
}

func TestAdoption(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	script := "trap 'exit 5' TERM; i=0; echo ready; while :; do i=$((i+1)); echo line $i; sleep 0.001; done"
	id := m.start(m.spec(uid, script, func(c *runtime.Container) { c.Stdin = true }))
	m.ready(id, "line 2\n")
	quick := m.start(m.spec(uid, "read x; exit 4", func(c *runtime.Container) { c.Stdin = true }))
	done := m.spec(uid, "exit 8")
	m.wait(m.start(done))
	made := m.spec(uid, "exit 6")
	if err := m.rt.CreateContainer(m.ctx(), made); err != nil {
		t.Fatal(err)
	}
	before := must(m.rt.Status(m.ctx(), id))
	if _, err := Open(m.opts); err == nil {
		t.Error("two runtimes on one directory")
	}
	if err := m.rt.Close(); err != nil {
		t.Fatal(err)
	}
	// While nobody watches, one ends.
	q, err := dialShim(m.ctx(), m.rt.dirs.podRun(uid))
	if err != nil {
		t.Fatal(err)
	}
	r := newRequest(reqSignal, quick)
	r.A = int32(unix.SIGKILL)
	if err := q.send(r); err != nil {
		t.Fatal(err)
	}
	if _, err := q.receive(); err != nil {
		t.Fatal(err)
	}
	q.Close()
	waitForFile(t, filepath.Join(m.rt.dirs.containerRun(uid, quick), "exit"), "code")

	m.open()
	l := must(m.rt.List(m.ctx()))
	if len(l) != 1 || !l[0].Ready || len(l[0].Containers) != 4 || l[0].Sandbox.Hostname != "testpod" {
		t.Fatalf("%+v", l)
	}
	if st := must(m.rt.Status(m.ctx(), id)); st.State != runtime.StateRunning || st.PID != before.PID || !st.StartedAt.Equal(before.StartedAt) {
		t.Errorf("running one: %+v", st)
	}
	if st := must(m.rt.Status(m.ctx(), quick)); st.State != runtime.StateExited || st.ExitCode != 137 {
		t.Errorf("one that ended meanwhile: %+v", st)
	}
	if st := must(m.rt.Status(m.ctx(), done.ID)); st.State != runtime.StateExited || st.ExitCode != 8 {
		t.Errorf("one that ended before: %+v", st)
	}
	if _, err := m.rt.StartContainer(m.ctx(), made.ID); err != nil {
		t.Error(err)
	}
	if st := m.wait(made.ID); st.ExitCode != 6 {
		t.Errorf("one that was only created: %+v", st)
	}
	if out, code := m.exec(id, "echo exec"); out != "exec\n" || code != 0 {
		t.Errorf("%q %d", out, code)
	}
	if err := m.rt.StopContainer(m.ctx(), id, runtime.Stop{Grace: time.Minute}); err != nil {
		t.Fatal(err)
	}
	c := must(m.rt.container(id))
	if c.status.ExitCode != 5 {
		t.Errorf("%+v", c.status)
	}
	checkLines(t, m.output(c.spec))
}

// TestEnvironmentIsSealed looks for what a container was given in all that is on
// disk, and gives it to commands even after the runtime was opened again.
func TestEnvironmentIsSealed(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	spec := m.spec(uid, "echo $0; sleep 1000", func(c *runtime.Container) {
		c.Env = append(c.Env, "WORD=planted-in-env")
		c.Args = append(c.Args, "planted-in-args")
	})
	id := m.start(spec)
	m.ready(id, "planted-in-args")
	file := filepath.Join(m.rt.dirs.containerData(uid, id), "config.json")
	clean := func(when string) {
		t.Helper()
		if data := must(os.ReadFile(file)); strings.Contains(string(data), "planted") {
			t.Errorf("%s: %s", when, data)
		}
	}
	clean("started")
	reopened := func(when string) {
		t.Helper()
		if err := m.rt.Close(); err != nil {
			t.Fatal(err)
		}
		m.open()
		clean(when)
		if out, code := m.exec(id, "echo $WORD"); out != "planted-in-env\n" || code != 0 {
			t.Errorf("%s: %q %d", when, out, code)
		}
	}
	reopened("opened again")
	// As an older version left it.
	if err := writeJSON(file, containerFile{Container: spec, CreatedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	reopened("after an older version")
}

// checkLines checks that the numbered lines of a log have no gap.
func checkLines(t *testing.T, log string) {
	t.Helper()
	want := 1
	for line := range strings.Lines(log) {
		n, ok := strings.CutPrefix(strings.TrimSpace(line), "line ")
		if !ok {
			continue
		}
		if n != strconv.Itoa(want) {
			t.Fatalf("after line %d comes %s", want-1, n)
		}
		want++
	}
	if want < 3 {
		t.Errorf("only %d lines", want-1)
	}
}

// TestServerKilled starts a container from a process that is then killed by
// SIGKILL while the container writes, and adopts it.
func TestServerKilled(t *testing.T) {
	m := newMachine(t)
	if err := m.rt.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestHelperServer$")
	cmd.Env = append(os.Environ(), "NATIVE_HELPER="+filepath.Dir(m.root), "NATIVE_CGROUP="+m.opts.CgroupRoot, fmt.Sprintf("NATIVE_UID=t%d-killed", os.Getpid()))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "started\n" {
		t.Fatalf("%q, %v", line, err)
	}
	log := filepath.Join(filepath.Dir(m.root), "survivor.log")
	waitForFile(t, log, "line 50\n")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil {
		t.Error("it was to be killed")
	}
	waitForFile(t, log, "line 200\n")
	m.open()
	st, err := m.rt.Status(m.ctx(), "survivor")
	if err != nil || st.State != runtime.StateRunning {
		t.Fatalf("%+v, %v", st, err)
	}
	if err := m.rt.SignalContainer(m.ctx(), "survivor", int(unix.SIGUSR1)); err != nil {
		t.Fatal(err)
	}
	if st := m.wait("survivor"); st.ExitCode != 17 {
		t.Errorf("%+v", st)
	}
	checkLines(t, m.output(runtime.Container{LogPath: log}))
}

// TestHelperServer is the process that TestServerKilled kills.
func TestHelperServer(t *testing.T) {
	dir := os.Getenv("NATIVE_HELPER")
	if dir == "" {
		t.Skip("not a test of its own")
	}
	rt, err := Open(Options{DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"), CgroupRoot: os.Getenv("NATIVE_CGROUP")})
	if err != nil {
		t.Fatal(err)
	}
	uid := os.Getenv("NATIVE_UID")
	if err := rt.CreateSandbox(t.Context(), runtime.Sandbox{UID: uid, Hostname: "x", CgroupParent: "pod"}); err != nil {
		t.Fatal(err)
	}
	if err := rt.CreateContainer(t.Context(), runtime.Container{ID: "survivor", SandboxUID: uid, Rootfs: runtime.Rootfs{Layers: []string{filepath.Join(dir, "root")}},
		Args: []string{"sh", "-c", "trap 'exit 17' USR1; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.001; done"}, LogPath: filepath.Join(dir, "survivor.log")}); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.StartContainer(t.Context(), "survivor"); err != nil {
		t.Fatal(err)
	}
	fmt.Println("started")
	select {}
}

// TestAfterReboot pretends that the machine was restarted: the records are of
// another boot, and the numbers in them may be anybody's.
func TestAfterReboot(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	id := m.start(m.spec(uid, "sleep 1000"))
	s := must(m.rt.sandbox(uid))
	m.rt.Close()
	if err := stopShim(s.run, s.shim); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(m.rt.dirs.containerRun(uid, id), "exit")); err != nil {
		t.Fatal(err)
	}
	other := shimFile{process{os.Getpid(), startTicks(os.Getpid())}, "00000000-0000-0000-0000-000000000000", protocol}
	if err := os.WriteFile(filepath.Join(s.run, "shim"), []byte(other.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	m.open()
	if l := must(m.rt.List(m.ctx())); len(l) != 1 || l[0].Ready {
		t.Errorf("%+v", l)
	}
	if st := must(m.rt.Status(m.ctx(), id)); st.State != runtime.StateUnknown || st.ExitCode != 137 {
		t.Errorf("%+v", st)
	}
	if err := m.rt.RemoveSandbox(m.ctx(), uid); err != nil {
		t.Error(err)
	}
}

// TestPurgeOfARunningRuntime has Purge meet everything alive, and a torn
// description besides.
func TestPurgeOfARunningRuntime(t *testing.T) {
	m := newMachine(t)
	for range 2 {
		uid := m.sandbox()
		m.start(m.spec(uid, "sleep 1000"))
		m.start(m.spec(uid, "exit 1"))
	}
	if err := Purge(m.opts); err == nil {
		t.Error("purged under an open runtime")
	}
	m.rt.Close()
	uid := must(subdirs(m.rt.dirs.pods()))[0]
	if err := os.WriteFile(filepath.Join(m.rt.dirs.podData(uid), "pod.json"), []byte(`{"Sandb`), 0o600); err != nil {
		t.Fatal(err)
	}
	// newMachine's clean-up purges and compares.
}

// TestTornDescriptions opens a runtime on what a crash may leave.
func TestTornDescriptions(t *testing.T) {
	m := newMachine(t)
	uid, other := m.sandbox(), m.sandbox()
	id := m.start(m.spec(uid, "sleep 1000"))
	m.start(m.spec(other, "sleep 1000"))
	m.rt.Close()
	for _, f := range []string{filepath.Join(m.rt.dirs.containerData(uid, id), "config.json"), filepath.Join(m.rt.dirs.podData(other), "pod.json")} {
		if err := os.WriteFile(f, []byte(`{"Con`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.open()
	l := must(m.rt.List(m.ctx()))
	if len(l) != 1 || l[0].Sandbox.UID != uid {
		t.Errorf("%+v", l)
	}
	if strings.Contains(shims(t), other) {
		t.Error("the shim of an unreadable sandbox lives")
	}
}
