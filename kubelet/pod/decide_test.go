package pod

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"sagong/runtime"
)

func TestStartsInOrder(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "i1", Image: "img"}, sidecar("side"), {Name: "i2", Image: "img"}},
		Containers:     containers("a", "b"),
	}})
	w.exit = func(name string, _ int) *int {
		if name[0] == 'i' {
			return code(0)
		}
		return nil
	}
	w.settle()
	w.expect("start", "SetUp; Start i1; Start side; Start i2; Start a; Start b")
	s := w.plan.Status
	if s.Phase != corev1.PodRunning || w.condition(corev1.PodReady) != "True/" || w.condition(corev1.PodInitialized) != "True/" || s.PodIP != "10.0.0.1" || s.HostIP != "192.0.2.1" {
		t.Errorf("status is %+v", s)
	}
}

func TestSidecarMustStart(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{InitContainers: []corev1.Container{sidecar("side")}, Containers: containers("a")}})
	w.pod.Spec.InitContainers[0].StartupProbe = &corev1.Probe{}
	w.container("side").Probes = Probes{}
	w.settle()
	w.expect("blocked", "SetUp; Start side")
	if w.plan.Status.Phase != corev1.PodPending || w.condition(corev1.PodInitialized) != "False/ContainersNotInitialized" {
		t.Errorf("status is %+v", w.plan.Status)
	}
	if got := w.plan.Status.ContainerStatuses[0].State.Waiting.Reason; got != "PodInitializing" {
		t.Errorf("main container waits for %q", got)
	}
	w.container("side").Probes = Probes{Started: true, Ready: true}
	w.settle()
	w.expect("started", "Start a")
}

func TestBackOffDoubles(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{Containers: containers("a")}})
	w.exit = func(string, int) *int { return code(1) }
	w.settle()
	w.expect("the first restart is at once", "SetUp; Start a; Start a; event BackOff Back-off restarting failed container a in pod p_ns(u)")
	last := epoch
	for _, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		cs := w.plan.Status.ContainerStatuses[0]
		if cs.State.Waiting == nil || cs.State.Waiting.Reason != "CrashLoopBackOff" || cs.State.Waiting.Message != "back-off "+(want*time.Second).String()+" restarting failed container=a pod=p_ns(u)" {
			t.Errorf("state is %+v, want a back-off of %d s", cs.State, want)
		}
		if w.plan.Status.Phase != corev1.PodRunning || cs.LastTerminationState.Terminated.ExitCode != 1 {
			t.Errorf("status is %+v", w.plan.Status)
		}
		n := w.starts["a"]
		w.pass(want*time.Second - time.Millisecond)
		if w.starts["a"] != n {
			t.Errorf("started %v after %v", w.now.Sub(last), want)
		}
		w.pass(time.Millisecond)
		if w.starts["a"] != n+1 {
			t.Errorf("not started after %d s", want)
		}
		last = w.now
	}
	// Two attempts are kept: the newest, and the one before for its log.
	if n := len(w.container("a").Attempts); n > 2 {
		t.Errorf("%d attempts are kept", n)
	}
	// A long run makes it forget.
	w.exit = nil
	w.pass(300 * time.Second)
	w.did()
	w.pass(601 * time.Second)
	w.end("a", 1)
	w.settle()
	if d := w.did(); !strings.HasPrefix(d, "Start a") {
		t.Errorf("after a long run did %q", d)
	}
}

func TestRestartPolicies(t *testing.T) {
	for _, x := range []struct {
		policy corev1.RestartPolicy
		code   int
		phase  corev1.PodPhase
		starts int
	}{
		{corev1.RestartPolicyNever, 0, corev1.PodSucceeded, 1},
		{corev1.RestartPolicyNever, 2, corev1.PodFailed, 1},
		{corev1.RestartPolicyOnFailure, 0, corev1.PodSucceeded, 1},
		{corev1.RestartPolicyOnFailure, 2, corev1.PodRunning, 2},
		{corev1.RestartPolicyAlways, 0, corev1.PodRunning, 2},
		{corev1.RestartPolicyAlways, 2, corev1.PodRunning, 2},
	} {
		w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: x.policy, Containers: containers("a")}})
		w.exit = func(string, int) *int { return code(x.code) }
		w.settle()
		if w.plan.Status.Phase != x.phase || w.starts["a"] != x.starts {
			t.Errorf("%s, exit code %d: phase %s after %d starts, want %s after %d", x.policy, x.code, w.plan.Status.Phase, w.starts["a"], x.phase, x.starts)
		}
		if terminal(x.phase) && w.obs.Sandbox.State != SandboxNone {
			t.Errorf("%s: the sandbox is kept", x.policy)
		}
	}
}

func TestContainerRestartRules(t *testing.T) {
	never := corev1.ContainerRestartPolicyNever
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{Name: "a", Image: "img", RestartPolicy: &never,
		RestartPolicyRules: []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}}}}}})
	w.exit = func(_ string, attempt int) *int {
		if attempt == 0 {
			return code(42)
		}
		return code(1)
	}
	w.settle()
	if w.starts["a"] != 2 || w.plan.Status.Phase != corev1.PodFailed {
		t.Errorf("%d starts, phase %s", w.starts["a"], w.plan.Status.Phase)
	}
}

func TestInitFails(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, InitContainers: containers("i"), Containers: containers("a")}})
	w.exit = func(string, int) *int { return code(1) }
	w.settle()
	w.expect("fails", "SetUp; Start i; TearDown")
	if w.plan.Status.Phase != corev1.PodFailed {
		t.Errorf("status is %+v", w.plan.Status)
	}
	w = newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{InitContainers: containers("i"), Containers: containers("a")}})
	w.exit = func(string, int) *int { return code(1) }
	w.settle()
	if cs := w.plan.Status.InitContainerStatuses[0]; cs.State.Waiting == nil || cs.State.Waiting.Reason != "CrashLoopBackOff" || w.plan.Status.Phase != corev1.PodPending {
		t.Errorf("status is %+v", w.plan.Status)
	}
}

func TestDelete(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{InitContainers: []corev1.Container{sidecar("s1"), sidecar("s2")}, Containers: containers("a", "b")}})
	w.settle()
	w.did()
	w.delete(30)
	w.settle()
	w.expect("delete", "Stop a 30s; Stop b 30s; Stop s2 30s; Stop s1 30s; TearDown; Delete; Forget")
	if !w.gone || w.pod.Status.Phase != corev1.PodFailed {
		t.Errorf("status is %+v", w.pod.Status)
	}
}

func TestDeleteShortens(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{Containers: containers("a")}})
	w.settle()
	w.did()
	w.slow = true
	w.delete(30)
	w.settle()
	w.expect("delete", "Stop a 30s")
	w.now = w.now.Add(time.Second)
	w.delete(5)
	w.settle()
	w.expect("shorter", "Stop a 4s")
	if w.plan.Status.Phase != corev1.PodRunning {
		t.Errorf("phase is %s while it stops", w.plan.Status.Phase)
	}
}

func TestDeleteWhileStarting(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{Containers: containers("a")}})
	w.slow = true
	w.settle()
	w.expect("set up", "SetUp")
	w.delete(30)
	w.settle()
	w.slow = false
	w.expect("cancel", "Cancel; TearDown")
	for _, a := range w.held {
		w.finish(a)
	}
	w.settle()
	if !w.gone {
		t.Errorf("not gone: %s", w.did())
	}
}

func TestForceDelete(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{Containers: containers("a")}})
	w.settle()
	w.did()
	w.obs.Gone = true
	w.settle()
	w.expect("force", "Stop a 30s; TearDown; Forget")
}

func TestActiveDeadline(t *testing.T) {
	limit := int64(60)
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{ActiveDeadlineSeconds: &limit, Containers: containers("a")}})
	w.settle()
	w.did()
	w.pass(59 * time.Second)
	w.expect("before", "")
	w.pass(time.Second)
	w.expect("at the deadline", "event DeadlineExceeded Pod was active on the node longer than the specified deadline; Stop a 30s; TearDown")
	if s := w.plan.Status; s.Phase != corev1.PodFailed || s.Reason != "DeadlineExceeded" || s.Message != "Pod was active on the node longer than the specified deadline" {
		t.Errorf("status is %+v", s)
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{Containers: containers("a")}})
	w.obs.Verdict = &Verdict{Reason: "OutOfcpu", Message: "no room"}
	w.settle()
	w.expect("refused", "")
	if s := w.plan.Status; s.Phase != corev1.PodFailed || s.Reason != "OutOfcpu" || s.ContainerStatuses[0].State.Terminated != nil {
		t.Errorf("status is %+v", s)
	}
}

func TestEvicted(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{Containers: containers("a")}})
	w.settle()
	w.did()
	zero := time.Duration(0)
	w.obs.Verdict = &Verdict{Reason: "Evicted", Message: "low", Grace: &zero, Disrupted: true}
	w.settle()
	w.expect("evicted", "Stop a 1s; TearDown")
	if s := w.plan.Status; s.Phase != corev1.PodFailed || s.Reason != "Evicted" || w.condition(corev1.DisruptionTarget) != "True/TerminationByKubelet" {
		t.Errorf("status is %+v", s)
	}
}

func TestLivenessRestarts(t *testing.T) {
	grace := int64(7)
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{Containers: containers("a")}})
	w.pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{TerminationGracePeriodSeconds: &grace}
	w.settle()
	w.did()
	w.container("a").Probes.Failed = "liveness"
	w.decide()
	w.container("a").Probes.Failed = ""
	w.settle()
	w.expect("restart", "Stop a 7s; Start a")
	if w.plan.Status.ContainerStatuses[0].RestartCount != 1 {
		t.Errorf("status is %+v", w.plan.Status)
	}
}

func TestImageChanges(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: containers("a")}})
	w.settle()
	w.did()
	w.pod = w.pod.DeepCopy()
	w.pod.Spec.Containers[0].Image = "img:2"
	w.settle()
	w.expect("image", "Stop a 30s; Start a")
	if w.plan.Status.Phase != corev1.PodRunning || w.plan.Status.ContainerStatuses[0].RestartCount != 1 {
		t.Errorf("status is %+v", w.plan.Status)
	}
}

func TestImagePull(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{Containers: containers("a")}})
	w.fail = func(string) *Failure {
		return &Failure{Reason: "ErrImagePull", Message: "m", Image: true, BackOffMessage: "b", RetryAt: w.now.Add(10 * time.Second)}
	}
	w.settle()
	w.expect("pull", "SetUp; Start a")
	if r := w.plan.Status.ContainerStatuses[0].State.Waiting; r.Reason != "ErrImagePull" || r.Message != "m" {
		t.Errorf("waits for %+v", r)
	}
	w.pass(time.Second)
	w.expect("back-off", `event BackOff Back-off pulling image "img"; event Failed Error: ImagePullBackOff`)
	if r := w.plan.Status.ContainerStatuses[0].State.Waiting; r.Reason != "ImagePullBackOff" || r.Message != "b" || w.plan.Status.Phase != corev1.PodPending {
		t.Errorf("waits for %+v", r)
	}
	w.fail = nil
	w.pass(9 * time.Second)
	w.expect("again", "Start a")
}

func TestSandboxLost(t *testing.T) {
	for policy, want := range map[corev1.RestartPolicy]string{corev1.RestartPolicyAlways: "Reset; SetUp; Start a", corev1.RestartPolicyNever: "TearDown"} {
		w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: policy, Containers: containers("a")}})
		w.settle()
		w.did()
		w.obs.Sandbox.State = SandboxLost
		w.container("a").last().State = runtime.StateUnknown
		w.container("a").last().ExitCode = 137
		w.settle()
		w.expect(string(policy), want)
	}
}

func TestAdoptedAfterReboot(t *testing.T) {
	running := corev1.ContainerStatus{Name: "a", ContainerID: "sagong://x", RestartCount: 3, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	for policy, want := range map[corev1.RestartPolicy]string{corev1.RestartPolicyAlways: "SetUp; Start a", corev1.RestartPolicyNever: ""} {
		w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: policy, Containers: containers("a")}, Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{running}}})
		w.container("a").Previous = &running
		w.settle()
		w.expect(string(policy), want)
		cs := w.plan.Status.ContainerStatuses[0]
		if policy == corev1.RestartPolicyAlways && (cs.RestartCount != 4 || cs.LastTerminationState.Terminated == nil || cs.LastTerminationState.Terminated.ExitCode != 137) {
			t.Errorf("status is %+v", cs)
		}
		if policy == corev1.RestartPolicyNever && (w.plan.Status.Phase != corev1.PodFailed || cs.State.Terminated == nil || cs.State.Terminated.Reason != "ContainerStatusUnknown") {
			t.Errorf("status is %+v", w.plan.Status)
		}
	}
}

func TestReadinessGates(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{ReadinessGates: []corev1.PodReadinessGate{{ConditionType: "x/y"}}, Containers: containers("a")}})
	w.settle()
	c := FindCondition(&w.plan.Status, corev1.PodReady)
	if c.Status != corev1.ConditionFalse || c.Reason != "ReadinessGatesNotReady" || c.Message != `corresponding condition of pod readiness gate "x/y" does not exist.` {
		t.Errorf("condition is %+v", c)
	}
	w.pod = w.pod.DeepCopy()
	w.pod.Status.Conditions = append(w.pod.Status.Conditions, corev1.PodCondition{Type: "x/y", Status: corev1.ConditionTrue})
	w.settle()
	if w.condition(corev1.PodReady) != "True/" || w.condition("x/y") != "True/" {
		t.Errorf("conditions are %+v", w.plan.Status.Conditions)
	}
}

func TestEphemeral(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{Containers: containers("a")}})
	w.settle()
	w.did()
	w.pod = w.pod.DeepCopy()
	w.pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "dbg", Image: "img"}, TargetContainerName: "a"}}
	w.settle()
	w.expect("debug", "Start dbg")
	w.end("dbg", 0)
	w.settle()
	w.expect("ends once", "")
	if s := w.plan.Status.EphemeralContainerStatuses[0]; s.State.Terminated == nil || w.plan.Status.Phase != corev1.PodRunning {
		t.Errorf("status is %+v", s)
	}
}

func TestSidecarsEndWithTheJob(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, InitContainers: []corev1.Container{sidecar("s")}, Containers: containers("a")}})
	w.settle()
	w.did()
	w.end("s", 1)
	w.settle()
	w.expect("a sidecar is restarted whatever the policy", "Start s")
	w.end("a", 0)
	w.settle()
	w.expect("job ends", "Stop s 30s; TearDown")
	if w.plan.Status.Phase != corev1.PodSucceeded {
		t.Errorf("phase is %s", w.plan.Status.Phase)
	}
}

// TestAlwaysConverges lets anything happen at any time to pods of any shape.
// The world checks after each step that no container has two instances, that
// nothing is torn down too early; here it is checked that what must end ends.
func TestAlwaysConverges(t *testing.T) {
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 1))
		spec := corev1.PodSpec{RestartPolicy: []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}[r.IntN(3)]}
		for i := range r.IntN(3) {
			if r.IntN(2) == 0 {
				spec.InitContainers = append(spec.InitContainers, sidecar("s"+string(rune('0'+i))))
			} else {
				spec.InitContainers = append(spec.InitContainers, containers("i"+string(rune('0'+i)))...)
			}
		}
		spec.Containers = containers([]string{"a", "b", "c"}[:1+r.IntN(3)]...)
		w := newWorld(t, &corev1.Pod{Spec: spec})
		w.slow = true
		var names []string
		for _, m := range Members(w.pod) {
			names = append(names, m.Name)
		}
		ended := false
		for range 60 {
			w.decide()
			switch x := r.IntN(14); {
			case x < 6 && len(w.held) > 0:
				i := r.IntN(len(w.held))
				a := w.held[i]
				w.held = append(w.held[:i:i], w.held[i+1:]...)
				w.finish(a)
			case x == 6:
				w.end(names[r.IntN(len(names))], r.IntN(2))
			case x == 7:
				w.now = w.now.Add(time.Duration(r.IntN(400)) * time.Second)
			case x == 8 && w.obs.Sandbox.State == SandboxReady && r.IntN(4) == 0:
				w.obs.Sandbox.State = SandboxLost
				for _, n := range names {
					if a := w.container(n).last(); a.Running() {
						a.State, a.ExitCode, a.FinishedAt = runtime.StateUnknown, 137, w.now
					}
				}
			case x == 9 && w.pod.DeletionTimestamp == nil && r.IntN(10) == 0:
				w.delete(int64(r.IntN(40)))
				ended = true
			case x == 10 && r.IntN(20) == 0:
				w.obs.Gone, ended = true, true
			case x == 11 && r.IntN(20) == 0 && w.obs.Verdict == nil && w.obs.StopSince.IsZero():
				w.obs.Verdict = &Verdict{Reason: "Evicted"}
			case x == 12:
				n := names[r.IntN(len(names))]
				if a := w.container(n).last(); a.Running() && w.obs.StopSince.IsZero() {
					w.container(n).Probes.Failed = "liveness"
				}
			case x == 13:
				w.container(names[r.IntN(len(names))]).Probes.Failed = ""
			}
		}
		// From now on everything goes well.
		w.slow = false
		for len(w.held) > 0 {
			a := w.held[0]
			w.held = w.held[1:]
			w.finish(a)
		}
		for _, n := range names {
			w.container(n).Probes = Probes{Started: true, Ready: true}
			if n[0] == 'i' {
				w.end(n, 0)
			}
		}
		w.exit = func(name string, _ int) *int {
			if name[0] == 'i' {
				return code(0)
			}
			return nil
		}
		w.pass(30 * time.Minute)
		switch ph := w.pod.Status.Phase; {
		case ended:
			if !w.gone {
				t.Fatalf("seed %d: deleted and not gone: %s", seed, strings.Join(w.log, "; "))
			}
		case terminal(ph):
			if w.obs.Sandbox.State != SandboxNone {
				t.Fatalf("seed %d: %s and the sandbox is kept: %s", seed, ph, strings.Join(w.log, "; "))
			}
		case ph != corev1.PodRunning:
			t.Fatalf("seed %d: neither up nor down: %+v\n%s", seed, w.pod.Status, strings.Join(w.log, "; "))
		}
	}
}

func TestPodIsResizedAsAWhole(t *testing.T) {
	cpu := func(n string) *corev1.ResourceRequirements {
		return &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(n)}}
	}
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{Containers: containers("a"), Resources: cpu("1")}})
	w.settle()
	w.expect("start", "SetUp; Start a")
	if s := w.plan.Status; s.Resources.Requests.Cpu().Value() != 1 || s.AllocatedResources.Cpu().Value() != 1 {
		t.Errorf("status is %+v", s)
	}
	w.pod.Spec.Resources = cpu("2")
	w.settle()
	w.expect("resize", "Resize")
	if s := w.plan.Status; s.Resources.Requests.Cpu().Value() != 2 || s.AllocatedResources.Cpu().Value() != 2 {
		t.Errorf("status is %+v", s)
	}
	// What the node cannot give is said and not tried again.
	w.pod.Spec.Resources = cpu("3")
	w.obs.Resize = &corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonDeferred}
	w.settle()
	w.expect("deferred", "")
	if s := w.plan.Status; s.Resources.Requests.Cpu().Value() != 2 || s.AllocatedResources.Cpu().Value() != 2 || w.condition(corev1.PodResizePending) != "True/Deferred" {
		t.Errorf("status is %+v", s)
	}
	// An agent that has started anew does not know what is in force.
	w.obs.Resize, w.obs.Sandbox.Resources = nil, nil
	w.settle()
	w.expect("adopted", "Resize")
}

func TestInitContainerIsResizedWhileItRuns(t *testing.T) {
	w := newWorld(t, &corev1.Pod{Spec: corev1.PodSpec{InitContainers: containers("i", "j"), Containers: containers("a")}})
	w.settle()
	w.expect("start", "SetUp; Start i")
	want := corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}
	w.pod = w.pod.DeepCopy()
	for i := range w.pod.Spec.InitContainers {
		w.pod.Spec.InitContainers[i].Resources = want
	}
	w.settle()
	w.expect("resize", "Resize i")
	w.end("i", 0)
	w.settle()
	w.expect("the next one starts as it is to be", "Start j")
	w.end("j", 0)
	w.settle()
	w.expect("the pod runs", "Start a")
	// One that is past is left alone.
	w.pod = w.pod.DeepCopy()
	w.pod.Spec.InitContainers[0].Resources = corev1.ResourceRequirements{}
	w.settle()
	w.expect("past", "")
}
