package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Conn is a netlink socket. It belongs to the network namespace of the thread
// that opened it, whichever thread uses it later. Methods may be called
// concurrently; they take turns.
type Conn struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	buf []byte
}

// Dial opens a socket for a protocol such as unix.NETLINK_ROUTE.
func Dial(protocol int) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("cannot open a netlink socket: %w", err)
	}
	c := &Conn{fd: fd, buf: make([]byte, 64<<10)}
	// A lost answer must not block its caller for ever.
	timeout := unix.Timeval{Sec: 20}
	if err := errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1),
		// Without this an error carries the whole request back, megabytes for a batch.
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
	); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot prepare a netlink socket: %w", err)
	}
	// Strict checking makes the kernel filter dumps by what the request says.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	return c, nil
}

// Close closes the socket.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil
	}
	err := unix.Close(c.fd)
	c.fd = -1
	return err
}

// GrowBuffers lets the socket take requests of up to size bytes in one piece,
// beyond the machine's limits (it needs CAP_NET_ADMIN).
func (c *Conn) GrowBuffers(size int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size); err != nil {
		return fmt.Errorf("cannot enlarge the netlink send buffer to %d bytes: %w", size, err)
	}
	return nil
}

// RequestError is a request that the kernel refused.
type RequestError struct {
	// Label says what the request was to do.
	Label string
	// Detail is the kernel's own explanation, often empty.
	Detail string
	Errno  unix.Errno
}

func (e *RequestError) Error() string {
	if e.Detail != "" {
		return fmt.Sprintf("cannot %s: %v (%s)", e.Label, e.Errno, e.Detail)
	}
	return fmt.Sprintf("cannot %s: %v", e.Label, e.Errno)
}

// Unwrap returns the errno, so that errors.Is finds unix.EEXIST and the like.
func (e *RequestError) Unwrap() error { return e.Errno }

// Do sends every message of b in one system call and waits for all answers.
// The kernel carries out each message on its own, in order, whether or not an
// earlier one failed; the errors of all are joined. b is left empty.
func (c *Conn) Do(b *Builder) error {
	return errors.Join(c.DoEach(b)...)
}

// DoEach is Do, with one error or nil for each message, in order.
func (c *Conn) DoEach(b *Builder) []error {
	defer b.Reset()
	if b.Len() == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := b.Len()
	errs := make([]error, n)
	first := c.seq + 1
	c.number(b.Bytes(), unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if err := unix.Sendto(c.fd, b.Bytes(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		errs[0] = fmt.Errorf("cannot send %d netlink messages: %w", n, err)
		return errs
	}
	for answered := 0; answered < n; {
		p, err := c.receive(0)
		if err != nil {
			errs[n-1] = errors.Join(errs[n-1], err)
			return errs
		}
		err = ParseMessages(p, func(m Message) error {
			i := m.Seq - first
			if m.Type != unix.NLMSG_ERROR || i >= uint32(n) {
				return nil
			}
			answered++
			errs[i] = parseError(m, b.labels[i])
			return nil
		})
		if err != nil {
			errs[n-1] = errors.Join(errs[n-1], err)
			return errs
		}
	}
	return errs
}

// Batch sends all of b in one system call as one transaction (nfnetlink), whose
// last message but one carries the only acknowledgement asked for. The kernel
// has finished when the send returns. b is kept, so that it can be sent again.
func (c *Conn) Batch(b *Builder) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.seq + 1
	p := b.Bytes()
	c.number(p, unix.NLM_F_REQUEST)
	if err := unix.Sendto(c.fd, p, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("cannot send a batch of %d bytes: %w", len(p), err)
	}
	// Every answer is in the queue by now: read until it is empty, because the
	// verdict on the whole batch comes after those on its messages.
	var failures []error
	acknowledged := false
	for flags := 0; ; flags = unix.MSG_DONTWAIT {
		p, err := c.receive(flags)
		if errors.Is(err, unix.EAGAIN) && flags != 0 {
			break
		}
		if err != nil {
			return err
		}
		err = ParseMessages(p, func(m Message) error {
			i := m.Seq - first
			if m.Type != unix.NLMSG_ERROR || i >= uint32(len(b.labels)) {
				return nil
			}
			if err := parseError(m, b.labels[i]); err != nil {
				// One broken message can make thousands fail after it.
				if len(failures) < 8 {
					failures = append(failures, err)
				}
			} else {
				acknowledged = true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	if !acknowledged {
		return errors.New("cannot tell whether the batch was applied: the kernel sent no answer")
	}
	return nil
}

// Dump sends the single message of b with NLM_F_DUMP and calls f for every
// answer. A dump that the kernel found to have changed meanwhile is returned as
// unix.EINTR; the caller starts over.
func (c *Conn) Dump(b *Builder, f func(Message) error) error {
	return c.query(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, f)
}

// Get sends the single message of b and calls f for its one answer.
func (c *Conn) Get(b *Builder, f func(Message) error) error {
	return c.query(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK, f)
}

func (c *Conn) query(b *Builder, flags uint16, f func(Message) error) error {
	defer b.Reset()
	c.mu.Lock()
	defer c.mu.Unlock()
	seq := c.seq + 1
	label := b.labels[0]
	c.number(b.Bytes(), flags)
	if err := unix.Sendto(c.fd, b.Bytes(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("cannot %s: %w", label, err)
	}
	var failure error
	interrupted := false
	for done := false; !done; {
		p, err := c.receive(0)
		if err != nil {
			return fmt.Errorf("cannot %s: %w", label, err)
		}
		err = ParseMessages(p, func(m Message) error {
			if m.Seq != seq {
				return nil
			}
			interrupted = interrupted || m.Flags&unix.NLM_F_DUMP_INTR != 0
			switch m.Type {
			case unix.NLMSG_ERROR:
				done = true
				failure = errors.Join(failure, parseError(m, label))
			case unix.NLMSG_DONE:
				done = true
				if len(m.Data) >= 4 {
					if errno := int32(binary.NativeEndian.Uint32(m.Data)); errno < 0 {
						failure = errors.Join(failure, &RequestError{Label: label, Errno: unix.Errno(-errno)})
					}
				}
			default:
				// Keep reading after a failure, or the rest would answer the next request.
				if failure == nil {
					failure = f(m)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("cannot %s: %w", label, err)
		}
	}
	if failure == nil && interrupted {
		return fmt.Errorf("cannot %s: it changed meanwhile: %w", label, unix.EINTR)
	}
	return failure
}

// number gives every message in p its sequence number and adds flags.
func (c *Conn) number(p []byte, flags uint16) {
	for len(p) >= headerLen {
		c.seq++
		binary.NativeEndian.PutUint16(p[6:], binary.NativeEndian.Uint16(p[6:])|flags)
		binary.NativeEndian.PutUint32(p[8:], c.seq)
		n := (int(binary.NativeEndian.Uint32(p)) + 3) &^ 3
		p = p[min(n, len(p)):]
	}
}

func (c *Conn) receive(flags int) ([]byte, error) {
	for {
		n, _, err := unix.Recvfrom(c.fd, c.buf, flags|unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("cannot read from netlink: %w", err)
		case n > len(c.buf):
			return nil, fmt.Errorf("cannot read a netlink answer of %d bytes", n)
		}
		return c.buf[:n], nil
	}
}

// parseError decodes an acknowledgement; nil when it reports success.
func parseError(m Message, label string) error {
	if len(m.Data) < 4+headerLen {
		return errShort
	}
	errno := int32(binary.NativeEndian.Uint32(m.Data))
	if errno == 0 {
		return nil
	}
	e := &RequestError{Label: label, Errno: unix.Errno(-errno)}
	if m.Flags&unix.NLM_F_ACK_TLVS != 0 {
		rest := m.Data[4+headerLen:]
		if m.Flags&unix.NLM_F_CAPPED == 0 {
			n := int(binary.NativeEndian.Uint32(m.Data[4:])) - headerLen
			rest = rest[min(max((n+3)&^3, 0), len(rest)):]
		}
		_ = Attributes(rest, func(a Attribute) {
			if a.Type == unix.NLMSGERR_ATTR_MSG {
				e.Detail = a.String()
			}
		})
	}
	return e
}
