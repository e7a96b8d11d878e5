package wal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"sync"
)

// A snapshot is a magic and then blocks, each its length and CRC32C before it:
// one head, any number of record blocks in key order, and one foot that repeats
// the state and adds the number of records and a sum over all blocks. Without
// its foot a snapshot is not one. Values may be written in terms of others, the
// bases: these have blocks of their own, before those of the records that use them.
const (
	snapshotMagic = "SGSNAP1\n"
	blockSize     = 256 << 10
	maxBlock      = 1 << 31

	blockHead    = 'H'
	blockBases   = 'B'
	blockRecords = 'P' // with the number of each value's base, counted from 1
	blockWhole   = 'R' // without, as all were once
	blockFoot    = 'F'
)

// ErrSnapshot is a snapshot that is damaged or incomplete.
var ErrSnapshot = errors.New("snapshot is damaged")

// Base is a text in terms of which values of a snapshot are written. How, the
// store knows.
type Base struct {
	Class string // what the keys of values like it begin with
	Text  []byte
}

type snapshotWriter struct {
	w     *bufio.Writer
	block []byte
	sum   uint32 // over the blocks so far

	numbers map[*Base]uint64
	bases   []byte // the block of those that are not written yet
}

func (s *snapshotWriter) flush(block []byte) error {
	var head [8]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(block)))
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(block, castagnoli))
	s.sum = crc32.Update(s.sum, castagnoli, head[:])
	if _, err := s.w.Write(head[:]); err != nil {
		return err
	}
	_, err := s.w.Write(block)
	return err
}

// flushRecords writes the records gathered, after the bases that they need.
func (s *snapshotWriter) flushRecords() error {
	for _, b := range []*[]byte{&s.bases, &s.block} {
		if len(*b) > 1 {
			if err := s.flush(*b); err != nil {
				return err
			}
		}
	}
	s.bases, s.block = append(s.bases[:0], blockBases), append(s.block[:0], blockRecords)
	return nil
}

// number is that of a base, 0 for none.
func (s *snapshotWriter) number(b *Base) uint64 {
	if b == nil {
		return 0
	}
	n := s.numbers[b]
	if n == 0 {
		n = uint64(len(s.numbers) + 1)
		s.numbers[b] = n
		s.bases = appendBytes(appendBytes(s.bases, b.Class), b.Text)
	}
	return n
}

func appendBytes[T string | []byte](to []byte, b T) []byte {
	return append(binary.AppendUvarint(to, uint64(len(b))), b...)
}

func (s *snapshotWriter) state(kind byte, st State) {
	s.block = append(s.block[:0], kind)
	s.block = binary.AppendUvarint(s.block, uint64(st.Rev))
	s.block = binary.AppendUvarint(s.block, uint64(st.Compacted))
	s.block = binary.AppendUvarint(s.block, st.Index)
}

// WriteSnapshot writes records, which are in key order, as a snapshot of st.
func WriteSnapshot(w io.Writer, st State, records iter.Seq[Record]) error {
	s := &snapshotWriter{w: bufio.NewWriterSize(w, 1<<20), numbers: map[*Base]uint64{}}
	if _, err := s.w.WriteString(snapshotMagic); err != nil {
		return err
	}
	s.state(blockHead, st)
	if err := s.flush(s.block); err != nil {
		return err
	}
	count := uint64(0)
	s.bases, s.block = append(s.bases, blockBases), append(s.block[:0], blockRecords)
	for r := range records {
		if r.Err != nil {
			return r.Err
		}
		count++
		s.block = appendBytes(s.block, r.Key)
		s.block = binary.AppendUvarint(s.block, uint64(r.Create))
		s.block = binary.AppendUvarint(s.block, uint64(r.Mod))
		s.block = binary.AppendUvarint(s.block, uint64(r.Expires))
		s.block = binary.AppendUvarint(s.block, s.number(r.Base))
		s.block = appendBytes(s.block, r.Value)
		if len(s.block) >= blockSize {
			if err := s.flushRecords(); err != nil {
				return err
			}
		}
	}
	if err := s.flushRecords(); err != nil {
		return err
	}
	sum := s.sum
	s.state(blockFoot, st)
	s.block = binary.AppendUvarint(s.block, count)
	s.block = binary.LittleEndian.AppendUint32(s.block, sum)
	if err := s.flush(s.block); err != nil {
		return err
	}
	return s.w.Flush()
}

// ReadSnapshot reads a snapshot: begin is called with its state, each for every
// record in key order. What each was given is only good if no error is
// returned. The callee copies what it keeps of a Value.
func ReadSnapshot(r io.Reader, begin func(State) error, each func(Record) error) (State, error) {
	return readSnapshot(r, begin, func(*Base) {}, func(records []Record) Place {
		return func() error {
			for _, rec := range records {
				if err := each(rec); err != nil {
					return err
				}
			}
			return nil
		}
	}, func(f func() Place) error { return f()() })
}

// readSnapshot gives the records of a snapshot block by block to piece, through
// add, which says where and when; each base goes to base before. A block's memory
// is used again once it is in place.
func readSnapshot(r io.Reader, begin func(State) error, base func(*Base), piece func([]Record) Place, add func(func() Place) error) (State, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != snapshotMagic {
		return State{}, fmt.Errorf("%w: not a snapshot", ErrSnapshot)
	}
	s := snapshotReader{piece: piece}
	var (
		begun bool
		sum   uint32
	)
	for n := 0; ; n++ {
		var head [8]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return s.state, fmt.Errorf("%w: it ends after %d blocks: %w", ErrSnapshot, n, err)
		}
		size := int64(binary.LittleEndian.Uint32(head[:]))
		if size == 0 || size > maxBlock {
			return s.state, fmt.Errorf("%w: block %d has %d bytes", ErrSnapshot, n, size)
		}
		buf, _ := s.free.Get().(*[]byte)
		if buf == nil {
			buf = new([]byte)
		}
		var err error
		if *buf, err = readBlock(in, *buf, size); err != nil {
			return s.state, fmt.Errorf("%w: block %d: %w", ErrSnapshot, n, err)
		}
		block, crc := *buf, binary.LittleEndian.Uint32(head[4:])
		if kind := block[0]; (kind == blockRecords || kind == blockWhole) && begun {
			bases := s.bases
			if err := add(func() Place { return s.records(n, buf, crc, bases) }); err != nil {
				return s.state, err
			}
			sum = crc32.Update(sum, castagnoli, head[:])
			continue
		}
		if crc32.Checksum(block, castagnoli) != crc {
			return s.state, fmt.Errorf("%w: CRC mismatch in block %d", ErrSnapshot, n)
		}
		b := reader{rest: block[1:]}
		switch kind := block[0]; {
		case kind == blockHead && !begun:
			begun = true
			s.state = b.state()
			if b.bad || len(b.rest) > 0 || s.state.Compacted > s.state.Rev {
				return s.state, fmt.Errorf("%w: head", ErrSnapshot)
			}
			if err := begin(s.state); err != nil {
				return s.state, err
			}
		case kind == blockBases && begun:
			for len(b.rest) > 0 {
				next := &Base{Class: string(b.bytes()), Text: bytes.Clone(b.bytes())}
				if b.bad {
					return s.state, fmt.Errorf("%w: base %d", ErrSnapshot, len(s.bases)+1)
				}
				s.bases = append(s.bases, next)
				base(next)
			}
			s.free.Put(buf)
		case kind == blockFoot && begun:
			foot := b.state()
			records := uint64(b.int())
			fits := !b.bad && foot == s.state && len(b.rest) == 4 && binary.LittleEndian.Uint32(b.rest) == sum
			if _, err := in.ReadByte(); err != io.EOF {
				return s.state, fmt.Errorf("%w: data after its end", ErrSnapshot)
			}
			// How many there are is known when all are in place.
			return s.state, add(func() Place {
				return func() error {
					if !fits || records != s.count {
						return fmt.Errorf("%w: its foot does not match the %d records before it", ErrSnapshot, s.count)
					}
					return nil
				}
			})
		default:
			return s.state, fmt.Errorf("%w: block %d has unknown kind %q", ErrSnapshot, n, kind)
		}
		sum = crc32.Update(sum, castagnoli, head[:])
	}
}

// snapshotReader is what the blocks of a snapshot share.
type snapshotReader struct {
	piece func([]Record) Place
	state State
	bases []*Base   // so far
	free  sync.Pool // of blocks

	count uint64 // of the records in place
	last  string // key of the last of them
}

// records takes the n-th block, which has records, and the bases before it.
func (s *snapshotReader) records(n int, block *[]byte, crc uint32, bases []*Base) Place {
	fail := func(format string, args ...any) Place {
		err := fmt.Errorf("%w: %s", ErrSnapshot, fmt.Sprintf(format, args...))
		return func() error { return err }
	}
	if crc32.Checksum(*block, castagnoli) != crc {
		return fail("CRC mismatch in block %d", n)
	}
	b := reader{rest: (*block)[1:]}
	var records []Record
	for len(b.rest) > 0 {
		rec := Record{Key: string(b.bytes()), Create: b.int(), Mod: b.int(), Expires: b.int()}
		if (*block)[0] == blockRecords {
			if at := b.int(); at > int64(len(bases)) {
				b.bad = true
			} else if at > 0 {
				rec.Base = bases[at-1]
			}
		}
		rec.Value = b.bytes()
		if b.bad || rec.Create > rec.Mod || rec.Mod > s.state.Rev || rec.Create <= 0 || len(records) > 0 && rec.Key <= records[len(records)-1].Key {
			return fail("record %d of block %d", len(records), n)
		}
		records = append(records, rec)
	}
	place := s.piece(records)
	return func() error {
		if len(records) > 0 {
			if s.count > 0 && records[0].Key <= s.last {
				return fail("block %d begins with a key that is not after those before it", n)()
			}
			s.last = records[len(records)-1].Key
		}
		s.count += uint64(len(records))
		err := place()
		s.free.Put(block)
		return err
	}
}

// readBlock reads size bytes, into buf if they fit. A length that is not true
// costs no more memory than there is data.
func readBlock(in io.Reader, buf []byte, size int64) ([]byte, error) {
	if size <= int64(cap(buf)) {
		buf = buf[:size]
		_, err := io.ReadFull(in, buf)
		return buf, err
	}
	const step = 4 << 20
	buf = buf[:0]
	for int64(len(buf)) < size {
		at := len(buf)
		buf = append(buf, make([]byte, min(step, size-int64(at)))...)
		if _, err := io.ReadFull(in, buf[at:]); err != nil {
			return buf, err
		}
	}
	return buf, nil
}

func (r *reader) state() State {
	return State{Rev: r.int(), Compacted: r.int(), Index: uint64(r.int())}
}
