package seccomp

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var architectures = []arch{
	{audit: unix.AUDIT_ARCH_X86_64, spec: []specs.Arch{specs.ArchX86_64, specs.ArchX32}, syscalls: native, x32: true},
	{audit: unix.AUDIT_ARCH_I386, spec: []specs.Arch{specs.ArchX86}, syscalls: compat},
}
