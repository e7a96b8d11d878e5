package probe

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/kubelet/pod"
	"sagong/kubelet/timing"
)

// Kind of a probe.
type Kind int

// The kinds, with the names that events give them.
const (
	Startup Kind = iota
	Readiness
	Liveness
	kinds
)

var kindNames = [...]string{"Startup", "Readiness", "Liveness"}

// String is the kind's name.
func (k Kind) String() string { return kindNames[k] }

// Target is a running container with probes.
type Target struct {
	Pod    *corev1.Pod
	Member pod.Member
	// ID of the attempt; a new attempt starts from nothing.
	ID        string
	IP        netip.Addr
	StartedAt time.Time
	// ReadinessOnly while the pod stops.
	ReadinessOnly bool
	// Initial is what was known of this attempt before this process.
	Initial pod.Probes
}

// Manager runs the probes of a node.
type Manager struct {
	ex       Executor
	timers   *timing.Timers
	recorder client.Recorder
	log      *slog.Logger
	changed  func(types.UID)
	limit    int

	mu      sync.Mutex
	ctx     context.Context
	targets map[string]*watched // by container id
	pods    map[types.UID]map[string]*watched
	backlog []*job
	running int
	wg      sync.WaitGroup
}

// watched is a container under probes.
type watched struct {
	Target
	probes [kinds]*job
	result pod.Probes
	gone   bool
}

// job is one probe of one container.
type job struct {
	w         *watched
	kind      Kind
	probe     *corev1.Probe
	last      Outcome
	run       int32 // consecutive equal outcomes
	inFlight  bool
	suspended bool
	// early is the delay to the next look before the first period is over; see
	// firstLook.
	early  time.Duration
	judged bool      // the first run that counts has begun
	ends   time.Time // of the grace, then of the first period
	looks  bool      // the run under way is such a look
	tally  tally
}

// NewManager returns a manager that calls changed when what it knows of a pod's
// containers changes. At most limit probes run at a time; 0 is 64. Timers must
// run.
func NewManager(ctx context.Context, ex Executor, t *timing.Timers, r client.Recorder, log *slog.Logger, limit int, changed func(types.UID)) *Manager {
	if limit <= 0 {
		limit = 64
	}
	return &Manager{ctx: ctx, ex: ex, timers: t, recorder: r, log: log, limit: limit, changed: changed,
		targets: map[string]*watched{}, pods: map[types.UID]map[string]*watched{}}
}

// Wait returns when no probe runs any more, after the manager's context ended.
func (m *Manager) Wait() { m.wg.Wait() }

// Set makes exactly these containers of a pod be probed.
func (m *Manager) Set(uid types.UID, targets []Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	have := m.pods[uid]
	if len(targets) == 0 && len(have) == 0 {
		return
	}
	keep := map[string]bool{}
	for _, t := range targets {
		keep[t.ID] = true
		if w := have[t.ID]; w != nil {
			w.Pod, w.IP = t.Pod, t.IP
			if t.ReadinessOnly {
				for _, k := range []Kind{Startup, Liveness} {
					m.drop(w.probes[k])
					w.probes[k] = nil
				}
			}
			continue
		}
		if have == nil {
			have = map[string]*watched{}
			m.pods[uid] = have
		}
		have[t.ID] = m.watch(t)
	}
	for id, w := range have {
		if keep[id] {
			continue
		}
		w.gone = true
		for _, j := range w.probes {
			m.drop(j)
		}
		delete(have, id)
		delete(m.targets, id)
	}
	if len(have) == 0 {
		delete(m.pods, uid)
	}
}

func (m *Manager) drop(j *job) {
	if j != nil {
		j.suspended = true
		m.timers.Clear(j)
	}
}

// watch begins with a container. The caller holds mu.
func (m *Manager) watch(t Target) *watched {
	w := &watched{Target: t, result: t.Initial}
	w.result.Started = w.result.Started || t.Member.StartupProbe == nil
	if t.Member.ReadinessProbe == nil {
		w.result.Ready = true
	}
	for k, p := range []*corev1.Probe{Startup: t.Member.StartupProbe, Readiness: t.Member.ReadinessProbe, Liveness: t.Member.LivenessProbe} {
		kind := Kind(k)
		if p == nil || t.ReadinessOnly && kind != Readiness || kind == Startup && w.result.Started {
			continue
		}
		j := &job{w: w, kind: kind, probe: p}
		w.probes[k] = j
		if kind == Startup || w.result.Started {
			m.begin(j)
		}
	}
	m.targets[t.ID] = w
	return w
}

// firstLook is how soon after its first failure a container is asked again
// whether it is started or ready. Until its first period is over such looks, at
// doubling delays, count only when they succeed: a container that is ready
// after 100 ms need not wait out its period, and one that is not is judged
// exactly as its period and thresholds say.
const firstLook = 50 * time.Millisecond

// grace is how young a container may be for a probe to tell nothing by failing:
// its program has not had the time to listen. Liveness waits that long before
// its first look.
const grace = time.Second

// begin arms a probe for the first time.
func (m *Manager) begin(j *job) {
	if j.kind != Liveness && j.probe.SuccessThreshold <= 1 {
		j.early = firstLook
	}
	delay := time.Duration(j.probe.InitialDelaySeconds) * time.Second
	if j.kind == Liveness {
		delay = max(delay, grace)
	}
	at := j.w.StartedAt.Add(delay)
	if now := time.Now(); at.Before(now) {
		at = now
	}
	m.arm(j, at)
}

func (m *Manager) arm(j *job, at time.Time) {
	m.timers.Set(j, at, func() { m.due(j) })
}

func period(p *corev1.Probe) time.Duration {
	if p.PeriodSeconds <= 0 {
		return 10 * time.Second
	}
	return time.Duration(p.PeriodSeconds) * time.Second
}

// due runs a probe, or lets it wait for a place, and arms it again.
func (m *Manager) due(j *job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if j.w.gone || j.suspended || m.ctx.Err() != nil {
		return
	}
	next := period(j.probe)
	if j.inFlight {
		m.arm(j, time.Now().Add(next))
		return
	}
	j.looks = false
	if j.early > 0 {
		now, grown := time.Now(), j.w.StartedAt.Add(grace)
		switch {
		case !j.judged && now.Before(grown):
			j.looks, j.ends = true, grown
		case !j.judged:
			j.judged, j.ends = true, now.Add(next)
		default:
			j.looks = true
		}
		switch left := j.ends.Sub(now); {
		case j.early < left:
			next = j.early
			j.early *= 2
		case j.judged:
			next, j.early = left, 0
		default:
			next = left
		}
	}
	m.arm(j, time.Now().Add(next))
	j.inFlight = true
	if m.running >= m.limit {
		m.backlog = append(m.backlog, j)
		return
	}
	m.running++
	m.wg.Go(func() { m.work(j) })
}

// work carries out a probe and then those that wait.
func (m *Manager) work(j *job) {
	for {
		m.once(j)
		m.mu.Lock()
		j.inFlight = false
		if len(m.backlog) == 0 || m.ctx.Err() != nil {
			m.running--
			m.mu.Unlock()
			return
		}
		j = m.backlog[0]
		m.backlog = m.backlog[1:]
		m.mu.Unlock()
	}
}

func (m *Manager) once(j *job) {
	m.mu.Lock()
	w := j.w
	p, ip := w.Pod, w.IP
	gone, look := w.gone || j.suspended, j.looks
	m.mu.Unlock()
	if gone {
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, time.Duration(max(j.probe.TimeoutSeconds, 1))*time.Second+5*time.Second)
	defer cancel()
	begun := time.Now()
	out, text, err := Once(ctx, m.ex, w.ID, ip, w.Member.Container, j.probe)
	if m.ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	if w.gone || j.suspended {
		m.mu.Unlock()
		return
	}
	if !look || err == nil && out != Failure { // else it does not count
		result := successful
		switch {
		case err != nil:
			result = unknown
		case out == Failure:
			result = failed
		}
		j.tally.add(result, time.Since(begun))
	}
	m.mu.Unlock()
	switch {
	case look && (err != nil || out == Failure):
		return
	case err != nil:
		m.recorder.EventForField(p, w.Member.FieldPath, corev1.EventTypeWarning, "Unhealthy", "%s probe errored and resulted in unknown state: %s", j.kind, err)
		return
	case out == Failure:
		m.recorder.EventForField(p, w.Member.FieldPath, corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %s", j.kind, text)
	case out == Warning:
		m.recorder.EventForField(p, w.Member.FieldPath, corev1.EventTypeWarning, "ProbeWarning", "%s probe warning: %s", j.kind, text)
		out = Success
	}
	if m.note(j, out) {
		m.changed(p.UID)
	}
}

// note counts an outcome and says whether it changed what is known.
func (m *Manager) note(j *job, out Outcome) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := j.w
	if w.gone || j.suspended {
		return false
	}
	if out == j.last {
		j.run++
	} else {
		j.last, j.run = out, 1
	}
	if out == Success {
		j.early = 0
	}
	threshold := max(j.probe.SuccessThreshold, 1)
	if out == Failure {
		threshold = j.probe.FailureThreshold
		if threshold <= 0 {
			threshold = 3
		}
	}
	if j.run < threshold {
		return false
	}
	before := w.result
	switch {
	case j.kind == Readiness:
		w.result.Ready = out == Success
	case j.kind == Startup && out == Success:
		w.result.Started = true
		m.drop(j)
		for _, k := range []Kind{Readiness, Liveness} {
			if o := w.probes[k]; o != nil && !o.suspended {
				m.begin(o)
			}
		}
	case out == Failure && j.kind == Startup:
		w.result.Failed = "startup"
		m.drop(j)
	case out == Failure && j.kind == Liveness:
		w.result.Failed = "liveness"
		m.drop(j)
	}
	return w.result != before
}

// Results is what is known of a container; ok is false when it is not probed.
func (m *Manager) Results(id string) (r pod.Probes, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.targets[id]
	if w == nil {
		return pod.Probes{}, false
	}
	return w.result, true
}
