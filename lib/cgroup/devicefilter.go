package cgroup

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Version 2 has no device files; a BPF program attached to the cgroup decides.
// It gets a context of three words: access<<16|type, major, minor.

// insn is one eBPF instruction.
type insn struct {
	op       uint8
	dst, src uint8
	off      int16
	imm      int32
}

const (
	opLoadWord = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
	opMovReg   = unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X
	opMovImm   = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
	opAndImm   = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opShrImm   = unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K
	opJumpNe   = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K
	opJumpNeX  = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_X
	opExit     = unix.BPF_JMP | unix.BPF_EXIT

	devBlock, devChar              = 1, 2
	accMknod, accRead, accWrite    = 1, 2, 4
	regResult, regCtx              = 0, 1
	regType, regAccess             = 2, 3
	regMajor, regMinor, regScratch = 4, 5, 6
)

// deviceFilter is the program that allows the rules and nothing else.
func deviceFilter(rules []DeviceRule) []insn {
	p := []insn{
		{op: opLoadWord, dst: regType, src: regCtx, off: 0},
		{op: opMovReg, dst: regAccess, src: regType},
		{op: opAndImm, dst: regType, imm: 0xffff},
		{op: opShrImm, dst: regAccess, imm: 16},
		{op: opLoadWord, dst: regMajor, src: regCtx, off: 4},
		{op: opLoadWord, dst: regMinor, src: regCtx, off: 8},
	}
	for _, r := range rules {
		var body []insn
		switch r.Type {
		case 'b':
			body = append(body, insn{op: opJumpNe, dst: regType, imm: devBlock})
		case 'c':
			body = append(body, insn{op: opJumpNe, dst: regType, imm: devChar})
		}
		access := int32(0)
		for _, c := range r.Access {
			access |= map[rune]int32{'r': accRead, 'w': accWrite, 'm': accMknod}[c]
		}
		if access != accRead|accWrite|accMknod {
			// All that is asked for must be allowed: asked & allowed == asked.
			body = append(body,
				insn{op: opMovReg, dst: regScratch, src: regAccess},
				insn{op: opAndImm, dst: regScratch, imm: access},
				insn{op: opJumpNeX, dst: regScratch, src: regAccess})
		}
		if r.Major >= 0 {
			body = append(body, insn{op: opJumpNe, dst: regMajor, imm: int32(r.Major)})
		}
		if r.Minor >= 0 {
			body = append(body, insn{op: opJumpNe, dst: regMinor, imm: int32(r.Minor)})
		}
		body = append(body, insn{op: opMovImm, dst: regResult, imm: 1}, insn{op: opExit})
		for i := range body {
			if body[i].op == opJumpNe || body[i].op == opJumpNeX {
				body[i].off = int16(len(body) - i - 1)
			}
		}
		p = append(p, body...)
	}
	return append(p, insn{op: opMovImm, dst: regResult, imm: 0}, insn{op: opExit})
}

func encode(p []insn) []byte {
	b := make([]byte, 0, len(p)*8)
	for _, i := range p {
		b = append(b, i.op, i.dst|i.src<<4)
		b = binary.NativeEndian.AppendUint16(b, uint16(i.off))
		b = binary.NativeEndian.AppendUint32(b, uint32(i.imm))
	}
	return b
}

// attachDeviceFilter loads the program and attaches it to a cgroup. A program
// attached before goes on restricting; programs of one cgroup all must agree.
func attachDeviceFilter(cgroupFD int, p []insn) error {
	code, license := encode(p), []byte("Apache\x00")
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&code[0])
	pin.Pin(&license[0])
	load := struct {
		progType, count uint32
		insns, license  uint64
		logLevel, logSz uint32
		logBuf          uint64
		kernVersion     uint32
		flags           uint32
	}{
		progType: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(p)),
		insns:   uint64(uintptr(unsafe.Pointer(&code[0]))),
		license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	var fd uintptr
	var errno unix.Errno
	for range 30 { // the verifier is interrupted by any signal, the profiler's too
		fd, _, errno = unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
		if errno != unix.EAGAIN {
			break
		}
	}
	if errno != 0 {
		return fmt.Errorf("cannot load device filter: %w", errno)
	}
	defer unix.Close(int(fd))
	attach := struct{ target, prog, attachType, flags, replace uint32 }{
		target: uint32(cgroupFD), prog: uint32(fd), attachType: unix.BPF_CGROUP_DEVICE, flags: unix.BPF_F_ALLOW_MULTI}
	_, _, errno = unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach))
	if errno != 0 {
		return fmt.Errorf("cannot attach device filter: %w", errno)
	}
	return nil
}
