package native

import (
	"os"
	"strings"
	"testing"

	"sagong/lib/cgroup"
	"sagong/runtime"
)

// TestUnifiedHierarchy runs containers in a version 2 hierarchy. On a hybrid
// machine it has no controllers, so limits are left out; joining, devices,
// killing and removing are as on a machine that has nothing else.
func TestUnifiedHierarchy(t *testing.T) {
	l, err := cgroup.Detect()
	if err != nil || l.Unified == "" {
		t.Skip("no cgroup2 mount")
	}
	m := newMachine(t, func(o *Options) { o.Cgroups = &cgroup.Layout{Version: 2, Unified: l.Unified} })
	for _, shared := range []bool{false, true} {
		uid := m.sandbox(func(s *runtime.Sandbox) { s.ShareProcessNamespace = shared })
		id := m.start(m.spec(uid, "sleep 1000 & echo ready; sleep 1000"))
		m.ready(id, "ready")
		path := cgroupOf(must(m.rt.sandbox(uid)), id)
		// Version 2 refuses a device by a program of the kernel.
		out, code := m.exec(id, "cat /proc/self/cgroup | grep '^0:'; mount | grep ' /sys/fs/cgroup ' | cut -d' ' -f5; cat /sys/fs/cgroup/cgroup.procs | wc -l; "+
			"mknod /tmp/disk b 254 0; head -c 1 /tmp/disk; echo x > /dev/null; head -c 1 /dev/zero | wc -c")
		lines := strings.Split(out, "\n")
		if code != 0 || lines[0] != "0::/" || lines[1] != "cgroup2" || lines[2] < "4" || !strings.Contains(out, "head: /tmp/disk: Operation not permitted") || !strings.HasSuffix(out, "\n1\n") {
			t.Errorf("code %d:\n%s", code, out)
		}
		st := must(m.rt.Status(m.ctx(), id))
		data, err := os.ReadFile("/proc/" + itoa(st.PID) + "/cgroup")
		if err != nil || !strings.Contains(string(data), m.opts.CgroupRoot+"/"+path) {
			t.Errorf("%q, %v", data, err)
		}
		shim, err := os.ReadFile("/proc/" + itoa(must(m.rt.sandbox(uid)).shim.PID) + "/cgroup")
		if err != nil || !strings.Contains(string(shim), m.opts.CgroupRoot+"/shims") {
			t.Errorf("%q, %v", shim, err)
		}
		privileged := m.start(m.spec(uid, "head -c 0 /dev/kmsg && echo opened; sleep 1000", func(c *runtime.Container) { c.Security.Privileged = true }))
		m.ready(privileged, "opened")
		if _, err := m.rt.Stats(m.ctx(), id); err != nil {
			t.Error(err)
		}
		if err := m.rt.StopContainer(m.ctx(), id, runtime.Stop{}); err != nil {
			t.Error(err)
		}
		m.empty(path)
		if err := m.rt.RemoveContainer(m.ctx(), id); err != nil {
			t.Error(err)
		}
		if err := m.rt.RemoveSandbox(m.ctx(), uid); err != nil {
			t.Error(err)
		}
	}
}
