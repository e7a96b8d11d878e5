package native

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Notices are sentences for the status of the node about what this machine
// keeps containers from having.
func (r *Runtime) Notices() []string {
	var missing []string
	for _, c := range []string{"cpu", "cpuset", "memory", "pids", "devices"} {
		if !r.tree.Has(c) {
			missing = append(missing, c)
		}
	}
	var out []string
	if len(missing) > 0 {
		out = append(out, fmt.Sprintf("the kernel has no cgroup controller for %s: containers that ask for such a limit do not start", strings.Join(missing, ", ")))
	}
	if !hasCapability(unix.CAP_SYS_RESOURCE) {
		out = append(out, "CAP_SYS_RESOURCE is not held: oom_score_adj cannot be lowered, so the keepers of pods and guaranteed pods are not protected from the OOM killer")
	}
	return out
}

// hasCapability reads this process's effective set.
func hasCapability(n uint) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[n/32].Effective>>(n%32)&1 == 1
}
