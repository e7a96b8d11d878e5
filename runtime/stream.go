package runtime

import (
	"io"
	"time"
)

// TerminalSize is a window size in characters.
type TerminalSize struct{ Width, Height uint16 }

// ExecOptions describe a command in a running container. It gets the
// container's user, capabilities, seccomp filter, environment and working
// directory.
type ExecOptions struct {
	Args []string
	// Env is added to the container's.
	Env []string
	// TTY runs the command on a terminal of its own; Stderr is then not used.
	TTY bool
	// Stdin may be nil: the command reads end of file. A reader that is also an
	// io.Closer is closed when the command has ended.
	Stdin io.Reader
	// Stdout and Stderr may be nil: the output is discarded. They are called by
	// a goroutine each, unless they are the same writer.
	Stdout, Stderr io.Writer
	// Resize carries window sizes of the terminal; nil when there are none.
	Resize <-chan TerminalSize
	// Timeout kills the command; 0 is none.
	Timeout time.Duration
}

// AttachOptions connect a client to a container's own streams.
type AttachOptions struct {
	// Stdin may be nil. It needs a container with Stdin.
	Stdin io.Reader
	// Stdout and Stderr may be nil. With a terminal all output is on Stdout.
	Stdout, Stderr io.Writer
	// Resize carries window sizes of the terminal; nil when there are none.
	Resize <-chan TerminalSize
}
