package native

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sagong/runtime"
)

// TestFeatures runs one container for each thing that a description can ask
// for, and compares what it sees. A line of want beginning with "!" must not be
// in the output, all others must, in any order.
func TestFeatures(t *testing.T) {
	m := newMachine(t)
	vol := filepath.Join(filepath.Dir(m.root), "vol")
	if err := os.MkdirAll(filepath.Join(vol, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(vol, "file"), []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	upperLayer := filepath.Join(filepath.Dir(m.root), "layer2")
	if err := os.MkdirAll(filepath.Join(upperLayer, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(upperLayer, "etc", "layered"), []byte("from above\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	profile := filepath.Join(filepath.Dir(m.root), "profile.json")
	if err := os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64"],
		"syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	type c = runtime.Container
	const status = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)' /proc/self/status | tr '\\t' ' '"
	for _, tt := range []struct {
		name, script string
		pod          func(*runtime.Sandbox)
		edit         func(*c)
		want         string
		code         int
	}{
		{"default capabilities", status, nil, nil, `CapPrm: 00000000a80425fb
CapEff: 00000000a80425fb
CapBnd: 00000000a80425fb
CapInh: 0000000000000000
CapAmb: 0000000000000000
NoNewPrivs: 0
Seccomp: 0`, 0},
		{"add and drop", status, nil, func(c *c) {
			c.Security.AddCapabilities = []string{"NET_ADMIN", "CAP_SYS_TIME"}
			c.Security.DropCapabilities = []string{"MKNOD", "cap_net_raw"}
		}, "CapEff: 00000000a20415fb\nCapBnd: 00000000a20415fb", 0},
		{"drop all", status, nil, func(c *c) {
			c.Security.DropCapabilities = []string{"ALL"}
			c.Security.AddCapabilities = []string{"NET_BIND_SERVICE"}
		}, "CapEff: 0000000000000400\nCapBnd: 0000000000000400", 0},
		{"no new privileges", status, nil, func(c *c) { c.Security.NoNewPrivileges = true }, "NoNewPrivs: 1", 0},
		{"user", status + "; id; touch /home/app/x /x", nil, func(c *c) {
			c.User = runtime.User{UID: 1000, GID: 1001, Groups: []uint32{2000, 3000}}
		}, `CapPrm: 0000000000000000
CapEff: 0000000000000000
CapBnd: 00000000a80425fb
Uid: 1000 1000 1000 1000
Gid: 1001 1001 1001 1001
Groups: 2000 3000 
uid=1000(app) gid=1001(app) groups=2000(extra),3000
touch: /x: Permission denied`, 1},
		{"stdout of a user", "echo through > /dev/stdout; echo err > /dev/stderr", nil, func(c *c) { c.User = runtime.User{UID: 1000, GID: 1001} },
			"through\nerr", 0},
		{"seccomp default", status + "; unshare -n true; mount -t tmpfs x /tmp; echo $?", nil, func(c *c) { c.Security.Seccomp.Type = runtime.SeccompRuntimeDefault },
			"Seccomp: 2\nCapEff: 00000000a80425fb\nmount: permission denied (are you root?)\n1", 0},
		{"seccomp default for a user", status, nil, func(c *c) {
			c.Security.Seccomp.Type = runtime.SeccompRuntimeDefault
			c.User = runtime.User{UID: 1000}
			c.Security.NoNewPrivileges = true
		}, "Seccomp: 2\nNoNewPrivs: 1\nUid: 1000 1000 1000 1000\nCapEff: 0000000000000000", 0},
		{"seccomp default for a user who may gain", status, nil, func(c *c) {
			c.Security.Seccomp.Type = runtime.SeccompRuntimeDefault
			c.User = runtime.User{UID: 1000}
		}, "Seccomp: 2\nNoNewPrivs: 0\nUid: 1000 1000 1000 1000\nCapEff: 0000000000000000\nCapBnd: 00000000a80425fb", 0},
		{"seccomp file", "mkdir /tmp/x; echo done", nil, func(c *c) {
			c.Security.Seccomp = runtime.Seccomp{Type: runtime.SeccompLocalhost, Path: profile}
		}, "mkdir: can't create directory '/tmp/x': Permission denied\ndone", 0},
		{"masked and read-only paths", "wc -c < /proc/timer_list; ls /sys/firmware | wc -l; echo x > /proc/sys/kernel/domainname; echo 1 > /proc/irq/default_smp_affinity", nil, nil,
			"0\nsh: can't create /proc/sys/kernel/domainname: Read-only file system\nsh: can't create /proc/irq/default_smp_affinity: Read-only file system", 1},
		{"unmasked", "mount | grep -c '/proc/'; true", nil, func(c *c) {
			c.Security.MaskedPaths, c.Security.ReadonlyPaths = []string{}, []string{}
		}, "0", 0},
		{"own masks", "cat /etc/passwd; ls /home | wc -l; echo x > /tmp/y; touch /root/x", nil, func(c *c) {
			c.Security.MaskedPaths = []string{"/etc/passwd", "/home", "/none"}
			c.Security.ReadonlyPaths = []string{"/root", "/none"}
		}, "0\ntouch: /root/x: Read-only file system\n!root:x:0:0", 1},
		{"read-only root", "touch /x; touch /vol/y && echo volume; touch /dev/shm/z && echo shm", nil, func(c *c) {
			c.Security.ReadOnlyRootfs = true
			c.Mounts = []runtime.Mount{{Source: vol, Target: "/vol"}}
		}, "touch: /x: Read-only file system\nvolume\nshm", 0},
		{"writable root", "echo changed > /etc/passwd && mkdir -p /a/b && cat /etc/passwd", nil, nil, "changed", 0},
		{"layers", "cat /etc/layered; cat /etc/group | head -n 1", nil, func(c *c) { c.Rootfs.Layers = append(c.Rootfs.Layers, upperLayer) }, "from above\nroot:x:0:", 0},
		{"rlimits", "ulimit -n; ulimit -Hn; ulimit -c", nil, func(c *c) {
			c.Rlimits = map[string]runtime.Rlimit{"nofile": {Soft: 100, Hard: 200}, "core": {Soft: 0, Hard: 0}}
		}, "100\n200\n0", 0},
		{"environment", "env", nil, func(c *c) {
			c.Env = []string{"A=1", "B=two words", "A=2", "PATH=/bin"}
			c.User = runtime.User{UID: 1000, GID: 1001}
		}, "A=2\nB=two words\nHOSTNAME=testpod\nHOME=/home/app\nPATH=/bin\n!A=1", 0},
		{"working directory", "pwd; ls -ld . | cut -c1-10", nil, func(c *c) { c.Cwd = "/new/dir" }, "/new/dir\ndrwxr-xr-x", 0},
		{"hostname", "hostname; cat /proc/sys/kernel/domainname", func(s *runtime.Sandbox) { s.Domainname = "example.org" }, nil, "testpod\nexample.org", 0},
		{"sysctls", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced", func(s *runtime.Sandbox) {
			s.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"}
		}, nil, "0\n1", 0},
		{"loopback", "ip addr show lo", nil, nil, "    inet 127.0.0.1/8 scope host lo", 0},
		{"own namespaces", "ps | wc -l; ls /proc | grep -c '^[0-9]'", nil, nil, "!100", 0},
		{"volume", "cat /vol/file; echo new > /vol/sub/made; touch /ro/x; cat /etc/one; mount | grep ' /ro ' | grep -c ro,", nil, func(c *c) {
			c.Mounts = []runtime.Mount{{Source: vol, Target: "/vol"}, {Source: vol, Target: "/ro", ReadOnly: true},
				{Source: filepath.Join(vol, "file"), Target: "/etc/one"}}
		}, "content\ntouch: /ro/x: Read-only file system\n1", 0},
		{"mount below a mount", "ls /vol; cat /vol/deep/file", nil, func(c *c) {
			c.Mounts = []runtime.Mount{{Source: vol, Target: "/vol"}, {Source: vol, Target: "/vol/deep"}}
		}, "content\ndeep", 0},
		{"tmpfs", "mount | grep ' /cache '; stat -c %a:%u:%g /cache; dd if=/dev/zero of=/cache/big bs=1024 count=2000 2>&1 | head -n 1", nil, func(c *c) {
			c.Mounts = []runtime.Mount{{Target: "/cache", Tmpfs: &runtime.Tmpfs{Size: 1 << 20, Mode: 0o700, UID: 5, GID: 6}, NoExec: true}}
		}, "700:5:6\ndd: error writing '/cache/big': No space left on device", 0},
		{"replaced standard mount", "mount | grep -c ' /dev/shm '; df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d' ' -f2", nil, func(c *c) {
			c.Mounts = []runtime.Mount{{Target: "/dev/shm", Tmpfs: &runtime.Tmpfs{Size: 8 << 20}}}
		}, "1\n8192", 0},
		{"shared memory size", "df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d' ' -f2", func(s *runtime.Sandbox) { s.ShmSize = 3 << 20 }, nil, "3072", 0},
		{"devices", "ls /dev | tr '\\n' ' '; echo; head -c 4 /dev/zero | od -An -tx1; echo lost > /dev/null; mknod /tmp/disk b 254 0; head -c 1 /tmp/disk", nil, nil,
			"core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \n 00 00 00 00\nhead: /tmp/disk: Operation not permitted", 1},
		{"device given", "ls -l /dev/mine | cut -c1; head -c 0 /dev/mine && echo opened", nil, func(c *c) {
			c.Devices = []runtime.Device{{Source: "/dev/kmsg", Target: "/dev/mine", Access: "r"}}
			c.Security.AddCapabilities = []string{"SYSLOG"}
		}, "c\nopened", 0},
		{"privileged", status + "; mount -t tmpfs x /tmp && echo mounted; test -e /dev/kmsg && echo kmsg; mount | grep ' /sys ' | grep -c rw,", nil, func(c *c) { c.Security.Privileged = true },
			"mounted\nkmsg\nSeccomp: 0\n1", 0},
		{"host network", "ls /sys/class/net | grep -c .; hostname", func(s *runtime.Sandbox) { s.HostNetwork, s.Hostname = true, "" }, nil, "!testpod", 0},
		{"cgroups", "cat /proc/self/cgroup | grep memory; ls -d /sys/fs/cgroup/*mory*; ls /sys/fs/cgroup/cgroup.procs 2>/dev/null; true", nil, nil, "", 0},
		{"exit code", "exit 42", nil, nil, "", 42},
		{"signal of a child", "sh -c 'kill -9 $$'; exit $?", nil, nil, "", 137},
		{"symbolic link out of the root", "cat /out/file", nil, func(c *c) {
			// The image's link to an absolute path means its own root.
			if err := os.Symlink("/etc", filepath.Join(m.root, "out")); err != nil && !os.IsExist(err) {
				t.Fatal(err)
			}
			c.Mounts = []runtime.Mount{{Source: filepath.Join(vol, "file"), Target: "/out/file"}}
		}, "content", 0},
		{"dangling link as a mount point", "cat /etc/resolv.conf; ls /run/systemd", nil, func(c *c) {
			for to, name := range map[string]string{"../run/systemd/stub": "etc/resolv.conf", "/away/loop": "away"} {
				if err := os.Symlink(to, filepath.Join(m.root, name)); err != nil && !os.IsExist(err) {
					t.Fatal(err)
				}
			}
			c.Mounts = []runtime.Mount{{Source: filepath.Join(vol, "file"), Target: "/etc/resolv.conf"}}
		}, "content\nstub", 0},
		{"owner and mode of the root", "stat -c %a:%u /", nil, func(c *c) {
			top := filepath.Join(filepath.Dir(m.root), "owned")
			if err := os.Mkdir(top, 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(top, 7, 8); err != nil {
				t.Fatal(err)
			}
			c.Rootfs.Layers = append(c.Rootfs.Layers, top)
		}, "750:7", 0},
		{"path root", "cat /etc/passwd | head -n 1", nil, func(c *c) { c.Rootfs = runtime.Rootfs{Path: m.root} }, "root:x:0:0:root:/root:/bin/sh", 0},
		{"host pid", "test $(ls /proc | grep -c '^[0-9]') -gt 5 && echo many", func(s *runtime.Sandbox) { s.HostPID = true }, nil, "many", 0},
		{"host ipc", "mount | grep -c ' /dev/shm '", func(s *runtime.Sandbox) { s.HostIPC = true }, nil, "1", 0},
		{"oom score", "cat /proc/self/oom_score_adj", nil, func(c *c) { c.OOMScoreAdj = 999 }, "999", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sub := &machine{t: t, rt: m.rt, opts: m.opts, root: m.root}
			edit := []func(*runtime.Sandbox){}
			if tt.pod != nil {
				edit = append(edit, tt.pod)
			}
			uid := sub.sandbox(edit...)
			spec := sub.spec(uid, tt.script)
			if tt.edit != nil {
				tt.edit(&spec)
			}
			out, st := sub.run(spec)
			if st.ExitCode != tt.code {
				t.Errorf("exit code %d, want %d", st.ExitCode, tt.code)
			}
			lines := map[string]bool{}
			for l := range strings.Lines(out) {
				lines[strings.TrimSuffix(l, "\n")] = true
			}
			for w := range strings.Lines(tt.want) {
				w = strings.TrimSuffix(w, "\n")
				if not, ok := strings.CutPrefix(w, "!"); ok && lines[not] {
					t.Errorf("output has line %q:\n%s", not, out)
				} else if !ok && w != "" && !lines[w] {
					t.Errorf("output lacks line %q:\n%s", w, out)
				}
			}
			if err := sub.rt.RemoveSandbox(sub.ctx(), uid); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStartErrors(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	for _, tt := range []struct {
		name     string
		edit     func(*runtime.Container)
		notFound bool
		want     string
	}{
		{"no such command", func(c *runtime.Container) { c.Args = []string{"nothing"} }, true, `exec: "nothing": executable file not found in $PATH`},
		{"no such file", func(c *runtime.Container) { c.Args = []string{"/bin/nothing"} }, true, `exec: "/bin/nothing": no such file or directory`},
		{"not executable", func(c *runtime.Container) { c.Args = []string{"/bin/noexec"} }, false, `exec: "/bin/noexec": permission denied`},
		{"a directory", func(c *runtime.Container) { c.Args = []string{"/bin"} }, false, `exec: "/bin": is a directory`},
		{"missing volume", func(c *runtime.Container) { c.Mounts = []runtime.Mount{{Source: "/does/not/exist", Target: "/x"}} }, false, `mount "/x": open /does/not/exist: no such file or directory`},
		{"file on a directory", func(c *runtime.Container) { c.Mounts = []runtime.Mount{{Source: "/etc/hostname", Target: "/etc"}} }, false, `mount "/etc": is a directory`},
		{"missing layer", func(c *runtime.Container) { c.Rootfs.Layers = []string{"/does/not/exist"} }, false, "no such file or directory"},
		{"working directory is a file", func(c *runtime.Container) { c.Cwd = "/etc/passwd" }, false, `change to working directory "/etc/passwd": not a directory`},
		{"working directory by descriptor", func(c *runtime.Container) { c.Cwd = "/proc/self/fd/7" }, false, `change to working directory`},
		{"a loop of links", func(c *runtime.Container) {
			if err := os.Symlink("/loop/x", filepath.Join(m.root, "loop")); err != nil {
				t.Fatal(err)
			}
			c.Mounts = []runtime.Mount{{Source: "/etc", Target: "/loop"}}
		}, false, `make mount point "/loop": too many levels of symbolic links`},
		{"not a shared mount", func(c *runtime.Container) {
			c.Mounts = []runtime.Mount{{Source: m.root, Target: "/x", Propagation: runtime.PropagationBidirectional}}
		}, false, "not a shared mount"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := m.spec(uid, "")
			tt.edit(&spec)
			if err := m.rt.CreateContainer(m.ctx(), spec); err != nil {
				t.Fatal(err)
			}
			_, err := m.rt.StartContainer(m.ctx(), spec.ID)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			var se *runtime.StartError
			if !asStartError(err, &se) || se.NotFound != tt.notFound {
				t.Errorf("error %#v", err)
			}
			if st := m.wait(spec.ID); st.ExitCode != 128 || st.Reason != "StartError" {
				t.Errorf("status %+v", st)
			}
			if err := m.rt.RemoveContainer(m.ctx(), spec.ID); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRefusedDescriptions(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	for name, edit := range map[string]func(*runtime.Container){
		"id":         func(c *runtime.Container) { c.ID = "../x" },
		"command":    func(c *runtime.Container) { c.Args = nil },
		"capability": func(c *runtime.Container) { c.Security.AddCapabilities = []string{"FLY"} },
		"rlimit":     func(c *runtime.Container) { c.Rlimits = map[string]runtime.Rlimit{"wishes": {}} },
		"root mount": func(c *runtime.Container) { c.Mounts = []runtime.Mount{{Source: "/tmp", Target: "/"}} },
		"relative":   func(c *runtime.Container) { c.Mounts = []runtime.Mount{{Source: "tmp", Target: "/x"}} },
		"NUL":        func(c *runtime.Container) { c.Env = []string{"A=\x00"} },
		"apparmor":   func(c *runtime.Container) { c.Security.AppArmorProfile = "strict" },
		"target":     func(c *runtime.Container) { c.TargetID = "nobody" },
		"sandbox":    func(c *runtime.Container) { c.SandboxUID = "nobody" },
		"propagation": func(c *runtime.Container) {
			c.Mounts = []runtime.Mount{{Source: "/tmp", Target: "/x", Propagation: "Sideways"}}
		},
	} {
		spec := m.spec(uid, "")
		edit(&spec)
		if err := m.rt.CreateContainer(m.ctx(), spec); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, s := range map[string]runtime.Sandbox{
		"user namespace": {UserNamespace: true},
		"sysctl":         {Sysctls: map[string]string{"kernel.panic": "1"}},
		"host sysctl":    {Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}, HostNetwork: true},
		"uid":            {UID: "a/b"},
		"pid":            {HostPID: true, ShareProcessNamespace: true},
		"cgroup":         {CgroupParent: "../x"},
		"bad sysctl":     {Sysctls: map[string]string{"net.ipv4.nothing": "1"}},
	} {
		if s.UID == "" {
			s.UID = fmt.Sprintf("t%d-bad", os.Getpid())
		}
		if s.CgroupParent == "" {
			s.CgroupParent = "pod"
		}
		if err := m.rt.CreateSandbox(m.ctx(), s); err == nil {
			t.Errorf("sandbox with %s: accepted", name)
		}
	}
	if l, err := m.rt.List(m.ctx()); err != nil || len(l) != 1 || len(l[0].Containers) != 0 {
		t.Errorf("refused things are listed: %+v, %v", l, err)
	}
}
