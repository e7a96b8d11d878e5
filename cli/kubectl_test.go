package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An interrupt that comes before kubectl has begun ends it, too.
func TestInterruptBeforeKubectl(t *testing.T) {
	const child = "SAGONG_TEST_INTERRUPTED"
	if os.Getenv(child) != "" {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // as Main's context is by a signal
		root := newRoot(strings.NewReader(""), io.Discard, io.Discard)
		root.SetArgs([]string{"kubectl", "proxy", "--port=0", "--server=http://127.0.0.1:1"})
		t.Fatal("it ended by itself: ", root.ExecuteContext(ctx))
	}
	if signal.Ignored(os.Interrupt) { // the child would ignore it as well
		heard := make(chan os.Signal, 1)
		signal.Notify(heard, os.Interrupt)
		defer signal.Stop(heard)
	}
	limit, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(limit, os.Args[0], "-test.run=^TestInterruptBeforeKubectl$")
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Errorf("%v\n%s", err, out)
	}
}
