package pod

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/runtime"
)

// world carries out plans on a virtual clock, as the agent does, and checks
// after every step that nothing forbidden was asked for.
type world struct {
	t      testing.TB
	pod    *corev1.Pod
	obs    Observed
	now    time.Time
	plan   Plan
	log    []string // what was done
	said   map[string]bool
	starts map[string]int
	gone   bool
	held   []Action // actions under way
	// exit decides how a container that is started ends; nil runs on.
	exit func(name string, attempt int) *int
	// fail makes a start fail without an attempt.
	fail func(name string) *Failure
	slow bool // actions finish only when the test says so
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t testing.TB, p *corev1.Pod) *world {
	p.Namespace, p.Name, p.UID = "ns", "p", "u"
	if p.Spec.RestartPolicy == "" {
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	return &world{t: t, pod: p, now: epoch, said: map[string]bool{}, starts: map[string]int{},
		obs: Observed{StartTime: epoch, Containers: map[string]*Container{}, HostIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
}

func (w *world) container(name string) *Container {
	if w.obs.Containers[name] == nil {
		w.obs.Containers[name] = &Container{Probes: Probes{Started: true, Ready: true}}
	}
	return w.obs.Containers[name]
}

// decide makes one decision, checks it and begins its actions.
func (w *world) decide() {
	w.t.Helper()
	w.plan = Decide(w.pod, &w.obs, w.now, Settings{})
	if terminal(w.obs.Reported) && !equality.Semantic.DeepEqual(w.plan.Status, w.pod.Status) {
		w.t.Fatalf("the status of a pod that has ended changes from\n%+v\nto\n%+v\n%s", w.pod.Status, w.plan.Status, strings.Join(w.log, "; "))
	}
	w.obs.StopSince = w.plan.StopSince
	if w.plan.Verdict != nil {
		w.obs.Verdict = w.plan.Verdict
	}
	for _, n := range w.plan.Notices {
		if !w.said[n.Key] {
			w.said[n.Key] = true
			w.log = append(w.log, fmt.Sprintf("event %s %s", n.Reason, n.Message))
		}
	}
	for _, a := range w.plan.Actions {
		w.check(a)
		w.begin(a)
	}
	// The API takes what is reported.
	w.pod = w.pod.DeepCopy()
	w.pod.Status = w.plan.Status
	w.obs.Reported = w.plan.Status.Phase
}

func (w *world) check(a Action) {
	w.t.Helper()
	c := w.container(a.Container)
	switch a.Kind {
	case Start:
		if c.Starting || !c.StopBy.IsZero() || c.last().Running() {
			w.t.Fatalf("%s: start of %s, of which an instance is there: %+v", w.now.Sub(epoch), a.Container, c)
		}
		if w.obs.Sandbox.State != SandboxReady {
			w.t.Fatalf("start of %s without a sandbox", a.Container)
		}
	case TearDown:
		for n, c := range w.obs.Containers {
			if c.Starting || c.last().Running() || !c.StopBy.IsZero() {
				w.t.Fatalf("tear-down while %s lives", n)
			}
		}
		if !w.obs.Gone && !terminal(w.obs.Reported) {
			w.t.Fatal("tear-down before the end was reported")
		}
	case Delete:
		if w.obs.Sandbox.State != SandboxNone {
			w.t.Fatal("delete before the tear-down")
		}
	}
}

func (w *world) begin(a Action) {
	c := w.container(a.Container)
	text := a.Kind.String()
	if a.Container != "" {
		text += " " + a.Container
	}
	if a.Kind == Stop {
		text += fmt.Sprintf(" %v", a.By.Sub(w.now))
		c.StopBy = a.By
		if a.Restart {
			c.last().Killed = true
		}
	}
	w.log = append(w.log, text)
	switch a.Kind {
	case SetUp:
		w.obs.Sandbox.State = SandboxSettingUp
	case Reset, TearDown:
		w.obs.Sandbox.State = SandboxTearingDown
	case Start:
		c.Starting = true
	case Cancel:
		w.cancel(a)
		return
	}
	if w.slow && a.Kind != Delete && a.Kind != Forget {
		w.held = append(w.held, a)
		return
	}
	w.finish(a)
}

// cancel abandons what a Cancel names.
func (w *world) cancel(a Action) {
	for i, h := range w.held {
		if h.Container == a.Container && (h.Kind == Start || h.Kind == SetUp) {
			w.held = slices.Delete(w.held, i, i+1)
			if h.Kind == Start {
				w.container(a.Container).Starting = false
			} else {
				w.obs.Sandbox.State, w.obs.Sandbox.Leftovers = SandboxNone, true
			}
			return
		}
	}
}

// finish is the end of an action.
func (w *world) finish(a Action) {
	c := w.container(a.Container)
	switch a.Kind {
	case SetUp:
		w.obs.Sandbox = Sandbox{State: SandboxReady, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Resources: w.pod.Spec.Resources.DeepCopy()}
	case Resize:
		w.obs.Sandbox.Resources = w.pod.Spec.Resources.DeepCopy()
		if m, ok := Find(w.pod, a.Container); ok {
			c.last().Resources = m.Resources.DeepCopy()
		}
	case Start:
		c.Starting = false
		w.starts[a.Container]++
		if w.fail != nil {
			if f := w.fail(a.Container); f != nil {
				f.At = w.now
				c.Failure = f
				return
			}
		}
		c.Failure = nil
		m, _ := Find(w.pod, a.Container)
		c.Attempts = append(c.Attempts, Attempt{Backoff: a.Backoff, SpecImage: m.Image, Resources: m.Resources.DeepCopy(), ContainerStatus: runtime.ContainerStatus{
			ID: fmt.Sprintf("%s-%d", a.Container, a.Attempt), Name: a.Container, Attempt: a.Attempt, State: runtime.StateRunning, StartedAt: w.now, CreatedAt: w.now}})
		if w.exit != nil {
			if code := w.exit(a.Container, a.Attempt); code != nil {
				w.end(a.Container, *code)
			}
		}
	case Stop:
		w.end(a.Container, 143)
		c.StopBy = time.Time{}
	case Remove:
		c.Attempts = slices.DeleteFunc(c.Attempts, func(x Attempt) bool { return x.ID == a.ID })
	case Reset, TearDown:
		w.obs.Sandbox = Sandbox{}
		for name, c := range w.obs.Containers {
			m, ok := Find(w.pod, name)
			if ok && len(c.Attempts) > 0 {
				c.Previous = previousStatus(&w.plan.Status, m)
			}
			c.Attempts, c.Failure = nil, nil
		}
	case Delete:
		w.obs.Deleting, w.obs.Gone = true, true
	case Forget:
		w.gone = true
	}
}

// end makes the running instance of a container exit.
func (w *world) end(name string, code int) {
	if a := w.container(name).last(); a.Running() {
		a.State, a.ExitCode, a.FinishedAt = runtime.StateExited, code, w.now
	}
}

// settle decides until there is nothing to do now.
func (w *world) settle() {
	w.t.Helper()
	for range 200 {
		n := len(w.log)
		w.decide()
		if len(w.log) == n && !w.gone {
			before := w.plan.Status
			w.decide()
			if len(w.log) == n && equality.Semantic.DeepEqual(before, w.plan.Status) {
				return
			}
		}
		if w.gone {
			return
		}
	}
	w.t.Fatalf("does not settle: %s", strings.Join(w.log, "; "))
}

// pass lets time go by, deciding whenever a plan asked for it.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	end := w.now.Add(d)
	for {
		if w.plan.Wake.IsZero() || w.plan.Wake.After(end) {
			w.now = end
			w.settle()
			return
		}
		w.now = w.plan.Wake
		w.settle()
	}
}

// did returns and forgets what was done.
func (w *world) did() string {
	s := strings.Join(w.log, "; ")
	w.log = nil
	return s
}

func (w *world) expect(what, want string) {
	w.t.Helper()
	if got := w.did(); got != want {
		w.t.Errorf("%s: did\n  %s\nwant\n  %s", what, got, want)
	}
}

// condition is status/reason of a pod condition.
func (w *world) condition(t corev1.PodConditionType) string {
	c := FindCondition(&w.plan.Status, t)
	if c == nil {
		return "none"
	}
	return string(c.Status) + "/" + c.Reason
}

func containers(names ...string) []corev1.Container {
	var out []corev1.Container
	for _, n := range names {
		out = append(out, corev1.Container{Name: n, Image: "img"})
	}
	return out
}

func sidecar(name string) corev1.Container {
	always := corev1.ContainerRestartPolicyAlways
	return corev1.Container{Name: name, Image: "img", RestartPolicy: &always}
}

func code(n int) *int { return &n }

func (w *world) delete(grace int64) {
	w.pod = w.pod.DeepCopy()
	at := metav1.NewTime(w.now.Add(time.Duration(grace) * time.Second))
	w.pod.DeletionTimestamp, w.pod.DeletionGracePeriodSeconds = &at, &grace
}
