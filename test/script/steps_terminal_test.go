package script

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
)

// screen collects what a terminal shows.
type screen struct {
	mu    sync.Mutex
	text  bytes.Buffer
	from  int // what was matched already
	grown chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	select {
	case s.grown <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *screen) find(want *regexp.Regexp) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := want.FindIndex(s.text.Bytes()[s.from:])
	if at != nil {
		s.from += at[1]
	}
	return at != nil
}

func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// terminal FILE COMMAND...: runs a command in a terminal of 24 rows and 80
// columns and does what FILE says, line by line: expect PATTERN, send TEXT (with
// a carriage return), key BYTES (Go's escapes, nothing added), size ROWS COLUMNS,
// hangup, pause. At the end the command must end by itself. With !, it must fail.
func terminal(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: terminal FILE COMMAND...")
	}
	command := args[1:]
	if command[0] == "kubectl" {
		command = append([]string{"sagong"}, command...)
	}
	cmd := command0(ts, command)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	ts.Check(err)
	show := &screen{grown: make(chan struct{}, 1)}
	closed := make(chan struct{})
	go func() { defer close(closed); _, _ = copyTerminal(show, tty) }()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stuck := false
	finish := func() error {
		select {
		case err := <-ended:
			tty.Close()
			<-closed
			return err
		case <-time.After(time.Minute):
			_ = cmd.Process.Signal(syscall.SIGKILL)
			<-ended
			tty.Close()
			<-closed
			stuck = true
			return errors.New("it did not end")
		}
	}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "", "#":
			continue
		case "expect":
			err = expect(show, rest)
		case "send":
			_, err = tty.WriteString(rest + "\r")
		case "key":
			_, err = tty.WriteString(unescape(rest))
		case "pause": // for a command that has nothing to say
			time.Sleep(300 * time.Millisecond)
		case "hangup":
			err = cmd.Process.Signal(syscall.SIGHUP)
		case "size":
			var w pty.Winsize
			if _, err = fmt.Sscan(rest, &w.Rows, &w.Cols); err == nil {
				err = pty.Setsize(tty, &w)
			}
		default:
			err = fmt.Errorf("%q is not known", verb)
		}
		if err != nil {
			_ = cmd.Process.Signal(syscall.SIGKILL)
			<-ended
			tty.Close()
			<-closed
			ts.Fatalf("%s: %v; the terminal shows:\n%s", strings.TrimSpace(line), err, show.all())
		}
	}
	err = finish()
	fmt.Fprint(ts.Stdout(), show.all())
	if stuck || (err != nil) != neg {
		ts.Fatalf("%s: %v; the terminal shows:\n%s", strings.Join(command, " "), err, show.all())
	}
}

func unescape(s string) string {
	return strings.NewReplacer(`\x03`, "\x03", `\x04`, "\x04", `\x10`, "\x10", `\x11`, "\x11", `\r`, "\r", `\n`, "\n").Replace(s)
}

// copyTerminal copies until the other side hangs up, which Linux reports as EIO.
func copyTerminal(show *screen, tty *os.File) (int64, error) {
	var total int64
	buf := make([]byte, 4096)
	for {
		n, err := tty.Read(buf)
		total += int64(n)
		_, _ = show.Write(buf[:n])
		if err != nil {
			return total, err
		}
	}
}

func expect(show *screen, pattern string) error {
	want, err := regexp.Compile("(?m)" + pattern)
	if err != nil {
		return err
	}
	limit := time.After(time.Minute)
	for !show.find(want) {
		select {
		case <-show.grown:
		case <-limit:
			return errors.New("it never came")
		}
	}
	return nil
}
