package native

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sagong/lib/cgroup"
	"sagong/runtime"
)

func randomPlan(r *rand.Rand) *plan {
	str := func() string { return strings.Repeat("ab/", r.IntN(5)) }
	p := &plan{Flags: r.Uint32(), OOMScoreAdj: str(), Target: r.Uint32(), Namespaces: r.Uint32(), Rootfs: r.Uint32(), UID: r.Uint32(),
		GID: r.Uint32(), Cwd: str(), Permitted: r.Uint64(), Bounding: r.Uint64(), Ambient: r.Uint64(), FilterFlags: r.Uint32()}
	for range r.IntN(4) {
		p.Joins = append(p.Joins, r.Uint32())
		p.Groups = append(p.Groups, r.Uint32())
		p.Args = append(p.Args, str())
		p.Env = append(p.Env, str())
		p.Filter = append(p.Filter, byte(r.Uint32()))
		p.Rlimits = append(p.Rlimits, rlimit{r.Uint32(), r.Uint64(), r.Uint64()})
	}
	for range r.IntN(9) {
		o := op{Kind: opKind(1 + r.IntN(8)), Target: "/" + str()}
		switch o.Kind {
		case opAttach:
			o.FD, o.Dir = r.Uint32(), r.IntN(2) == 0
		case opFS:
			o.Type, o.Options, o.Attrs = str(), options("a", "b"), r.Uint32()
		case opNode:
			o.Mode, o.Major, o.Minor, o.UID, o.GID = r.Uint32(), r.Uint32(), r.Uint32(), r.Uint32(), r.Uint32()
		case opLink:
			o.To = str()
		}
		p.Ops = append(p.Ops, o)
	}
	return p
}

func TestPlanRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		p := randomPlan(r)
		b := p.encode()
		got, err := decodePlan(b)
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Fatalf("%v\ngot  %+v\nwant %+v", err, got, p)
		}
		for n := range b {
			if got, err := decodePlan(b[:n]); err == nil {
				t.Fatalf("a plan cut at %d of %d was read: %+v", n, len(b), got)
			}
		}
	}
}

func FuzzDecodePlan(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 5 {
		f.Add(randomPlan(r).encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePlan(b)
		if err != nil {
			return
		}
		again, err := decodePlan(p.encode())
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("%v: %+v and %+v", err, p, again)
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	f.Add(make([]byte, replyHeader+3))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeReply(b)
		if err == nil && r.Type == replyError && r.err() == nil {
			t.Error("an error without one")
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add("pid 12\nticks 34\nboot x\nstarted 5\n")
	f.Add("code 1\nsignal 0\noom 2\nstarted 3\nfinished 4\nkind F\nerrno 2\nerror two\nlines\n")
	f.Add("exit a b")
	f.Add("12 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20")
	f.Fuzz(func(t *testing.T, s string) {
		if sf, err := parseShim(s); err == nil && sf.PID <= 1 {
			t.Errorf("shim %+v", sf)
		}
		if e, err := parseExit(s); err == nil {
			applyExit(&runtime.ContainerStatus{}, e)
		}
		_, _ = parseStart(s)
		if uid, id, ok := parseNotice(s); ok && (checkID("", uid) != nil || checkID("", id) != nil) {
			t.Errorf("notice %q %q", uid, id)
		}
		parseTicks(s)
	})
}

func TestRecords(t *testing.T) {
	e, err := parseExit("code 128\nsignal 0\noom 1\nstarted 0\nfinished 1000000001\nkind F\nerrno 2\nerror mount \"/x\"\nwith code 5\n")
	if err != nil || e.Code != 128 || e.OOM != 1 || !e.Started.IsZero() || e.Finished.Unix() != 1 || e.Error != "mount \"/x\"\nwith code 5" {
		t.Errorf("%+v, %v", e, err)
	}
	for _, s := range []string{"", "code 1\n", "code x\nsignal 0\noom 0\nstarted 0\nfinished 0\n"} {
		if _, err := parseExit(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
	if p := (process{1 << 22, 5}); p.alive() {
		t.Error("no such process lives")
	}
}

// TestPlannerOrder checks what must come before what, for many descriptions.
func TestPlannerOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	targets := []string{"/a", "/a/b", "/dev", "/dev/shm", "/proc", "/sys", "/data", "/sys/fs/cgroup", "/dev/pts"}
	for range 500 {
		c := runtime.Container{Args: []string{"x"}, TTY: r.IntN(2) == 0}
		c.Security.Privileged = r.IntN(2) == 0
		want := map[string]int{}
		for range r.IntN(6) {
			m := runtime.Mount{Source: "/src", Target: targets[r.IntN(len(targets))], ReadOnly: r.IntN(2) == 0}
			if r.IntN(3) == 0 {
				m.Source, m.Tmpfs = "", &runtime.Tmpfs{}
			}
			want[m.Target]++
			c.Mounts = append(c.Mounts, m)
		}
		f := facts{Joins: r.IntN(9), CgroupBinds: []cgroup.Bind{{Name: "cpu", Source: "/c"}, {Name: "memory", Source: "/m"}}}
		p, sources, err := planContainer(c, f)
		if err != nil {
			t.Fatal(err)
		}
		if int(p.Rootfs) != f.Joins {
			t.Errorf("root is %d", p.Rootfs)
		}
		var fds []uint32
		at := map[string]int{}
		for i, o := range p.Ops {
			switch o.Kind {
			case opAttach:
				fds = append(fds, o.FD)
				fallthrough
			case opFS, opShm:
				if _, ok := at[o.Target]; !ok {
					at[o.Target] = i
				}
			case opNode, opLink:
				if strings.HasPrefix(o.Target, "/dev/") && i < at["/dev"] {
					t.Errorf("%s is made before /dev", o.Target)
				}
			case opMask, opReadOnly:
				if c.Security.Privileged {
					t.Errorf("%s is masked in a privileged container", o.Target)
				}
			}
		}
		// Every source is used once, under its own number.
		if len(fds) != len(sources) {
			t.Errorf("%d sources, %d attached", len(sources), len(fds))
		}
		slices.Sort(fds)
		for i, fd := range fds {
			if fd != p.Rootfs+1+uint32(i) {
				t.Errorf("descriptors %v after root %d", fds, p.Rootfs)
			}
		}
		for child, parent := range map[string]string{"/dev/shm": "/dev", "/dev/pts": "/dev", "/dev/mqueue": "/dev", "/sys/fs/cgroup": "/sys"} {
			if i, ok := at[child]; ok && i < at[parent] {
				t.Errorf("%s is mounted before %s", child, parent)
			}
		}
		for target := range want {
			if _, ok := at[target]; !ok {
				t.Errorf("%s is not mounted", target)
			}
		}
	}
}

func TestMountSources(t *testing.T) {
	for _, tt := range []struct {
		m    runtime.Mount
		want source
	}{
		{runtime.Mount{Source: "/s", Target: "/t"}, source{Path: "/s", Target: "/t", Propagation: unix.MS_PRIVATE}},
		{runtime.Mount{Source: "/s", Target: "/t/", ReadOnly: true, NoExec: true}, source{Path: "/s", Target: "/t", Set: attrRO | attrNoExec, Propagation: unix.MS_PRIVATE}},
		{runtime.Mount{Source: "/s", Target: "/t", RecursiveReadOnly: true}, source{Path: "/s", Target: "/t", Set: attrRO, Recursive: true, Propagation: unix.MS_PRIVATE}},
		{runtime.Mount{Source: "/s", Target: "/t", Propagation: runtime.PropagationHostToContainer}, source{Path: "/s", Target: "/t", Propagation: unix.MS_SLAVE}},
		{runtime.Mount{Source: "/s", Target: "/t", Propagation: runtime.PropagationBidirectional}, source{Path: "/s", Target: "/t", Propagation: unix.MS_SHARED, Shared: true}},
	} {
		_, sources, err := planContainer(runtime.Container{Args: []string{"x"}, Mounts: []runtime.Mount{tt.m}}, facts{})
		if err != nil || len(sources) != 1 || sources[0] != tt.want {
			t.Errorf("%+v: %+v, %v", tt.m, sources, err)
		}
	}
	if _, _, err := planContainer(runtime.Container{Args: []string{"x"}, Mounts: []runtime.Mount{{Source: "/s", Target: "/t", RecursiveReadOnly: true,
		Propagation: runtime.PropagationHostToContainer}}}, facts{}); err == nil {
		t.Error("recursively read-only with propagation")
	}
}

func TestMergeEnv(t *testing.T) {
	got := mergeEnv([]string{"A=1", "B=2"}, []string{"B=3", "C", "A=4", "D=x=y"})
	if want := []string{"A=4", "B=3", "C", "D=x=y"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestSysctlPath(t *testing.T) {
	for name, want := range map[string]string{"net.ipv4.ip_forward": "net/ipv4/ip_forward", "net/ipv4/conf/eth0.1/rp_filter": "net/ipv4/conf/eth0.1/rp_filter", "kernel.sem": "kernel/sem"} {
		if got := sysctlPath(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestRequestSize(t *testing.T) {
	b := newRequest(reqStart, strings.Repeat("x", 200)).encode()
	if len(b) != requestSize || bytes.IndexByte(b[52:52+idSize], 0) != idSize-1 {
		t.Errorf("%d bytes", len(b))
	}
}
