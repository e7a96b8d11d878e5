package apiserver_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sagong/apiserver"
	"sagong/apiserver/resource"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// one is a listener that gives one connection.
type one struct {
	conn   chan net.Conn
	closed chan struct{}
}

func (l *one) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *one) Close() error   { close(l.closed); return nil }
func (l *one) Addr() net.Addr { return &net.TCPAddr{} }

// A client that sends its body a byte at a time holds a request, and its seat, no
// longer than any other.
func TestTricklingBodyIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.OpenMemory(store.Options{Tag: resource.Tag})
		defer s.Close()
		srv := apiserver.New(apiserver.Options{Engine: resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Fields: object.NewFieldManagers()})})
		near, far := net.Pipe()
		l := &one{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
		l.conn <- far
		hs := &http.Server{Handler: srv}
		go hs.Serve(l)
		begun := time.Now()
		go func() { // ends when the server has closed the connection
			fmt.Fprintf(near, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{", configMaps)
			for {
				if _, err := near.Write([]byte(" ")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(near), nil)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 61*time.Second || resp.StatusCode < 400 {
			t.Errorf("%d after %s", resp.StatusCode, took)
		}
		near.Close()
		hs.Close()
		time.Sleep(time.Second) // net/http lingers
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A body that does not say how long it is is read no further than one that does.
func TestBodyLimitWithoutLength(t *testing.T) {
	c := start(t)
	body := io.MultiReader(strings.NewReader(`{"metadata":{"name":"big"},"data":{"a":"`), strings.NewReader(strings.Repeat("x", 3<<20)), strings.NewReader(`"}}`))
	r := httptest.NewRequest("POST", configMaps, body)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	if c.server.ServeHTTP(w, r); r.ContentLength != -1 || w.Code != 413 || decodeStatus(t, w.Body.String()).Message != "Request entity too large: limit is 3145728" {
		t.Errorf("length %d: %d %.200s", r.ContentLength, w.Code, w.Body)
	}
}
