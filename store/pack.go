package store

import (
	"encoding/binary"
	"math/bits"
	"strings"
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
	// indexBits is the size of a dictionary's hash table of positions.
	indexBits = 12
	// classes bounds the dictionaries that are kept for what comes.
	classes = 2048
)

// packed is a value in terms of another.
type packed struct {
	data []byte
	from []byte
}

// dictionary finds where the ranges of a value are in another one.
type dictionary struct {
	text  []byte
	index [1 << indexBits]uint16 // of positions by the hash of the bytes there, plus one
}

func newDictionary(text []byte) *dictionary {
	d := &dictionary{text: text}
	for i := len(text) - leastMatch; i >= 0; i-- {
		d.index[hashOf(text[i:])] = uint16(i + 1)
	}
	return d
}

func hashOf(b []byte) uint64 {
	return binary.LittleEndian.Uint64(b) * 0x9E3779B97F4A7C15 >> (64 - indexBits)
}

// pack returns the packed form, nil when it is not at most half as long.
func (d *dictionary) pack(src []byte) []byte {
	if len(src) > mostPacked {
		return nil
	}
	var buf [1024]byte
	out := buf[:0]
	limit := len(src) / 2
	begin, i := 0, 0 // of what is not written yet, and where to look
	next := 0        // where in the dictionary the value may go on
	for i+leastMatch <= len(src) {
		at, n := next, common(d.text, next, src[i:])
		if n < leastMatch {
			if at = int(d.index[hashOf(src[i:])]) - 1; at < 0 {
				i++
				next++
				continue
			}
			if n = common(d.text, at, src[i:]); n < leastMatch {
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
	return append(make([]byte, 0, len(out)), out...)
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

// expand gives the value back, which is size bytes long.
func (p *packed) expand(size int) []byte { return p.append(make([]byte, 0, size)) }

// append appends the value to out.
func (p *packed) append(out []byte) []byte {
	data := p.data
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
		out = append(out, p.from[at:at+n]...)
	}
}

// packer packs values with the dictionaries of their classes. The committer
// alone uses it.
type packer struct {
	known map[string]*dictionary
}

// class is what keys of like values have in common: all before the last dash or
// slash.
func class(key string) string { return key[:strings.LastIndexAny(key, "-/")+1] }

// pack packs the value of a record, with a dictionary that it finds or makes.
func (p *packer) pack(r *Record) {
	if r.value.plain.Load() == nil || r.value.size < leastPacked || r.value.size > mostPacked {
		return
	}
	c := class(r.Key)
	if d := p.known[c]; d != nil && r.value.pack(d) {
		return
	}
	// The first of its class, or unlike the one before: the next may be like it.
	if p.known == nil || len(p.known) >= classes {
		p.known = map[string]*dictionary{}
	}
	p.known[strings.Clone(c)] = newDictionary(r.Value())
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
	h := &c.s.everything.all // pushed and popped by the committer alone
	c.packed = max(c.packed, h.first)
	crowded := c.s.index.live.Len() > c.s.opts.PackAbove
	for n := 0; c.packed < h.end(); n++ {
		e := h.at(int(c.packed - h.first))
		switch {
		case e.at+packAfter > now:
			return e.at + packAfter + packDelay
		case n == packRound:
			return now + 1
		}
		if e.Prev != nil {
			c.packer.pack(e.Prev)
			freed := int64(e.Prev.Size() - e.Prev.value.memory())
			e.retained -= freed
			c.historyBytes -= freed
		}
		if crowded {
			c.packer.pack(e.Record)
		}
		c.packed++
	}
	return 0
}
