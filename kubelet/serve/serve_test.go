package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"

	"sagong/runtime"
)

// fakeNode has one pod, p in ns, with one container, c.
type fakeNode struct {
	pod   *corev1.Pod
	c     Container
	err   error
	ended chan struct{}
}

func (n *fakeNode) Pods() []*corev1.Pod { return []*corev1.Pod{n.pod} }
func (n *fakeNode) Pod(ns, name, uid string) (*corev1.Pod, bool) {
	return n.pod, ns == "ns" && name == "p" && (uid == "" || uid == "u")
}
func (n *fakeNode) Container(p *corev1.Pod, name string, previous bool) (Container, error) {
	return n.c, n.err
}
func (n *fakeNode) Ended(id string) <-chan struct{}         { return n.ended }
func (n *fakeNode) NetNS(p *corev1.Pod) (string, error)     { return "", nil }
func (*fakeNode) Usage(context.Context) ([]PodUsage, error) { return nil, nil }

func (n *fakeNode) Summary(context.Context, bool) (*Summary, error) { return &Summary{}, nil }
func (n *fakeNode) Healthy() error                                  { return nil }

// fakeStreams runs "cat", "fail" and "size".
type fakeStreams struct{ runtime.Runtime }

func (fakeStreams) Exec(ctx context.Context, id string, o runtime.ExecOptions) (int, error) {
	switch o.Args[0] {
	case "cat":
		_, err := io.Copy(o.Stdout, o.Stdin)
		return 0, err
	case "fail":
		io.WriteString(o.Stderr, "oops")
		return 3, nil
	case "size":
		s := <-o.Resize
		fmt.Fprintf(o.Stdout, "%dx%d", s.Width, s.Height)
		return 0, nil
	case "nosuch":
		return 0, &runtime.StartError{Step: `exec: "nosuch"`, NotFound: true, Err: os.ErrNotExist}
	case "forever":
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return 0, errors.New("unexpected command")
}

func (fakeStreams) Attach(ctx context.Context, id string, o runtime.AttachOptions) error {
	io.WriteString(o.Stdout, "attached")
	return nil
}

func newServer(t *testing.T) (*fakeNode, *httptest.Server) {
	n := &fakeNode{pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}},
		c: Container{ID: "id", Running: true, Stdin: true}, ended: make(chan struct{})}
	s := httptest.NewServer(New(Options{Node: n, Runtime: fakeStreams{}}))
	t.Cleanup(s.Close)
	return n, s
}

const day = "2026-01-01T10:00:0"

func writeLog(t *testing.T, n *fakeNode, lines ...string) {
	t.Helper()
	n.c.LogPath = filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(n.c.LogPath, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLogs(t *testing.T) {
	n, s := newServer(t)
	writeLog(t, n, day+"1Z stdout F one\n", day+"2Z stderr F two\n", day+"3Z stdout P thr\n", day+"3Z stdout F ee\n", day+"4Z stdout F four\n")
	for query, want := range map[string]string{
		"":                               "one\ntwo\nthree\nfour\n",
		"tailLines=1":                    "four\n",
		"tailLines=0":                    "",
		"tailLines=100":                  "one\ntwo\nthree\nfour\n",
		"timestamps=true&tailLines=1":    day + "4Z four\n",
		"limitBytes=6":                   "one\ntw",
		"stream=Stderr":                  "two\n",
		"stream=Stdout&limitBytes=4":     "one\n",
		"sinceTime=2026-01-01T10:00:03Z": "three\nfour\n",
		"sinceSeconds=5":                 "",
		"timestamps=true&sinceTime=2026-01-01T10:00:03Z": day + "3Z three\n" + day + "4Z four\n",
	} {
		if got := get(t, s, "/containerLogs/ns/p/c?"+query, 200); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	for query, part := range map[string]string{
		"tailLines=-1": "tailLines", "limitBytes=0": "limitBytes", "sinceTime=x": "sinceTime", "stream=x": "stream",
		"stream=Stdout&tailLines=1": "tailLines", "sinceSeconds=1&sinceTime=2026-01-01T10:00:03Z": "at most one",
	} {
		if got := get(t, s, "/containerLogs/ns/p/c?"+query, 400); !strings.Contains(got, part) {
			t.Errorf("%s: %q", query, got)
		}
	}
	get(t, s, "/containerLogs/ns/other/c", 404)
	n.err = apierrors.NewBadRequest("container \"c\" in pod \"p\" is waiting to start: ContainerCreating")
	if got := get(t, s, "/containerLogs/ns/p/c", 400); !strings.Contains(got, "waiting to start: ContainerCreating") {
		t.Errorf("got %q", got)
	}
}

func get(t *testing.T, s *httptest.Server, path string, code int) string {
	t.Helper()
	r, err := http.Get(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != code {
		t.Errorf("%s: status %d, want %d: %s", path, r.StatusCode, code, body)
	}
	return string(body)
}

func TestLogsOverWebSocket(t *testing.T) {
	n, s := newServer(t)
	writeLog(t, n, day+"1Z stdout F one\n", day+"2Z stderr F two\n")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(ctx, s.URL+"/containerLogs/ns/p/c", &websocket.DialOptions{Subprotocols: []string{"binary.k8s.io"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	var got []byte
	for {
		_, data, err := c.Read(ctx)
		if err != nil {
			break
		}
		got = append(got, data...)
	}
	if string(got) != "one\ntwo\n" {
		t.Errorf("got %q", got)
	}
}

func TestLogsFollow(t *testing.T) {
	n, s := newServer(t)
	writeLog(t, n, day+"1Z stdout F one\n")
	r, err := http.Get(s.URL + "/containerLogs/ns/p/c?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	expect := func(want string) {
		t.Helper()
		buf := make([]byte, len(want))
		if _, err := io.ReadFull(r.Body, buf); err != nil || string(buf) != want {
			t.Fatalf("read %q, %v; want %q", buf, err, want)
		}
	}
	appendTo := func(text string) {
		f, err := os.OpenFile(n.c.LogPath, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(text)
		f.Close()
	}
	expect("one\n")
	appendTo(day + "2Z stdout F tw")
	appendTo("o\n")
	expect("two\n")
	// Rotation: the old file gets a last line, the new one goes on.
	if err := os.Rename(n.c.LogPath, n.c.LogPath+".1"); err != nil {
		t.Fatal(err)
	}
	appendTo(day + "3Z stdout F three\n")
	expect("three\n")
	appendTo(day + "4Z stdout F four\n")
	close(n.ended)
	rest, err := io.ReadAll(r.Body)
	if err != nil || string(rest) != "four\n" {
		t.Fatalf("rest is %q, %v", rest, err)
	}
}

// executors are the two ways in which kubectl connects.
func executors(t *testing.T, s *httptest.Server, path string) map[string]remotecommand.Executor {
	t.Helper()
	u, err := url.Parse(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &rest.Config{Host: s.URL}
	sp, err := remotecommand.NewSPDYExecutor(cfg, "POST", u)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := remotecommand.NewWebSocketExecutor(cfg, "GET", u.String())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]remotecommand.Executor{"SPDY": sp, "WebSocket": ws}
}

func TestExec(t *testing.T) {
	_, s := newServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for name, x := range executors(t, s, "/exec/ns/p/c?command=cat&input=1&output=1&error=1") {
		var out, errb bytes.Buffer
		if err := x.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out, Stderr: &errb}); err != nil || out.String() != "hello" {
			t.Errorf("%s: %q, %v", name, out.String(), err)
		}
	}
	for name, x := range executors(t, s, "/exec/ns/p/u/c?command=fail&stdout=true&stderr=true") {
		var out, errb bytes.Buffer
		err := x.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errb})
		var code utilexec.CodeExitError
		if !errors.As(err, &code) || code.Code != 3 || errb.String() != "oops" {
			t.Errorf("%s: %q, %v", name, errb.String(), err)
		}
	}
	for name, x := range executors(t, s, "/exec/ns/p/c?command=nosuch&output=1&error=1") {
		var out, errb bytes.Buffer
		err := x.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errb})
		var code utilexec.CodeExitError
		if !errors.As(err, &code) || code.Code != 127 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, x := range executors(t, s, "/exec/ns/p/c?command=size&output=1&tty=1") {
		var out bytes.Buffer
		q := sizeOnce{remotecommand.TerminalSize{Width: 80, Height: 25}, make(chan struct{}, 1)}
		q.once <- struct{}{}
		if err := x.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Tty: true, TerminalSizeQueue: q}); err != nil || out.String() != "80x25" {
			t.Errorf("%s: %q, %v", name, out.String(), err)
		}
	}
	for name, x := range executors(t, s, "/attach/ns/p/c?output=1&error=1") {
		var out, errb bytes.Buffer
		if err := x.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errb}); err != nil || out.String() != "attached" {
			t.Errorf("%s: %q, %v", name, out.String(), err)
		}
	}
}

type sizeOnce struct {
	s    remotecommand.TerminalSize
	once chan struct{}
}

func (q sizeOnce) Next() *remotecommand.TerminalSize {
	select {
	case <-q.once:
		return &q.s
	default:
		return nil
	}
}

func TestPortForward(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	_, s := newServer(t)
	u, _ := url.Parse(s.URL + "/portForward/ns/p")
	cfg := &rest.Config{Host: s.URL}
	tr, up, err := spdy.RoundTripperFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := portforward.NewSPDYOverWebsocketDialer(u, cfg)
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string, fw *portforward.PortForwarder, ready, stop chan struct{}) {
		done := make(chan error, 1)
		go func() { done <- fw.ForwardPorts() }()
		select {
		case <-ready:
		case err := <-done:
			t.Fatalf("%s: %v", name, err)
		}
		ports, err := fw.GetPorts()
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "ping")
		c.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil || string(got) != "ping" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		c.Close()
		close(stop)
		<-done
	}
	port := fmt.Sprintf("0:%d", l.Addr().(*net.TCPAddr).Port)
	ready, stop := make(chan struct{}), make(chan struct{})
	fw, err := portforward.New(spdy.NewDialer(up, &http.Client{Transport: tr}, "POST", u), []string{port}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	run("SPDY", fw, ready, stop)
	ready, stop = make(chan struct{}), make(chan struct{})
	if fw, err = portforward.New(ws, []string{port}, stop, ready, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	run("WebSocket", fw, ready, stop)
}

func TestAuthorize(t *testing.T) {
	n, _ := newServer(t)
	s := httptest.NewServer(New(Options{Node: n, Runtime: fakeStreams{}, Authorize: func(*http.Request) error { return apierrors.NewUnauthorized("who?") }}))
	defer s.Close()
	get(t, s, "/healthz", 200)
	for _, p := range []string{"/pods", "/containerLogs/ns/p/c", "/stats/summary", "/healthz/ping"} {
		get(t, s, p, 401)
	}
}
