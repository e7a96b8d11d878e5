package native

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// plan is what a child of the shim carries out (child.c), in this order: join
// cgroups, enter namespaces or the new root, the ops, limits, working
// directory, user, capabilities, filter, exec. Descriptors are indices into
// those sent along.
type plan struct {
	Flags       uint32
	OOMScoreAdj string
	Joins       []uint32
	// Target is the index of the container's pidfd, Namespaces what to enter of
	// it, when Flags has planJoin.
	Target, Namespaces uint32
	// Rootfs is the index of the root file system's mount otherwise.
	Rootfs   uint32
	UID, GID uint32
	Ops      []op
	Rlimits  []rlimit
	Cwd      string
	Groups   []uint32
	// Permitted is also the effective set.
	Permitted, Bounding, Ambient uint64
	FilterFlags                  uint32
	Filter                       []byte
	Args, Env                    []string
}

const (
	planMagic    = 0x31504753
	planJoin     = 1
	planCgroupNS = 2
	planNNP      = 4
	planTTY      = 8
	planReadOnly = 16
)

type rlimit struct {
	Resource   uint32
	Soft, Hard uint64
}

type opKind uint32

const (
	opEnd opKind = iota
	// opAttach puts a detached mount (FD) on Target, a directory or not.
	opAttach
	// opFS mounts a new file system of Type with Options ("key\0value\0").
	opFS
	// opShm mounts the pod's /dev/shm.
	opShm
	// opNode makes a device.
	opNode
	// opLink makes a symbolic link To.
	opLink
	// opMask hides a path, opReadOnly makes it read-only; missing ones are
	// passed over.
	opMask
	opReadOnly
	// opConsole opens a terminal and puts it on Target.
	opConsole
)

type op struct {
	Kind   opKind
	Target string
	// FD and Dir of opAttach.
	FD  uint32
	Dir bool
	// Type, Options and Attrs of opFS.
	Type    string
	Options []byte
	Attrs   uint32
	// Mode, Major, Minor, UID and GID of opNode.
	Mode, Major, Minor, UID, GID uint32
	// To of opLink.
	To string
}

// options are key and value, in turn, in the form of opFS.
func options(kv ...string) []byte {
	var b []byte
	for _, s := range kv {
		b = append(append(b, s...), 0)
	}
	return b
}

type encoder struct{ b []byte }

func (e *encoder) u32(v uint32) { e.b = binary.NativeEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.NativeEndian.AppendUint64(e.b, v) }
func (e *encoder) blob(v []byte) {
	e.u32(uint32(len(v)))
	e.b = append(e.b, v...)
}
func (e *encoder) str(s string) {
	e.u32(uint32(len(s)) + 1)
	e.b = append(append(e.b, s...), 0)
}
func (e *encoder) strs(v []string) {
	e.u32(uint32(len(v)))
	for _, s := range v {
		e.str(s)
	}
}
func (e *encoder) u32s(v []uint32) {
	e.u32(uint32(len(v)))
	for _, n := range v {
		e.u32(n)
	}
}

// encode is the plan as child.c reads it.
func (p *plan) encode() []byte {
	e := encoder{b: make([]byte, 0, 8192+len(p.Filter))}
	e.u32(planMagic)
	e.u32(p.Flags)
	e.str(p.OOMScoreAdj)
	e.u32s(p.Joins)
	e.u32(p.Target)
	e.u32(p.Namespaces)
	e.u32(p.Rootfs)
	e.u32(p.UID)
	e.u32(p.GID)
	for _, o := range p.Ops {
		e.u32(uint32(o.Kind))
		e.str(o.Target)
		switch o.Kind {
		case opAttach:
			e.u32(o.FD)
			if o.Dir {
				e.u32(1)
			} else {
				e.u32(0)
			}
		case opFS:
			e.str(o.Type)
			e.blob(o.Options)
			e.u32(o.Attrs)
		case opNode:
			e.u32(o.Mode)
			e.u32(o.Major)
			e.u32(o.Minor)
			e.u32(o.UID)
			e.u32(o.GID)
		case opLink:
			e.str(o.To)
		}
	}
	e.u32(uint32(opEnd))
	e.u32(uint32(len(p.Rlimits)))
	for _, r := range p.Rlimits {
		e.u32(r.Resource)
		e.u64(r.Soft)
		e.u64(r.Hard)
	}
	e.str(p.Cwd)
	e.u32s(p.Groups)
	e.u64(p.Permitted)
	e.u64(p.Bounding)
	e.u64(p.Ambient)
	e.u32(p.FilterFlags)
	e.blob(p.Filter)
	e.strs(p.Args)
	e.strs(p.Env)
	return e.b
}

var errPlan = errors.New("malformed plan")

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}
func (d *decoder) u32() uint32 {
	if v := d.take(4); v != nil {
		return binary.NativeEndian.Uint32(v)
	}
	return 0
}
func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.NativeEndian.Uint64(v)
	}
	return 0
}
func (d *decoder) blob() []byte {
	if v := d.take(uint64(d.u32())); len(v) > 0 {
		return v
	}
	return nil
}
func (d *decoder) str() string {
	v := d.blob()
	if len(v) == 0 || v[len(v)-1] != 0 {
		d.bad = true
		return ""
	}
	return string(v[:len(v)-1])
}
func (d *decoder) strs() []string {
	var v []string
	for n := d.u32(); n > 0 && !d.bad; n-- {
		v = append(v, d.str())
	}
	return v
}
func (d *decoder) u32s() []uint32 {
	var v []uint32
	for n := d.u32(); n > 0 && !d.bad; n-- {
		v = append(v, d.u32())
	}
	return v
}

// decodePlan is the inverse of encode. It documents the format and lets tests
// see what a container is given.
func decodePlan(b []byte) (*plan, error) {
	d := decoder{b: b}
	if d.u32() != planMagic {
		return nil, errPlan
	}
	p := &plan{Flags: d.u32(), OOMScoreAdj: d.str(), Joins: d.u32s(), Target: d.u32(), Namespaces: d.u32(),
		Rootfs: d.u32(), UID: d.u32(), GID: d.u32()}
	for !d.bad {
		o := op{Kind: opKind(d.u32())}
		if o.Kind == opEnd {
			break
		}
		o.Target = d.str()
		switch o.Kind {
		case opAttach:
			o.FD, o.Dir = d.u32(), d.u32() == 1
		case opFS:
			o.Type, o.Options, o.Attrs = d.str(), d.blob(), d.u32()
		case opNode:
			o.Mode, o.Major, o.Minor, o.UID, o.GID = d.u32(), d.u32(), d.u32(), d.u32(), d.u32()
		case opLink:
			o.To = d.str()
		case opShm, opMask, opReadOnly, opConsole:
		default:
			return nil, fmt.Errorf("%w: step %d", errPlan, o.Kind)
		}
		p.Ops = append(p.Ops, o)
	}
	for n := d.u32(); n > 0 && !d.bad; n-- {
		p.Rlimits = append(p.Rlimits, rlimit{d.u32(), d.u64(), d.u64()})
	}
	p.Cwd, p.Groups = d.str(), d.u32s()
	p.Permitted, p.Bounding, p.Ambient = d.u64(), d.u64(), d.u64()
	p.FilterFlags, p.Filter = d.u32(), d.blob()
	p.Args, p.Env = d.strs(), d.strs()
	if d.bad {
		return nil, errPlan
	}
	return p, nil
}
