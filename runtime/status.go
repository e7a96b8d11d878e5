package runtime

import "time"

// State of a container.
type State string

// The states, in the order of a life.
const (
	StateCreated State = "created"
	StateRunning State = "running"
	StateExited  State = "exited"
	// StateUnknown: it no longer runs and nobody saw how it ended.
	StateUnknown State = "unknown"
)

// SandboxStatus is a sandbox and its containers.
type SandboxStatus struct {
	Sandbox Sandbox
	// Ready: its namespaces and its keeper live. When false, the caller removes
	// it and creates it anew.
	Ready     bool
	CreatedAt time.Time
	NetNSPath string
	// Containers, oldest first.
	Containers []ContainerStatus
}

// ContainerStatus is a container as the runtime knows it.
type ContainerStatus struct {
	ID, SandboxUID, Name string
	Attempt              int
	Image, ImageID       string
	LogPath              string
	Labels, Annotations  map[string]string

	State State
	// PID of the first process on the host while it runs.
	PID int
	// CreatedAt, StartedAt and FinishedAt are zero until they are known.
	CreatedAt, StartedAt, FinishedAt time.Time
	// ExitCode is 128+n when signal n ended it; 137 in StateUnknown; 128 when
	// it could not be started.
	ExitCode int
	// Signal that ended it, or 0.
	Signal int
	// OOMKilled: the kernel killed a process of it for want of memory.
	OOMKilled bool
	// Reason and Message explain StateUnknown and failed starts
	// ("StartError", "ContainerStatusUnknown").
	Reason, Message string
}

// EventType says what happened.
type EventType string

// The kinds of events.
const (
	EventCreated EventType = "created"
	EventStarted EventType = "started"
	EventExited  EventType = "exited"
	EventRemoved EventType = "removed"
	// EventSandboxLost: the keeper of a sandbox died and its containers with it.
	EventSandboxLost EventType = "sandboxLost"
)

// Event is something that happened to a container or sandbox.
type Event struct {
	Type EventType
	// SandboxUID is always set, ContainerID when it concerns a container.
	SandboxUID, ContainerID string
	// Container is the status right after the event, when it concerns one.
	Container ContainerStatus
	At        time.Time
}
