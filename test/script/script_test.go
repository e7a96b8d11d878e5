// Package script runs what users do, as scripts that anyone can read: each file
// in testdata starts a real cluster with the real binary, drives it with the
// real kubectl, and must leave nothing behind.
package script

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sagong/test/trace"
)

func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/sagong")
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
	testscript.Run(t, testscript.Params{
		Dir:         "testdata",
		WorkdirRoot: t.TempDir(),
		Setup: func(env *testscript.Env) error {
			// One cluster a script, under a name and in directories of its own.
			name := "t" + strconv.Itoa(os.Getpid()%10000)
			before, err := trace.Take()
			if err != nil {
				return err
			}
			data := filepath.Join(env.WorkDir, "data")
			env.Setenv("PATH", filepath.Dir(bin)+":"+os.Getenv("PATH"))
			env.Setenv("SAGONG_NAME", name)
			env.Setenv("SAGONG_DATA_DIR", data)
			env.Setenv("SAGONG_RUN_DIR", "/run/sagong-"+name)
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("KUBECTL_KUBERC", "false")
			env.Setenv("EXAMPLES", examples(t))
			env.Values["before"] = before
			env.Defer(func() {
				down := exec.Command(bin, "down", "--purge")
				down.Env = env.Vars
				out, err := down.CombinedOutput()
				if err != nil {
					t.Errorf("down --purge: %v\n%s", err, out)
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"kubectl": kubectl, "retry": retry, "http": get, "clean": clean, "spread": spread, "serverpid": serverPID,
		},
	})
}

func examples(t *testing.T) string {
	dir, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// kubectl ARGS...: the real kubectl that is built in.
func kubectl(ts *testscript.TestScript, neg bool, args []string) {
	run(ts, neg, append([]string{"sagong", "kubectl"}, args...))
}

func run(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[0], args[1:]...)
	if (err == nil) == neg {
		ts.Fatalf("%s: err = %v", strings.Join(args, " "), err)
	}
}

// retry PATTERN COMMAND...: runs a command until its output matches, for states
// that no command can wait for.
func retry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: retry PATTERN COMMAND...")
	}
	want, err := regexp.Compile(args[0])
	ts.Check(err)
	if args[1] == "kubectl" {
		args = append([]string{args[0], "sagong"}, args[1:]...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if want.MatchString(out) {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%q never matched; last error %v", args[0], err)
		case <-tick.C:
		}
	}
}

func fetch(url string) (string, int, error) {
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := c.Get(url)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), resp.StatusCode, err
}

// http URL PATTERN: gets a page (until it answers) and matches it.
func get(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: http URL PATTERN")
	}
	want := regexp.MustCompile(args[1])
	deadline := time.Now().Add(20 * time.Second)
	for {
		body, status, err := fetch(args[0])
		if neg && err != nil {
			return
		}
		if !neg && err == nil && status == 200 && want.MatchString(body) {
			fmt.Fprint(ts.Stdout(), body)
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: %d %v\n%s", args[0], status, err, body)
		}
	}
}

// spread URL PATTERN N: asks until N different matches of PATTERN were seen.
func spread(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: spread URL PATTERN N")
	}
	want := regexp.MustCompile(args[1])
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	seen := map[string]int{}
	for range 300 {
		body, _, err := fetch(args[0])
		ts.Check(err)
		m := want.FindString(body)
		if m == "" {
			ts.Fatalf("%q is not in\n%s", args[1], body)
		}
		if seen[m]++; len(seen) == n {
			return
		}
	}
	ts.Fatalf("%d different answers, want %d: %v", len(seen), n, seen)
}

// serverpid VAR: puts the server's process id into a variable.
func serverPID(ts *testscript.TestScript, neg bool, args []string) {
	data, err := os.ReadFile(filepath.Join(ts.Getenv("SAGONG_RUN_DIR"), "server.pid"))
	ts.Check(err)
	ts.Setenv(args[0], strings.Fields(string(data))[0])
}

// clean: what is on the machine now is what was there before the script.
func clean(ts *testscript.TestScript, neg bool, args []string) {
	after, err := trace.Take()
	ts.Check(err)
	before := ts.Value("before").(trace.Inventory)
	if left := trace.Added(before, after); len(left) > 0 {
		ts.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
	}
}
