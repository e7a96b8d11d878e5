package compose

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener without a network.
type pipes struct{ conns chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	c, open := <-p.conns
	if !open {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error { close(p.conns); return nil }
func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A client that never ends its header, or asks nothing for long, loses its
// connection to the API server; and so it does to a node's agent.
func TestDawdlersLoseTheirConnection(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for name, server := range map[string]func() *http.Server{
		"API":   func() *http.Server { return apiHTTP(ok, quiet) },
		"agent": func() *http.Server { return nodeServer(ok, nil, nil, quiet) },
	} {
		synctest.Test(t, func(t *testing.T) {
			s, l := server(), pipes{make(chan net.Conn)}
			go s.Serve(l)
			defer s.Close()
			// dawdle sends what first says, then a byte a second, and returns how long
			// the server bore it.
			dawdle := func(first string) time.Duration {
				near, far := net.Pipe()
				l.conns <- far
				begun := time.Now()
				go func() {
					io.WriteString(near, first)
					for {
						time.Sleep(time.Second)
						if _, err := near.Write([]byte("a")); err != nil {
							return
						}
					}
				}()
				io.Copy(io.Discard, near)
				took := time.Since(begun)
				near.Close()
				return took
			}
			if took := dawdle("GET / HTTP/1.1\r\nX-Long: "); took > 33*time.Second {
				t.Errorf("%s: a header may take %s", name, took)
			}
			near, far := net.Pipe()
			l.conns <- far
			begun := time.Now()
			go io.WriteString(near, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			in := bufio.NewReader(near)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			in.ReadByte() // returns at the end of the connection
			if took := time.Since(begun); took > 91*time.Second {
				t.Errorf("%s: nothing may be asked for %s", name, took)
			}
			near.Close()
			near, far = net.Pipe()
			l.conns <- far
			go fmt.Fprintf(near, "GET / HTTP/1.1\r\nHost: h\r\nX-Long: %s\r\n\r\n", strings.Repeat("a", 2<<20))
			if resp, err := http.ReadResponse(bufio.NewReader(near), nil); err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s: a header of 2 MB: %v, %v", name, resp, err)
			}
			near.Close()
			time.Sleep(time.Second) // net/http lingers
		})
	}
}
