// Package gather has connections that write together what was written one by
// one. TLS makes a record of at most 16 KB of each write and sends it at once,
// and Go's HTTP/2 writes each frame in two parts, so that an answer of 50 MB
// takes 6,000 system calls, each of which wakes the reader.
package gather

import (
	"net"
	"os"
	"sync"
	"time"
)

const (
	// most is how much a connection holds before its writer must wait, in bytes.
	most = 256 << 10
	// lastWords is how long Close waits for what was written before it.
	lastWords = 5 * time.Second
)

// Listener returns a listener whose connections gather their writes.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return New(c), nil
}

// Conn is a connection whose Write returns once the bytes are copied: they are
// sent with what else is written meanwhile. An error of sending is returned by
// the Write after it.
type Conn struct {
	net.Conn

	mu      sync.Mutex
	moved   sync.Cond // sending took what was waiting, or has ended
	waiting *[]byte   // written and not yet taken, from buffers
	sending bool
	closed  bool
	over    bool // no more writes are taken
	err     error
}

// buffers are shared: a connection with nothing to send holds none.
var buffers = sync.Pool{New: func() any { return new(make([]byte, 0, 16<<10)) }}

// New returns a connection that gathers what is written to c.
func New(c net.Conn) *Conn {
	g := &Conn{Conn: c}
	g.moved.L = &g.mu
	return g
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sending && c.waiting != nil && len(*c.waiting)+len(p) > most && c.err == nil {
		c.moved.Wait()
	}
	if c.err != nil {
		return 0, c.err
	}
	if c.closed {
		return 0, net.ErrClosed
	}
	if c.over {
		return 0, os.ErrDeadlineExceeded
	}
	if c.waiting == nil {
		c.waiting = buffers.Get().(*[]byte)
	}
	*c.waiting = append(*c.waiting, p...)
	if !c.sending {
		c.sending = true
		go c.send() // ends when all is sent
	}
	return len(p), nil
}

func (c *Conn) send() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.waiting != nil && c.err == nil {
		taken := c.waiting
		c.waiting = nil
		c.moved.Broadcast()
		c.mu.Unlock()
		_, err := c.Conn.Write(*taken)
		*taken = (*taken)[:0]
		buffers.Put(taken)
		c.mu.Lock()
		c.err = err
	}
	c.sending = false
	c.moved.Broadcast()
	if c.closed {
		_ = c.Conn.Close()
	}
}

// SetWriteDeadline implements net.Conn. One that is past ends writing, as TLS has
// it when it closes, but not the sending of what was written before: to its
// writer that is done.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = !t.IsZero() && !t.After(time.Now())
	if c.over && c.sending {
		t = time.Now().Add(lastWords)
	}
	return c.Conn.SetWriteDeadline(t)
}

// Close has what was written before it sent, for a while, and closes the
// connection then. It does not wait for that.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	if c.sending {
		return c.Conn.SetDeadline(time.Now().Add(lastWords))
	}
	return c.Conn.Close()
}
