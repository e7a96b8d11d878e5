package pod

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// MinimumGrace is what a container gets at least after its pre-stop hook.
const MinimumGrace = 2 * time.Second

// imageBackoffShown is how long a failed pull is shown as ErrImagePull before
// it becomes ImagePullBackOff.
const imageBackoffShown = time.Second

// decider holds one decision while it is made.
type decider struct {
	p        *corev1.Pod
	o        *Observed
	s        Settings
	now      time.Time
	members  []Member
	plan     Plan
	verdict  *Verdict
	finished bool // every container has run to its end, by its own account
	started  bool // init containers are done
}

// Decide returns what has to be done for a pod now. It keeps to these rules:
// no container gets a Start while an attempt of it runs, starts or stops;
// nothing is torn down before every process has ended and, unless the API
// object is gone, before the API server holds the pod's terminal phase.
func Decide(p *corev1.Pod, o *Observed, now time.Time, s Settings) Plan {
	d := &decider{p: p, o: o, s: s.defaults(), now: now, members: Members(p), verdict: o.Verdict}
	d.started = d.initialised()
	if d.verdict == nil {
		d.verdict = d.deadline()
	}
	d.finished = d.verdict == nil && d.runsOut()
	stopping := o.Gone || p.DeletionTimestamp != nil || d.verdict != nil || d.finished || terminal(p.Status.Phase) || !o.StopSince.IsZero()
	if stopping {
		d.plan.StopSince = o.StopSince
		if d.plan.StopSince.IsZero() {
			d.plan.StopSince = now
		}
		d.stop()
	} else {
		d.run()
	}
	d.plan.Verdict = d.verdict
	d.plan.Status = d.status()
	if stopping && d.plan.Finished {
		d.close()
	}
	return d.plan
}

func terminal(ph corev1.PodPhase) bool {
	return ph == corev1.PodSucceeded || ph == corev1.PodFailed
}

func (d *decider) act(a Action) { d.plan.Actions = append(d.plan.Actions, a) }

// wake asks to be called again at t.
func (d *decider) wake(t time.Time) {
	if !t.After(d.now) {
		t = d.now.Add(time.Millisecond)
	}
	if d.plan.Wake.IsZero() || t.Before(d.plan.Wake) {
		d.plan.Wake = t
	}
}

func (d *decider) container(name string) *Container {
	if c := d.o.Containers[name]; c != nil {
		return c
	}
	return &Container{}
}

// deadline gives the verdict of activeDeadlineSeconds.
func (d *decider) deadline() *Verdict {
	limit := d.p.Spec.ActiveDeadlineSeconds
	if limit == nil || d.o.StartTime.IsZero() || terminal(d.p.Status.Phase) || d.p.DeletionTimestamp != nil {
		return nil
	}
	end := d.o.StartTime.Add(time.Duration(*limit) * time.Second)
	if d.now.Before(end) {
		d.wake(end)
		return nil
	}
	v := &Verdict{Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline"}
	d.notice("deadline", "", corev1.EventTypeNormal, v.Reason, v.Message)
	return v
}

// initialised says whether the init containers are past: a main container has
// been tried, or every one has ended well or, a sidecar, has started.
func (d *decider) initialised() bool {
	if terminal(d.p.Status.Phase) {
		// The containers may be gone; what was reported stays true.
		if c := FindCondition(&d.p.Status, corev1.PodInitialized); c != nil {
			return c.Status == corev1.ConditionTrue
		}
	}
	for _, m := range d.members {
		if c := d.container(m.Name); m.Class == Main && (len(c.Attempts) > 0 || c.Starting) {
			return true
		}
	}
	for _, m := range d.members {
		c := d.container(m.Name)
		last := c.last()
		switch m.Class {
		case Init:
			if !last.Ended() || last.ExitCode != 0 {
				return false
			}
		case Sidecar:
			if !sidecarStarted(c) {
				return false
			}
		}
	}
	return true
}

func sidecarStarted(c *Container) bool {
	last := c.last()
	return last.Running() && !last.Hooking && c.Probes.Started
}

// runsOut says whether the pod has come to its end by itself: all main
// containers are over for good, or an init container failed for good.
func (d *decider) runsOut() bool {
	over := true
	for _, m := range d.members {
		c := d.container(m.Name)
		last := c.last()
		switch m.Class {
		case Init:
			if !d.started && last.Ended() && !c.Starting && last.ExitCode != 0 && !ShouldRestart(d.p, m, last.ExitCode) {
				return true
			}
		case Main:
			if last == nil && !c.Starting {
				if code, ran := formerExit(c); !ran || ShouldRestart(d.p, m, code) {
					over = false
				}
			} else if c.Starting || !c.StopBy.IsZero() || !last.Ended() || d.redefined(m, last) || ShouldRestart(d.p, m, last.ExitCode) || last.Killed && restartsOnFailure(d.p, m) {
				over = false
			}
		}
	}
	return over
}

// formerExit is how a container ended of which the runtime has no record any
// more: its sandbox was lost, or the machine started anew.
func formerExit(c *Container) (code int, ran bool) {
	prev := c.Previous
	if prev == nil || prev.ContainerID == "" {
		return 0, false
	}
	switch {
	case prev.State.Terminated != nil:
		return int(prev.State.Terminated.ExitCode), true
	case prev.State.Running == nil && prev.LastTerminationState.Terminated != nil:
		return int(prev.LastTerminationState.Terminated.ExitCode), true
	}
	return 137, prev.State.Running != nil
}

// redefined says that the pod's spec now names another image.
func (d *decider) redefined(m Member, a *Attempt) bool {
	return a != nil && a.SpecImage != "" && a.SpecImage != m.Image && m.Class != Ephemeral && m.Class != Init
}

// run decides for a pod that is to be up.
func (d *decider) run() {
	sb := d.o.Sandbox
	switch sb.State {
	case SandboxNone:
		if d.now.Before(sb.RetryAt) {
			d.wake(sb.RetryAt)
			return
		}
		d.act(Action{Kind: SetUp})
		return
	case SandboxLost:
		if d.busy() {
			d.cancelStarts()
			return
		}
		if d.now.Before(sb.RetryAt) {
			d.wake(sb.RetryAt)
			return
		}
		d.act(Action{Kind: Reset})
		return
	case SandboxReady:
	default:
		return
	}
	if r := d.p.Spec.Resources; r != nil && d.o.Resize == nil && (sb.Resources == nil || !equality.Semantic.DeepEqual(r, sb.Resources)) {
		d.act(Action{Kind: Resize})
	}
	blocked := false
	for _, m := range d.members {
		switch m.Class {
		case Init:
			if !d.started && !blocked {
				blocked = !d.runInit(m)
			}
		case Sidecar:
			if d.started {
				d.keep(m)
			} else if !blocked {
				d.keep(m)
				blocked = !sidecarStarted(d.container(m.Name))
			} else if len(d.container(m.Name).Attempts) > 0 {
				d.keep(m)
			}
		case Main:
			if d.started {
				d.keep(m)
			}
		case Ephemeral:
			if c := d.container(m.Name); len(c.Attempts) == 0 && !hadEnded(c.Previous) {
				d.keep(m)
			}
		}
	}
	d.probes(false)
	d.prune()
}

// runInit moves an ordinary init container on and says whether it is past.
func (d *decider) runInit(m Member) bool {
	c := d.container(m.Name)
	last := c.last()
	if last.Ended() && last.ExitCode == 0 && !c.Starting {
		return true
	}
	d.keep(m)
	return false
}

// keep starts a container that does not run and should, and stops one that
// runs and should be started anew.
func (d *decider) keep(m Member) {
	c := d.container(m.Name)
	last := c.last()
	switch {
	case c.Starting || !c.StopBy.IsZero():
	case last == nil:
		if code, ran := formerExit(c); ran && m.Class == Main && !ShouldRestart(d.p, m, code) {
			return
		}
		d.start(m, c, time.Time{}, 0)
	case last.Running():
		d.check(m, c, last)
	case last.Ended():
		if d.redefined(m, last) {
			d.start(m, c, time.Time{}, last.Backoff)
			return
		}
		if !ShouldRestart(d.p, m, last.ExitCode) && !(last.Killed && restartsOnFailure(d.p, m)) {
			return
		}
		at, backoff := nextStart(c, d.s)
		if d.now.Before(at) {
			d.wake(at)
			d.notice(fmt.Sprintf("backoff/%s/%d", m.Name, last.Attempt), m.Name, corev1.EventTypeWarning, "BackOff",
				fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", m.Name, d.p.Name, d.p.Namespace, d.p.UID))
			return
		}
		d.start(m, c, at, backoff)
	default: // created, never started: a start that was cut off
		d.act(Action{Kind: Remove, Container: m.Name, ID: last.ID})
	}
}

func (d *decider) start(m Member, c *Container, at time.Time, backoff time.Duration) {
	if f := c.Failure; f != nil {
		if f.Image && d.now.Before(f.At.Add(imageBackoffShown)) {
			d.wake(f.At.Add(imageBackoffShown))
		}
		if d.now.Before(f.RetryAt) {
			d.wake(f.RetryAt)
			return
		}
	}
	d.act(Action{Kind: Start, Container: m.Name, Attempt: d.nextAttempt(c), Backoff: backoff})
}

func (d *decider) nextAttempt(c *Container) int {
	if last := c.last(); last != nil {
		return last.Attempt + 1
	}
	if c.Previous != nil && c.Previous.ContainerID != "" {
		return int(c.Previous.RestartCount) + 1
	}
	return 0
}

// check stops a running container whose definition changed or whose probes
// demand it, and adapts its limits.
func (d *decider) check(m Member, c *Container, last *Attempt) {
	why := ""
	restart := true
	switch {
	case d.redefined(m, last):
		why = fmt.Sprintf("Container %s definition changed", m.Name)
	case c.Probes.Failed != "":
		why = fmt.Sprintf("Container %s failed %s probe", m.Name, c.Probes.Failed)
		restart = restartsOnFailure(d.p, m)
	case last.Resources != nil && !equality.Semantic.DeepEqual(*last.Resources, m.Resources) && d.o.Resize == nil && m.Class != Ephemeral:
		if !resizeRestarts(m, last.Resources) {
			d.act(Action{Kind: Resize, Container: m.Name, ID: last.ID})
			return
		}
		why = fmt.Sprintf("Container %s resize requires restart", m.Name)
	default:
		return
	}
	if restart {
		why += ", will be restarted"
	}
	grace := specGrace(d.p)
	if c.Probes.Failed != "" {
		if pr := failedProbe(m, c.Probes.Failed); pr != nil && pr.TerminationGracePeriodSeconds != nil {
			grace = time.Duration(*pr.TerminationGracePeriodSeconds) * time.Second
		}
	}
	d.act(Action{Kind: Stop, Container: m.Name, ID: last.ID, By: d.now.Add(max(grace, time.Second)), Restart: restart, Message: why})
}

func failedProbe(m Member, which string) *corev1.Probe {
	if which == "startup" {
		return m.StartupProbe
	}
	return m.LivenessProbe
}

// resizeRestarts says whether a resource that changed has the resize policy
// RestartContainer.
func resizeRestarts(m Member, old *corev1.ResourceRequirements) bool {
	for _, rp := range m.ResizePolicy {
		if rp.RestartPolicy != corev1.RestartContainer {
			continue
		}
		a, b := old.Limits[rp.ResourceName], m.Resources.Limits[rp.ResourceName]
		c, e := old.Requests[rp.ResourceName], m.Resources.Requests[rp.ResourceName]
		if a.Cmp(b) != 0 || c.Cmp(e) != 0 {
			return true
		}
	}
	return false
}

func specGrace(p *corev1.Pod) time.Duration {
	if g := p.Spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return 30 * time.Second
}

// Grace is how long a pod that has to stop may take.
func Grace(p *corev1.Pod, v *Verdict) time.Duration {
	g := specGrace(p)
	if p.DeletionGracePeriodSeconds != nil {
		g = time.Duration(*p.DeletionGracePeriodSeconds) * time.Second
	}
	if v != nil && v.Grace != nil && *v.Grace < g {
		g = *v.Grace
	}
	return max(g, time.Second)
}

func (d *decider) busy() bool {
	for _, c := range d.o.Containers {
		if c.Starting || !c.StopBy.IsZero() {
			return true
		}
	}
	return false
}

func (d *decider) cancelStarts() {
	for _, m := range d.members {
		if d.container(m.Name).Starting {
			d.act(Action{Kind: Cancel, Container: m.Name})
		}
	}
}

// stop decides for a pod that is to be down: main and init containers first,
// all at once, then sidecars from the last to the first.
func (d *decider) stop() {
	by := d.plan.StopSince.Add(Grace(d.p, d.verdict))
	alive := false
	halt := func(m Member, by time.Time) bool {
		c := d.container(m.Name)
		last := c.last()
		lives := c.Starting || !c.StopBy.IsZero() || last.Running()
		if c.Starting {
			d.act(Action{Kind: Cancel, Container: m.Name})
		}
		if last.Running() && (c.StopBy.IsZero() || c.StopBy.After(by.Add(100*time.Millisecond))) && d.o.Sandbox.State != SandboxTearingDown {
			d.act(Action{Kind: Stop, Container: m.Name, ID: last.ID, By: by, Message: "Stopping container " + m.Name})
		}
		return lives
	}
	for _, m := range d.members {
		if m.Class != Sidecar {
			alive = halt(m, by) || alive
		}
	}
	for i := len(d.members) - 1; i >= 0; i-- {
		m := d.members[i]
		if m.Class != Sidecar {
			continue
		}
		if alive {
			// Not its turn yet; but nothing new starts either.
			if c := d.container(m.Name); c.Starting {
				d.act(Action{Kind: Cancel, Container: m.Name})
			}
			continue
		}
		sideBy := by
		if least := d.now.Add(MinimumGrace); sideBy.Before(least) && d.container(m.Name).StopBy.IsZero() {
			sideBy = least
		} else if c := d.container(m.Name); !c.StopBy.IsZero() {
			sideBy = c.StopBy
		}
		alive = halt(m, sideBy) || alive
	}
	if d.o.Sandbox.State == SandboxSettingUp {
		d.act(Action{Kind: Cancel})
		alive = true
	}
	d.plan.Finished = !alive
	if alive && d.o.Sandbox.State == SandboxReady {
		d.probes(true)
	}
}

// close releases what a pod without processes still holds.
func (d *decider) close() {
	recorded := d.o.Gone || terminal(d.o.Reported)
	switch {
	case d.o.Sandbox.State == SandboxTearingDown || !recorded:
	case d.o.Sandbox.State != SandboxNone || d.o.Sandbox.Leftovers:
		if d.now.Before(d.o.Sandbox.RetryAt) {
			d.wake(d.o.Sandbox.RetryAt)
			return
		}
		d.act(Action{Kind: TearDown})
	case d.o.Gone:
		d.act(Action{Kind: Forget})
	case d.p.DeletionTimestamp != nil && !d.o.Deleting:
		d.act(Action{Kind: Delete})
	}
}

// probes lists the containers whose probes must run.
func (d *decider) probes(stopping bool) {
	for _, m := range d.members {
		if m.Class == Init || m.Class == Ephemeral || m.LivenessProbe == nil && m.ReadinessProbe == nil && m.StartupProbe == nil {
			continue
		}
		c := d.container(m.Name)
		last := c.last()
		if !last.Running() || last.Hooking {
			continue
		}
		if readiness := stopping || !c.StopBy.IsZero(); !readiness || m.ReadinessProbe != nil {
			d.plan.Probes = append(d.plan.Probes, ProbeTarget{Container: m.Name, ID: last.ID, ReadinessOnly: readiness})
		}
	}
}

// prune removes attempts older than the one before the newest.
func (d *decider) prune() {
	for _, m := range d.members {
		c := d.container(m.Name)
		for i := 0; i < len(c.Attempts)-2; i++ {
			if c.Attempts[i].Ended() {
				d.act(Action{Kind: Remove, Container: m.Name, ID: c.Attempts[i].ID})
			}
		}
	}
}

func (d *decider) notice(key, container, typ, reason, message string) {
	d.plan.Notices = append(d.plan.Notices, Notice{Key: key, Container: container, Type: typ, Reason: reason, Message: message})
}
