package resource

import (
	"sync"

	"sagong/object"
	"sagong/store"
)

// framesLimit bounds the encodings that watchers share, in bytes.
const framesLimit = 8 << 20

// frames are encodings of events that no record keeps, so that each is made once
// for all watchers and not by each. The oldest go first.
type frames struct {
	mu    sync.Mutex
	all   map[frame]*framed
	queue []frame
	head  int
	size  int
}

type frame struct {
	rec    *store.Record
	rev    object.Revision
	v      *object.Version
	format object.Format
}

type framed struct {
	once sync.Once
	b    []byte
	err  error
	size int // as counted
}

const frameOverhead = 192

func (f *frames) of(k frame) *framed {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.all[k]; e != nil {
		return e
	}
	if f.all == nil {
		f.all = map[frame]*framed{}
	}
	e := &framed{size: frameOverhead}
	f.all[k] = e
	f.queue = append(f.queue, k)
	f.grow(e.size)
	return e
}

// made counts what an encoding turned out to be.
func (f *frames) made(k frame, e *framed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all[k] == e {
		e.size += len(e.b)
		f.grow(len(e.b))
	}
}

func (f *frames) grow(n int) {
	for f.size += n; f.size > framesLimit && f.head < len(f.queue); f.head++ {
		old := f.queue[f.head]
		f.size -= f.all[old].size
		delete(f.all, old)
		f.queue[f.head] = frame{}
	}
	if f.head > 1024 && f.head > len(f.queue)/2 {
		f.queue = append([]frame(nil), f.queue[f.head:]...)
		f.head = 0
	}
}

// Once is encode's result for the item in version v, which all who ask at about
// the same time share, and nobody may change.
func (i Item) Once(v *object.Version, format object.Format, encode func() ([]byte, error)) ([]byte, error) {
	if i.rec == nil {
		return encode()
	}
	k := frame{i.rec, i.rev, v, format}
	e := i.e.frames.of(k)
	e.once.Do(func() {
		e.b, e.err = encode()
		i.e.frames.made(k, e)
	})
	return e.b, e.err
}

// Keeps reports whether the item's record keeps its JSON in version v, or the
// bytes from which it is joined.
func (i Item) Keeps(v *object.Version) bool { return v.Storage() && i.rec != nil && !i.apart() }
