package native

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

// TestNothingOfTheHostIsOpen looks from inside for descriptors and paths that
// lead out.
func TestNothingOfTheHostIsOpen(t *testing.T) {
	// Descriptors that this process itself inherited, without close-on-exec.
	leak, err := unix.Open("/etc", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	m := newMachine(t)
	uid := m.sandbox()
	spec := m.spec(uid, "ls /proc/self/fd | wc -l; readlink /proc/1/exe; cat /proc/1/cmdline | tr '\\0' ' '; echo; mount | grep -v -E ' (/|/proc.*|/dev.*|/sys.*) type ' | wc -l; readlink /proc/self/cwd; sleep 1000")
	id := m.start(spec)
	m.ready(id, "F /\n")
	// ls has its own directory open besides the three.
	if out := m.output(spec); !strings.HasPrefix(out, "4\n/bin/busybox\nsh -c ls") || !strings.HasSuffix(out, "\n0\n/\n") {
		t.Errorf("%q", out)
	}
	if out, _ := m.exec(id, "ls /proc/self/fd | wc -l"); out != "4\n" {
		t.Errorf("an exec has %s descriptors", out)
	}
}

// TestOwnBinaryIsReadOnly tries to replace the runtime's binary from a process
// that shares its PID namespace with root's power, through the shim's exe.
func TestOwnBinaryIsReadOnly(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox(func(s *runtime.Sandbox) { s.HostPID = true })
	shim := must(m.rt.sandbox(uid)).shim.PID
	out, _ := m.run(m.spec(uid, fmt.Sprintf("echo x >> /proc/%d/exe", shim), func(c *runtime.Container) { c.Security.Privileged = true }))
	if !strings.Contains(out, "Read-only file system") && !strings.Contains(out, "Text file busy") {
		t.Errorf("%q", out)
	}
	// That it is busy protects it only while it runs; the mount does always.
	var fs unix.Statfs_t
	if err := unix.Statfs(fmt.Sprintf("/proc/%d/exe", shim), &fs); err != nil || fs.Flags&unix.ST_RDONLY == 0 {
		t.Errorf("flags %#x, %v", fs.Flags, err)
	}
	// Without privileges there is not even a link to follow.
	out, _ = m.run(m.spec(uid, fmt.Sprintf("readlink /proc/%d/exe; ls /proc/%d/fd/ /proc/%d/root/ && echo seen", shim, shim, shim)))
	if strings.Contains(out, "seen") {
		t.Errorf("%q", out)
	}
}

// TestManyAtOnce starts pods side by side.
func TestManyAtOnce(t *testing.T) {
	m := newMachine(t)
	const pods, each = 12, 3
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for p := range pods {
		uid := fmt.Sprintf("t%d-many-%d", os.Getpid(), p)
		wg.Go(func() {
			if err := m.rt.CreateSandbox(m.ctx(), runtime.Sandbox{UID: uid, Hostname: "h", CgroupParent: "pod" + uid}); err != nil {
				t.Error(err)
				return
			}
			var inner sync.WaitGroup
			for i := range each {
				inner.Go(func() {
					spec := m.spec(uid, fmt.Sprintf("exit %d", i))
					if err := m.rt.CreateContainer(m.ctx(), spec); err != nil {
						t.Error(err)
						return
					}
					if _, err := m.rt.StartContainer(m.ctx(), spec.ID); err != nil {
						t.Error(err)
						return
					}
					c := must(m.rt.container(spec.ID))
					<-c.gone
					st := must(m.rt.Status(m.ctx(), spec.ID))
					mu.Lock()
					codes[st.ExitCode]++
					mu.Unlock()
				})
			}
			inner.Wait()
			if err := m.rt.RemoveSandbox(m.ctx(), uid); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range each {
		if codes[i] != pods {
			t.Errorf("%d containers ended with %d, want %d", codes[i], i, pods)
		}
	}
}
