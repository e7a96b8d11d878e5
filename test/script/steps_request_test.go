package script

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func fetch(url string) (string, int, error) {
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := c.Get(url)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), resp.StatusCode, err
}

// http URL PATTERN: gets a page (until it answers) and matches it. With !, until
// nothing answers.
func get(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: http URL PATTERN")
	}
	want := regexp.MustCompile(args[1])
	deadline := time.Now().Add(3 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		body, status, err := fetch(args[0])
		if neg && err != nil {
			return
		}
		if !neg && err == nil && status == 200 && want.MatchString(body) {
			fmt.Fprint(ts.Stdout(), body)
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: %d %v\n%s", args[0], status, err, body)
		}
	}
}

// spread URL PATTERN N: of 40 N answers in a row every one matches PATTERN, and
// there are exactly N different ones. The last change may take a moment to reach
// the kernel, so it asks again for a minute at most.
func spread(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: spread URL PATTERN N")
	}
	want := regexp.MustCompile(args[1])
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	begin := time.Now()
	for {
		fault := distribution(args[0], want, n)
		if fault == nil {
			return
		}
		if time.Since(begin) > time.Minute {
			ts.Fatalf("%v", fault)
		}
	}
}

func distribution(url string, want *regexp.Regexp, n int) error {
	seen := map[string]int{}
	for range 40 * n {
		body, _, err := fetch(url)
		if err != nil {
			return err
		}
		m := want.FindString(body)
		if m == "" {
			return fmt.Errorf("%q is not in\n%s", want, body)
		}
		seen[m]++
	}
	if len(seen) != n {
		return fmt.Errorf("%d different answers, want %d: %v", len(seen), n, seen)
	}
	return nil
}

// generator asks a Service for pages without a pause, on a new connection each.
type generator struct {
	stop    context.CancelFunc
	done    sync.WaitGroup
	asked   atomic.Int64
	failed  atomic.Int64
	mu      sync.Mutex
	example error
}

// load start URL: begins to ask for a page over and over, from four sides.
// load stop: ends it; not one request may have failed.
func load(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 2 && args[0] == "start" {
		ctx, cancel := context.WithCancel(context.Background())
		g := &generator{stop: cancel}
		values(ts)["load"] = g
		for range 4 {
			g.done.Go(func() { g.run(ctx, args[1]) })
		}
		ts.Defer(func() { cancel(); g.done.Wait() })
		return
	}
	if len(args) != 1 || args[0] != "stop" {
		ts.Fatalf("usage: load start URL | load stop")
	}
	g := values(ts)["load"].(*generator)
	g.stop()
	g.done.Wait()
	ts.Logf("%d requests, %d failed", g.asked.Load(), g.failed.Load())
	if g.asked.Load() < 50 {
		ts.Fatalf("only %d requests were made", g.asked.Load())
	}
	if g.failed.Load() > 0 {
		ts.Fatalf("%d of %d requests failed, the first with: %v", g.failed.Load(), g.asked.Load(), g.example)
	}
}

func (g *generator) run(ctx context.Context, url string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		_, status, err := fetch(url)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		g.asked.Add(1)
		if err != nil {
			g.failed.Add(1)
			g.mu.Lock()
			if g.example == nil {
				g.example = fmt.Errorf("%s: %w", time.Now().Format("15:04:05.000"), err)
			}
			g.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// held is one connection that stays open, with a request every few milliseconds.
type held struct {
	stop   context.CancelFunc
	done   chan struct{}
	asked  int
	failed error
}

// hold start NAME HOST:PORT: opens a connection and keeps asking on it.
// hold stop NAME: ends it; it must have been the same connection all the time.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case len(args) == 3 && args[0] == "start":
		conn, err := net.DialTimeout("tcp", args[2], 5*time.Second)
		ts.Check(err)
		ctx, cancel := context.WithCancel(context.Background())
		h := &held{stop: cancel, done: make(chan struct{})}
		values(ts)["held "+args[1]] = h
		go func() { defer close(h.done); defer conn.Close(); h.run(ctx, conn) }()
		ts.Defer(func() { cancel(); <-h.done })
	case len(args) == 2 && args[0] == "stop":
		h := values(ts)["held "+args[1]].(*held)
		h.stop()
		<-h.done
		if h.failed != nil || h.asked < 3 {
			ts.Fatalf("connection %s was cut after %d requests: %v", args[1], h.asked, h.failed)
		}
		ts.Logf("connection %s: %d requests", args[1], h.asked)
	default:
		ts.Fatalf("usage: hold start NAME HOST:PORT | hold stop NAME")
	}
}

func (h *held) run(ctx context.Context, conn net.Conn) {
	r := bufio.NewReader(conn)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if h.failed = ask(conn, r); h.failed != nil {
			return
		}
		h.asked++
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func ask(conn net.Conn, r *bufio.Reader) error {
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: hello\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != 200 || resp.Close || strings.EqualFold(resp.Header.Get("Connection"), "close") {
		return errors.New("the server closes the connection: " + resp.Status)
	}
	return nil
}
