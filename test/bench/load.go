package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"k8s.io/client-go/rest"
)

// call is one request of a load.
type call struct {
	method, path        string
	contentType, accept string
	body                []byte
}

// load speaks HTTP/2 with as little work as possible, so that the machine's
// processors are left to the server it measures: a connection is one goroutine,
// which writes a client's next request when it has read the answer to the last.
type load struct {
	authority, token string
	conns            []*loadConn
}

// clientsPerConnection share a connection, as the workers of one process do.
const clientsPerConnection = 8

// newLoad connects clients that can have one request each under way.
func newLoad(config *rest.Config, clients int) (*load, error) {
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(config.Host)
	if err != nil {
		return nil, err
	}
	tlsConfig.NextProtos = []string{http2.NextProtoTLS}
	l := &load{authority: u.Host, token: config.BearerToken}
	for clients > 0 {
		n := min(clients, clientsPerConnection)
		clients -= n
		c, err := l.connect(tlsConfig, n)
		if err != nil {
			l.close()
			return nil, err
		}
		l.conns = append(l.conns, c)
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.conns {
		c.raw.Close()
	}
}

// run makes calls until next has no more or an answer is not of class 2xx. It
// returns how long each took, in milliseconds. next is called by many goroutines.
func (l *load) run(ctx context.Context, next func() (call, bool)) ([]float64, error) {
	done := make(chan error, len(l.conns))
	defer context.AfterFunc(ctx, l.close)()
	for _, c := range l.conns {
		go func() { done <- c.run(next) }()
	}
	var errs error
	for range l.conns {
		errs = errors.Join(errs, <-done)
	}
	var all []float64
	for _, c := range l.conns {
		all = append(all, c.took...)
		c.took = nil
	}
	return all, errors.Join(ctx.Err(), errs)
}

// The windows of flow control, in bytes (RFC 9113, 6.9): what a connection grants
// is more than is ever under way.
const (
	firstWindow = 65535
	wideWindow  = 1 << 30
)

type loadConn struct {
	authority string
	token     string // of who asks; "" when the certificate says it
	clients   int
	raw       *tls.Conn
	in        *bufio.Reader
	out       *bufio.Writer
	framer    *http2.Framer
	block     bytes.Buffer // of headers, written by headers
	headers   *hpack.Encoder

	nextID   uint32
	mayWrite int   // bytes of bodies that the server still takes
	consumed int   // bytes of answers since the last grant
	received int64 // bytes of answers
	streams  map[uint32]*exchange
	took     []float64
}

// exchange is a request under way.
type exchange struct {
	begin  time.Time
	status string
	answer []byte // of an error
}

func (l *load) connect(config *tls.Config, clients int) (*loadConn, error) {
	raw, err := tls.Dial("tcp", l.authority, config)
	if err != nil {
		return nil, err
	}
	if p := raw.ConnectionState().NegotiatedProtocol; p != http2.NextProtoTLS {
		raw.Close()
		return nil, fmt.Errorf("the server speaks %q, not HTTP/2", p)
	}
	c := &loadConn{
		authority: l.authority, token: l.token, clients: clients, raw: raw,
		in: bufio.NewReaderSize(raw, 64<<10), out: bufio.NewWriterSize(raw, 64<<10),
		nextID: 1, mayWrite: firstWindow, streams: map[uint32]*exchange{},
	}
	c.framer = http2.NewFramer(c.out, c.in)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.SetReuseFrames()
	c.headers = hpack.NewEncoder(&c.block)
	_, _ = c.out.WriteString(http2.ClientPreface)
	_ = c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: wideWindow},
	)
	_ = c.framer.WriteWindowUpdate(0, wideWindow-firstWindow)
	return c, c.out.Flush()
}

// run has each client make its calls. It writes what it has to only when there
// is nothing left to read without waiting.
func (c *loadConn) run(next func() (call, bool)) error {
	for range c.clients {
		if err := c.send(next); err != nil {
			return err
		}
	}
	for len(c.streams) > 0 {
		if c.in.Buffered() == 0 {
			if err := c.out.Flush(); err != nil {
				return err
			}
		}
		f, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		ended, err := c.read(f)
		if err != nil {
			return err
		}
		if ended {
			if err := c.send(next); err != nil {
				return err
			}
		}
	}
	return c.out.Flush()
}

func (c *loadConn) send(next func() (call, bool)) error {
	r, ok := next()
	if !ok {
		return nil
	}
	if c.mayWrite < len(r.body) {
		return errors.New("the server takes no more of the bodies")
	}
	c.mayWrite -= len(r.body)
	c.block.Reset()
	for _, h := range [...][2]string{
		{":method", r.method}, {":scheme", "https"}, {":authority", c.authority}, {":path", r.path},
		{"content-type", r.contentType}, {"accept", r.accept}, {"content-length", strconv.Itoa(len(r.body))},
	} {
		if h[1] == "" || h[1] == "0" {
			continue
		}
		// A path is seldom used twice, and a length only by chance.
		field := hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: h[0] == ":path"}
		if err := c.headers.WriteField(field); err != nil {
			return err
		}
	}
	if c.token != "" {
		if err := c.headers.WriteField(hpack.HeaderField{Name: "authorization", Value: "Bearer " + c.token}); err != nil {
			return err
		}
	}
	id := c.nextID
	c.nextID += 2
	c.streams[id] = &exchange{begin: time.Now()}
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: len(r.body) == 0,
	}); err != nil || len(r.body) == 0 {
		return err
	}
	return c.framer.WriteData(id, true, r.body)
}

// read takes in a frame; ended says that it was an answer's last.
func (c *loadConn) read(f http2.Frame) (ended bool, err error) {
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		if s := c.streams[f.StreamID]; s != nil && s.status == "" {
			s.status = f.PseudoValue("status")
		}
		return f.StreamEnded(), c.end(f.StreamID, f.StreamEnded())
	case *http2.DataFrame:
		if s := c.streams[f.StreamID]; s != nil && s.status[0] != '2' {
			s.answer = append(s.answer, f.Data()...)
		}
		c.received += int64(len(f.Data()))
		if c.consumed += len(f.Data()); c.consumed > wideWindow/2 {
			if err := c.framer.WriteWindowUpdate(0, uint32(c.consumed)); err != nil {
				return false, err
			}
			c.consumed = 0
		}
		return f.StreamEnded(), c.end(f.StreamID, f.StreamEnded())
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.mayWrite += int(f.Increment)
		}
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return false, c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return false, c.framer.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame:
		return false, fmt.Errorf("a request was broken off: %s", f.ErrCode)
	case *http2.GoAwayFrame:
		return false, fmt.Errorf("the server ends the connection: %s", f.ErrCode)
	}
	return false, nil
}

func (c *loadConn) end(id uint32, ended bool) error {
	if !ended {
		return nil
	}
	s := c.streams[id]
	delete(c.streams, id)
	if s.status[0] != '2' {
		code, _ := strconv.Atoi(s.status)
		return fmt.Errorf("a request was answered with %s %s: %.300s", s.status, http.StatusText(code), s.answer)
	}
	c.took = append(c.took, float64(time.Since(s.begin).Microseconds())/1000)
	return nil
}
