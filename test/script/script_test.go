// Package script runs what users do, as scripts that anyone can read: each file
// in testdata starts a real cluster with the real binary, drives it with the
// real kubectl, and must leave nothing behind. The files steps_*_test.go hold the
// commands that the scripts have besides those of testscript.
package script

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sagong/test/trace"
)

// binary is the program under test: SAGONG_BIN, or what 'make build' made.
func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("SAGONG_BIN")
	if path == "" {
		path = "../../bin/sagong"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run 'make build' first", err)
	}
	return path
}

func TestScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	bin := binary(t)
	// What a shell starts in the background is deaf to interrupts, and so would be
	// the commands that a script interrupts.
	if signal.Ignored(os.Interrupt) {
		heard := make(chan os.Signal, 1)
		signal.Notify(heard, os.Interrupt)
		defer signal.Stop(heard)
	}
	scripts := &sequence{T: t}
	testscript.RunT(scripts, testscript.Params{
		Dir:         "testdata",
		WorkdirRoot: t.TempDir(),
		// While a script is written, all its faults at once are of more use.
		ContinueOnError: os.Getenv("SAGONG_CONTINUE") != "",
		Setup:           func(env *testscript.Env) error { return setup(t, env, bin) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"kubectl": kubectl, "retry": retry, "setenv": setenv, "clean": clean, "state": state,
			"http": get, "spread": spread, "load": load, "hold": hold,
			"serverpid": serverPID, "kill9": kill9, "crashloop": crashLoop,
			"observe": observe, "terminal": terminal, "registry": registry, "busybox": busybox, "push": push, "unmount": unmount, "webhooks": webhooks, "driver": driver,
		},
	})
}

// setup gives each script one cluster, under a name and in directories of its own,
// and hello.yaml, the example, in its working directory.
func setup(t *testing.T, env *testscript.Env, bin string) error {
	name := fmt.Sprintf("t%05d", os.Getpid()%100000) // no such name begins another
	before, err := trace.Take()
	if err != nil {
		return err
	}
	data := filepath.Join(env.WorkDir, "data")
	clients := filepath.Join(filepath.Dir(bin), "clients") // what test/clients/build makes
	// Two clusters on one machine must not use the same node ports.
	ports, port := "30000-32767", "30080"
	if shared() {
		ports, port = "32000-32767", "32080"
	}
	hello, err := os.ReadFile("../../examples/hello.yaml")
	if err != nil {
		return err
	}
	hello = bytes.ReplaceAll(hello, []byte("nodePort: 30080"), []byte("nodePort: "+port))
	if err := os.WriteFile(filepath.Join(env.WorkDir, "hello.yaml"), hello, 0o644); err != nil {
		return err
	}
	for k, v := range map[string]string{
		"PATH":              filepath.Dir(bin) + ":" + clients + ":" + os.Getenv("PATH"),
		"CLIENTS":           clients,
		"SAGONG_NAME":       name,
		"SAGONG_DATA_DIR":   data,
		"SAGONG_RUN_DIR":    "/run/sagong-" + name,
		"HOME":              filepath.Join(env.WorkDir, "home"),
		"KUBECONFIG":        filepath.Join(data, "admin.kubeconfig"),
		"KUBECTL_KUBERC":    "false",
		"SAGONG_NODE_PORTS": ports,
		"PORT":              port,
	} {
		env.Setenv(k, v)
	}
	if path, err := exec.LookPath("kubectl"); err == nil {
		env.Setenv("KUBECTL", path) // the user's own
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	env.Defer(func() { taken.Close() })
	env.Setenv("TAKEN", strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)) // a port in use
	env.Values["before"] = before
	env.Values["state"] = map[string]any{}
	env.Defer(func() {
		down := exec.Command(bin, "down", "--purge")
		down.Env = env.Vars
		out, err := down.CombinedOutput()
		if err != nil {
			t.Errorf("down --purge: %v\n%s", err, out)
		}
	})
	if keep := os.Getenv("SAGONG_KEEP_LOGS"); keep != "" {
		env.Defer(func() {
			log, err := os.ReadFile(filepath.Join(data, "server.log"))
			if err == nil {
				_ = os.WriteFile(keep, log, 0o644)
			}
		})
	}
	return nil
}

// shared says that other clusters come and go on this machine while the scripts run.
func shared() bool { return os.Getenv("SAGONG_SHARED_MACHINE") != "" }

// sequence runs scripts one after the other: each looks at the whole machine
// before and after.
type sequence struct{ *testing.T }

func (s *sequence) Parallel() {}
func (s *sequence) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(&sequence{T: t}) })
}
func (s *sequence) Verbose() bool { return testing.Verbose() }

// clean: what is on the machine now is what was there before the script. Where
// other clusters come and go meanwhile (SAGONG_SHARED_MACHINE), only what bears
// this cluster's name counts.
func clean(ts *testscript.TestScript, neg bool, args []string) {
	after, err := trace.Take()
	ts.Check(err)
	added := trace.Added(ts.Value("before").(trace.Inventory), after)
	if shared() {
		added = trace.Naming(added, ts.Getenv("SAGONG_NAME"), ts.Getenv("SAGONG_DATA_DIR"))
	}
	if len(added) > 0 {
		ts.Fatalf("left behind:\n%s", strings.Join(added, "\n"))
	}
}

// values are what the commands of one script share.
func values(ts *testscript.TestScript) map[string]any { return ts.Value("state").(map[string]any) }
