package compose

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sagong/lib/process"
)

// hostLimit is a kernel setting that many containers need raised.
type hostLimit struct {
	file string
	want int64
	what string
}

// hostLimits bite before memory does; they are raised, never lowered.
var hostLimits = []hostLimit{
	{"kernel/pid_max", 4194304, "processes"},
	{"kernel/threads-max", 500000, "threads"},
	{"fs/inotify/max_user_instances", 8192, "inotify instances"},
	{"fs/inotify/max_user_watches", 524288, "inotify watches"},
	{"user/max_net_namespaces", 50000, "network namespaces"},
	{"user/max_pid_namespaces", 50000, "process namespaces"},
	{"user/max_mnt_namespaces", 50000, "mount namespaces"},
	{"user/max_ipc_namespaces", 50000, "IPC namespaces"},
	{"user/max_uts_namespaces", 50000, "UTS namespaces"},
	{"user/max_cgroup_namespaces", 50000, "cgroup namespaces"},
	{"net/unix/max_dgram_qlen", 512, "waiting datagrams of a socket"},
	{"net/core/somaxconn", 4096, "waiting connections of a socket"},
	{"kernel/keys/root_maxkeys", 1000000, "keys"},
	{"fs/mount-max", 1000000, "mounts"},
	{"net/ipv4/neigh/default/gc_thresh3", 65536, "neighbours"},
	{"net/netfilter/nf_conntrack_max", 262144, "tracked connections"},
}

// raiseHostLimits raises what may be raised, returns what was there before for
// restoreHostLimits, and a sentence for each that may not.
func raiseHostLimits() (before map[string]string, notices []string) {
	before = map[string]string{}
	for _, l := range hostLimits {
		path := "/proc/sys/" + l.file
		data, err := os.ReadFile(path)
		if err != nil {
			continue // this kernel has no such limit
		}
		have, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil || have >= l.want {
			continue
		}
		if err := os.WriteFile(path, []byte(strconv.FormatInt(l.want, 10)), 0); err != nil {
			notices = append(notices, fmt.Sprintf("the kernel allows %d %s and does not let it be raised (%s)", have, l.what, strings.ReplaceAll(l.file, "/", ".")))
			continue
		}
		before[l.file] = strings.TrimSpace(string(data))
	}
	return before, notices
}

// saveHostLimits keeps what the machine had before the first start.
func saveHostLimits(file string, before map[string]string) error {
	if len(before) == 0 {
		return nil
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var b strings.Builder
	for k, v := range before {
		fmt.Fprintf(&b, "%s %s\n", k, v)
	}
	return writeFile(file, []byte(b.String()))
}

// handOverHostLimits leaves the limits as they are while another cluster runs on
// the machine: what they were before goes into that one's record, and the last
// to go puts them back. It reports whether somebody took the record over.
func handOverHostLimits(file string, others []string) (bool, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // nothing to put back
	}
	if err != nil {
		return false, fmt.Errorf("cannot hand over kernel limits: %w", err)
	}
	for _, pidFile := range others {
		if _, running, err := process.Load(pidFile); err != nil || !running {
			continue
		}
		theirs := filepath.Join(filepath.Dir(pidFile), "node", filepath.Base(file))
		if _, err := os.Stat(filepath.Dir(theirs)); err != nil {
			continue // a server without a node keeps no such record
		}
		have, err := os.ReadFile(theirs)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		// Ours come last: where both know a limit, ours is the older value, as
		// theirs was read when we had raised it.
		if err := writeFile(theirs, append(have, data...)); err != nil {
			return false, err
		}
		return true, nil
	}
	return false, nil
}

// restoreHostLimits puts back what saveHostLimits kept.
func restoreHostLimits(file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot put kernel limits back: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("cannot put kernel limit %s back: %w", name, err)
		}
	}
	return nil
}
