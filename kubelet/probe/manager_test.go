package probe

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/kubelet/pod"
	"sagong/kubelet/timing"
	"sagong/object"
	"sagong/runtime"
)

// bench runs a manager on virtual time over commands that the test answers.
type bench struct {
	m      *Manager
	mu     sync.Mutex
	codes  map[string]int // by command
	calls  map[string]int
	took   time.Duration
	now    int // running at the moment
	most   int
	events []string
	news   int
	stop   func()
}

func (b *bench) Exec(ctx context.Context, id string, o runtime.ExecOptions) (int, error) {
	b.mu.Lock()
	b.calls[o.Args[0]]++
	b.now++
	b.most = max(b.most, b.now)
	took, code := b.took, b.codes[o.Args[0]]
	b.mu.Unlock()
	if took > 0 {
		time.Sleep(took)
	}
	b.mu.Lock()
	b.now--
	b.mu.Unlock()
	return code, nil
}

func (b *bench) Eventf(object.Object, string, string, string, ...any) {}
func (b *bench) EventForField(o object.Object, path, typ, reason, format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, reason+": "+fmt.Sprintf(format, args...))
}

func (b *bench) set(command string, code int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.codes[command] = code
}

func newBench(limit int) *bench {
	b := &bench{codes: map[string]int{}, calls: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	timers := timing.NewTimers()
	done := make(chan struct{})
	go func() { defer close(done); timers.Run(ctx) }()
	b.m = NewManager(ctx, b, timers, b, slog.New(slog.DiscardHandler), limit, func(types.UID) {
		b.mu.Lock()
		b.news++
		b.mu.Unlock()
	})
	b.stop = func() { cancel(); <-done; b.m.Wait() }
	return b
}

func command(name string, edit ...func(*corev1.Probe)) *corev1.Probe {
	p := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{name}}}, PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3}
	for _, e := range edit {
		e(p)
	}
	return p
}

func target(id string, c corev1.Container) Target {
	c.Name = "c"
	return Target{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}, Member: pod.Member{Container: &c}, ID: id, StartedAt: time.Now(), IP: netip.MustParseAddr("127.0.0.1")}
}

func (b *bench) results(t *testing.T, id string) pod.Probes {
	t.Helper()
	r, ok := b.m.Results(id)
	if !ok {
		t.Fatalf("%s is not probed", id)
	}
	return r
}

// pass lets virtual time go by and waits until everything due has been done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// asked, recorded and peak read what happened, while more may happen.
func (b *bench) asked(command string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[command]
}

func (b *bench) recorded() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}

func (b *bench) peak() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.most
}

func TestLivenessThreshold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.stop()
		b.m.Set("u", []Target{target("a", corev1.Container{LivenessProbe: command("live", func(p *corev1.Probe) { p.InitialDelaySeconds = 5 })})})
		pass(4 * time.Second)
		if b.asked("live") != 0 {
			t.Error("asked before the initial delay was over")
		}
		pass(2 * time.Second)
		b.set("live", 1)
		pass(20 * time.Second) // failures at 15 s and 25 s
		if r := b.results(t, "a"); r.Failed != "" || !r.Started {
			t.Errorf("after two failures: %+v", r)
		}
		pass(10 * time.Second)
		if r := b.results(t, "a"); r.Failed != "liveness" {
			t.Errorf("after three failures: %+v", r)
		}
		n := b.asked("live")
		pass(time.Minute)
		if b.asked("live") != n {
			t.Error("goes on after the verdict")
		}
		if len(b.recorded()) != 3 || b.recorded()[0] != "Unhealthy: Liveness probe failed: " {
			t.Errorf("events are %q", b.recorded())
		}
		// A new attempt starts from nothing.
		b.set("live", 0)
		b.m.Set("u", []Target{target("b", corev1.Container{LivenessProbe: command("live")})})
		if r := b.results(t, "b"); r.Failed != "" {
			t.Errorf("the new attempt is %+v", r)
		}
		if _, ok := b.m.Results("a"); ok {
			t.Error("the old attempt is still known")
		}
	})
}

func TestStartupGates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.stop()
		b.set("start", 1)
		b.m.Set("u", []Target{target("a", corev1.Container{StartupProbe: command("start", func(p *corev1.Probe) { p.FailureThreshold = 10 }), ReadinessProbe: command("ready"), LivenessProbe: command("live")})})
		pass(25 * time.Second)
		if b.asked("ready")+b.asked("live") != 0 || b.results(t, "a").Started {
			t.Error("other probes ran before the container had started")
		}
		b.set("start", 0)
		pass(10 * time.Second)
		r := b.results(t, "a")
		if !r.Started || !r.Ready || b.asked("live") != 1 {
			t.Errorf("after the start: %+v, %v", r, b.asked("live"))
		}
		n := b.asked("start")
		pass(time.Minute)
		if b.asked("start") != n {
			t.Error("the startup probe goes on")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.stop()
		b.set("start", 1)
		b.m.Set("u", []Target{target("a", corev1.Container{StartupProbe: command("start", func(p *corev1.Probe) { p.FailureThreshold = 2 })})})
		pass(9 * time.Second)
		if r := b.results(t, "a"); r.Failed != "" {
			t.Errorf("early looks counted as failures: %+v", r)
		}
		pass(3 * time.Second) // judged at 1 s and 11 s
		if r := b.results(t, "a"); r.Failed != "startup" {
			t.Errorf("after two periods: %+v", r)
		}
	})
}

// A container that becomes ready soon after its start is seen so soon, without
// further failures on record.
func TestEarlyLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.stop()
		b.set("ready", 1)
		b.m.Set("u", []Target{target("a", corev1.Container{ReadinessProbe: command("ready")})})
		pass(100 * time.Millisecond)
		b.set("ready", 0)
		pass(100 * time.Millisecond)
		if !b.results(t, "a").Ready {
			t.Error("not ready after 200 ms")
		}
		if len(b.recorded()) != 0 {
			t.Errorf("events are %q", b.recorded())
		}
		n := b.asked("ready")
		pass(30 * time.Second)
		if got := b.asked("ready") - n; got < 3 || got > 4 {
			t.Errorf("asked %d times in three periods", got)
		}
	})
}

func TestReadinessThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.stop()
		b.m.Set("u", []Target{target("a", corev1.Container{ReadinessProbe: command("ready", func(p *corev1.Probe) { p.SuccessThreshold = 2; p.FailureThreshold = 1; p.PeriodSeconds = 1 })})})
		pass(500 * time.Millisecond)
		if b.results(t, "a").Ready {
			t.Error("ready after one success")
		}
		pass(time.Second)
		if !b.results(t, "a").Ready {
			t.Error("not ready after two")
		}
		b.set("ready", 1)
		pass(time.Second)
		if b.results(t, "a").Ready {
			t.Error("ready after a failure")
		}
	})
}

// A program that does not listen yet a moment after its start is not judged.
func TestYoungContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.stop()
		once := func(p *corev1.Probe) { p.FailureThreshold = 1 }
		b.set("start", 1)
		b.set("live", 1)
		b.m.Set("u", []Target{target("a", corev1.Container{LivenessProbe: command("live", once)}), target("b", corev1.Container{StartupProbe: command("start", once)})})
		pass(500 * time.Millisecond)
		b.set("start", 0)
		b.set("live", 0)
		pass(time.Minute)
		if r := b.results(t, "a"); r.Failed != "" || len(b.recorded()) != 0 {
			t.Errorf("%+v, %q", r, b.recorded())
		}
		if r := b.results(t, "b"); !r.Started || r.Failed != "" {
			t.Errorf("%+v", r)
		}
	})
}

// However many probes are due, no more than the limit run.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(3)
		defer b.stop()
		b.took = 100 * time.Millisecond
		for i := range 20 {
			b.m.Set(types.UID(fmt.Sprint(i)), []Target{target(fmt.Sprint("id", i), corev1.Container{LivenessProbe: command("live")})})
		}
		pass(9 * time.Second)
		if b.peak() != 3 || b.asked("live") != 20 {
			t.Errorf("%d ran at once, %d in all", b.peak(), b.asked("live"))
		}
	})
}
