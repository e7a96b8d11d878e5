// Package runtime is the contract between the node agent and whatever runs
// containers on the machine: the built-in runtime (runtime/native) or a CRI
// runtime.
//
// The nouns are those of CRI. A sandbox is what the containers of one pod
// share: network, IPC and UTS namespaces, a cgroup, a directory of logs. A
// container is one attempt at running one container of a pod; a restart is a
// new container with a new id. All policy of Kubernetes (who may run what,
// when to restart, which limits follow from which requests) is the caller's;
// a runtime carries out what it is told and refuses what it cannot do.
//
// Sandboxes are named by pod UID, containers by an id chosen by the caller,
// unique on the node and matching [A-Za-z0-9][A-Za-z0-9_.-]{0,127}.
package runtime

import (
	"context"
	"errors"
)

// Runtime is everything the node agent asks of a container runtime.
//
// All methods may be called from several goroutines at once. Calls for one
// sandbox are ordered by the runtime; calls for different sandboxes run side
// by side. A cancelled context abandons the wait, not necessarily the work:
// after a cancelled call the caller asks List.
type Runtime interface {
	Sandboxes
	Containers
	Streams
	Meter
	Observer

	// Name says which runtime this is and its version, for node status:
	// "sagong://1.0", "containerd://2.1.4".
	Name() string
	// Close stops watching. Sandboxes and containers go on running, and a
	// later runtime on the same directories adopts them.
	Close() error
}

// Sandboxes makes and removes what the containers of a pod share.
type Sandboxes interface {
	// CreateSandbox makes the namespaces and the cgroup of a pod. When it
	// returns, NetNSPath is valid and no container runs yet. A sandbox of that
	// UID that is already there and alive is success; one whose keeper has died
	// is removed and made anew.
	CreateSandbox(ctx context.Context, s Sandbox) error
	// NetNSPath is the path of the sandbox's network namespace, to be opened
	// with setns(2); empty for a pod on the host's network.
	NetNSPath(uid string) (string, error)
	// UpdateSandbox changes the limits of the whole pod.
	UpdateSandbox(ctx context.Context, uid string, r Resources) error
	// RemoveSandbox kills what still runs, then removes all that the sandbox
	// and its containers hold: processes, mounts, namespaces, cgroups, files
	// except logs. It succeeds when nothing is left, also when nothing was
	// there.
	RemoveSandbox(ctx context.Context, uid string) error
}

// Containers is the life of a container: created, running, exited, removed.
type Containers interface {
	// CreateContainer checks and records a container of a sandbox. Nothing
	// runs. Creating the same id again is ErrExists.
	CreateContainer(ctx context.Context, c Container) error
	// StartContainer executes the container's process. It returns once the
	// process image is the container's own, or with a *StartError when that
	// cannot be (no such file, not executable, a mount that fails). A container
	// starts at most once.
	StartContainer(ctx context.Context, id string) (Started, error)
	// StopContainer sends a signal (0: the container's StopSignal, or SIGTERM),
	// waits the grace period, then kills every process of the container. It
	// returns when the container has exited; one that does not run is success.
	// A second call with a shorter grace shortens the first.
	StopContainer(ctx context.Context, id string, stop Stop) error
	// SignalContainer sends a signal to the container's first process.
	SignalContainer(ctx context.Context, id string, signal int) error
	// RemoveContainer removes an exited or never started container with its
	// writable layer. Removing one that does not exist is success; one that
	// runs is ErrRunning.
	RemoveContainer(ctx context.Context, id string) error
	// UpdateResources changes the limits of a running container.
	UpdateResources(ctx context.Context, id string, r Resources) error
	// ReopenLog makes the runtime write to a new file at the container's log
	// path, after the caller has renamed the old one. When the new file appears,
	// nothing more is written to the old one.
	ReopenLog(ctx context.Context, id string) error
	// ResolveUser turns the USER of an image or a user name into numbers by
	// the root file system's own /etc/passwd and /etc/group. See User.
	ResolveUser(ctx context.Context, root Rootfs, user string) (User, error)
}

// Streams is the interactive side of containers.
type Streams interface {
	// Exec runs a command in a running container and waits for it. The command
	// ends with the context: it is killed and Exec returns the context's error.
	// A command over its own Timeout is killed and ErrTimeout returned. A
	// command that cannot be executed is a *StartError.
	Exec(ctx context.Context, id string, o ExecOptions) (exitCode int, err error)
	// Attach connects to the container's own streams until it exits, the
	// context ends, or the client closes stdin of a container that reads it
	// once.
	Attach(ctx context.Context, id string, o AttachOptions) error
	// ResizeTTY sets the window size of a container's terminal.
	ResizeTTY(ctx context.Context, id string, size TerminalSize) error
}

// Meter reads what sandboxes and containers use.
type Meter interface {
	// Stats reads one container.
	Stats(ctx context.Context, id string) (Stats, error)
	// PodStats reads the cgroup of a whole pod and of each of its containers
	// that runs.
	PodStats(ctx context.Context, uid string) (PodStats, error)
	// DiskUsage counts what a container has written to its own layer.
	DiskUsage(ctx context.Context, id string) (DiskUsage, error)
}

// Observer tells what exists and what happens.
type Observer interface {
	// List is every sandbox with its containers, those of an earlier process
	// of the agent included. It reads memory only and is exact.
	List(ctx context.Context) ([]SandboxStatus, error)
	// Status is one container.
	Status(ctx context.Context, id string) (ContainerStatus, error)
	// Events is the one stream of what happens, in order for each container,
	// for one reader. The queue behind it is unbounded and nothing is dropped.
	// An event is sent after List and Status show what it says. What happened
	// before the runtime was opened is in List and not repeated here. The
	// channel is closed by Close.
	Events() <-chan Event
}

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotFound is said of a sandbox or container that does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists is said of an id that is taken.
	ErrExists = errors.New("already exists")
	// ErrRunning is said of a container that must not run for the call.
	ErrRunning = errors.New("is running")
	// ErrNotRunning is said of a container that must run for the call.
	ErrNotRunning = errors.New("is not running")
	// ErrTimeout is said of an exec killed at its time limit.
	ErrTimeout = errors.New("timed out")
	// ErrUnsupported is said of what this runtime or kernel cannot do.
	ErrUnsupported = errors.New("not supported")
)

// StartError says why a process could not become the container's (or an
// exec's) process. Kubernetes reports it as the reason StartError with exit
// code 128, an exec as exit code 126 or 127.
type StartError struct {
	// Step is what failed, in words: `mount "/data"`, `exec: "foo"`.
	Step string
	// NotFound is set when the executable does not exist or is not in $PATH.
	NotFound bool
	// Err is the cause.
	Err error
}

// Error is the step and the cause.
func (e *StartError) Error() string { return e.Step + ": " + e.Err.Error() }

// Unwrap is the cause.
func (e *StartError) Unwrap() error { return e.Err }
