package store

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"sagong/store/wal"
)

// The values of one kind of thing are alike: the pods of one owner differ in
// their names, addresses and times, the versions of one key in a few fields. A
// packed value is a list of ranges copied from another value, the dictionary,
// and what stands between them. It takes 3 us to make and 0.5 us to expand
// (docs/decisions/packed-values.md).

const (
	// leastPacked and mostPacked bound the values worth packing; offsets in a
	// dictionary have 16 bits.
	leastPacked, mostPacked = 256, 1 << 16
	// leastMatch is the length from which on a range is copied.
	leastMatch = 8
	// leastBits and mostBits are the sizes of a dictionary's hash table of positions.
	leastBits, mostBits = 9, 12
	// A class has several dictionaries, for what its things are at different times:
	// a pod that waits has half of what one has that runs. Another is made when a
	// value comes to more than a fineth of its length with those there are.
	// Where there are enough, the one that was not used for longest makes room when
	// that has happened as often as patience says.
	perClass, fine, patience = 4, 5, 64
	// fair takes the place of fine while the store opens: somebody waits.
	fair = 3
	// dictionaries bounds those that are kept for what comes.
	dictionaries = 2048
)

// dictionary finds where the ranges of a value are in another one.
type dictionary struct {
	base *wal.Base

	once  sync.Once // for what follows: many that are read from disk are never asked
	index []uint16  // of positions by the hash of the bytes there, plus one
	shift uint      // of a hash
}

func (d *dictionary) makeIndex() {
	text := d.base.Text
	n := min(max(bits.Len(uint(len(text))), leastBits), mostBits)
	d.index, d.shift = make([]uint16, 1<<n), uint(64-n)
	for i := len(text) - leastMatch; i >= 0; i-- {
		d.index[d.hash(text[i:])] = uint16(i + 1)
	}
}

func (d *dictionary) hash(b []byte) uint64 {
	return binary.LittleEndian.Uint64(b) * 0x9E3779B97F4A7C15 >> d.shift
}

// pack appends the packed form of src to out, nil when it is longer than limit.
func (d *dictionary) pack(out, src []byte, limit int) []byte {
	if len(src) > mostPacked {
		return nil
	}
	d.once.Do(d.makeIndex)
	text := d.base.Text
	out = out[:0]
	begin, i := 0, 0 // of what is not written yet, and where to look
	next := 0        // where in the dictionary the value may go on
	for i+leastMatch <= len(src) {
		at, n := next, common(text, next, src[i:])
		if n < leastMatch {
			if at = int(d.index[d.hash(src[i:])]) - 1; at < 0 {
				i++
				next++
				continue
			}
			if n = common(text, at, src[i:]); n < leastMatch {
				i++
				next++
				continue
			}
		}
		out = appendRange(out, src[begin:i], at, n)
		if len(out) > limit {
			return nil
		}
		i += n
		begin, next = i, at+n
	}
	out = binary.AppendUvarint(out, uint64(len(src)-begin))
	if out = append(out, src[begin:]...); len(out) > limit {
		return nil
	}
	return out
}

func appendRange(out, between []byte, at, n int) []byte {
	out = binary.AppendUvarint(out, uint64(len(between)))
	out = append(out, between...)
	out = binary.AppendUvarint(out, uint64(at))
	return binary.AppendUvarint(out, uint64(n))
}

// common is how many bytes of text from a position on begin src.
func common(text []byte, at int, src []byte) int {
	if at >= len(text) {
		return 0
	}
	text = text[at:]
	m := min(len(text), len(src))
	n := 0
	for n+8 <= m {
		if x := binary.LittleEndian.Uint64(text[n:]) ^ binary.LittleEndian.Uint64(src[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
		n += 8
	}
	for n < m && text[n] == src[n] {
		n++
	}
	return n
}

// expand appends a value to out.
func expand(data, from, out []byte) []byte {
	take := func() int {
		v, n := binary.Uvarint(data)
		data = data[n:]
		return int(v)
	}
	for {
		n := take()
		out = append(out, data[:n]...)
		if data = data[n:]; len(data) == 0 {
			return out
		}
		at := take()
		n = take()
		out = append(out, from[at:at+n]...)
	}
}

// expanded is the length of what expand makes of data with a text of from bytes;
// false if that is not a packed form.
func expanded(data []byte, from int) (size int, ok bool) {
	take := func() (int, bool) {
		v, n := binary.Uvarint(data)
		if n <= 0 || v > mostPacked {
			return 0, false
		}
		data = data[n:]
		return int(v), true
	}
	for {
		n, ok := take()
		if !ok || n > len(data) || size+n > mostPacked {
			return 0, false
		}
		size += n
		if data = data[n:]; len(data) == 0 {
			return size, true
		}
		at, ok := take()
		if !ok {
			return 0, false
		}
		if n, ok = take(); !ok || at+n > from || size+n > mostPacked {
			return 0, false
		}
		size += n
	}
}

// keep copies a packed form to memory of its own, after its length: it is then
// known by its first byte.
func keep(data []byte) []byte {
	var head [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(head[:], uint64(len(data)))
	return append(append(make([]byte, 0, n+len(data)), head[:n]...), data...)
}

// packedAt is the packed form of which keep returned the first byte.
func packedAt(first *byte) []byte {
	n, at := 0, first
	for shift := 0; ; shift += 7 {
		b := *at
		n |= int(b&0x7f) << shift
		at = (*byte)(unsafe.Add(unsafe.Pointer(at), 1))
		if b < 0x80 {
			return unsafe.Slice(at, n)
		}
	}
}

// packer packs values with the dictionaries of their classes. The committer
// alone uses it and, while the store opens, those who make records.
type packer struct {
	mu    sync.Mutex
	known map[string]*likes
	n     int // dictionaries
}

// likes are the dictionaries of a class, the one used last at the end.
type likes struct {
	of     []*dictionary
	made   int // dictionaries that it ever had
	missed int // values since the last dictionary that were not much like any
}

// scratch is the memory of one who packs.
type scratch [2][]byte

// class is what keys of like values have in common: all before the last dash or
// slash.
func class(key string) string { return key[:strings.LastIndexAny(key, "-/")+1] }

// pack packs the value of a record, with a dictionary that it finds or makes.
func (p *packer) pack(r *Record, s *scratch) {
	if r.value.plain.Load() == nil {
		return
	}
	if data, from, _ := p.fit(r.Key, r.Value(), s, false); data != nil {
		r.value.pack(data, from)
	}
}

// put gives a record, which nobody sees yet, a copy of a value, packed where that
// pays.
func (p *packer) put(r *Record, value []byte, s *scratch) {
	data, from, own := p.fit(r.Key, value, s, true)
	switch {
	case data != nil:
		r.value.size = uint32(len(value))
		r.value.pack(data, from)
	case own != nil:
		r.value.set(own)
	default:
		r.value.set(bytes.Clone(value))
	}
}

// fit returns the packed form of a text, and of what; nil where it is not worth
// it. Then the text may have become a dictionary: own is its memory, that of the
// text unless this is lent.
func (p *packer) fit(key string, text []byte, s *scratch, lent bool) (data []byte, from *wal.Base, own []byte) {
	size := len(text)
	if size < leastPacked || size > mostPacked {
		return nil, nil, nil
	}
	c, enough := class(key), size/fine
	if lent {
		enough = size / fair
	}
	for {
		var of [perClass]*dictionary
		n, made := 0, 0
		p.mu.Lock()
		known := p.known[c]
		if known != nil {
			n, made = copy(of[:], known.of), known.made
		}
		p.mu.Unlock()
		var best []byte
		var by *dictionary
		for i, limit := n-1, size/2; i >= 0 && limit > enough; i-- {
			if out := of[i].pack(s[0], text, limit); out != nil {
				best, by, limit = out, of[i], len(out)-1
				s[0], s[1] = s[1], out
			}
		}
		p.mu.Lock()
		if p.known[c] != known || known != nil && known.made != made {
			p.mu.Unlock()
			continue // there is another dictionary by now
		}
		defer p.mu.Unlock()
		if best != nil && len(best) > enough {
			known.missed++
		}
		if best != nil && (len(best) <= enough || len(known.of) == perClass && known.missed < patience) {
			at := slices.Index(known.of, by)
			known.of = append(slices.Delete(known.of, at, at+1), by)
			return keep(best), by.base, nil
		}
		if lent {
			text = bytes.Clone(text)
		}
		p.learn(&wal.Base{Class: strings.Clone(c), Text: text})
		return nil, nil, text
	}
}

// learn makes a value a dictionary of its class: it is the first, or not much
// like those before, and the next may be like it. p is locked.
func (p *packer) learn(b *wal.Base) {
	if p.known == nil || p.n >= dictionaries {
		p.known, p.n = map[string]*likes{}, 0
	}
	known := p.known[b.Class]
	if known == nil {
		known = &likes{}
		p.known[b.Class] = known
	}
	if len(known.of) == perClass {
		known.of = slices.Delete(known.of, 0, 1)
		p.n--
	}
	known.of = append(known.of, &dictionary{base: b})
	known.made++
	known.missed = 0
	p.n++
}

// forget gives up all dictionaries.
func (p *packer) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known, p.n = nil, 0
}

// adopt makes a text that values on disk are packed with a dictionary.
func (p *packer) adopt(b *wal.Base) {
	if len(b.Text) > mostPacked {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.learn(b)
}

const (
	// packAfter is the age in milliseconds at which a version is packed: those
	// who follow closely have read it by then.
	packAfter = 1000
	// packRound bounds what is packed in one round.
	packRound = 512
	// packDelay lets what is due gather.
	packDelay = 250
)

// pack packs what was superseded a while ago and, in a store of many keys, what
// was written then too. It returns when to look again, 0 for never.
func (c *committer) pack(now int64) int64 {
	if n := min(len(c.unpacked), packRound); n > 0 {
		for _, r := range c.unpacked[:n] {
			c.packer.pack(r, &c.scratch)
		}
		if c.unpacked = c.unpacked[n:]; len(c.unpacked) == 0 {
			c.unpacked = nil
		}
		return now + 1
	}
	h := &c.s.everything.all // pushed and popped by the committer alone
	c.packed = max(c.packed, h.first)
	crowded := c.s.index.live.Len() > c.s.opts.PackAbove
	for n := 0; c.packed < h.end(); n++ {
		e := h.at(int(c.packed - h.first))
		if e == nil {
			c.packed++
			continue
		}
		switch {
		case e.at+packAfter > now:
			return e.at + packAfter + packDelay
		case n == packRound:
			return now + 1
		}
		if e.Prev != nil {
			c.packer.pack(e.Prev, &c.scratch)
			freed := int32(e.Prev.Size() - e.Prev.value.memory())
			e.retained -= freed
			c.historyBytes -= int64(freed)
		}
		if crowded {
			c.packer.pack(e.Record, &c.scratch)
		}
		c.packed++
	}
	return 0
}
