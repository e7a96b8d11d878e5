package runtime

// Sandbox describes what the containers of a pod share.
type Sandbox struct {
	// UID of the pod; the sandbox's name.
	UID string
	// Namespace and Name of the pod, for listing and logs.
	Namespace, Name string
	// Hostname of the pod's own UTS namespace. Empty: the host's namespace.
	Hostname string
	// Domainname is the NIS domain of the UTS namespace, rarely set.
	Domainname string

	// CgroupParent is the pod's cgroup, relative to the runtime's cgroup root,
	// such as "kubepods/burstable/pod<uid>". Parents that are missing are made
	// without limits.
	CgroupParent string
	// Resources are the limits of the pod's cgroup.
	Resources Resources

	// HostNetwork, HostPID and HostIPC leave the pod in the host's namespaces.
	HostNetwork, HostPID, HostIPC bool
	// ShareProcessNamespace puts all containers into one PID namespace, whose
	// first process is the runtime's own.
	ShareProcessNamespace bool
	// UserNamespace asks for hostUsers: false.
	UserNamespace bool

	// Sysctls are namespaced kernel parameters ("net.ipv4.ip_forward": "1"),
	// written before the first container starts.
	Sysctls map[string]string
	// ShmSize is the size of the /dev/shm that the containers share, in bytes;
	// 0 is 64 MiB.
	ShmSize int64

	// Labels and Annotations are kept and listed, never read.
	Labels, Annotations map[string]string
}
