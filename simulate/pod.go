package simulate

import (
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
)

// stage is where a pod is in its life.
type stage uint8

const (
	waiting  stage = iota // for its start
	running               //
	crashed               // and waits to be started again
	ended                 // for good: succeeded or failed
	finished              // ended after the wish to stop it; the object may go
)

// pod is one pod on a simulated node.
type pod struct {
	node  *node
	shape *shape
	// meta is the pod's metadata as last seen, without what the API keeps by
	// itself; conditions are those of others.
	meta       metav1.ObjectMeta
	rev        object.Revision
	conditions []corev1.PodCondition
	token      string // the volume of its service account's token

	stage    stage
	failed   bool   // how it ended
	reason   string // of the pod, when the node refused or lost it
	message  string
	exitCode int32
	restarts int32
	backoff  time.Duration
	// started is the start of the pod, began and ceased are of the container's
	// newest run.
	started, began, ceased time.Time
	ip                     string
	slot                   uint32

	stopping bool // the API wants it gone
	crashes  bool // again and again
	lost     bool // its containers went down with its machine
	gone     bool // the object is deleted
	// version counts what there is to report, reported how much of it was.
	version, reported uint32
	tries             int
	// behind is the revision at which a write lost a conflict: the next waits
	// for a newer one.
	behind object.Revision
}

// newPod takes in a pod that arrives or, after a restart, is there already. f.mu
// is held.
func (f *Fleet) newPod(n *node, o *corev1.Pod) *pod {
	p := &pod{node: n, shape: f.shapeOf(o), started: time.Now()}
	for _, v := range o.Spec.Volumes {
		if strings.HasPrefix(v.Name, tokenVolume) {
			p.token = strings.Clone(v.Name)
		}
	}
	p.see(o)
	n.held[p] = struct{}{}
	if o.Status.StartTime != nil {
		p.started = o.Status.StartTime.Time
	}
	refused, why := "", ""
	if o.Status.Phase == corev1.PodPending {
		refused, why = f.unfit(p, o)
	}
	for r := range p.shape.needs {
		n.used[r] += p.shape.needs[r]
	}
	if o.Status.PodIP != "" {
		if p.shape.hostNetwork {
			p.ip = n.ip
		} else if slot, ok := n.claim(o.Status.PodIP); ok {
			p.ip, p.slot = o.Status.PodIP, slot
		}
	}
	if len(o.Status.ContainerStatuses) > 0 {
		p.restarts = o.Status.ContainerStatuses[0].RestartCount
	}
	switch o.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed:
		p.stage, p.failed = ended, o.Status.Phase == corev1.PodFailed
		f.free(p)
	case corev1.PodRunning:
		p.stage, p.began = running, p.started
		if len(o.Status.ContainerStatuses) > 0 && o.Status.ContainerStatuses[0].State.Running != nil {
			p.began = o.Status.ContainerStatuses[0].State.Running.StartedAt.Time
		}
		p.see(o)
		f.push(p)
		f.planEnd(p)
	default:
		if refused != "" {
			f.count(countRefused)
			p.stage, p.failed, p.reason, p.message = ended, true, refused, "Pod was rejected: "+why
			f.free(p)
			f.changed(p)
			break
		}
		f.planStart(p)
	}
	return p
}

// see takes the newest version of the object.
func (p *pod) see(o *corev1.Pod) {
	p.rev = object.RevisionOf(o)
	m := &o.ObjectMeta
	p.meta = metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, GenerateName: m.GenerateName, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		Labels: m.Labels, Annotations: m.Annotations, OwnerReferences: m.OwnerReferences, Finalizers: m.Finalizers,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp, DeletionGracePeriodSeconds: m.DeletionGracePeriodSeconds,
	}
	p.conditions = p.conditions[:0]
	for _, c := range o.Status.Conditions {
		if !slices.Contains(ownConditions, c.Type) {
			p.conditions = append(p.conditions, c)
		}
	}
	if p.stage == running && p.version == p.reported {
		// While a node is silent others say that its pods are not ready.
		i := slices.IndexFunc(o.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
		if i < 0 || o.Status.Conditions[i].Status != corev1.ConditionTrue {
			p.version++
		}
	}
}

// unfit is why the node cannot take on a pod that arrives, as a real agent checks
// what the scheduler decided.
func (f *Fleet) unfit(p *pod, o *corev1.Pod) (reason, message string) {
	if lacks := declared.Lacks(o); len(lacks) > 0 {
		return "PodFeatureUnsupported", "Pod requires node features that are not available: " + strings.Join(lacks, ", ")
	}
	capacity := f.capacity()
	for r, name := range [resources]string{"cpu", "memory", "pods"} {
		if p.shape.needs[r] > 0 && p.node.used[r]+p.shape.needs[r] > capacity[r] {
			return "OutOf" + name, "Node didn't have enough resource: " + name
		}
	}
	return "", ""
}

// free gives back what the pod used of its node.
func (f *Fleet) free(p *pod) {
	for r := range p.shape.needs {
		p.node.used[r] -= p.shape.needs[r]
	}
}

// delay is a duration by the pod's annotation, else by the fleet's distribution.
func (f *Fleet) delay(p *pod, annotation string, d Distribution) time.Duration {
	if text := p.meta.Annotations[annotation]; text != "" {
		if own, err := ParseDistribution(text); err == nil {
			d = own
		} else {
			f.cfg.Log.Warn("cannot read an annotation of a pod, which behaves as others do", "pod", p.meta.Namespace+"/"+p.meta.Name, "annotation", annotation, "err", err)
		}
	}
	return d.Draw(f.rand)
}

// longWait is from when on a pod is reported as being made before it runs; a
// shorter wait is over before the report would be.
const longWait = 500 * time.Millisecond

func (f *Fleet) planStart(p *pod) {
	wait := f.delay(p, AnnotationStartDelay, f.cfg.StartDelay)
	if wait >= longWait {
		f.changed(p)
	}
	f.after(p, wait, f.start)
}

// after lets something happen to a pod later, in place of what was to happen.
func (f *Fleet) after(p *pod, wait time.Duration, what func(*pod)) {
	if wait <= 0 {
		f.timers.Clear(p)
		what(p)
		return
	}
	f.timers.Set(p, time.Now().Add(wait), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !p.gone && p.node.down != StateDown {
			what(p)
		}
	})
}

func (f *Fleet) start(p *pod) {
	if p.stopping {
		return
	}
	f.count(countStarted)
	if p.ip == "" {
		if p.shape.hostNetwork {
			p.ip = p.node.ip
		} else if ip, slot := p.node.address(); ip.IsValid() {
			p.ip, p.slot = ip.String(), slot
		}
	}
	p.stage, p.began = running, time.Now()
	f.changed(p)
	f.planEnd(p)
}

// planEnd lets the containers crash or complete, where they are to.
func (f *Fleet) planEnd(p *pod) {
	if p.restarts == 0 {
		p.crashes = p.meta.Annotations[AnnotationCrashAfter] != "" || f.cfg.CrashShare > 0 && f.rand.Float64() < f.cfg.CrashShare
	}
	switch {
	case p.crashes:
		f.after(p, max(f.delay(p, AnnotationCrashAfter, f.cfg.CrashAfter), time.Millisecond), func(p *pod) { f.end(p, p.code(1)) })
	case p.shape.restart != corev1.RestartPolicyAlways || p.meta.Annotations[AnnotationRunFor] != "":
		left := f.delay(p, AnnotationRunFor, f.cfg.RunFor) - time.Since(p.began)
		f.after(p, max(left, time.Millisecond), func(p *pod) { f.end(p, p.code(0)) })
	}
}

// The back-off of containers that crash.
const (
	firstBackoff = 10 * time.Second
	lastBackoff  = 5 * time.Minute
)

// end lets the containers exit by themselves.
func (f *Fleet) end(p *pod, code int32) {
	if p.stage != running || p.stopping {
		return
	}
	f.count(countEnded)
	p.ceased, p.exitCode = time.Now(), code
	again := p.shape.restart == corev1.RestartPolicyAlways || p.shape.restart == corev1.RestartPolicyOnFailure && code != 0
	if !again {
		p.stage, p.failed = ended, code != 0
		f.free(p)
		f.changed(p)
		return
	}
	if p.restarts == 0 || p.ceased.Sub(p.began) > 2*lastBackoff {
		p.backoff = 0 // the first, and the first after a long run, go on at once
	} else {
		p.backoff = min(max(2*p.backoff, firstBackoff), lastBackoff)
	}
	p.stage = crashed
	f.changed(p)
	f.after(p, p.backoff, f.restart)
}

func (f *Fleet) restart(p *pod) {
	p.restarts++
	f.start(p)
}

// stop ends a pod that the API wants gone.
func (f *Fleet) stop(p *pod) {
	if p.stopping {
		return
	}
	p.stopping = true
	wait := time.Duration(0)
	if p.stage == running {
		wait = f.delay(p, "", f.cfg.StopDelay)
		if g := p.meta.DeletionGracePeriodSeconds; g != nil {
			wait = min(wait, time.Duration(*g)*time.Second)
		}
	}
	f.after(p, wait, func(p *pod) {
		if p.stage != ended {
			if p.stage == running {
				p.ceased, p.exitCode = time.Now(), 0
			}
			p.failed = p.stage != running || p.exitCode != 0
			f.free(p)
			p.version++
		}
		p.stage = finished
		f.push(p)
	})
}

// losePod takes note that a pod's machine went down.
func (f *Fleet) losePod(p *pod) {
	p.lost = p.stage == running || p.stage == crashed
	f.timers.Clear(p)
}

// resume goes on with a pod whose node is back.
func (f *Fleet) resume(p *pod) {
	switch {
	case p.gone:
	case p.stopping && p.stage != finished:
		p.stopping, p.lost = false, false
		f.stop(p)
	case p.lost:
		p.lost = false
		p.ceased, p.exitCode = time.Now(), 137
		if p.shape.restart == corev1.RestartPolicyNever {
			p.stage, p.failed = ended, true
			f.free(p)
			f.changed(p)
			return
		}
		p.stage = crashed
		f.changed(p)
		f.after(p, f.cfg.StartDelay.Draw(f.rand), f.restart)
	case p.stage == waiting:
		f.planStart(p)
	}
	f.push(p)
}

// code is what the containers exit with: the annotation's, or def.
func (p *pod) code(def int32) int32 {
	if text := p.meta.Annotations[AnnotationExitCode]; text != "" {
		if n, err := strconv.ParseUint(text, 10, 8); err == nil {
			return int32(n)
		}
	}
	return def
}

// changed notes that there is something to report.
func (f *Fleet) changed(p *pod) {
	p.version++
	f.push(p)
}

func (f *Fleet) push(p *pod) {
	if p.node.down == "" && !p.gone {
		f.podWork.Add(p)
	}
}
