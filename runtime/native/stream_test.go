package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sagong/runtime"
)

func asStartError(err error, to **runtime.StartError) bool { return errors.As(err, to) }

// buffer collects output and tells when it has some text.
type buffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{}
}

func newBuffer() *buffer { return &buffer{more: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() {
		select {
		case b.more <- struct{}{}:
		default:
		}
	}()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !strings.Contains(b.String(), text) {
		select {
		case <-b.more:
		case <-deadline:
			t.Fatalf("no %q in %q", text, b.String())
		}
	}
}

func TestExec(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	id := m.start(m.spec(uid, "sleep 1000", func(c *runtime.Container) {
		c.Env = []string{"FROM=container"}
		c.Cwd = "/tmp"
		c.User = runtime.User{UID: 1000, GID: 1001, Groups: []uint32{2000}}
		c.Security.Seccomp.Type = runtime.SeccompRuntimeDefault
		c.Security.NoNewPrivileges = true
	}))
	out, code := m.exec(id, "pwd; id; echo $FROM; hostname; ps | grep -c 'sleep 1000'; cat /proc/self/status | grep -E '^(NoNew|Seccomp:)' | tr '\\t' ' '; exit 7")
	if want := "/tmp\nuid=1000(app) gid=1001(app) groups=2000(extra)\ncontainer\ntestpod\n"; !strings.HasPrefix(out, want) || code != 7 ||
		!strings.Contains(out, "NoNewPrivs: 1\nSeccomp: 2\n") {
		t.Errorf("exec: code %d, output %q", code, out)
	}
	// It is in the container's cgroup.
	a, _ := m.exec(id, "cat /proc/self/cgroup")
	if !strings.Contains(a, "memory:/\n") && !strings.Contains(a, "0::/\n") {
		t.Errorf("cgroups %q", a)
	}

	var stdout, stderr bytes.Buffer
	big := strings.Repeat("0123456789abcdef", 40000)
	code, err := m.rt.Exec(m.ctx(), id, runtime.ExecOptions{Args: []string{"sh", "-c", "cat; echo end >&2"}, Env: []string{"X=1"},
		Stdin: strings.NewReader(big), Stdout: &stdout, Stderr: &stderr})
	if err != nil || code != 0 || stdout.String() != big || stderr.String() != "end\n" {
		t.Errorf("exec with stdin: %d %v, %d bytes, %q", code, err, stdout.Len(), stderr.String())
	}

	_, err = m.rt.Exec(m.ctx(), id, runtime.ExecOptions{Args: []string{"nothing"}})
	var se *runtime.StartError
	if !errors.As(err, &se) || !se.NotFound {
		t.Errorf("exec of nothing: %v", err)
	}
	if _, err = m.rt.Exec(m.ctx(), "nobody", runtime.ExecOptions{Args: []string{"true"}}); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("exec in no container: %v", err)
	}
	// A child that keeps the pipe does not keep the caller.
	stdout.Reset()
	if _, err = m.rt.Exec(m.ctx(), id, runtime.ExecOptions{Args: []string{"sh", "-c", "echo first; sleep 1000 & exit 0"}, Stdout: &stdout}); err != nil || stdout.String() != "first\n" {
		t.Errorf("exec with a child left behind: %v %q", err, stdout.String())
	}
}

func TestExecEnds(t *testing.T) {
	m := newMachine(t)
	id := m.start(m.spec(m.sandbox(), "sleep 1000"))
	// On a busy machine the shell may need longer to write a word.
	for limit, wrote := 100*time.Millisecond, ""; wrote == ""; limit *= 2 {
		out := newBuffer()
		_, err := m.rt.Exec(m.ctx(), id, runtime.ExecOptions{Args: []string{"sh", "-c", "echo started; sleep 1000"}, Stdout: out, Timeout: limit})
		if wrote = out.String(); !errors.Is(err, runtime.ErrTimeout) || wrote != "" && wrote != "started\n" {
			t.Fatalf("timeout of %s: %v, %q", limit, err, wrote)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	out := newBuffer()
	done := make(chan error, 1)
	go func() {
		_, err := m.rt.Exec(ctx, id, runtime.ExecOptions{Args: []string{"sh", "-c", "echo $$; exec sleep 77"}, Stdout: out})
		done <- err
	}()
	out.waitFor(t, "\n")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// The command was killed; the shell waits until its number is free.
	if o, code := m.exec(id, "n="+strings.TrimSpace(out.String())+"; while kill -0 $n 2>/dev/null; do :; done; echo gone"); code != 0 || o != "gone\n" {
		t.Errorf("a cancelled command lives on: %q", o)
	}
	// The container's end ends its commands.
	out = newBuffer()
	codes := make(chan int)
	go func() {
		code, _ := m.rt.Exec(m.ctx(), id, runtime.ExecOptions{Args: []string{"sh", "-c", "echo up; sleep 1000"}, Stdout: out})
		codes <- code
	}()
	out.waitFor(t, "up")
	if err := m.rt.StopContainer(m.ctx(), id, runtime.Stop{}); err != nil {
		t.Fatal(err)
	}
	if code := <-codes; code != 137 {
		t.Errorf("exec in a stopped container ended with %d", code)
	}
}

func TestExecTTY(t *testing.T) {
	m := newMachine(t)
	id := m.start(m.spec(m.sandbox(), "sleep 1000", func(c *runtime.Container) { c.User = runtime.User{UID: 1000, GID: 1001} }))
	in, typed := io.Pipe()
	out := newBuffer()
	sizes := make(chan runtime.TerminalSize, 1)
	sizes <- runtime.TerminalSize{Width: 123, Height: 45}
	done := make(chan int, 1)
	go func() {
		code, err := m.rt.Exec(m.ctx(), id, runtime.ExecOptions{Args: []string{"sh", "-c", "stty size; exec sh"}, TTY: true, Stdin: in, Stdout: out, Resize: sizes})
		if err != nil {
			t.Error(err)
		}
		done <- code
	}()
	out.waitFor(t, "$ ")
	if got := out.String(); !strings.HasPrefix(got, "45 123\r\n") {
		t.Errorf("the terminal had another size at the start: %q", got)
	}
	sizes <- runtime.TerminalSize{Width: 124, Height: 46}
	fmt.Fprintf(typed, "while test \"$(stty size)\" != '46 124'; do :; done; tty; stty size; echo $TERM; exit 5\n")
	if code := <-done; code != 5 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"/dev/pts/0\r\n", "46 124\r\n", "xterm\r\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
}

func TestAttach(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	id := m.start(m.spec(uid, "while read x; do echo got $x; echo err $x >&2; done; echo over; exit 4", func(c *runtime.Container) {
		c.Stdin, c.StdinOnce = true, true
	}))
	in, typed := io.Pipe()
	out, errs := newBuffer(), newBuffer()
	done := make(chan error, 1)
	go func() {
		done <- m.rt.Attach(m.ctx(), id, runtime.AttachOptions{Stdin: in, Stdout: out, Stderr: errs})
	}()
	fmt.Fprintln(typed, "one")
	out.waitFor(t, "got one\n")
	errs.waitFor(t, "err one\n")
	typed.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if st := m.wait(id); st.ExitCode != 4 || !strings.HasSuffix(out.String(), "over\n") {
		t.Errorf("%+v %q", st, out.String())
	}
	// Output goes to the log all the same.
	c, _ := m.rt.container(id)
	if got := m.output(c.spec); !strings.Contains(got, "got one\n") || !strings.Contains(got, "over\n") {
		t.Errorf("log %q", got)
	}
	if err := m.rt.Attach(m.ctx(), id, runtime.AttachOptions{Stdout: out}); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("attach to an exited container: %v", err)
	}
}

// TestAttachDetach leaves a container that keeps its input and comes back.
func TestAttachDetach(t *testing.T) {
	m := newMachine(t)
	id := m.start(m.spec(m.sandbox(), "while read x; do echo got $x; test $x = end && exit 3; done; echo closed", func(c *runtime.Container) { c.Stdin = true }))
	for _, word := range []string{"one", "two"} {
		ctx, cancel := context.WithCancel(context.Background())
		in, typed := io.Pipe()
		out := newBuffer()
		done := make(chan error, 1)
		go func() { done <- m.rt.Attach(ctx, id, runtime.AttachOptions{Stdin: in, Stdout: out}) }()
		fmt.Fprintln(typed, word)
		out.waitFor(t, "got "+word)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	in := strings.NewReader("end\n")
	if err := m.rt.Attach(m.ctx(), id, runtime.AttachOptions{Stdin: in}); err != nil {
		t.Error(err)
	}
	if st := m.wait(id); st.ExitCode != 3 {
		t.Errorf("%+v", st)
	}
}

// TestSlowClient checks that a client which does not read slows the container
// down and loses nothing.
func TestSlowClient(t *testing.T) {
	m := newMachine(t)
	id := m.start(m.spec(m.sandbox(), "read x; seq 1 200000", func(c *runtime.Container) { c.Stdin = true }))
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- m.rt.Attach(m.ctx(), id, runtime.AttachOptions{Stdin: strings.NewReader("go\n"), Stdout: pw})
		pw.Close()
	}()
	got, err := io.ReadAll(pr)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := bytes.Count(got, []byte("\n")); n != 200000 || !bytes.HasSuffix(got, []byte("\n200000\n")) {
		t.Errorf("%d lines", n)
	}
	c, _ := m.rt.container(id)
	if n := strings.Count(m.output(c.spec), "\n"); n != 200000 {
		t.Errorf("%d lines in the log", n)
	}
}

func TestTTY(t *testing.T) {
	m := newMachine(t)
	spec := m.spec(m.sandbox(), "tty; stty size; read x; stty size; echo got $x; ls -l /dev/console | cut -c1; exit 6", func(c *runtime.Container) {
		c.TTY, c.Stdin = true, true
		c.User = runtime.User{UID: 1000, GID: 1001}
	})
	id := m.start(spec)
	if err := m.rt.ResizeTTY(m.ctx(), id, runtime.TerminalSize{Width: 90, Height: 30}); err != nil {
		t.Fatal(err)
	}
	in, typed := io.Pipe()
	out := newBuffer()
	done := make(chan error, 1)
	go func() { done <- m.rt.Attach(m.ctx(), id, runtime.AttachOptions{Stdin: in, Stdout: out}) }()
	fmt.Fprint(typed, "hello\n")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if st := m.wait(id); st.ExitCode != 6 {
		t.Errorf("%+v", st)
	}
	log := m.output(spec)
	for _, want := range []string{"/dev/pts/0", "30 90", "got hello", "\nc"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in %q", want, log)
		}
	}
	data, _ := os.ReadFile(spec.LogPath)
	if bytes.Contains(data, []byte(" stderr ")) {
		t.Error("a terminal's output is on stdout only")
	}
}

func TestLog(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	long := strings.Repeat("x", 40000)
	spec := m.spec(uid, "echo out; echo err >&2; echo "+long+"; echo; printf unfinished")
	m.wait(m.start(spec))
	data, err := os.ReadFile(spec.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		at, err := time.Parse("2006-01-02T15:04:05.000000000Z", f[0])
		if err != nil || time.Since(at) > time.Minute || time.Since(at) < 0 {
			t.Errorf("time stamp %q: %v", f[0], err)
		}
		text := f[3]
		if len(text) > 20 {
			text = fmt.Sprint(len(text))
		}
		got = append(got, f[1]+" "+f[2]+" "+text)
	}
	want := "stdout F out|stdout P 16384|stdout P 16384|stdout F 7232|stdout F |stdout P unfinished"
	var out []string
	for _, g := range got {
		if g != "stderr F err" { // between the others, in no certain order
			out = append(out, g)
		}
	}
	if strings.Join(out, "|") != want || len(got) != len(out)+1 {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
	}
}

func TestReopenLog(t *testing.T) {
	m := newMachine(t)
	spec := m.spec(m.sandbox(), "read x; echo before; read x; echo after", func(c *runtime.Container) { c.Stdin = true })
	id := m.start(spec)
	out := newBuffer()
	in, typed := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- m.rt.Attach(m.ctx(), id, runtime.AttachOptions{Stdin: in, Stdout: out}) }()
	fmt.Fprintln(typed)
	out.waitFor(t, "before")
	if err := os.Rename(spec.LogPath, spec.LogPath+".1"); err != nil {
		t.Fatal(err)
	}
	if err := m.rt.ReopenLog(m.ctx(), id); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(typed)
	if err := <-done; err != nil {
		t.Error(err)
	}
	m.wait(id)
	old := spec
	old.LogPath += ".1"
	if a, b := m.output(old), m.output(spec); a != "before\n" || b != "after\n" {
		t.Errorf("old log %q, new log %q", a, b)
	}
}

// TestFollowAcrossRotation follows a log that is rotated all the time, moving on
// as soon as a new file is there, and must see every line.
func TestFollowAcrossRotation(t *testing.T) {
	m := newMachine(t)
	spec := m.spec(m.sandbox(), "seq 1 300000; sleep 0.01; seq 300001 600000")
	id := m.start(spec)
	var got bytes.Buffer
	f, err := os.Open(spec.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	rotations := 0
	for ended := false; ; {
		if st := must(m.rt.Status(m.ctx(), id)); st.State != runtime.StateRunning {
			ended = true
		} else if rotations < 200 {
			rotations++
			if err := os.Rename(spec.LogPath, spec.LogPath+".old"); err != nil {
				t.Fatal(err)
			}
			reopened := make(chan error, 1)
			go func() { reopened <- m.rt.ReopenLog(m.ctx(), id) }()
			var next *os.File
			for next == nil {
				if next, err = os.Open(spec.LogPath); err != nil {
					select {
					case err := <-reopened:
						if err != nil && !errors.Is(err, runtime.ErrNotRunning) {
							t.Fatal(err)
						}
						reopened <- err
						if next, err = os.Open(spec.LogPath); err != nil {
							ended = true
						}
					default:
					}
				}
				if ended {
					break
				}
			}
			if next != nil {
				io.Copy(&got, f)
				f.Close()
				f = next
			}
			<-reopened
		}
		if ended {
			m.wait(id)
			io.Copy(&got, f)
			f.Close()
			break
		}
	}
	want := 1
	for line := range strings.Lines(got.String()) {
		if !strings.HasSuffix(line, fmt.Sprintf(" %d\n", want)) {
			t.Fatalf("after %d comes %q (%d rotations)", want-1, line, rotations)
		}
		want++
	}
	if want != 600001 {
		t.Errorf("%d lines, %d rotations", want-1, rotations)
	}
	if _, err := os.Lstat(nextLog(spec.LogPath)); !os.IsNotExist(err) {
		t.Error("a nameless log is left")
	}
}
