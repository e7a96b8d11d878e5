package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

// Exec runs a command in a container.
func (r *Runtime) Exec(ctx context.Context, id string, o runtime.ExecOptions) (int, error) {
	c, err := r.running(id)
	if err != nil {
		return -1, fmt.Errorf("cannot exec: %w", err)
	}
	code, err := r.exec(ctx, c, o)
	if err != nil {
		return code, fmt.Errorf("cannot exec in container %s: %w", id, err)
	}
	return code, nil
}

func (r *Runtime) exec(ctx context.Context, c *container, o runtime.ExecOptions) (int, error) {
	s := c.sandbox
	q := newRequest(reqExec, "")
	q.Target = c.spec.ID
	defer q.close()
	err := r.joinRequest(q, cgroupOf(s, c.spec.ID))
	if err != nil {
		return -1, err
	}
	f := facts{Joins: len(q.fds), Hostname: s.spec.Hostname}
	if f.Hostname == "" {
		f.Hostname, _ = os.Hostname()
	}
	if !hasHome(c.spec.Env) && !hasHome(o.Env) {
		if f.Home = r.homeInside(c); f.Home == "" {
			f.Home = "/"
		}
	}
	if f.Filter, f.FilterFlags, err = r.filters.get(c.spec.Security); err != nil {
		return -1, err
	}
	p, err := planExec(c.spec, o, f)
	if err != nil {
		return -1, err
	}
	dir, err := r.tree.DirFD(cgroupOf(s, c.spec.ID))
	if err != nil {
		return -1, err
	}
	if dir >= 0 {
		q.Cgroup = q.own(dir)
	}
	io := newStreams()
	defer io.close()
	if o.TTY {
		q.Flags |= streamTTY
		size := firstSize(ctx, o.Resize)
		q.A, q.B = int32(size.Width), int32(size.Height)
	} else {
		if o.Stdin != nil {
			if q.Stdin, err = io.input(q, o.Stdin); err != nil {
				return -1, err
			}
		}
		if err = io.bothOutputs(q, o.Stdout, o.Stderr); err != nil {
			return -1, err
		}
	}
	// The shim adds the pidfd of the container behind the others, the plan's too.
	p.Target = uint32(len(q.fds) + 1)
	pf, err := memfd("sagong-plan", p.encode())
	if err != nil {
		return -1, err
	}
	q.Plan = q.own(pf)

	conn, err := dialShim(ctx, s.run)
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	if err := conn.send(q); err != nil {
		return -1, ctxErr(ctx, err)
	}
	io.handedOver()
	var timeout *time.Timer
	timedOut := make(chan struct{})
	if o.Timeout > 0 {
		timeout = time.AfterFunc(o.Timeout, func() {
			close(timedOut)
			k := newRequest(reqSignal, "")
			k.A = int32(unix.SIGKILL)
			_ = conn.send(k)
		})
		defer timeout.Stop()
	}
	for {
		a, err := conn.receive()
		if err != nil {
			return -1, ctxErr(ctx, err)
		}
		switch a.Type {
		case replyError:
			return -1, a.err()
		case replyTTY:
			io.terminal(os.NewFile(uintptr(a.FD), "tty"), o.Stdin, o.Stdout)
		case replyStarted:
			io.start(o.Resize)
		case replyExit:
			io.drain()
			select {
			case <-timedOut:
				return -1, fmt.Errorf("command after %v: %w", o.Timeout, runtime.ErrTimeout)
			default:
			}
			return int(a.A), nil
		}
	}
}

// sizeWait is how long a command waits to be told the size of its terminal.
const sizeWait = 100 * time.Millisecond

// firstSize is the size that a terminal has from the start: clients send it with
// their request, and many programs ask only once.
func firstSize(ctx context.Context, sizes <-chan runtime.TerminalSize) runtime.TerminalSize {
	if sizes == nil {
		return runtime.TerminalSize{}
	}
	limit := time.NewTimer(sizeWait)
	defer limit.Stop()
	select {
	case z := <-sizes:
		return z
	case <-limit.C:
	case <-ctx.Done():
	}
	return runtime.TerminalSize{}
}

// homeInside looks up the home directory of a running container's user.
func (r *Runtime) homeInside(c *container) string {
	if c.spec.User.Home != "" {
		return c.spec.User.Home
	}
	r.mu.RLock()
	pid := c.status.PID
	r.mu.RUnlock()
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	f := os.NewFile(uintptr(fd), "root")
	defer f.Close()
	return homeOf(f, c.spec.User)
}

// streams carry data between a client and the ends of pipes or a terminal.
type streams struct {
	mine, theirs []*os.File
	inputs       []func()
	outputs      []*outputCopy
	tty          *os.File
	closers      []io.Closer
	wg           sync.WaitGroup
	stop         chan struct{}
}

func newStreams() *streams { return &streams{stop: make(chan struct{})} }

func (s *streams) pipe() (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	return os.NewFile(uintptr(p[0]), "|0"), os.NewFile(uintptr(p[1]), "|1"), nil
}

// pollable makes this side's end of a pipe interruptible; the other side's
// keeps blocking, as programs expect.
func pollable(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	f.Close()
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "|"), nil
}

func (s *streams) input(q *request, from io.Reader) (int32, error) {
	pr, pw, err := s.pipe()
	if err != nil {
		return -1, err
	}
	s.theirs = append(s.theirs, pr)
	if pw, err = pollable(pw); err != nil {
		return -1, err
	}
	s.mine = append(s.mine, pw)
	s.copyInput(pw, from)
	return q.send(int(pr.Fd())), nil
}

func (s *streams) copyInput(to *os.File, from io.Reader) {
	if c, ok := from.(io.Closer); ok {
		s.closers = append(s.closers, c)
	}
	s.inputs = append(s.inputs, func() {
		// Not waited for: a reader that is not a Closer cannot be interrupted.
		_, _ = io.Copy(to, onlyReader{from})
		to.Close()
	})
}

// onlyReader keeps io.Copy from splicing, which would not end with a Close.
type onlyReader struct{ io.Reader }

// bothOutputs connects standard output and error. One writer for both gets one
// pipe, in which they keep their order, and one goroutine to call it.
func (s *streams) bothOutputs(q *request, out, err io.Writer) (e error) {
	if q.Out, e = s.output(q, out); e != nil {
		return e
	}
	if out != nil && sameWriter(out, err) {
		q.Err = q.Out
		return nil
	}
	q.Err, e = s.output(q, err)
	return e
}

// sameWriter compares without the panic of types that cannot be compared.
func sameWriter(a, b io.Writer) bool {
	defer func() { _ = recover() }()
	return a == b
}

func (s *streams) output(q *request, to io.Writer) (int32, error) {
	if to == nil {
		return -1, nil
	}
	pr, pw, err := s.pipe()
	if err != nil {
		return -1, err
	}
	s.theirs = append(s.theirs, pw)
	if pr, err = pollable(pr); err != nil {
		return -1, err
	}
	s.mine = append(s.mine, pr)
	s.outputs = append(s.outputs, &outputCopy{from: pr, to: to})
	return q.send(int(pw.Fd())), nil
}

// terminal takes the master of an exec's terminal.
func (s *streams) terminal(master *os.File, in io.Reader, out io.Writer) {
	master, err := pollable(master)
	if err != nil {
		return
	}
	s.tty = master
	s.mine = append(s.mine, master)
	if out == nil {
		out = io.Discard
	}
	s.outputs = append(s.outputs, &outputCopy{from: master, to: out})
	if in != nil {
		if c, ok := in.(io.Closer); ok {
			s.closers = append(s.closers, c)
		}
		s.inputs = append(s.inputs, func() { _, _ = io.Copy(master, onlyReader{in}) })
	}
}

// handedOver closes what the other side has its own copies of.
func (s *streams) handedOver() {
	closeAll(s.theirs)
	s.theirs = nil
}

// start begins to copy.
func (s *streams) start(resize <-chan runtime.TerminalSize) {
	for _, in := range s.inputs {
		go in()
	}
	for _, o := range s.outputs {
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			o.run()
		}()
	}
	if s.tty != nil && resize != nil {
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			s.resize(resize)
		}()
	}
}

func (s *streams) resize(sizes <-chan runtime.TerminalSize) {
	for {
		select {
		case z, ok := <-sizes:
			if !ok {
				return
			}
			if conn, err := s.tty.SyscallConn(); err == nil {
				_ = conn.Control(func(fd uintptr) {
					_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: z.Width, Row: z.Height})
				})
			}
		case <-s.stop:
			return
		}
	}
}

// drain hands over what the ended command left in its pipes. Processes it left
// behind may hold them open for good, so this stops where they are empty.
func (s *streams) drain() {
	for _, o := range s.outputs {
		o.from.SetReadDeadline(time.Unix(1, 0))
	}
	close(s.stop)
	s.wg.Wait()
	s.stop = nil
}

func (s *streams) close() {
	if s.stop != nil {
		close(s.stop)
	}
	for _, c := range s.closers {
		c.Close()
	}
	closeAll(s.theirs)
	closeAll(s.mine)
	s.wg.Wait()
}

// outputCopy moves output to a client.
type outputCopy struct {
	from *os.File
	to   io.Writer
}

func (o *outputCopy) run() {
	buf := make([]byte, 32<<10)
	for {
		n, err := o.from.Read(buf)
		if n > 0 {
			if _, werr := o.to.Write(buf[:n]); werr != nil {
				o.discard(buf)
				return
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			o.rest(buf)
			return
		}
		if err != nil {
			return
		}
	}
}

// rest reads what is there now.
func (o *outputCopy) rest(buf []byte) {
	conn, err := o.from.SyscallConn()
	if err != nil {
		return
	}
	for {
		n := 0
		_ = conn.Control(func(fd uintptr) {
			for {
				n, err = unix.Read(int(fd), buf)
				if err != unix.EINTR {
					return
				}
			}
		})
		if n <= 0 || err != nil {
			return
		}
		if _, err := o.to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// discard keeps the command from blocking when its client has gone.
func (o *outputCopy) discard(buf []byte) {
	for {
		if _, err := o.from.Read(buf); err != nil {
			return
		}
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
