package native

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

// The messages between server and shim, as in shim.c.
const (
	reqStart = iota + 1
	reqExec
	reqPause
	reqSignal
	reqResize
	reqReopen
	reqAttach
	reqShutdown
	reqStdinEnd
)

const (
	replyOK = iota + 1
	replyError
	replyStarted
	replyTTY
	replyExit
)

const (
	streamTTY       = 1
	streamStdin     = 2
	streamStdinOnce = 4

	idSize       = 136
	requestSize  = 12*4 + 4 + 2*idSize
	replyHeader  = 24
	maxRequestFD = 253
)

// request is one message to a shim with its descriptors.
type request struct {
	Type, Flags, CloneFlags                      uint32
	Plan, Dir, Log, OOM, Cgroup, Stdin, Out, Err int32
	A, B                                         int32
	ID, Target                                   string

	// fds are sent; those of owned are closed afterwards.
	fds, owned []int
}

func newRequest(typ uint32, id string) *request {
	return &request{Type: typ, ID: id, Plan: -1, Dir: -1, Log: -1, OOM: -1, Cgroup: -1, Stdin: -1, Out: -1, Err: -1}
}

// send adds a descriptor and says its index.
func (r *request) send(fd int) int32 {
	r.fds = append(r.fds, fd)
	return int32(len(r.fds) - 1)
}

// own is send for a descriptor that close closes.
func (r *request) own(fd int) int32 {
	r.owned = append(r.owned, fd)
	return r.send(fd)
}

// close closes what the request owns. The other side has its own copies.
func (r *request) close() {
	for _, fd := range r.owned {
		unix.Close(fd)
	}
	r.owned = nil
}

func (r *request) encode() []byte {
	e := encoder{b: make([]byte, 0, requestSize)}
	for _, v := range []uint32{r.Type, r.Flags, r.CloneFlags} {
		e.u32(v)
	}
	for _, v := range []int32{r.Plan, r.Dir, r.Log, r.OOM, r.Cgroup, r.Stdin, r.Out, r.Err, r.A, r.B} {
		e.u32(uint32(v))
	}
	var ids [2 * idSize]byte
	copy(ids[:idSize-1], r.ID)
	copy(ids[idSize:2*idSize-1], r.Target)
	return append(e.b, ids[:]...)
}

// reply is one message of a shim.
type reply struct {
	Type   uint32
	Status unix.Errno
	A, B   int64
	Text   string
	// FD came with it, or is -1.
	FD int
}

func decodeReply(b []byte) (reply, error) {
	if len(b) < replyHeader {
		return reply{}, fmt.Errorf("answer of %d bytes is too short", len(b))
	}
	n := binary.NativeEndian
	return reply{Type: n.Uint32(b), Status: unix.Errno(n.Uint32(b[4:])), A: int64(n.Uint64(b[8:])), B: int64(n.Uint64(b[16:])),
		Text: string(bytes.TrimRight(b[replyHeader:], "\x00")), FD: -1}, nil
}

// err is the error that a reply tells, or nil.
func (r reply) err() error {
	if r.Type != replyError {
		return nil
	}
	switch {
	case r.Status == unix.ESRCH && r.A == 'F':
		// It has ended; the notice is on its way.
		return fmt.Errorf("container %w", runtime.ErrNotRunning)
	case r.Text == "":
		return r.Status
	case r.A == 'X' && r.Status == 0:
		return &runtime.StartError{Step: r.Text[:max(0, len(r.Text)-len(notInPath))], NotFound: true, Err: errNotInPath}
	case r.A == 'X':
		return &runtime.StartError{Step: r.Text, NotFound: true, Err: r.Status}
	}
	return &runtime.StartError{Step: r.Text, Err: r.Status}
}

const notInPath = ": executable file not found in $PATH"

var errNotInPath = errors.New("executable file not found in $PATH")

// shimConn is one connection to a shim.
type shimConn struct {
	c *net.UnixConn
	// undo stops watching the context.
	undo func() bool
}

// dialShim connects to the socket in a sandbox's directory. A cancelled
// context interrupts whatever the connection waits for.
func dialShim(ctx context.Context, dir string) (*shimConn, error) {
	path := dir + "/shim.sock"
	if len(path) > maxSocketPath {
		d, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		path = "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/shim.sock"
	}
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("cannot reach the shim: %w", err)
	}
	undo := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	return &shimConn{c: c, undo: undo}, nil
}

func (s *shimConn) Close() {
	s.undo()
	s.c.Close()
}

func (s *shimConn) send(r *request) error {
	if len(r.fds) > maxRequestFD {
		return fmt.Errorf("%d mounts and files are more than the %d that one container can have", len(r.fds), maxRequestFD)
	}
	var oob []byte
	if len(r.fds) > 0 {
		oob = unix.UnixRights(r.fds...)
	}
	if _, _, err := s.c.WriteMsgUnix(r.encode(), oob, nil); err != nil {
		return fmt.Errorf("cannot ask the shim: %w", err)
	}
	return nil
}

// receive waits for the next message.
func (s *shimConn) receive() (reply, error) {
	var buf [replyHeader + 4096]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := s.c.ReadMsgUnix(buf[:], oob)
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return reply{}, fmt.Errorf("cannot hear from the shim: %w", err)
	}
	r, err := decodeReply(buf[:n])
	if err != nil || oobn == 0 {
		return r, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return r, fmt.Errorf("cannot hear from the shim: %w", err)
	}
	for _, m := range msgs {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			unix.CloseOnExec(fds[0])
			r.FD = fds[0]
		}
	}
	return r, nil
}

// ask sends one request and returns its first answer.
func ask(ctx context.Context, dir string, r *request) (reply, error) {
	s, err := dialShim(ctx, dir)
	if err != nil {
		return reply{}, err
	}
	defer s.Close()
	if err := s.send(r); err != nil {
		return reply{}, ctxErr(ctx, err)
	}
	a, err := s.receive()
	if err != nil {
		return reply{}, ctxErr(ctx, err)
	}
	return a, a.err()
}

// ctxErr prefers the context's reason to the timeout that it caused.
func ctxErr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// memfd is an anonymous file with the given content.
func memfd(name string, content []byte) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	for len(content) > 0 {
		n, err := unix.Write(fd, content)
		if err != nil && err != unix.EINTR {
			unix.Close(fd)
			return -1, os.NewSyscallError("write", err)
		}
		content = content[max(n, 0):]
	}
	return fd, nil
}

// maxSocketPath is where longer paths are shortened by a descriptor; the
// kernel's limit is 107.
const maxSocketPath = 100
