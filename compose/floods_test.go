package compose

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sagong/lib/gather"
	"sagong/lib/pki"
)

// tlsConfigs are a server's and what its clients need to trust it.
func tlsConfigs(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	ca, err := pki.LoadOrCreateAuthority(t.TempDir(), "ca", "ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p, err := ca.Issue(pki.Leaf{CommonName: "api", DNSNames: []string{"api"}, Server: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(p.CertPEM, p.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}},
		&tls.Config{RootCAs: roots, ServerName: "api", NextProtos: []string{"h2"}}
}

// raw is a client of HTTP/2 that sends what it is told to.
type raw struct {
	*http2.Framer
	header bytes.Buffer
	enc    *hpack.Encoder
	stream uint32
}

// speak begins HTTP/2 on a connection. What fails shows when it is used.
func speak(conn net.Conn) *raw {
	r := &raw{Framer: http2.NewFramer(conn, conn), stream: 1}
	r.enc = hpack.NewEncoder(&r.header)
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err == nil {
		_ = r.WriteSettings()
	}
	return r
}

// get asks for a path.
func (r *raw) get(path string) (stream uint32, err error) {
	stream = r.stream
	r.stream += 2
	return stream, r.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: r.fields(path), EndStream: true, EndHeaders: true})
}

// fields are the header of a request.
func (r *raw) fields(path string) []byte {
	return r.field(":method", "GET", ":scheme", "https", ":authority", "api", ":path", path)
}

// field encodes names and values, in turn; the result is good until the next call.
func (r *raw) field(all ...string) []byte {
	r.header.Reset()
	for i := 0; i < len(all); i += 2 {
		r.enc.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]})
	}
	return r.header.Bytes()
}

// until reads frames until one is what is looked for, or the connection ends.
func (r *raw) until(is func(http2.Frame) bool) error {
	for {
		f, err := r.ReadFrame()
		var stream http2.StreamError
		if errors.As(err, &stream) {
			continue
		}
		if err != nil {
			return err
		}
		if is(f) {
			return nil
		}
	}
}

// drain reads until the connection ends.
func (r *raw) drain() { _ = r.until(func(http2.Frame) bool { return false }) }

func answers(stream uint32) func(http2.Frame) bool {
	return func(f http2.Frame) bool { h, ok := f.(*http2.MetaHeadersFrame); return ok && h.StreamID == stream }
}

// TestFloods has one client misuse HTTP/2 in each way that has a name: the server
// keeps little for it and ends its connection, and others are served.
func TestFloods(t *testing.T) {
	server, client := tlsConfigs(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var holding, most atomic.Int64
	release := make(chan struct{})
	s := apiHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			now := holding.Add(1)
			defer holding.Add(-1)
			for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
			}
			<-release // as one that does not look whether its client is there
		}
		io.WriteString(w, "ok")
	}), slog.New(slog.DiscardHandler))
	s.TLSConfig = server
	var serving sync.WaitGroup
	serving.Go(func() { s.ServeTLS(gather.Listener(l), "", "") })
	t.Cleanup(func() { s.Close(); serving.Wait() })
	dial := func(t *testing.T) *raw {
		t.Helper()
		conn, err := tls.Dial("tcp", l.Addr().String(), client)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return speak(conn)
	}
	others := dial(t)
	served := func(t *testing.T) {
		t.Helper()
		stream, err := others.get("/ok")
		if err == nil {
			err = others.until(answers(stream))
		}
		if err != nil {
			t.Errorf("another client: %v", err)
		}
	}
	limit := s.HTTP2.MaxConcurrentStreams

	// CVE-2023-44487: requests that are taken back at once still run.
	t.Run("rapid reset", func(t *testing.T) {
		c := dial(t)
		var reading sync.WaitGroup
		reading.Go(c.drain)
		sent := 0
		for err := error(nil); err == nil; sent++ {
			var stream uint32
			if stream, err = c.get("/hold"); err == nil {
				err = c.WriteRSTStream(stream, http2.ErrCodeCancel)
			}
			if sent == 1<<20 {
				t.Fatalf("%d requests were taken back", sent)
			}
		}
		reading.Wait()
		served(t)
		if n := most.Load(); n > int64(limit) {
			t.Errorf("%d requests ran for one connection, may %d", n, limit)
		}
	})
	t.Run("streams", func(t *testing.T) {
		c := dial(t)
		var last uint32
		for range limit + 1 {
			if last, err = c.get("/hold"); err != nil {
				t.Fatal(err)
			}
		}
		refused := func(f http2.Frame) bool {
			r, ok := f.(*http2.RSTStreamFrame)
			return ok && r.StreamID == last && (r.ErrCode == http2.ErrCodeRefusedStream || r.ErrCode == http2.ErrCodeProtocol)
		}
		if err := c.until(refused); err != nil {
			t.Errorf("stream %d of %d: %v", last, limit, err)
		}
		served(t)
	})
	close(release)

	// CVE-2023-45288: a header without an end.
	t.Run("continuation", func(t *testing.T) {
		c := dial(t)
		var reading sync.WaitGroup
		reading.Go(c.drain)
		err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields("/ok")})
		piece := c.field("x", strings.Repeat("a", 8<<10))
		for sent := 0; err == nil; sent += len(piece) {
			if err = c.WriteContinuation(1, false, piece); sent > 64<<20 {
				t.Fatalf("%d bytes of a header were taken", sent)
			}
		}
		reading.Wait()
		served(t)
	})
	t.Run("header", func(t *testing.T) {
		c := dial(t)
		err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields("/ok"), EndStream: true})
		for size, last := 0, false; err == nil && !last; {
			size += 8<<10 + 33 // as HTTP/2 counts it
			last = size > s.MaxHeaderBytes+1024
			err = c.WriteContinuation(1, last, c.field("x", strings.Repeat("a", 8<<10)))
		}
		code := ""
		if err == nil {
			err = c.until(func(f http2.Frame) bool {
				h, ok := f.(*http2.MetaHeadersFrame)
				if ok {
					code = h.PseudoValue("status")
				}
				return ok
			})
		}
		if code != "431" {
			t.Errorf("a header of more than 1 MB: %q, %v", code, err)
		}
		served(t)
	})
}

// A client that does not end its handshake, its first words or a header, that asks
// nothing or does not take the answers to control frames, loses its connection.
func TestDawdlersOverTLS(t *testing.T) {
	flood := func(write func() error) (err error) {
		for n := 0; err == nil && n < 100_000; n++ {
			err = write()
		}
		return err
	}
	for name, tc := range map[string]struct {
		protocol string // "": no handshake
		say      func(net.Conn) error
		within   time.Duration
		takes    bool // what the server says, meanwhile
	}{
		"silent":           {"", func(net.Conn) error { return nil }, 33 * time.Second, false},
		"half a handshake": {"", func(c net.Conn) error { return trickle(c, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") }, 33 * time.Second, false},
		"header":           {"http/1.1", func(c net.Conn) error { return trickle(c, "GET / HTTP/1.1\r\nX: ") }, 33 * time.Second, true},
		"half a preface":   {"h2", func(c net.Conn) error { return trickle(c, http2.ClientPreface[:3]) }, 11 * time.Second, true},
		"nothing asked":    {"h2", func(c net.Conn) error { speak(c); return nil }, 92 * time.Second, false},
		"half a header": {"h2", func(c net.Conn) error {
			r := speak(c)
			err := r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.fields("/ok")})
			for err == nil {
				time.Sleep(time.Second)
				err = r.WriteContinuation(1, false, r.field("x", "y"))
			}
			return err
		}, 92 * time.Second, true},
		"pings": {"h2", func(c net.Conn) error {
			r := speak(c)
			return flood(func() error { return r.WritePing(false, [8]byte{}) })
		}, 10 * time.Second, false},
		"settings": {"h2", func(c net.Conn) error { r := speak(c); return flood(func() error { return r.WriteSettings() }) }, 92 * time.Second, false}, // one answer is owed for all: nothing is kept
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, l := apiHTTP(http.NotFoundHandler(), slog.New(slog.DiscardHandler)), pipes{make(chan net.Conn)}
				server, client := tlsConfigs(t) // valid by the bubble's clock, which begins in 2000
				s.TLSConfig = server
				go s.ServeTLS(gather.Listener(l), "", "")
				near, far := net.Pipe()
				l.conns <- far
				begun := time.Now()
				c := near
				if tc.protocol != "" {
					client.NextProtos = []string{tc.protocol}
					over := tls.Client(near, client)
					if err := over.Handshake(); err != nil {
						t.Error(err)
					}
					c = over
				}
				if tc.takes {
					go io.Copy(io.Discard, c)
				}
				err := tc.say(c)
				if err == nil {
					_, err = io.Copy(io.Discard, c)
				}
				if took := time.Since(begun); took > tc.within {
					t.Errorf("borne for %s, %v", took, err)
				}
				near.Close()
				s.Close()
				time.Sleep(10 * time.Second) // net/http lingers
			})
		})
	}
}

// trickle sends what first says, then a byte a second until that fails.
func trickle(c net.Conn, first string) error {
	_, err := io.WriteString(c, first)
	for err == nil {
		time.Sleep(time.Second)
		_, err = c.Write([]byte("a"))
	}
	return err
}
