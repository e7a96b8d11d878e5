package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// realTree is a tree in this machine's kernel.
func realTree(t *testing.T) *Tree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	l, err := Detect()
	if err != nil {
		t.Skip(err)
	}
	tree, err := Open(l, fmt.Sprintf("/sagong-cgtest-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.RemoveRoot(); err != nil {
			t.Error(err)
		}
		if tree.Exists("") {
			t.Error("the root is left")
		}
	})
	return tree
}

func TestRealTree(t *testing.T) {
	tree := realTree(t)
	for range 2 {
		if err := tree.CreateParent("pods/a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Create("pods/a/c1"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Apply("pods/a/c1", Resources{Memory: 32 << 20, Pids: 50, CPUShares: 100}); err != nil {
		t.Fatal(err)
	}
	if err := tree.AllowDevices("pods/a/c1", []DeviceRule{{'c', 1, 3, "rwm"}}); err != nil {
		t.Fatal(err)
	}
	if names, err := tree.List("pods/a"); err != nil || !slices.Equal(names, []string{"c1"}) {
		t.Errorf("%v, %v", names, err)
	}
	// A process with children joins, is counted, and is killed with them.
	fds, err := tree.JoinFDs("pods/a/c1")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `for f in $FDS; do echo 0 > /dev/fd/$f; done; sleep 1000 & sleep 1000 & echo up; wait`)
	cmd.Env = append(os.Environ(), "FDS=")
	for i, fd := range fds {
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(fd), "tasks"))
		cmd.Env[len(cmd.Env)-1] += fmt.Sprintf(" %d", 3+i)
	}
	if dir, err := tree.DirFD("pods/a/c1"); err != nil {
		t.Fatal(err)
	} else if dir >= 0 {
		defer unix.Close(dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: dir}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	var b [3]byte
	if _, err := out.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	pids, err := tree.Procs("pods")
	if err != nil || len(pids) != 3 || !slices.Contains(pids, cmd.Process.Pid) {
		t.Errorf("%v, %v", pids, err)
	}
	st, err := tree.Stats("pods/a/c1")
	if err != nil || st.Pids != 3 || st.Memory.Limit != 32<<20 || st.Memory.Usage == 0 || st.PidsLimit != 50 {
		t.Errorf("%+v, %v", st, err)
	}
	if pod, err := tree.Stats("pods/a"); err != nil || pod.Pids != 3 || pod.Memory.Limit != 0 {
		t.Errorf("%+v, %v", pod, err)
	}
	if err := tree.Kill("pods", 10*time.Second); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	for range 2 {
		if err := tree.Remove("pods"); err != nil {
			t.Error(err)
		}
		if err := tree.Kill("pods", time.Second); err != nil {
			t.Error(err)
		}
	}
}

func TestSwapOrder(t *testing.T) {
	tree := realTree(t)
	if !tree.Has("memory") {
		t.Skip("no memory controller")
	}
	if err := tree.Create("c"); err != nil {
		t.Fatal(err)
	}
	for _, mb := range []int64{16, 64, 32, 128, 8} {
		if err := tree.Apply("c", Resources{Memory: mb << 20, MemorySwap: mb << 20}); err != nil {
			t.Fatalf("%d MiB: %v", mb, err)
		}
		if s, err := tree.Stats("c"); err != nil || s.Memory.Limit != uint64(mb<<20) {
			t.Errorf("%+v, %v", s, err)
		}
	}
}

func BenchmarkStats(b *testing.B) {
	l, err := Detect()
	if err != nil || os.Geteuid() != 0 {
		b.Skip("needs root and cgroups")
	}
	tree, err := Open(l, fmt.Sprintf("/sagong-cgtest-%d", os.Getpid()))
	if err != nil {
		b.Fatal(err)
	}
	if err := tree.Create("c"); err != nil {
		b.Fatal(err)
	}
	defer tree.RemoveRoot()
	for b.Loop() {
		if _, err := tree.Stats("c"); err != nil {
			b.Fatal(err)
		}
	}
}
