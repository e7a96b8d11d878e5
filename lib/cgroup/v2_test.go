package cgroup

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeV2 is a directory that looks like a version 2 hierarchy with the given
// controllers. The kernel's files do not appear in new directories, so tests
// place those that they need.
func fakeV2(t *testing.T, controllers string) (*Tree, string) {
	t.Helper()
	dir := t.TempDir()
	put(t, dir, "cgroup.controllers", controllers)
	put(t, dir, "cgroup.subtree_control", "")
	tree, err := Open(Layout{Version: 2, Unified: dir}, "/sagong-x")
	if err != nil {
		t.Fatal(err)
	}
	return tree, dir
}

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestV2HandsControllersDown(t *testing.T) {
	tree, dir := fakeV2(t, "cpuset cpu io memory pids\n")
	root := filepath.Join(dir, "sagong-x")
	put(t, root, "cgroup.subtree_control", "memory")
	put(t, filepath.Join(root, "kubepods"), "cgroup.subtree_control", "")
	if err := tree.Create("kubepods/pod1"); err != nil {
		t.Fatal(err)
	}
	// Making one directory writes the files of its parents.
	for d, want := range map[string]string{dir: "+cpuset +cpu +io +memory +pids", root: "+cpuset +cpu +io +pids", filepath.Join(root, "kubepods"): "+cpuset +cpu +io +memory +pids"} {
		if got := strings.TrimSpace(get(t, d, "cgroup.subtree_control")); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if !tree.Exists("kubepods/pod1") {
		t.Error("not made")
	}
	put(t, filepath.Join(root, "kubepods/pod1"), "cgroup.subtree_control", "")
	if err := tree.CreateParent("kubepods/pod1"); err != nil {
		t.Fatal(err)
	}
	if got := get(t, filepath.Join(root, "kubepods/pod1"), "cgroup.subtree_control"); got != "+cpuset +cpu +io +memory +pids" {
		t.Errorf("parent hands down %q", got)
	}
}

func TestV2Limits(t *testing.T) {
	tree, dir := fakeV2(t, "cpuset cpu io memory pids hugetlb")
	files := []string{"cpu.weight", "cpu.max", "cpuset.cpus", "cpuset.mems", "memory.max", "memory.swap.max", "pids.max", "hugetlb.2MB.max", "memory.high"}
	for _, tt := range []struct {
		name string
		r    Resources
		want map[string]string
		err  string
	}{
		{"nothing", Resources{}, nil, ""},
		{"all", Resources{CPUShares: 1024, CPUQuota: 50000, CPUPeriod: 200000, CPUSet: "0-1", MemSet: "0", Memory: 1 << 20, MemorySwap: 3 << 20,
			Pids: 7, HugePages: map[string]uint64{"2MB": 4 << 20}, Unified: map[string]string{"memory.high": "999"}},
			map[string]string{"cpu.weight": "100", "cpu.max": "50000 200000", "cpuset.cpus": "0-1", "cpuset.mems": "0", "memory.max": "1048576",
				"memory.swap.max": "2097152", "pids.max": "7", "hugetlb.2MB.max": "4194304", "memory.high": "999"}, ""},
		{"unlimited", Resources{CPUQuota: -1, Memory: -1, MemorySwap: -1, Pids: -1},
			map[string]string{"cpu.max": "max", "memory.max": "max", "memory.swap.max": "max", "pids.max": "max"}, ""},
		{"default period", Resources{CPUQuota: 20000}, map[string]string{"cpu.max": "20000 100000"}, ""},
		{"swap without memory", Resources{MemorySwap: 5}, nil, "needs a memory limit"},
		{"swap below memory", Resources{Memory: 10, MemorySwap: 5}, nil, "needs a memory limit"},
		{"path in a name", Resources{Unified: map[string]string{"../memory.max": "1"}}, nil, "not the name of a cgroup file"},
		{"missing controller", Resources{HugePages: map[string]uint64{"1GB": 1}}, nil, ErrNoController.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := filepath.Join(dir, "sagong-x", "c")
			for _, f := range files {
				put(t, d, f, "")
			}
			err := tree.Apply("c", tt.r)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, f := range files {
				if v := get(t, d, f); v != "" {
					got[f] = v
				}
			}
			if !maps.Equal(got, tt.want) {
				t.Errorf("got  %v\nwant %v", got, tt.want)
			}
		})
	}
}

func TestWeightOfShares(t *testing.T) {
	last := uint64(0)
	for s := uint64(2); s <= 262144; s += 7 {
		w := WeightOfShares(s)
		if w < 1 || w > 10000 || w < last {
			t.Fatalf("shares %d have weight %d after %d", s, w, last)
		}
		last = w
	}
	for s, w := range map[uint64]uint64{0: 0, 1: 1, 2: 1, 102: 17, 256: 35, 512: 59, 1024: 100, 2048: 174, 262144: 10000, 1 << 40: 10000} {
		if got := WeightOfShares(s); got != w {
			t.Errorf("shares %d have weight %d, want %d", s, got, w)
		}
	}
}

func TestV2Stats(t *testing.T) {
	tree, dir := fakeV2(t, "cpu io memory pids")
	d := filepath.Join(dir, "sagong-x", "c")
	for name, content := range map[string]string{
		"cpu.stat":            "usage_usec 1000\nuser_usec 600\nsystem_usec 400\nnr_periods 9\nnr_throttled 3\nthrottled_usec 70\n",
		"memory.current":      "10000\n",
		"memory.stat":         "anon 4000\nfile 5000\ninactive_file 1000\npgfault 77\npgmajfault 5\n",
		"memory.max":          "max\n",
		"memory.swap.current": "12\n",
		"memory.events":       "low 0\nhigh 0\nmax 4\noom 2\noom_kill 1\noom_group_kill 0\n",
		"pids.current":        "3\n",
		"pids.max":            "20\n",
		"io.stat":             "8:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=10 wbytes=20 rios=3 wios=4\n",
	} {
		put(t, d, name, content)
	}
	got, err := tree.Stats("c")
	if err != nil {
		t.Fatal(err)
	}
	want := Stats{CPU: CPUStats{UsageNanos: 1e6, UserNanos: 6e5, SystemNanos: 4e5, Periods: 9, ThrottledPeriods: 3, ThrottledNanos: 7e4},
		Memory: MemoryStats{Usage: 10000, WorkingSet: 9000, RSS: 4000, Cache: 5000, Swap: 12, PageFaults: 77, MajorPageFaults: 5, OOMKills: 1},
		Pids:   3, PidsLimit: 20, IO: IOStats{ReadBytes: 110, WriteBytes: 220, Reads: 4, Writes: 6}}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if _, err := tree.Stats("other"); err == nil {
		t.Error("statistics of a cgroup that does not exist")
	}
}

func TestV2Files(t *testing.T) {
	tree, dir := fakeV2(t, "memory")
	d := filepath.Join(dir, "sagong-x", "c")
	put(t, d, "memory.events", "oom_kill 0\n")
	if fds, err := tree.JoinFDs("c"); err != nil || len(fds) != 0 {
		t.Errorf("%v, %v", fds, err)
	}
	for _, open := range []func(string) (int, error){tree.DirFD, tree.OOMFD} {
		fd, err := open("c")
		if err != nil || fd < 0 {
			t.Fatal(fd, err)
		}
		unix.Close(fd)
	}
	if b := tree.Binds("c"); len(b) != 1 || b[0].Name != "" || b[0].Source != d {
		t.Errorf("%+v", b)
	}
	if tree.Has("cpu") || !tree.Has("memory") || !tree.Has("devices") {
		t.Error("controllers")
	}
}

func TestCheckPath(t *testing.T) {
	for p, ok := range map[string]bool{"a": true, "a/b": true, "": false, "/a": false, "..": false, "../a": false, "a/../b": false, "a//b": false, ".": false, "a/": false} {
		if err := CheckPath(p); (err == nil) != ok {
			t.Errorf("%q: %v", p, err)
		}
	}
	tree, _ := fakeV2(t, "")
	if err := tree.Create("../x"); err == nil {
		t.Error("made outside the root")
	}
	if err := tree.Remove(""); err == nil {
		t.Error("removed the root by an empty path")
	}
	if _, err := Open(Layout{Version: 2, Unified: t.TempDir()}, "/"); err == nil {
		t.Error("the cgroup root itself was taken")
	}
}

func TestV1Settings(t *testing.T) {
	ss, err := settingsV1(Resources{CPUShares: 1, CPUQuota: -5, CPUPeriod: 100, Memory: 5, MemorySwap: -1, Pids: -1, HugePages: map[string]uint64{"2MB": 1}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range ss {
		got = append(got, s.file+"="+s.value)
	}
	want := []string{"cpu.shares=2", "cpu.cfs_period_us=100", "cpu.cfs_quota_us=-1", "memory.limit_in_bytes=5", "memory.memsw.limit_in_bytes=-1",
		"pids.max=max", "hugetlb.2MB.limit_in_bytes=1", "hugetlb.2MB.rsvd.limit_in_bytes=1"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if _, err := settingsV1(Resources{Unified: map[string]string{"memory.high": "1"}}); err == nil {
		t.Error("a file of version 2 was accepted")
	}
}

func TestNumber(t *testing.T) {
	for s, want := range map[string]uint64{"": 0, "max": 0, "12\n": 12, "18446744073709551615": 1<<64 - 1, "18446744073709551616": 0, " 7 8": 7, "-1": 0, "5x": 5} {
		if got := number([]byte(s)); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}

func TestDeviceFilter(t *testing.T) {
	rules := []DeviceRule{{'c', -1, -1, "m"}, {'c', 1, 3, "rwm"}, {'c', 136, -1, "rw"}, {'b', 8, 0, "r"}}
	p := deviceFilter(rules)
	const r, w, m = accRead, accWrite, accMknod
	for _, tt := range []struct {
		typ, access, major, minor uint32
		want                      bool
	}{
		{devChar, m, 99, 9, true}, {devChar, r, 99, 9, false}, {devChar, r | w | m, 1, 3, true}, {devChar, r, 1, 4, false},
		{devChar, r | w, 136, 5, true}, {devChar, m, 136, 5, true}, {devBlock, r, 8, 0, true}, {devBlock, w, 8, 0, false},
		{devBlock, r | w, 8, 0, false}, {devBlock, m, 8, 0, false},
	} {
		if got := runFilter(t, p, tt.typ|tt.access<<16, tt.major, tt.minor); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
	if len(encode(p)) != 8*len(p) {
		t.Error("encoding")
	}
}

// runFilter interprets the instructions that deviceFilter uses.
func runFilter(t *testing.T, p []insn, ctx ...uint32) bool {
	t.Helper()
	var reg [7]uint64
	for pc := 0; pc < len(p); pc++ {
		i := p[pc]
		switch i.op {
		case opLoadWord:
			reg[i.dst] = uint64(ctx[i.off/4])
		case opMovReg:
			reg[i.dst] = uint64(uint32(reg[i.src]))
		case opMovImm:
			reg[i.dst] = uint64(i.imm)
		case opAndImm:
			reg[i.dst] = uint64(uint32(reg[i.dst]) & uint32(i.imm))
		case opShrImm:
			reg[i.dst] = uint64(uint32(reg[i.dst]) >> uint32(i.imm))
		case opJumpNe:
			if reg[i.dst] != uint64(i.imm) {
				pc += int(i.off)
			}
		case opJumpNeX:
			if reg[i.dst] != reg[i.src] {
				pc += int(i.off)
			}
		case opExit:
			return reg[regResult] == 1
		default:
			t.Fatalf("instruction %#x", i.op)
		}
	}
	t.Fatal("ran off the end")
	return false
}

// TestDeviceFilterInKernel has the verifier accept the program, wherever there
// is a version 2 hierarchy.
func TestDeviceFilterInKernel(t *testing.T) {
	l, err := Detect()
	if err != nil || l.Unified == "" || os.Geteuid() != 0 {
		t.Skip("needs root and a cgroup2 mount")
	}
	dir, err := os.MkdirTemp(l.Unified, "sagong-test-")
	if err != nil {
		t.Skip(err)
	}
	defer os.Remove(dir)
	fd, err := openFD(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	err = attachDeviceFilter(fd, deviceFilter([]DeviceRule{{'c', -1, -1, "m"}, {'c', 1, 3, "rwm"}, {'b', 8, 0, "r"}}))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) && !hasCgroupBPF() {
		t.Skip("the kernel has no BPF for cgroups: ", err)
	}
	if err != nil {
		t.Error(err)
	}
}

func hasCgroupBPF() bool {
	_, err := os.Stat("/proc/sys/kernel/unprivileged_bpf_disabled")
	return err == nil
}
