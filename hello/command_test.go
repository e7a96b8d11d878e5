package hello

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		in   string
		out  string
		code int
	}{
		{[]string{"print", "a", "b c"}, "", "a b c\n", 0},
		{[]string{"print"}, "", "\n", 0},
		{[]string{"exit"}, "", "", 0},
		{[]string{"exit", "42"}, "", "", 42},
		{[]string{"env", "X"}, "", "1\n", 0},
		{[]string{"env"}, "", "X=1\n", 0},
		{[]string{"env", "NONE"}, "", "", 1},
		{[]string{"write", dir + "/f", "one", "two"}, "", "", 0},
		{[]string{"append", dir + "/f", "three"}, "", "", 0},
		{[]string{"cat", dir + "/f"}, "", "one two\nthree\n", 0},
		{[]string{"cat"}, "from stdin", "from stdin", 0},
		{[]string{"cat", dir + "/none"}, "", "", 1},
		{[]string{"touch", dir + "/t"}, "", "", 0},
		{[]string{"ls", dir}, "", "-0644     0     0         14 f\n-0644     0     0          0 t\n", 0},
		{[]string{"fill", dir + "/big", "1"}, "", "", 0},
		{[]string{"fill", dir + "/none/big", "1"}, "", "", 1},
		{[]string{"fill", dir + "/big"}, "", "", 2},
		{[]string{"rm", dir + "/big"}, "", "", 0},
		{[]string{"rm", dir + "/t"}, "", "", 0},
		{[]string{"rm", dir + "/t"}, "", "", 1},
		{[]string{"sleep", "0.01"}, "", "", 0},
		{[]string{"sleep", "x"}, "", "", 2},
		{[]string{"sleep"}, "", "", 2},
		{[]string{"burn", "0.01"}, "", "", 0},
		{[]string{"size"}, "", "", 1},
	} {
		cmd := program(t, c.args...)
		cmd.Env = []string{"X=1"}
		cmd.Stdin = strings.NewReader(c.in)
		out, err := cmd.Output()
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if code != c.code || string(out) != c.out {
			t.Errorf("hello %q: code %d, output %q; want %d, %q", c.args, code, out, c.code, c.out)
		}
	}
	if out, err := program(t, "id").Output(); err != nil || !strings.HasPrefix(string(out), "uid=0 gid=0") {
		t.Errorf("id: %q, %v", out, err)
	}
	if out, err := program(t, "help").Output(); err != nil || !strings.Contains(string(out), "hello get URL") {
		t.Errorf("help: %q, %v", out, err)
	}
}

func TestSleepEndsBySignal(t *testing.T) {
	cmd := program(t, "sleep", "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Whether the signal comes before or after its preparations, it ends.
	cmd.Process.Signal(syscall.SIGTERM)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 143 && exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v", err)
	}
}

func TestGet(t *testing.T) {
	s := start(t, "HOSTNAME=p1")
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{s.addr}, "pod: p1\n", 0},
		{[]string{"-json", "http://localhost:" + s.port + "/x"}, `"path":"/x"`, 0},
		{[]string{"-n", "3", s.addr + "/healthz"}, "ok\nok\nok\n", 0},
		{[]string{"-X", "PUT", s.addr}, "405", 1},
		{[]string{"-X", "POST", "-d", "abc", "-H", "Accept: application/json", s.addr}, `"method":"POST"`, 0},
		{[]string{"http://127.0.0.1:1"}, "refused", 1},
		{[]string{"-t", "50ms", s.addr + "/sleep?ms=2000"}, "exceeded", 1},
		{[]string{"http://no-such-name.invalid/"}, "no-such-name.invalid", 1},
		{nil, "usage", 2},
		{[]string{"-x", "y"}, "usage", 2},
		{[]string{"-h"}, "usage", 0},
	} {
		var out bytes.Buffer
		if code := get(context.Background(), c.args, &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("get %q: code %d, output %q; want %d, %q", c.args, code, out.String(), c.code, c.want)
		}
	}
	// As a process, the way kubectl exec runs it.
	if out, err := program(t, "get", s.addr).CombinedOutput(); err != nil || !strings.Contains(string(out), "pod: p1") {
		t.Errorf("hello get: %v %s", err, out)
	}
}

// What kubectl cp runs, in both directions.
func TestTar(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	at := time.Unix(1600000000, 0)
	for path, data := range map[string]string{"d/a": "one", "d/sub/b": strings.Repeat("x", 100_000)} {
		p := filepath.Join(from, path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(from, "d/link")); err != nil {
		t.Fatal(err)
	}
	var packed, errs bytes.Buffer
	if code := tarCommand([]string{"cf", "-", "-C", from, "d"}, nil, &packed, &errs); code != 0 {
		t.Fatalf("code %d: %s", code, errs.String())
	}
	cmd := program(t)
	cmd.Args = []string{"/bin/tar", "--no-same-permissions", "--no-same-owner", "-xf", "-", "-C", to}
	cmd.Stdin = bytes.NewReader(packed.Bytes())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for path, want := range map[string]string{"d/a": "one", "d/link": "one", "d/sub/b": strings.Repeat("x", 100_000)} {
		if got, err := os.ReadFile(filepath.Join(to, path)); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	if info, err := os.Stat(filepath.Join(to, "d/a")); err != nil || info.Mode() != 0o640 || !info.ModTime().Equal(at) {
		t.Errorf("d/a has %v %v, %v", info.Mode(), info.ModTime(), err)
	}
	// An absolute path is packed without its slash.
	packed.Reset()
	if code := tarCommand([]string{"cf", "-", from + "/d/a"}, nil, &packed, &errs); code != 0 || !bytes.HasPrefix(packed.Bytes(), []byte(strings.TrimPrefix(from, "/")+"/d/a\x00")) {
		t.Errorf("code %d: %s %q", code, errs.String(), packed.Bytes()[:80])
	}
	for _, args := range [][]string{{}, {"x"}, {"-xf"}, {"-xf", "file"}, {"cf", "-"}, {"-zcf", "-", "x"}, {"cxf", "-", "x"}, {"cf", "-", "/no/such/file"}, {"xf", "-", "-C", "/no/such/dir"}} {
		in := io.Reader(strings.NewReader("no archive, but long enough to be read as the beginning of one"))
		if code := tarCommand(args, in, io.Discard, io.Discard); code != 2 {
			t.Errorf("tar %q: code %d", args, code)
		}
	}
}
