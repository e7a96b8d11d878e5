package gather_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sagong/lib/gather"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pair(t *testing.T) (*gather.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err := gather.Listener(l).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server.(*gather.Conn), client
}

// All that was written arrives in order, more than is ever held and what was
// written just before Close too.
func TestAllArrives(t *testing.T) {
	server, client := pair(t)
	want := make([]byte, 3<<20)
	_, _ = rand.Read(want)
	go func() {
		for rest, n := want, 1; len(rest) > 0; n = n*7%40009 + 1 {
			n = min(n, len(rest))
			if m, err := server.Write(rest[:n]); m != n || err != nil {
				t.Errorf("%d of %d: %v", m, n, err)
				break
			}
			rest = rest[n:]
		}
		server.Close()
	}()
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
	}
}

// A reader that does not read holds the writer up, and its end frees it.
func TestSlowReader(t *testing.T) {
	server, client := pair(t)
	wrote := make(chan int, 1)
	go func() {
		n := 0
		for {
			m, err := server.Write(make([]byte, 64<<10))
			n += m
			if err != nil {
				wrote <- n
				return
			}
		}
	}()
	if _, err := io.ReadFull(client, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	client.Close()
	<-wrote
	if _, err := server.Write([]byte("x")); err == nil {
		t.Error("no error after the connection is gone")
	}
}

func TestClosed(t *testing.T) {
	server, client := pair(t)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := server.Close(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if b, err := io.ReadAll(client); len(b) > 0 || err != nil {
		t.Error(b, err)
	}
}

// What was written before a deadline that is past, as TLS sets one when it
// closes, is sent none the less.
func TestLastWordsBeforeTheDeadline(t *testing.T) {
	here, there := net.Pipe()
	c := gather.New(here)
	if _, err := c.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetWriteDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("too late")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write after the deadline: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(there); string(got) != "last words" || err != nil {
		t.Errorf("received %q, %v", got, err)
	}
}
