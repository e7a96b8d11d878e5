package native

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limit is a limit of the kernel that thousands of containers run into before
// memory is short.
type Limit struct {
	// Name of the parameter, or of the capability that is missing.
	Name string
	// Had and Want are its value before and the value it should have; Want is 0
	// for a capability.
	Had, Want uint64
	// Err is why it could not be raised, nil when it is as wanted.
	Err error
}

func (l Limit) String() string {
	switch {
	case l.Want == 0:
		return fmt.Sprintf("%s: %v", l.Name, l.Err)
	case l.Err != nil:
		return fmt.Sprintf("%s is %d and should be %d: %v", l.Name, l.Had, l.Want, l.Err)
	}
	return fmt.Sprintf("%s raised from %d to %d", l.Name, l.Had, l.Want)
}

// wantedLimits are raised to at least these values. They cost nothing until
// they are used.
var wantedLimits = []struct {
	name string
	want uint64
}{
	{"kernel.pid_max", 4194304},
	{"kernel.threads-max", 1048576},
	{"fs.mount-max", 1048576},
	{"fs.inotify.max_user_instances", 8192},
	{"fs.inotify.max_user_watches", 1048576},
	{"kernel.keys.root_maxkeys", 1000000},
	{"kernel.keys.root_maxbytes", 25000000},
	{"net.unix.max_dgram_qlen", 512},
	{"net.core.somaxconn", 4096},
	{"user.max_mnt_namespaces", 262144},
	{"user.max_net_namespaces", 262144},
	{"user.max_pid_namespaces", 262144},
	{"user.max_ipc_namespaces", 262144},
	{"user.max_uts_namespaces", 262144},
	{"user.max_cgroup_namespaces", 262144},
}

// RaiseLimits raises the kernel's limits for many containers and returns those
// that it changed or could not change, for the log and the status of the node.
// It is to be called once, before Open.
func RaiseLimits() []Limit { return raiseLimits("/proc/sys/") }

func raiseLimits(root string) []Limit {
	var out []Limit
	for _, w := range wantedLimits {
		file := root + strings.ReplaceAll(w.name, ".", "/")
		data, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // a kernel without the feature
		}
		l := Limit{Name: w.name, Want: w.want, Err: err}
		if err == nil {
			l.Had, l.Err = strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
			if l.Err == nil && l.Had >= w.want {
				continue
			}
		}
		if l.Err == nil {
			l.Err = os.WriteFile(file, []byte(strconv.FormatUint(w.want, 10)), 0o644)
		}
		out = append(out, l)
	}
	if !hasCapability(unix.CAP_SYS_RESOURCE) {
		out = append(out, Limit{Name: "CAP_SYS_RESOURCE", Err: fmt.Errorf(
			"not held: oom_score_adj cannot be lowered and hard limits cannot be raised, so the shims are not protected from the OOM killer")})
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
