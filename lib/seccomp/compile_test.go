package seccomp

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// call is a system call as a filter sees it.
type call struct {
	nr, arch uint32
	args     [6]uint64
}

// interpret runs a program as the kernel would and counts its steps.
func interpret(t *testing.T, p []Insn, c call) (uint32, int) {
	t.Helper()
	var data [64]byte
	binary.LittleEndian.PutUint32(data[0:], c.nr)
	binary.LittleEndian.PutUint32(data[4:], c.arch)
	for i, a := range c.args {
		binary.LittleEndian.PutUint64(data[16+8*i:], a)
	}
	var acc uint32
	for pc, steps := 0, 1; ; pc, steps = pc+1, steps+1 {
		if pc >= len(p) {
			t.Fatalf("ran off the end for %+v", c)
		}
		i := p[pc]
		jump := func(cond bool) {
			if cond {
				pc += int(i.JT)
			} else {
				pc += int(i.JF)
			}
		}
		switch i.Code {
		case ldWord:
			acc = binary.LittleEndian.Uint32(data[i.K:])
		case andK:
			acc &= i.K
		case jmpEq:
			jump(acc == i.K)
		case jmpGt:
			jump(acc > i.K)
		case jmpGe:
			jump(acc >= i.K)
		case jmp:
			pc += int(i.K)
		case retK:
			return i.K, steps
		default:
			t.Fatalf("instruction %d has code %#x", pc, i.Code)
		}
	}
}

// decide is what a profile says, read plainly.
func decide(p *specs.LinuxSeccomp, ar arch, c call) uint32 {
	def, _ := action(p.DefaultAction, p.DefaultErrnoRet)
	if ar.x32 && c.nr >= x32Bit {
		return def
	}
	maxNr, plain := uint32(0), def
	hasPlain, named := false, false
	for _, s := range p.Syscalls {
		for _, n := range s.Names {
			nr, ok := ar.syscalls[n]
			if !ok {
				continue
			}
			maxNr, named = max(maxNr, nr), true
			if nr == c.nr && len(s.Args) == 0 && !hasPlain {
				plain, _ = action(s.Action, s.ErrnoRet)
				hasPlain = true
			}
		}
	}
	for _, s := range p.Syscalls {
		if len(s.Args) == 0 || !slices.ContainsFunc(s.Names, func(n string) bool { nr, ok := ar.syscalls[n]; return ok && nr == c.nr }) {
			continue
		}
		for _, alt := range splitArgs(s.Args) {
			all := true
			for _, a := range alt {
				v := c.args[a.Index]
				all = all && map[specs.LinuxSeccompOperator]bool{
					specs.OpEqualTo: v == a.Value, specs.OpNotEqual: v != a.Value, specs.OpGreaterEqual: v >= a.Value,
					specs.OpGreaterThan: v > a.Value, specs.OpLessThan: v < a.Value, specs.OpLessEqual: v <= a.Value,
					specs.OpMaskedEqual: v&a.Value == a.ValueTwo}[a.Op]
			}
			if all {
				v, _ := action(s.Action, s.ErrnoRet)
				return v
			}
		}
	}
	if named && c.nr > maxNr && def&^uint32(retData) == retErrno {
		return retErrno | uint32(unix.ENOSYS)
	}
	return plain
}

func TestCompiledDecidesAsProfile(t *testing.T) {
	if len(architectures) == 0 {
		t.Skip(ErrArch)
	}
	r := rand.New(rand.NewPCG(1, 2))
	names := make([]string, 0, len(native))
	for n := range native {
		names = append(names, n)
	}
	slices.Sort(names)
	pick := func(v []uint64) uint64 { return v[r.IntN(len(v))] }
	values := []uint64{0, 1, 2, 38, 40, 0xffffffff, 0x100000000, 0x100000001, 0x7e020000, 1 << 63, ^uint64(0)}
	actions := []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActLog, specs.ActTrap}
	for round := range 200 {
		p := &specs.LinuxSeccomp{DefaultAction: actions[r.IntN(3)], Architectures: []specs.Arch{architectures[0].spec[0], architectures[1].spec[0]}}
		for range r.IntN(25) {
			s := specs.LinuxSyscall{Action: actions[r.IntN(len(actions))]}
			for range 1 + r.IntN(12) {
				s.Names = append(s.Names, names[r.IntN(len(names))])
			}
			for range r.IntN(4) * r.IntN(2) {
				s.Args = append(s.Args, specs.LinuxSeccompArg{Index: uint(r.IntN(6)), Value: pick(values), ValueTwo: pick(values), Op: operators[r.IntN(len(operators))]})
			}
			p.Syscalls = append(p.Syscalls, s)
		}
		prog, err := Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		for range 2000 {
			ar := architectures[r.IntN(2)]
			c := call{arch: ar.audit, nr: uint32(r.IntN(500))}
			if r.IntN(20) == 0 {
				c.nr = r.Uint32()
			}
			for i := range c.args {
				c.args[i] = pick(values)
			}
			got, _ := interpret(t, prog.Insns, c)
			if want := decide(p, ar, c); got != want {
				t.Fatalf("round %d, %+v: got %#x, want %#x", round, c, got, want)
			}
		}
	}
}

func TestUnknownArchitectureIsKilled(t *testing.T) {
	if len(architectures) == 0 {
		t.Skip(ErrArch)
	}
	p, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := interpret(t, p.Insns, call{arch: architectures[0].audit}); got != retAllow {
		t.Errorf("own architecture: %#x", got)
	}
	for _, a := range []uint32{architectures[1].audit, 1} {
		if got, _ := interpret(t, p.Insns, call{arch: a}); got != retKillThread {
			t.Errorf("architecture %#x: %#x", a, got)
		}
	}
}

func TestRefused(t *testing.T) {
	tooBig := uint(70000)
	for name, p := range map[string]specs.LinuxSeccomp{
		"action":   {DefaultAction: "SCMP_ACT_WISH"},
		"notify":   {DefaultAction: specs.ActNotify},
		"errno":    {DefaultAction: specs.ActErrno, DefaultErrnoRet: &tooBig},
		"flag":     {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"X"}},
		"listener": {DefaultAction: specs.ActAllow, ListenerPath: "/x"},
		"index":    {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}},
		"operator": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: "~"}}}}},
	} {
		if _, err := Compile(&p); err == nil {
			t.Errorf("%s: compiled", name)
		}
	}
}
