package seccomp

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var architectures = []arch{
	{audit: unix.AUDIT_ARCH_AARCH64, spec: []specs.Arch{specs.ArchAARCH64}, syscalls: native},
	{audit: unix.AUDIT_ARCH_ARM, spec: []specs.Arch{specs.ArchARM}, syscalls: compat},
}
