package native

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

// TestNoticesWaitForRoom lets more containers end than the server's queue
// holds while nobody reads it.
func TestNoticesWaitForRoom(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	const n = 40
	var ids []string
	for range n {
		ids = append(ids, m.start(m.spec(uid, "read x", func(c *runtime.Container) { c.Stdin = true })))
	}
	m.rt.Close()
	sock, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(m.rt.dirs.run, "events.sock"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	dir := m.rt.dirs.podRun(uid)
	for _, id := range ids {
		q := newRequest(reqSignal, id)
		q.A = int32(unix.SIGKILL)
		if _, err := ask(m.ctx(), dir, q); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids {
		waitForFile(t, filepath.Join(m.rt.dirs.containerRun(uid, id), "exit"), "code 137")
	}
	got := map[string]bool{}
	buf := make([]byte, 512)
	sock.SetReadDeadline(time.Now().Add(time.Minute))
	for len(got) < n {
		k, err := sock.Read(buf)
		if err != nil {
			t.Fatalf("%d of %d notices: %v", len(got), n, err)
		}
		u, id, ok := parseNotice(string(buf[:k]))
		if !ok || u != uid || got[id] {
			t.Fatalf("notice %q", buf[:k])
		}
		got[id] = true
	}
	sock.Close()
	os.Remove(filepath.Join(m.rt.dirs.run, "events.sock"))
	m.open()
	for _, id := range ids {
		if st := must(m.rt.Status(m.ctx(), id)); st.State != runtime.StateExited || st.ExitCode != 137 {
			t.Errorf("%+v", st)
		}
	}
}

// TestMalformedRequests sends the shim what no server sends. It must refuse
// each and go on.
func TestMalformedRequests(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	alive := m.start(m.spec(uid, "sleep 1000"))
	dir := m.rt.dirs.podRun(uid)
	whole := (&plan{Flags: planJoin, Namespaces: unix.CLONE_NEWNS, Cwd: "/", Args: []string{"true"}, Env: []string{"A=b"},
		Ops: []op{{Kind: opLink, Target: "/tmp/l", To: "x"}, {Kind: opMask, Target: "/none"}}, Groups: []uint32{1}, Target: 1}).encode()
	send := func(b []byte, typ uint32, target string) (reply, error) {
		fd, err := memfd("plan", b)
		if err != nil {
			t.Fatal(err)
		}
		q := newRequest(typ, "malformed")
		defer q.close()
		q.Target = target
		q.Plan = q.own(fd)
		return ask(m.ctx(), dir, q)
	}
	if a, err := send(whole, reqExec, alive); err != nil || a.Type != replyStarted {
		t.Fatalf("the whole plan: %+v, %v", a, err)
	}
	for n := 4; n < len(whole)-1; n += 3 {
		if a, err := send(whole[:n], reqExec, alive); err == nil {
			t.Errorf("cut at %d: %+v", n, a)
		}
	}
	for i := 0; i < len(whole); i += 5 {
		b := append([]byte{}, whole...)
		b[i] ^= 0xff
		_, _ = send(b, reqExec, alive) // whatever it does, it answers
	}
	for name, f := range map[string]func() (reply, error){
		"no plan":   func() (reply, error) { return ask(m.ctx(), dir, newRequest(reqExec, "x")) },
		"no target": func() (reply, error) { return send(whole, reqExec, "nobody") },
		"same id":   func() (reply, error) { return ask(m.ctx(), dir, newRequest(reqStart, alive)) },
		"no such":   func() (reply, error) { return ask(m.ctx(), dir, newRequest(99, "x")) },
		"no tty":    func() (reply, error) { return ask(m.ctx(), dir, newRequest(reqResize, alive)) },
		"signal":    func() (reply, error) { return ask(m.ctx(), dir, newRequest(reqSignal, "nobody")) },
		"reopen":    func() (reply, error) { return ask(m.ctx(), dir, newRequest(reqReopen, "nobody")) },
		"attach":    func() (reply, error) { return ask(m.ctx(), dir, newRequest(reqAttach, "nobody")) },
	} {
		if a, err := f(); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	c, err := dialShim(m.ctx(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.c.Write([]byte("short")); err != nil {
		t.Error(err)
	}
	if r, err := c.receive(); err == nil {
		t.Errorf("%+v", r)
	}
	c.Close()
	if out, code := m.exec(alive, "echo fine"); out != "fine\n" || code != 0 {
		t.Errorf("%q %d", out, code)
	}
	// It leaks nothing either, once it has heard of the end of all that it started.
	dir = fmt.Sprintf("/proc/%d/fd", must(m.rt.sandbox(uid)).shim.PID)
	for end := time.Now().Add(time.Minute); ; m.exec(alive, "true") {
		fds, err := os.ReadDir(dir)
		if err == nil && len(fds) <= 20 {
			break
		}
		if err != nil || time.Now().After(end) {
			var names []string
			for _, f := range fds {
				l, _ := os.Readlink(filepath.Join(dir, f.Name()))
				names = append(names, l)
			}
			t.Fatalf("%d descriptors: %s, %v", len(fds), strings.Join(names, " "), err)
		}
	}
}
