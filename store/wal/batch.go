// Package wal is the durable half of the store: a log of batches on etcd's
// write-ahead-log library, snapshot files, and the recovery that puts both
// together again. It knows records and revisions; the index is the store's.
package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Record is one change as it is on disk: a put, or the delete of Key.
type Record struct {
	Key     string
	Value   []byte // of a put
	Base    *Base  // of a snapshot: what Value is in terms of, nil when it is whole
	Create  int64  // revision of the put that created the key
	Mod     int64  // revision of this change
	Expires int64  // unix seconds, 0 for never
	Delete  bool
	// Err is why a record cannot be written; it fails the snapshot it was meant for.
	Err error
}

// Batch is one entry of the log: changes with consecutive revisions that were
// made durable by one sync. The zero value is an empty batch; Start begins it.
type Batch struct {
	first int64
	count int
	body  []byte
	small int // how many in a row did not need a large body
}

// Header is what a batch says of itself.
type Header struct {
	First     int64 // revision of the first change
	Compacted int64 // the store's compacted revision when it was written
	Millis    int64 // wall clock when it was written, unix milliseconds
	// Lazy: from here on operations may be visible before they are on disk. The
	// last batch of an orderly shutdown does not have it.
	Lazy bool
	// Skip: First need not be the next revision, because the ones between may
	// have been given to lazy operations that a crash has lost.
	Skip bool
}

// batchVersion is the first byte of an encoded batch.
const batchVersion = 1

const (
	batchLazy = 1 << 0
	batchSkip = 1 << 1
)

const (
	flagDelete  = 1 << 0
	flagExpires = 1 << 1
	flagCreated = 1 << 2 // Create equals Mod and is left out
)

// Start empties the batch for changes from revision h.First on.
func (b *Batch) Start(h Header) {
	b.first, b.count = h.First, 0
	b.body = append(b.body[:0], make([]byte, payloadHead)...)
	var flags byte
	if h.Lazy {
		flags |= batchLazy
	}
	if h.Skip {
		flags |= batchSkip
	}
	b.body = append(b.body, batchVersion, flags)
	b.body = binary.AppendUvarint(b.body, uint64(h.First))
	b.body = binary.AppendUvarint(b.body, uint64(h.Compacted))
	b.body = binary.AppendUvarint(b.body, uint64(h.Millis))
}

// MarkLazy sets Header.Lazy of a batch that was started without.
func (b *Batch) MarkLazy() { b.body[payloadHead+1] |= batchLazy }

// Put adds a put; its revision is the next one of the batch.
func (b *Batch) Put(key string, value []byte, create, expires int64) {
	var flags byte
	if create == b.first+int64(b.count) {
		flags |= flagCreated
	}
	if expires != 0 {
		flags |= flagExpires
	}
	b.head(flags, key, create)
	if expires != 0 {
		b.body = binary.AppendUvarint(b.body, uint64(expires))
	}
	b.body = binary.AppendUvarint(b.body, uint64(len(value)))
	b.body = append(b.body, value...)
}

// Delete adds a delete; its revision is the next one of the batch.
func (b *Batch) Delete(key string, create int64) { b.head(flagDelete, key, create) }

func (b *Batch) head(flags byte, key string, create int64) {
	b.body = append(b.body, flags)
	b.body = binary.AppendUvarint(b.body, uint64(len(key)))
	b.body = append(b.body, key...)
	if flags&flagCreated == 0 {
		b.body = binary.AppendUvarint(b.body, uint64(create))
	}
	b.count++
}

const (
	// keepBuffer is the largest buffer that Reset keeps for the next batch.
	keepBuffer = 16 << 20
	// A buffer larger than smallBuffer is let go when so many batches in a row did
	// not need it.
	smallBuffer, fewBatches = 256 << 10, 256
)

// Reset empties the batch.
func (b *Batch) Reset() {
	if len(b.body) > smallBuffer {
		b.small = 0
	} else {
		b.small++
	}
	if cap(b.body) > keepBuffer || cap(b.body) > smallBuffer && b.small > fewBatches {
		b.body = nil
	}
	b.count, b.body = 0, b.body[:0]
}

// Len is the number of changes in the batch.
func (b *Batch) Len() int { return b.count }

// Size is the encoded size of the batch so far, in bytes.
func (b *Batch) Size() int { return len(b.body) }

var errBatch = errors.New("malformed batch")

// DecodeBatch reads an encoded batch and calls each once for every change, in
// order. Value is part of data; the callee copies what it keeps.
func DecodeBatch(data []byte, head func(Header) error, each func(Record) error) error {
	if len(data) < 2 || data[0] != batchVersion || data[1]&^(batchLazy|batchSkip) != 0 {
		return fmt.Errorf("%w: unknown version", errBatch)
	}
	r := reader{rest: data[2:]}
	h := Header{First: r.int(), Compacted: r.int(), Millis: r.int(), Lazy: data[1]&batchLazy != 0, Skip: data[1]&batchSkip != 0}
	if r.bad || h.First <= 0 {
		return fmt.Errorf("%w: header", errBatch)
	}
	if err := head(h); err != nil {
		return err
	}
	for mod := h.First; len(r.rest) > 0; mod++ {
		rec := Record{Mod: mod, Create: mod}
		flags := r.byte()
		if flags&^(flagDelete|flagExpires|flagCreated) != 0 {
			return fmt.Errorf("%w: flags %#x at revision %d", errBatch, flags, mod)
		}
		rec.Key = string(r.bytes())
		rec.Delete = flags&flagDelete != 0
		if flags&flagCreated == 0 {
			rec.Create = r.int()
		}
		if flags&flagExpires != 0 {
			rec.Expires = r.int()
		}
		if !rec.Delete {
			rec.Value = r.bytes()
		}
		if r.bad || rec.Create > mod {
			return fmt.Errorf("%w: change at revision %d", errBatch, mod)
		}
		if err := each(rec); err != nil {
			return err
		}
	}
	return nil
}

// reader takes fields off the front of a buffer and remembers the first that
// did not fit, so that callers check once.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.bad = true
		return 0
	}
	c := r.rest[0]
	r.rest = r.rest[1:]
	return c
}

func (r *reader) int() int64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > 1<<62 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return int64(v)
}

func (r *reader) bytes() []byte {
	n := r.int()
	if n > int64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// State is a point of the log: the revision reached, the compacted revision,
// and the index of the last entry before it.
type State struct {
	Rev       int64
	Compacted int64
	Index     uint64
}
