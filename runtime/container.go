package runtime

import (
	"time"

	"sagong/lib/cgroup"
)

// Resources are the limits of a container or a pod. Zero values leave the
// kernel's default.
type Resources = cgroup.Resources

// Container describes one container of a sandbox.
type Container struct {
	// ID chosen by the caller; see the package comment.
	ID string
	// SandboxUID is the pod.
	SandboxUID string
	// Name in the pod, and the Attempt at running it, for listing.
	Name    string
	Attempt int
	// Image and ImageID are kept and listed, never read.
	Image, ImageID string

	// Rootfs is the root file system.
	Rootfs Rootfs
	// Args is the command and its arguments; the first is looked up in $PATH
	// when it has no slash.
	Args []string
	// Env is "NAME=value". HOME is added from the user's passwd entry when
	// missing, TERM=xterm for a terminal.
	Env []string
	// Cwd is the working directory, made when missing; empty is "/".
	Cwd string
	// User the process runs as.
	User User

	// Mounts are applied in the order given, after the standard ones (/proc,
	// /dev, /dev/pts, /dev/shm, /dev/mqueue, /sys, /sys/fs/cgroup). One at the
	// same place replaces the standard one.
	Mounts []Mount
	// Devices are host devices to make in the container.
	Devices []Device
	// Security is what the process may do.
	Security Security
	// Rlimits by name ("nofile"). Those not named are the runtime's.
	Rlimits map[string]Rlimit
	// OOMScoreAdj is best effort without CAP_SYS_RESOURCE.
	OOMScoreAdj int
	// Resources are the limits of the container's cgroup.
	Resources Resources

	// TTY gives the container a terminal; its output is one stream.
	TTY bool
	// Stdin keeps a standard input open for Attach; StdinOnce closes it when
	// the first attached client that writes has gone.
	Stdin, StdinOnce bool
	// LogPath is the absolute path of the log file, written in the CRI format.
	// Its directory must exist. Empty: output is discarded.
	LogPath string
	// StopSignal of the image; 0 is SIGTERM.
	StopSignal int

	// TargetID puts the container into the PID namespace of another container
	// of its pod (ephemeral containers). Empty: as the sandbox says.
	TargetID string

	// Labels and Annotations are kept and listed, never read.
	Labels, Annotations map[string]string
}

// Rootfs is a root file system: a stack of layers, or a directory.
type Rootfs struct {
	// Layers are directories of unpacked layers, lowest first, never written
	// to. The container gets a writable layer of its own above them.
	Layers []string
	// Path is a ready directory, used as it is, when there are no Layers.
	Path string
}

// User is who a process runs as, in numbers.
type User struct {
	UID, GID uint32
	// Groups are the supplementary groups.
	Groups []uint32
	// Home is the home directory when it was looked up.
	Home string
	// Name is the user's name when it was looked up.
	Name string
}

// Propagation of mounts between host and container, by the names of Kubernetes.
type Propagation string

// The propagation modes.
const (
	// PropagationNone: nothing is seen either way.
	PropagationNone Propagation = ""
	// PropagationHostToContainer: the container sees later mounts of the host.
	PropagationHostToContainer Propagation = "HostToContainer"
	// PropagationBidirectional: the host also sees those of the container. The
	// source must lie on a shared mount.
	PropagationBidirectional Propagation = "Bidirectional"
)

// Mount puts a file or directory of the host, or a new tmpfs, into a container.
type Mount struct {
	// Source is the host path. Symbolic links in it are followed on the host.
	Source string
	// Target is the absolute path in the container. It is resolved inside the
	// root file system and made when missing.
	Target string
	// Tmpfs makes a new memory file system instead; Source is empty.
	Tmpfs *Tmpfs
	// ReadOnly mounts without write permission. RecursiveReadOnly demands it of
	// submounts too.
	ReadOnly, RecursiveReadOnly bool
	// NoExec, NoSuid and NoDev are the mount flags of these names.
	NoExec, NoSuid, NoDev bool
	Propagation           Propagation
}

// Tmpfs is a memory file system.
type Tmpfs struct {
	// Size in bytes; 0 is half of the machine's memory.
	Size int64
	// Mode of its root; 0 is 01777.
	Mode uint32
	// UID and GID own its root.
	UID, GID uint32
}

// Device is a device node of the host given to a container.
type Device struct {
	// Source is the node on the host; a directory means all nodes in it.
	Source string
	// Target is the path in the container; empty is Source.
	Target string
	// Access is any of "r", "w", "m"; empty is "rwm".
	Access string
}

// Rlimit is a resource limit of a process.
type Rlimit struct{ Soft, Hard uint64 }

// SeccompType chooses the system call filter.
type SeccompType string

// The kinds of filters, by the names of Kubernetes.
const (
	// SeccompUnconfined: no filter. Also the zero value.
	SeccompUnconfined SeccompType = "Unconfined"
	// SeccompRuntimeDefault: containerd's default profile.
	SeccompRuntimeDefault SeccompType = "RuntimeDefault"
	// SeccompLocalhost: a profile file of the node.
	SeccompLocalhost SeccompType = "Localhost"
)

// Seccomp is a system call filter.
type Seccomp struct {
	Type SeccompType
	// Path of the profile for Localhost, absolute, in the runtime-spec's JSON.
	Path string
}

// Security is what the processes of a container may do.
type Security struct {
	// Privileged gives all capabilities and devices, no seccomp, nothing masked.
	Privileged bool
	// AddCapabilities and DropCapabilities change the default set; "ALL" is
	// known to both, names may lack the prefix CAP_.
	AddCapabilities, DropCapabilities []string
	// NoNewPrivileges is allowPrivilegeEscalation: false.
	NoNewPrivileges bool
	// ReadOnlyRootfs mounts the root read-only.
	ReadOnlyRootfs bool
	// MaskedPaths and ReadonlyPaths are hidden or made read-only when they
	// exist. Nil is the usual set (DefaultMaskedPaths); an empty, non-nil slice
	// is none (procMount: Unmasked).
	MaskedPaths, ReadonlyPaths []string
	Seccomp                    Seccomp
	// AppArmorProfile is refused where the kernel has no AppArmor, unless empty
	// or "unconfined".
	AppArmorProfile string
}

// DefaultMaskedPaths and DefaultReadonlyPaths are those of procMount: Default.
func DefaultMaskedPaths() []string {
	return []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
		"/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

// DefaultReadonlyPaths are made read-only under procMount: Default.
func DefaultReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// Started says that a container runs.
type Started struct {
	// PID of its first process, on the host.
	PID int
	At  time.Time
}

// Stop says how to stop a container.
type Stop struct {
	// Signal to begin with; 0 is the container's own.
	Signal int
	// Grace until every process is killed; 0 or less kills at once.
	Grace time.Duration
}
