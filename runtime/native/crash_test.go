package native

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sagong/runtime"
)

// TestKilledAtAnyInstant kills servers that make and remove pods as fast as
// they can, and has each successor clean up.
func TestKilledAtAnyInstant(t *testing.T) {
	m := newMachine(t)
	if err := m.rt.Close(); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for round := range 8 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestHelperChurn$")
		cmd.Env = append(os.Environ(), "NATIVE_CHURN="+filepath.Dir(m.root), "NATIVE_CGROUP="+m.opts.CgroupRoot, fmt.Sprintf("NATIVE_UID=t%d-churn%d", os.Getpid(), round))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for range 5 + rnd.IntN(60) {
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, out)
		_ = cmd.Wait()
		m.open()
		l := must(m.rt.List(m.ctx()))
		for _, s := range l {
			for _, c := range s.Containers {
				if c.State == runtime.StateRunning && s.Ready {
					// One that ends by itself may just have done so.
					if _, err := m.rt.Exec(m.ctx(), c.ID, runtime.ExecOptions{Args: []string{"true"}}); err != nil && !errors.Is(err, runtime.ErrNotRunning) {
						t.Errorf("round %d: container %s is said to run: %v", round, c.ID, err)
					}
				}
			}
			if err := m.rt.RemoveSandbox(m.ctx(), s.Sandbox.UID); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		for _, d := range []string{m.rt.dirs.pods(), filepath.Join(m.rt.dirs.run, "p")} {
			if names, err := subdirs(d); err != nil || len(names) > 0 {
				t.Errorf("round %d: left in %s: %v, %v", round, d, names, err)
			}
		}
		if names, err := m.rt.tree.List("kubepods"); err != nil || len(names) > 0 {
			t.Errorf("round %d: cgroups left: %v, %v", round, names, err)
		}
		if s := shims(t); s != "" {
			t.Errorf("round %d: left %s", round, s)
		}
		m.rt.Close()
	}
}

// TestHelperChurn is the process that TestKilledAtAnyInstant kills.
func TestHelperChurn(t *testing.T) {
	dir := os.Getenv("NATIVE_CHURN")
	if dir == "" {
		t.Skip("not a test of its own")
	}
	rt, err := Open(Options{DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"), CgroupRoot: os.Getenv("NATIVE_CGROUP")})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	var out sync.Mutex
	say := func(what string) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(what)
	}
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				uid := fmt.Sprintf("%s-%d-%d", os.Getenv("NATIVE_UID"), w, i)
				if err := rt.CreateSandbox(ctx, runtime.Sandbox{UID: uid, Hostname: "x", CgroupParent: "kubepods/pod" + uid, ShareProcessNamespace: w == 0}); err != nil {
					t.Error(err)
					return
				}
				say("sandbox")
				for k := range 2 {
					id := fmt.Sprintf("%s-%d", uid, k)
					c := runtime.Container{ID: id, SandboxUID: uid, Rootfs: runtime.Rootfs{Layers: []string{filepath.Join(dir, "root")}},
						Args: []string{"sh", "-c", "sleep 1000"}, LogPath: filepath.Join(dir, id+".log")}
					if k == 1 {
						c.Args = []string{"true"}
					}
					if err := rt.CreateContainer(ctx, c); err != nil {
						t.Error(err)
						return
					}
					say("created")
					if _, err := rt.StartContainer(ctx, id); err != nil {
						t.Error(err)
						return
					}
					say("started")
				}
				if err := rt.StopContainer(ctx, uid+"-0", runtime.Stop{}); err != nil {
					t.Error(err)
					return
				}
				say("stopped")
				if i%2 == 0 {
					if err := rt.RemoveSandbox(ctx, uid); err != nil {
						t.Error(err)
						return
					}
					say("removed")
				}
			}
		})
	}
	wg.Wait()
}
