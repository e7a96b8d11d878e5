package store

import (
	"sync/atomic"
	"unsafe"
)

// value holds the bytes of a record: as they were put or, once they have been
// packed, as what they differ in from others. The committer alone packs; readers
// may come at any time.
type value struct {
	size   int
	plain  atomic.Pointer[byte] // the first of size bytes; nil once they are packed
	packed atomic.Pointer[packed]
}

// nothing stands for the first byte of a value without any.
var nothing byte

func (v *value) set(b []byte) {
	v.size = len(b)
	first := &nothing
	if len(b) > 0 {
		first = unsafe.SliceData(b)
	}
	v.plain.Store(first)
}

// share makes v hold what o holds.
func (v *value) share(o *value) {
	v.size = o.size
	v.packed.Store(o.packed.Load())
	v.plain.Store(o.plain.Load())
}

func (v *value) bytes() []byte {
	if p := v.plain.Load(); p != nil {
		return unsafe.Slice(p, v.size)
	}
	if p := v.packed.Load(); p != nil {
		return p.expand(v.size)
	}
	return nil
}

// in is bytes, in buf's memory where they have to be expanded.
func (v *value) in(buf *[]byte) []byte {
	if v.plain.Load() == nil {
		if p := v.packed.Load(); p != nil {
			if cap(*buf) < v.size {
				*buf = make([]byte, 0, v.size)
			}
			*buf = p.append((*buf)[:0])
			return *buf
		}
	}
	return v.bytes()
}

// memory is what the bytes take.
func (v *value) memory() int {
	if p := v.packed.Load(); p != nil {
		return len(p.data) + int(unsafe.Sizeof(packed{}))
	}
	return v.size
}

// pack replaces the bytes by their packed form, where that is much shorter.
func (v *value) pack(d *dictionary) bool {
	data := d.pack(unsafe.Slice(v.plain.Load(), v.size))
	if data == nil {
		return false
	}
	v.packed.Store(&packed{data: data, from: d.text})
	v.plain.Store(nil)
	return true
}
