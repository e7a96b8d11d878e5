package native

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

// layers makes n layers above the machine's root, each with a file of its own
// and one that all have.
func (m *machine) layers(dir string, n int) []string {
	m.t.Helper()
	out := []string{m.root}
	for i := range n {
		l := filepath.Join(dir, fmt.Sprint(i))
		if err := os.MkdirAll(l, 0o755); err != nil {
			m.t.Fatal(err)
		}
		for _, name := range []string{"all", fmt.Sprintf("only%d", i)} {
			if err := os.WriteFile(filepath.Join(l, name), []byte(fmt.Sprintln(i)), 0o644); err != nil {
				m.t.Fatal(err)
			}
		}
		out = append(out, l)
	}
	return out
}

// TestManyLayers has more layers than fit the option page by name, with paths
// longer than one option may be, and directories whose sockets' paths are too
// long for an address.
func TestManyLayers(t *testing.T) {
	long := strings.Repeat("/long-name-of-a-directory", 12)
	m := newMachine(t, func(o *Options) {
		o.RunDir += long
		o.DataDir += long
	})
	layers := m.layers(filepath.Dir(m.root)+long+"/layers", 120)
	uid := m.sandbox()
	out, st := m.run(m.spec(uid, "cat /all; ls / | grep -c only; echo mine > /all; cat /all", func(c *runtime.Container) { c.Rootfs.Layers = layers }))
	if out != "119\n120\nmine\n" || st.ExitCode != 0 {
		t.Errorf("%q %+v", out, st)
	}
	if data, err := os.ReadFile(filepath.Join(layers[120], "all")); err != nil || string(data) != "119\n" {
		t.Errorf("the layer was written to: %q, %v", data, err)
	}
	id := m.start(m.spec(uid, "sleep 1000"))
	if out, code := m.exec(id, "echo reached"); out != "reached\n" || code != 0 {
		t.Errorf("%q %d", out, code)
	}
}

// TestOldKernel mounts as kernels do that know no layer options.
func TestOldKernel(t *testing.T) {
	m := newMachine(t)
	layers := m.layers(filepath.Join(filepath.Dir(m.root), "layers"), 30)
	upper, work := filepath.Join(filepath.Dir(m.root), "upper"), filepath.Join(filepath.Dir(m.root), "work")
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, writable := range []bool{false, true} {
		u, w := "", ""
		if writable {
			u, w = upper, work
		}
		f, err := overlayOld(layers, u, w, m.rt.dirs.run)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Openat(int(f.Fd()), "all", unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		var b [10]byte
		if n, err := unix.Read(fd, b[:]); err != nil || string(b[:n]) != "29\n" {
			t.Errorf("%q, %v", b[:n], err)
		}
		unix.Close(fd)
		fd, err = unix.Openat(int(f.Fd()), "new", unix.O_WRONLY|unix.O_CREAT, 0o644)
		if (err == nil) != writable {
			t.Errorf("writable %v: %v", writable, err)
		}
		if err == nil {
			unix.Close(fd)
		}
		f.Close()
	}
}

// TestRemoveTreeStaysInItsMount removes a directory in which something is
// mounted that must not be lost.
func TestRemoveTreeStaysInItsMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	precious, doomed := filepath.Join(dir, "precious"), filepath.Join(dir, "doomed")
	for _, d := range []string{precious, filepath.Join(doomed, "a", "b")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(precious, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	point := filepath.Join(doomed, "a", "b")
	if err := unix.Mount(precious, point, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, filepath.Join(doomed, "link")); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(doomed); err == nil {
		t.Error("removed through a mount")
	}
	if err := unpin(point); err != nil {
		t.Error(err)
	}
	if err := removeTree(doomed); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(precious, "file")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(doomed); !os.IsNotExist(err) {
		t.Error(err)
	}
	if err := removeTree(doomed); err != nil {
		t.Error(err)
	}
}

// TestPropagation mounts on the host after a container has started.
func TestPropagation(t *testing.T) {
	m := newMachine(t)
	vol := filepath.Join(filepath.Dir(m.root), "shared")
	if err := os.Mkdir(vol, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("vol", vol, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(vol, unix.MNT_DETACH) })
	if err := unix.Mount("", vol, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"host", "inside"} {
		if err := os.Mkdir(filepath.Join(vol, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	uid := m.sandbox()
	ids := map[runtime.Propagation]string{}
	for _, p := range []runtime.Propagation{runtime.PropagationNone, runtime.PropagationHostToContainer, runtime.PropagationBidirectional} {
		ids[p] = m.start(m.spec(uid, "sleep 1000", func(c *runtime.Container) {
			c.Security.Privileged = true
			c.Mounts = []runtime.Mount{{Source: vol, Target: "/vol", Propagation: p}}
		}))
	}
	if err := unix.Mount("later", filepath.Join(vol, "host"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[runtime.Propagation]string{runtime.PropagationNone: "0\n", runtime.PropagationHostToContainer: "1\n", runtime.PropagationBidirectional: "1\n"} {
		if out, _ := m.exec(ids[p], "mount | grep -c ' /vol/host '"); out != want {
			t.Errorf("%q sees %s", p, out)
		}
	}
	for _, p := range []runtime.Propagation{runtime.PropagationNone, runtime.PropagationHostToContainer, runtime.PropagationBidirectional} {
		if out, code := m.exec(ids[p], "mount -t tmpfs inside /vol/inside"); code != 0 {
			t.Fatal(out)
		}
		data, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		if seen := strings.Contains(string(data), vol+"/inside "); seen != (p == runtime.PropagationBidirectional) {
			t.Errorf("%q: the host sees it: %v", p, seen)
		}
	}
}

// TestReadOnlySubmounts: read-only goes for the volume, recursively for all
// that is mounted in it.
func TestReadOnlySubmounts(t *testing.T) {
	m := newMachine(t)
	vol := filepath.Join(filepath.Dir(m.root), "vol")
	sub := filepath.Join(vol, "sub")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("sub", sub, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(sub, unix.MNT_DETACH) })
	out, _ := m.run(m.spec(m.sandbox(), "for d in /ro /ro/sub /rro /rro/sub; do touch $d/x 2>/dev/null && echo $d; done", func(c *runtime.Container) {
		c.Mounts = []runtime.Mount{{Source: vol, Target: "/ro", ReadOnly: true}, {Source: vol, Target: "/rro", ReadOnly: true, RecursiveReadOnly: true}}
	}))
	if out != "/ro/sub\n" {
		t.Errorf("writable: %q", out)
	}
}
