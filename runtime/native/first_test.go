package native

import "testing"

func TestHello(t *testing.T) {
	m := newMachine(t)
	uid := m.sandbox()
	c := m.spec(uid, "echo hello; echo oops >&2; exit 3")
	out, st := m.run(c)
	t.Log(out, st)
	if out != "hello\noops\n" || st.ExitCode != 3 {
		t.Fatal("bad")
	}
	id := m.start(m.spec(uid, "sleep 100"))
	o, code := m.exec(id, "id; cat /proc/self/status; mount; ls -la /dev; env; cat /proc/self/mountinfo; exit 7")
	t.Log(o, code)
}
