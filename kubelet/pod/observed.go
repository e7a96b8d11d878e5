// Package pod decides what a node has to do for a pod. Decide is a pure
// function of the pod's API object, of what the node knows about it (Observed)
// and of the time; it returns actions, the status to report and when to ask
// again. Nothing here starts, waits, reads a file or writes to the API, so the
// whole life of a pod can be tested as a table.
package pod

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/runtime"
)

// Observed is what the node knows of a pod besides its API object. The caller
// keeps it current; Decide only reads it.
type Observed struct {
	// StartTime is when the node took the pod on.
	StartTime time.Time
	// Verdict is set once the node refuses or evicts the pod.
	Verdict *Verdict
	// Gone says that the API object no longer exists.
	Gone bool
	// StopSince is when the pod began to stop: Plan.StopSince of an earlier
	// decision, remembered.
	StopSince time.Time
	// Reported is the phase that the API server is known to hold.
	Reported corev1.PodPhase
	// Deleting says that the final delete of the API object is under way.
	Deleting bool

	Sandbox    Sandbox
	Containers map[string]*Container // by name, of all classes
	// HostIPs are the node's addresses, the primary first.
	HostIPs []netip.Addr
	// Resize is what the node said about a change of resources it cannot make.
	Resize *corev1.PodCondition
}

// Verdict is why a pod must not run on this node.
type Verdict struct {
	Reason, Message string
	// Grace overrides the pod's own grace period when not nil.
	Grace *time.Duration
	// Disrupted marks the pod with the condition DisruptionTarget.
	Disrupted bool
}

// SandboxState is how far the shared part of a pod is.
type SandboxState int

// The states of a sandbox.
const (
	SandboxNone SandboxState = iota
	// SandboxSettingUp and SandboxTearingDown: an action is under way.
	SandboxSettingUp
	SandboxReady
	// SandboxLost: its keeper died; its containers with it.
	SandboxLost
	SandboxTearingDown
)

// Sandbox is the shared part of a pod: volumes, namespaces, network.
type Sandbox struct {
	State SandboxState
	// IPs of the pod, the primary first.
	IPs []netip.Addr
	// Resources of the pod as a whole that are in force; nil when the pod has
	// none, or it is not known.
	Resources *corev1.ResourceRequirements
	// RetryAt is when a set-up or tear-down that failed may be tried again.
	RetryAt time.Time
	// Leftovers says that volumes or directories may remain although there is
	// no sandbox, so that a tear-down is needed.
	Leftovers bool
}

// Container is what the node knows of one container of a pod.
type Container struct {
	// Attempts at running it that the runtime still has, oldest first.
	Attempts []Attempt
	// Starting: pull, creation, start and post-start hook are under way.
	Starting bool
	// StopBy is when a stop under way will kill; zero when none is.
	StopBy time.Time
	// Failure is why the last try to start it did not get as far as an attempt.
	Failure *Failure
	// Probes of the newest attempt.
	Probes Probes
	// Devices is the health of those it was given through claims.
	Devices []corev1.ResourceStatus
	// Previous is the status that the API held when the node adopted the pod,
	// or that the container had when its sandbox was lost.
	Previous *corev1.ContainerStatus
}

// Attempt is one run of a container.
type Attempt struct {
	runtime.ContainerStatus
	// Message is the termination message of an exited attempt.
	Message string
	// Backoff is the delay that must pass between its end and the next start.
	Backoff time.Duration
	// SpecImage is the image as the pod spec named it.
	SpecImage string
	// Hooking: the post-start hook has not finished.
	Hooking bool
	// Killed: this node ended it in order to start it again.
	Killed bool
	// User the process runs as, when known.
	User *corev1.ContainerUser
	// Resources that are in force.
	Resources *corev1.ResourceRequirements
}

// Failure is why a container could not be started.
type Failure struct {
	Reason, Message string
	At, RetryAt     time.Time
	// Image says that the image could not be had, so that after a moment the
	// reason becomes ImagePullBackOff.
	Image bool
	// BackOffMessage is the message that goes with ImagePullBackOff.
	BackOffMessage string
}

// Probes are the results of a container's probes. A probe that does not exist
// counts as successful.
type Probes struct {
	Started, Ready bool
	// Failed names the probe that demands a restart: "liveness" or "startup".
	Failed string
}

// last is the newest attempt, or nil.
func (c *Container) last() *Attempt {
	if c == nil || len(c.Attempts) == 0 {
		return nil
	}
	return &c.Attempts[len(c.Attempts)-1]
}

// Running says that a process of the container may exist.
func (a *Attempt) Running() bool { return a != nil && a.State == runtime.StateRunning }

// Ended says that the attempt is over.
func (a *Attempt) Ended() bool {
	return a != nil && (a.State == runtime.StateExited || a.State == runtime.StateUnknown)
}

// ActionKind is what an Action does.
type ActionKind int

// The kinds of actions.
const (
	// SetUp makes volumes, sandbox and network.
	SetUp ActionKind = iota
	// Start gets the image and runs a new attempt of a container.
	Start
	// Stop ends a container: pre-stop hook, signal, grace, kill.
	Stop
	// Cancel abandons a Start under way.
	Cancel
	// Remove removes an ended attempt.
	Remove
	// Reset removes a lost sandbox with its containers, keeping volumes.
	Reset
	// TearDown removes network, sandbox, volumes and directories except logs.
	TearDown
	// Delete removes the API object for good.
	Delete
	// Forget removes the last traces (logs) and drops the pod.
	Forget
	// Resize changes the limits of a running container, or, without one, of the
	// pod as a whole.
	Resize
)

var actionNames = [...]string{"SetUp", "Start", "Stop", "Cancel", "Remove", "Reset", "TearDown", "Delete", "Forget", "Resize"}

// String is the name of the kind.
func (k ActionKind) String() string { return actionNames[k] }

// Action is one thing to do. The caller carries out the actions of a Plan in
// any order and reports each in Observed before it decides again.
type Action struct {
	Kind ActionKind
	// Container is the name, ID the attempt, where the kind concerns one.
	Container, ID string
	// Attempt and Backoff are for Start.
	Attempt int
	Backoff time.Duration
	// By is when a Stop must kill; Restart says that it is started again;
	// Message is for the event.
	By      time.Time
	Restart bool
	Message string
}

// ProbeTarget is a container whose probes must run.
type ProbeTarget struct {
	Container, ID string
	// ReadinessOnly while the pod stops.
	ReadinessOnly bool
}

// Notice is an event to record about the pod or one of its containers.
type Notice struct {
	// Key makes a notice unique: it is recorded once.
	Key                              string
	Container, Type, Reason, Message string
}

// Plan is what Decide returns.
type Plan struct {
	Actions []Action
	Status  corev1.PodStatus
	// Probes that must run; all others must not.
	Probes []ProbeTarget
	// Notices are events to record, once for each key.
	Notices []Notice
	// Wake is when to decide again if nothing happens before; zero is never.
	Wake time.Time
	// StopSince is to be remembered in Observed.
	StopSince time.Time
	// Verdict is to be remembered in Observed when it is not nil.
	Verdict *Verdict
	// Finished: nothing of the pod runs and nothing will.
	Finished bool
}

// Settings are the node's choices that decisions depend on. The zero value
// means upstream's defaults.
type Settings struct {
	// BackoffInitial and BackoffMax bound the delay between restarts.
	BackoffInitial, BackoffMax time.Duration
}

func (s Settings) defaults() Settings {
	if s.BackoffInitial <= 0 {
		s.BackoffInitial = 10 * time.Second
	}
	if s.BackoffMax <= 0 {
		s.BackoffMax = 300 * time.Second
	}
	return s
}
