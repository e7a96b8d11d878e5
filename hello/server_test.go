package hello

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// program is this test binary called by the name under which its C part, and
// then Main, take over.
func program(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{"/hello"}, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func TestMain(m *testing.M) {
	if code, mine := Main(os.Args); mine {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// server is a running hello server.
type server struct {
	cmd   *exec.Cmd
	addr  string // 127.0.0.1:port
	port  string
	lines chan string // what it prints after the first line
	ended chan error
}

func start(t testing.TB, env ...string) *server {
	t.Helper()
	cmd := program(t)
	cmd.Env = append(cmd.Env, append([]string{"PORT=0", "HELLO_VERSION=v1"}, env...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{cmd: cmd, lines: make(chan string, 1000), ended: make(chan error, 1)}
	in := bufio.NewScanner(out)
	if !in.Scan() {
		t.Fatalf("the server does not start: %v", cmd.Wait())
	}
	m := regexp.MustCompile(`listening on port (\d+)`).FindStringSubmatch(in.Text())
	if m == nil {
		t.Fatalf("the server says %q", in.Text())
	}
	s.port = m[1]
	s.addr = "127.0.0.1:" + s.port
	done := make(chan struct{})
	go func() {
		defer close(done)
		for in.Scan() {
			s.lines <- in.Text()
		}
		close(s.lines)
		s.ended <- cmd.Wait()
	}()
	t.Cleanup(func() { cmd.Process.Kill(); <-done })
	return s
}

// ask sends raw bytes and returns everything that comes until the server
// closes.
func (s *server) ask(t testing.TB, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	go io.WriteString(c, raw)
	data, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("after %q: %v", data, err)
	}
	return string(data)
}

// statuses picks the status codes out of a stream of answers.
func statuses(stream string) string {
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^HTTP/1\.1 (\d+) `).FindAllStringSubmatch(stream, -1) {
		list = append(list, m[1])
	}
	return strings.Join(list, " ")
}

const bye = "Connection: close\r\n"

func TestRequests(t *testing.T) {
	s := start(t)
	for _, c := range []struct{ name, in, want string }{
		{"plain", "GET / HTTP/1.1\r\nHost: x\r\n" + bye + "\r\n", "200"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "200"},
		{"HTTP/1.0 kept", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n", "200 200"},
		{"absolute form", "GET http://x/healthz HTTP/1.1\r\nHost: x\r\n" + bye + "\r\n", "200"},
		{"absolute form without a path", "GET http://x HTTP/1.1\r\nHost: x\r\n" + bye + "\r\n", "200"},
		{"leading empty line", "\r\nGET / HTTP/1.0\r\n\r\n", "200"},
		{"head", "HEAD / HTTP/1.1\r\nHost: x\r\n" + bye + "\r\n", "200"},
		{"options", "OPTIONS * HTTP/1.1\r\nHost: x\r\n" + bye + "\r\n", "405"},
		{"delete", "DELETE / HTTP/1.1\r\nHost: x\r\n" + bye + "\r\n", "405"},
		{"pipelined", "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n" + bye + "\r\n", "200 200 200"},
		{"body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n", "200 200"},
		{"large body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("x", 300000) + "GET / HTTP/1.0\r\n\r\n", "200 200"},
		{"same length twice", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n" + bye + "\r\nab", "200"},
		{"continue", "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + bye + "Content-Length: 0\r\n\r\n", "200"},

		{"body too large", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", "413"},
		{"length overflows", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999\r\n\r\n", "413"},
		{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"},
		{"negative length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "400"},
		{"length with sign", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", "400"},
		{"empty length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", "400"},
		{"list of lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n", "400"},
		{"chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "411"},
		{"chunked and length", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", "400"},
		{"other expectation", "POST / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n", "417"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "400"},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
		{"space before colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400"},
		{"folded", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "400"},
		{"no colon", "GET / HTTP/1.1\r\nHost\r\n\r\n", "400"},
		{"bare LF", "GET / HTTP/1.1\nHost: a\n\n", "400"},
		{"NUL in a header", "GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n", "400"},
		{"NUL in the path", "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
		{"CR in a header", "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", "400"},
		{"no version", "GET /\r\n\r\n", "400"},
		{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
		{"relative path", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
		{"newer", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", "400"},
		{"long path", "GET /" + strings.Repeat("x", 20000) + " HTTP/1.1\r\nHost: a\r\n\r\n", "431"},
		{"long header", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 20000) + "\r\n\r\n", "431"},
		{"many headers", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n", "431"},
		{"after a refusal nothing more", "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n", "400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.ask(t, c.in)
			if statuses(got) != c.want {
				t.Errorf("statuses are %q, want %q, in %q", statuses(got), c.want, got)
			}
			if c.name == "head" && !strings.HasSuffix(got, "\r\n\r\n") {
				t.Errorf("HEAD has a body: %q", got)
			}
			// The same, a byte at a time, must give the same.
			if len(c.in) > 400 {
				return
			}
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute))
			go func() {
				for n := range len(c.in) {
					if _, err := io.WriteString(conn, c.in[n:n+1]); err != nil {
						return
					}
				}
			}()
			slow, _ := io.ReadAll(conn)
			if statuses(string(slow)) != c.want {
				t.Errorf("byte by byte: statuses are %q, want %q, in %q", statuses(string(slow)), c.want, slow)
			}
		})
	}
	if s.cmd.ProcessState != nil {
		t.Error("the server has ended")
	}
}

// get asks with a client of its own, so that no connection is shared.
func (s *server) get(t testing.TB, path string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+s.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n+1 < len(header); n += 2 {
		req.Header.Set(header[n], header[n+1])
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestPage(t *testing.T) {
	config, secret := t.TempDir(), t.TempDir()
	// As the node agent lays out a volume.
	for path, data := range map[string]string{
		config + "/..2026/motd": "good \"morning\"\n", secret + "/password": "s3cret", config + "/..2026/bytes": "a\xff\x00\xc3\xa4\xed\xa0\x80z",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"..data": "..2026", "motd": "..data/motd", "bytes": "..data/bytes", "broken": "..data/none"} {
		if err := os.Symlink(to, filepath.Join(config, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(config, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "HOSTNAME=hello-1", "NODE_NAME=n1", "POD_IP=10.1.2.3", "POD_NAMESPACE=demo", "HELLO_DIRS=/nonexistent:"+config+":"+secret,
		"GREETING=hi", "SHOW_COLOUR=grün", "SHOWN=no", "PASSWORD=no", "HELLO_SERVICE_HOST=no")
	code, body := s.get(t, "/a/b?c=d", "Accept", "text/html, application/json;q=0.9")
	if code != 200 {
		t.Errorf("status is %d", code)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	want := map[string]any{
		"pod": "hello-1", "namespace": "demo", "node": "n1", "address": "10.1.2.3", "version": "v1", "method": "GET", "path": "/a/b", "client": "127.0.0.1",
		"env":   map[string]any{"GREETING": "hi", "SHOW_COLOUR": "grün"},
		"files": map[string]any{config + "/motd": "good \"morning\"\n", config + "/bytes": "a\ufffd\x00ä\ufffd\ufffd\ufffdz", secret + "/password": "s3cret"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("page is %s\nwant %v", body, want)
	}
	_, body = s.get(t, "/")
	for _, line := range []string{"pod: hello-1", "namespace: demo", "node: n1", "address: 10.1.2.3", "version: v1", "env GREETING = hi", "file " + secret + "/password = s3cret", "file " + config + `/motd = good "morning"`} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("the text lacks %q:\n%s", line, body)
		}
	}
	if strings.Contains(body, "= no\n") {
		t.Errorf("the text shows too much:\n%s", body)
	}
	// A new version of the volume shows at once.
	if err := os.WriteFile(config+"/..2026/motd", []byte("evening"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, body = s.get(t, "/"); !strings.Contains(body, "motd = evening\n") {
		t.Errorf("the old content is shown:\n%s", body)
	}
}

func TestLogAndAccessLog(t *testing.T) {
	s := start(t, "HELLO_ACCESS_LOG=1")
	s.get(t, "/log?line=a%20b+c%2")
	if line := <-s.lines; line != "a b c%2" {
		t.Errorf("logged %q", line)
	}
	if line := <-s.lines; !regexp.MustCompile(`^127\.0\.0\.1 GET /log 200 \d+ms$`).MatchString(line) {
		t.Errorf("access log is %q", line)
	}
}

func TestExit(t *testing.T) {
	s := start(t)
	if code, body := s.get(t, "/exit?code=7"); code != 200 || body != "bye\n" {
		t.Errorf("answer is %d %q", code, body)
	}
	var exit *exec.ExitError
	if err := <-s.ended; !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("ended with %v", err)
	}
}

func TestPortsAndFamilies(t *testing.T) {
	s := start(t)
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		l.Close()
		c, err := net.Dial("tcp", "[::1]:"+s.port)
		if err != nil {
			t.Error(err)
		} else {
			fmt.Fprintf(c, "GET / HTTP/1.0\r\n\r\n")
			data, _ := io.ReadAll(c)
			if !strings.Contains(string(data), "client: ::1\n") {
				t.Errorf("over IPv6: %s", data)
			}
			c.Close()
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-port", s.port}, "cannot listen on port " + s.port + ": Address already in use"},
		{[]string{"-port", "70000"}, "not a port"},
		{[]string{"-port", "x"}, "not a port"},
		{[]string{"-what"}, "unknown option -what"},
		{[]string{"what"}, "unknown command"},
	} {
		out, err := program(t, c.args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("hello %q: %v %s", c.args, err, out)
		}
	}
}

// Requests go on while the server is told to stop: none may fail. A refused
// connection is no failure, for then a Service has long sent elsewhere.
func TestStopLosesNoRequest(t *testing.T) {
	s := start(t)
	var closed atomic.Int64
	answered, stop := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr}
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				path := []string{"/", "/sleep?ms=50", "/healthz"}[n%3]
				resp, err := client.Get("http://" + s.addr + path)
				if errors.Is(err, syscall.ECONNREFUSED) {
					return
				}
				if err != nil {
					t.Errorf("request failed: %v", err)
					return
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
					t.Errorf("answer is %s, %v", resp.Status, err)
				}
				resp.Body.Close()
				if resp.Close {
					closed.Add(1)
				}
				select {
				case answered <- struct{}{}:
				case <-stop:
				}
			}
		})
	}
	for range 100 {
		<-answered
	}
	// One that is half sent, and one that is being answered, for long.
	half, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	io.WriteString(half, "GET / HTTP/1.1\r\nHo")
	late, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	io.WriteString(late, "GET /sleep?ms=1000 HTTP/1.1\r\nHost: x\r\n\r\n")
	if code, _ := s.get(t, "/readyz"); code != 200 {
		t.Errorf("before: /readyz says %d", code)
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	if line := <-s.lines; line != "hello: stopping" {
		t.Errorf("it says %q", line)
	}
	if code, _ := s.get(t, "/readyz"); code != 503 {
		t.Errorf("while stopping, /readyz says %d", code)
	}
	for range 20 {
		<-answered // it still accepts, for 10 s at most
	}
	close(stop)
	wg.Wait()
	if closed.Load() == 0 {
		t.Error("no answer closed its connection")
	}
	io.WriteString(half, "st: x\r\n\r\n")
	for name, c := range map[string]net.Conn{"half": half, "late": late} {
		c.SetDeadline(time.Now().Add(time.Minute))
		if data, err := io.ReadAll(c); err != nil || statuses(string(data)) != "200" || (name == "half" && !bytes.Contains(data, []byte("Connection: close"))) {
			t.Errorf("the %s request got %q, %v", name, data, err)
		}
	}
	if err := <-s.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestStopsAtOnceWhenIdle(t *testing.T) {
	s := start(t)
	idle, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	io.WriteString(idle, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := bufio.NewReader(idle).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := <-s.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if took := time.Since(began); took > 9*time.Second { // after 10 s it ends in any case
		t.Errorf("took %s", took)
	}
}

// More connections than it keeps, all idle: new ones are served.
func TestManyConnections(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 1400 {
		t.Skip("too few files allowed")
	}
	s := start(t)
	for n := range 1200 {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatalf("connection %d: %v", n, err)
		}
		defer c.Close()
	}
	if code, _ := s.get(t, "/healthz"); code != 200 {
		t.Errorf("status is %d", code)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(regexp.MustCompile(`(?m)^(VmRSS|RssAnon|Threads):.*$`).FindAllString(string(data), -1))
	if !bytes.Contains(data, []byte("Threads:\t1\n")) {
		t.Error("it has more than one thread: Go has started")
	}
}

// Whatever is sent, the server goes on.
func FuzzServer(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST /log?line=%41 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /", "GET /sleep?ms=1 HTTP/1.0\r\n\r\n", "GET http://a?b HTTP/1.1\r\nHost: \r\nAccept: application/json, ,;\r\nConnection: ,close\r\n\r\n"} {
		f.Add([]byte(s))
	}
	s := start(f)
	go func() {
		for range s.lines {
		}
	}()
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("/exit")) || bytes.Contains(data, []byte("/sleep?ms=")) && len(data) > 40 {
			t.Skip()
		}
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(data)
		c.(*net.TCPConn).CloseWrite()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		io.Copy(io.Discard, c)
		c.Close()
		if code, _ := s.get(t, "/healthz"); code != 200 {
			t.Errorf("status is %d", code)
		}
	})
}
