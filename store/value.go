package store

import (
	"sync/atomic"
	"unsafe"

	"sagong/store/wal"
)

// value holds the bytes of a record: as they were put or, once they have been
// packed, as what they differ in from others. The committer alone packs; readers
// may come at any time.
type value struct {
	plain atomic.Pointer[byte] // the first of size bytes; nil once they are packed
	// packed and from are written before plain becomes nil, and never again.
	packed *byte // the first byte of the packed form
	from   *wal.Base
	size   uint32
}

// nothing stands for the first byte of a value without any.
var nothing byte

func (v *value) set(b []byte) {
	v.size = uint32(len(b))
	first := &nothing
	if len(b) > 0 {
		first = unsafe.SliceData(b)
	}
	v.plain.Store(first)
}

// share makes v, which nobody reads yet, hold what o holds.
func (v *value) share(o *value) {
	v.size, v.packed, v.from = o.size, o.packed, o.from
	v.plain.Store(o.plain.Load())
}

func (v *value) bytes() []byte {
	if p := v.plain.Load(); p != nil {
		return unsafe.Slice(p, v.size)
	}
	if v.packed == nil {
		return nil
	}
	return v.expand(make([]byte, 0, v.size))
}

// in is bytes, in buf's memory where they have to be expanded.
func (v *value) in(buf *[]byte) []byte {
	if v.plain.Load() != nil || v.packed == nil {
		return v.bytes()
	}
	if cap(*buf) < int(v.size) {
		*buf = make([]byte, 0, v.size)
	}
	*buf = v.expand((*buf)[:0])
	return *buf
}

func (v *value) expand(out []byte) []byte {
	return expand(packedAt(v.packed), v.from.Text, out)
}

// form is the packed form and what it is in terms of; nil when there is none.
func (v *value) form() ([]byte, *wal.Base) {
	if v.plain.Load() != nil || v.packed == nil {
		return nil, nil
	}
	return packedAt(v.packed), v.from
}

// memory is what the bytes take.
func (v *value) memory() int {
	if v.plain.Load() == nil && v.packed != nil {
		return len(packedAt(v.packed))
	}
	return int(v.size)
}

// pack replaces the bytes by their packed form.
func (v *value) pack(data []byte, from *wal.Base) {
	v.packed, v.from = unsafe.SliceData(data), from
	v.plain.Store(nil)
}
