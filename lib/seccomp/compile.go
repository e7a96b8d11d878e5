// Package seccomp compiles system call profiles of the OCI runtime
// specification into the BPF programs that Linux runs for every system call.
// Numbers are searched as a binary tree, so that a call costs ten comparisons
// and not four hundred.
package seccomp

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Insn is one instruction of a classic BPF program, laid out as the kernel's
// struct sock_filter.
type Insn struct {
	Code   uint16
	JT, JF uint8
	K      uint32
}

// Program is a compiled profile.
type Program struct {
	Insns []Insn
	// Flags for seccomp(2).
	Flags uint32
}

// ErrArch is said on an architecture whose system calls are not known here.
var ErrArch = errors.New("seccomp profiles are not supported on " + runtime.GOARCH)

// What seccomp(2) understands of a filter's result.
const (
	retKillThread  = 0
	retKillProcess = 0x80000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000
	retData        = 0xffff
)

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

const (
	ldWord = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	andK   = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	jmpEq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jmpGt  = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	jmpGe  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	jmp    = unix.BPF_JMP | unix.BPF_JA
	retK   = unix.BPF_RET | unix.BPF_K

	maxInsns = 4096
	// x32Bit marks system calls of the x32 ABI, which nothing uses any more;
	// they get the default action.
	x32Bit = 0x40000000
)

// arch is one of the two instruction sets that a kernel runs programs of.
type arch struct {
	audit    uint32
	spec     []specs.Arch
	syscalls map[string]uint32
	x32      bool
}

// rule is one alternative for a system call: an action if all args match.
type rule struct {
	action uint32
	args   []specs.LinuxSeccompArg
}

// Compile turns a profile into a program for this machine's architecture.
// System calls that this kernel family does not know by name are passed over,
// as every runtime does: profiles name those of all architectures.
func Compile(p *specs.LinuxSeccomp) (*Program, error) {
	if len(architectures) == 0 {
		return nil, ErrArch
	}
	def, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	prog := &Program{}
	for _, f := range p.Flags {
		switch f {
		case specs.LinuxSeccompFlagLog:
			prog.Flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			prog.Flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC": // there is one thread
		default:
			return nil, fmt.Errorf("cannot compile seccomp profile: unknown flag %q", f)
		}
	}
	if p.ListenerPath != "" {
		return nil, errors.New("cannot compile seccomp profile: a listener is not supported")
	}
	var a assembler
	// The program is assembled from its end, so that every jump's target is
	// known when the jump is made.
	a.ret(retKillThread)
	next := a.ret(retKillThread) // an architecture that the profile does not name
	for i := len(architectures) - 1; i >= 0; i-- {
		ar := architectures[i]
		if !(i == 0 && len(p.Architectures) == 0) && !slices.ContainsFunc(p.Architectures, func(s specs.Arch) bool { return slices.Contains(ar.spec, s) }) {
			continue
		}
		rules, err := rulesOf(p, ar, def)
		if err != nil {
			return nil, err
		}
		entry := a.table(ar, rules, def)
		next = a.cond(jmpEq, ar.audit, entry, next)
	}
	a.emit(Insn{Code: ldWord, K: offArch})
	if len(a.rev) > maxInsns {
		return nil, fmt.Errorf("cannot compile seccomp profile: %d instructions are more than the kernel's %d", len(a.rev), maxInsns)
	}
	prog.Insns = a.rev
	slices.Reverse(prog.Insns)
	return prog, nil
}

func action(a specs.LinuxSeccompAction, errnoRet *uint) (uint32, error) {
	code := uint32(unix.EPERM)
	if errnoRet != nil {
		if *errnoRet > retData {
			return 0, fmt.Errorf("cannot compile seccomp profile: error number %d", *errnoRet)
		}
		code = uint32(*errnoRet)
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActErrno:
		return retErrno | code, nil
	case specs.ActTrace:
		return retTrace | code, nil
	case specs.ActLog:
		return retLog, nil
	case specs.ActAllow:
		return retAllow, nil
	}
	return 0, fmt.Errorf("cannot compile seccomp profile: action %q is not supported", a)
}

var operators = []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpGreaterEqual,
	specs.OpGreaterThan, specs.OpLessThan, specs.OpLessEqual, specs.OpMaskedEqual}

// rulesOf collects the alternatives of each system call of an architecture, in
// the order in which they are tried: those with conditions in the profile's
// order, then the first without any.
func rulesOf(p *specs.LinuxSeccomp, ar arch, def uint32) (map[uint32][]rule, error) {
	rules := map[uint32][]rule{}
	for _, s := range p.Syscalls {
		act, err := action(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, err
		}
		for _, alternative := range splitArgs(s.Args) {
			for _, arg := range alternative {
				if !slices.Contains(operators, arg.Op) {
					return nil, fmt.Errorf("cannot compile seccomp profile: unknown operator %q", arg.Op)
				}
				if arg.Index > 5 {
					return nil, fmt.Errorf("cannot compile seccomp profile: %v has no argument %d", s.Names, arg.Index)
				}
			}
			for _, name := range s.Names {
				if nr, ok := ar.syscalls[name]; ok {
					rules[nr] = append(rules[nr], rule{act, alternative})
				}
			}
		}
	}
	for nr, rs := range rules {
		ordered := make([]rule, 0, len(rs))
		for _, r := range rs {
			if len(r.args) > 0 {
				ordered = append(ordered, r)
			}
		}
		last := rule{action: def}
		for _, r := range rs {
			if len(r.args) == 0 {
				last = r
				break
			}
		}
		rules[nr] = append(ordered, last)
	}
	return rules, nil
}

// splitArgs are the alternatives that a list of conditions means: all of them
// together, unless one argument is named twice; then each alone, which is how
// libseccomp's users have always read it.
func splitArgs(args []specs.LinuxSeccompArg) [][]specs.LinuxSeccompArg {
	seen := map[uint]bool{}
	for _, a := range args {
		if seen[a.Index] {
			var out [][]specs.LinuxSeccompArg
			for _, a := range args {
				out = append(out, []specs.LinuxSeccompArg{a})
			}
			return out
		}
		seen[a.Index] = true
	}
	return [][]specs.LinuxSeccompArg{args}
}

// segment is a run of numbers from first on that are treated alike.
type segment struct {
	first uint32
	rules []rule
}

// segments cuts the number line. Calls newer than all that the profile names
// say that they do not exist, where the default is an error: programs then fall
// back to older ones, as on an older kernel.
func segments(rules map[uint32][]rule, def uint32) []segment {
	nrs := make([]uint32, 0, len(rules))
	for nr := range rules {
		nrs = append(nrs, nr)
	}
	slices.Sort(nrs)
	var segs []segment
	add := func(first uint32, rs []rule) {
		if n := len(segs); n > 0 && simple(rs) && simple(segs[n-1].rules) && rs[0].action == segs[n-1].rules[0].action {
			return
		}
		segs = append(segs, segment{first, rs})
	}
	other := []rule{{action: def}}
	next := uint32(0)
	for _, nr := range nrs {
		if nr > next {
			add(next, other)
		}
		add(nr, rules[nr])
		next = nr + 1
	}
	if def&^uint32(retData) == retErrno && len(nrs) > 0 {
		other = []rule{{action: retErrno | uint32(unix.ENOSYS)}}
	}
	add(next, other)
	return segs
}

func simple(rs []rule) bool { return len(rs) == 1 }

// assembler holds a program back to front. Positions are indices from the end,
// so jumps go to smaller ones.
type assembler struct{ rev []Insn }

func (a *assembler) emit(i Insn) int {
	a.rev = append(a.rev, i)
	return len(a.rev) - 1
}

func (a *assembler) ret(v uint32) int { return a.emit(Insn{Code: retK, K: v}) }

// near is a position with the same effect as target that a conditional jump
// emitted next can reach.
func (a *assembler) near(target int) int {
	if len(a.rev)-target-1 < 250 {
		return target
	}
	if a.rev[target].Code == retK {
		return a.emit(a.rev[target])
	}
	return a.emit(Insn{Code: jmp, K: uint32(len(a.rev) - target - 1)})
}

// cond emits a comparison of the accumulator with its two ways on.
func (a *assembler) cond(code uint16, k uint32, yes, no int) int {
	yes, no = a.near(yes), a.near(no)
	return a.emit(Insn{Code: code, K: k, JT: uint8(len(a.rev) - yes - 1), JF: uint8(len(a.rev) - no - 1)})
}

// table emits the search for a system call's number and returns its entry.
func (a *assembler) table(ar arch, rules map[uint32][]rule, def uint32) int {
	segs := segments(rules, def)
	entries := make([]int, len(segs))
	// Calls with the same rules share them.
	shared := map[string]int{}
	for i := len(segs) - 1; i >= 0; i-- {
		key := fmt.Sprint(segs[i].rules)
		at, ok := shared[key]
		if !ok {
			at = a.rules(segs[i].rules)
			shared[key] = at
		}
		entries[i] = at
	}
	entry := a.search(segs, entries)
	if ar.x32 {
		no := a.ret(def)
		entry = a.cond(jmpGe, x32Bit, no, entry)
	}
	if entry != len(a.rev)-1 { // the load must run into it
		entry = a.emit(Insn{Code: jmp, K: uint32(len(a.rev) - entry - 1)})
	}
	return a.emit(Insn{Code: ldWord, K: offNr})
}

func (a *assembler) search(segs []segment, entries []int) int {
	if len(segs) == 1 {
		return entries[0]
	}
	mid := len(segs) / 2
	high := a.search(segs[mid:], entries[mid:])
	low := a.search(segs[:mid], entries[:mid])
	return a.cond(jmpGe, segs[mid].first, high, low)
}

// rules emits the alternatives of one call; the last has no condition.
func (a *assembler) rules(rs []rule) int {
	entry := a.ret(rs[len(rs)-1].action)
	for i := len(rs) - 2; i >= 0; i-- {
		yes := a.ret(rs[i].action)
		for k := len(rs[i].args) - 1; k >= 0; k-- {
			yes = a.arg(rs[i].args[k], yes, entry)
		}
		entry = yes
	}
	return entry
}

// arg emits the comparison of one 64-bit argument in its two halves. The
// position returned begins with a load.
func (a *assembler) arg(arg specs.LinuxSeccompArg, yes, no int) int {
	lo, hi := uint32(offArgs+8*arg.Index), uint32(offArgs+8*arg.Index+4)
	vlo, vhi := uint32(arg.Value), uint32(arg.Value>>32)
	load := func(k uint32) int { return a.emit(Insn{Code: ldWord, K: k}) }
	equal := func(yes, no int) int {
		a.cond(jmpEq, vlo, yes, no)
		low := load(lo)
		a.cond(jmpEq, vhi, low, no)
		return load(hi)
	}
	compare := func(code uint16, yes, no int) int {
		a.cond(code, vlo, yes, no)
		low := load(lo)
		same := a.cond(jmpEq, vhi, low, no)
		a.cond(jmpGt, vhi, yes, same)
		return load(hi)
	}
	switch arg.Op {
	case specs.OpEqualTo:
		return equal(yes, no)
	case specs.OpNotEqual:
		return equal(no, yes)
	case specs.OpGreaterEqual:
		return compare(jmpGe, yes, no)
	case specs.OpGreaterThan:
		return compare(jmpGt, yes, no)
	case specs.OpLessThan:
		return compare(jmpGe, no, yes)
	case specs.OpLessEqual:
		return compare(jmpGt, no, yes)
	case specs.OpMaskedEqual:
		a.cond(jmpEq, uint32(arg.ValueTwo), yes, no)
		a.emit(Insn{Code: andK, K: vlo})
		low := load(lo)
		a.cond(jmpEq, uint32(arg.ValueTwo>>32), low, no)
		a.emit(Insn{Code: andK, K: vhi})
		return load(hi)
	}
	panic("operator " + string(arg.Op) + " was not checked")
}
