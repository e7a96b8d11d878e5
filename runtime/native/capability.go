package native

import (
	"fmt"
	"strings"

	"sagong/runtime"
)

// capabilityNames in the order of their numbers.
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

const allCapabilities = uint64(1)<<len(capabilityNames) - 1

// defaultCapabilities are containerd's.
var defaultCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
	"NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
}

func capabilityBit(name string) (uint64, error) {
	short := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	for i, n := range capabilityNames {
		if n == short {
			return 1 << i, nil
		}
	}
	return 0, fmt.Errorf("unknown capability %q", name)
}

// capabilities is the set of a container. As with containerd, ALL is looked at
// first, then single additions, then single removals.
func capabilities(s runtime.Security) (uint64, error) {
	if s.Privileged {
		return allCapabilities, nil
	}
	var set uint64
	for _, n := range defaultCapabilities {
		b, err := capabilityBit(n)
		if err != nil {
			return 0, err
		}
		set |= b
	}
	isAll := func(n string) bool { return strings.EqualFold(n, "ALL") }
	for _, n := range s.AddCapabilities {
		if isAll(n) {
			set = allCapabilities
		}
	}
	for _, n := range s.DropCapabilities {
		if isAll(n) {
			set = 0
		}
	}
	for _, n := range s.AddCapabilities {
		if !isAll(n) {
			b, err := capabilityBit(n)
			if err != nil {
				return 0, err
			}
			set |= b
		}
	}
	for _, n := range s.DropCapabilities {
		if !isAll(n) {
			b, err := capabilityBit(n)
			if err != nil {
				return 0, err
			}
			set &^= b
		}
	}
	return set, nil
}
