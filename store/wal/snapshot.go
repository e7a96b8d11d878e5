package wal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
)

// A snapshot is a magic and then blocks, each its length and CRC32C before it:
// one head, any number of record blocks in key order, and one foot that repeats
// the state and adds the number of records and a sum over all blocks. Without
// its foot a snapshot is not one.
const (
	snapshotMagic = "SGSNAP1\n"
	blockSize     = 256 << 10
	maxBlock      = 1 << 31

	blockHead    = 'H'
	blockRecords = 'R'
	blockFoot    = 'F'
)

// ErrSnapshot is a snapshot that is damaged or incomplete.
var ErrSnapshot = errors.New("snapshot is damaged")

type snapshotWriter struct {
	w     *bufio.Writer
	block []byte
	sum   uint32 // over the blocks so far
}

func (s *snapshotWriter) flush() error {
	var head [8]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(s.block)))
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(s.block, castagnoli))
	s.sum = crc32.Update(s.sum, castagnoli, head[:])
	if _, err := s.w.Write(head[:]); err != nil {
		return err
	}
	_, err := s.w.Write(s.block)
	return err
}

func (s *snapshotWriter) state(kind byte, st State) {
	s.block = append(s.block[:0], kind)
	s.block = binary.AppendUvarint(s.block, uint64(st.Rev))
	s.block = binary.AppendUvarint(s.block, uint64(st.Compacted))
	s.block = binary.AppendUvarint(s.block, st.Index)
}

// WriteSnapshot writes records, which are in key order, as a snapshot of st.
func WriteSnapshot(w io.Writer, st State, records iter.Seq[Record]) error {
	s := &snapshotWriter{w: bufio.NewWriterSize(w, 1<<20)}
	if _, err := s.w.WriteString(snapshotMagic); err != nil {
		return err
	}
	s.state(blockHead, st)
	if err := s.flush(); err != nil {
		return err
	}
	count := uint64(0)
	s.block = append(s.block[:0], blockRecords)
	for r := range records {
		if r.Err != nil {
			return r.Err
		}
		count++
		s.block = binary.AppendUvarint(s.block, uint64(len(r.Key)))
		s.block = append(s.block, r.Key...)
		s.block = binary.AppendUvarint(s.block, uint64(r.Create))
		s.block = binary.AppendUvarint(s.block, uint64(r.Mod))
		s.block = binary.AppendUvarint(s.block, uint64(r.Expires))
		s.block = binary.AppendUvarint(s.block, uint64(len(r.Value)))
		s.block = append(s.block, r.Value...)
		if len(s.block) >= blockSize {
			if err := s.flush(); err != nil {
				return err
			}
			s.block = append(s.block[:0], blockRecords)
		}
	}
	if len(s.block) > 1 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	sum := s.sum
	s.state(blockFoot, st)
	s.block = binary.AppendUvarint(s.block, count)
	s.block = binary.LittleEndian.AppendUint32(s.block, sum)
	if err := s.flush(); err != nil {
		return err
	}
	return s.w.Flush()
}

// ReadSnapshot reads a snapshot: begin is called with its state, each for every
// record in key order. What each was given is only good if no error is
// returned. The callee copies what it keeps of a Value.
func ReadSnapshot(r io.Reader, begin func(State) error, each func(Record) error) (State, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != snapshotMagic {
		return State{}, fmt.Errorf("%w: not a snapshot", ErrSnapshot)
	}
	var (
		st    State
		begun bool
		count uint64
		last  string
		sum   uint32
		block []byte
	)
	for n := 0; ; n++ {
		var head [8]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return st, fmt.Errorf("%w: it ends after %d blocks: %w", ErrSnapshot, n, err)
		}
		size := int64(binary.LittleEndian.Uint32(head[:]))
		if size == 0 || size > maxBlock {
			return st, fmt.Errorf("%w: block %d has %d bytes", ErrSnapshot, n, size)
		}
		var err error
		if block, err = readBlock(in, block, size); err != nil {
			return st, fmt.Errorf("%w: block %d: %w", ErrSnapshot, n, err)
		}
		if crc32.Checksum(block, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			return st, fmt.Errorf("%w: CRC mismatch in block %d", ErrSnapshot, n)
		}
		b := reader{rest: block[1:]}
		switch kind := block[0]; {
		case kind == blockHead && !begun:
			begun = true
			st = b.state()
			if b.bad || len(b.rest) > 0 || st.Compacted > st.Rev {
				return st, fmt.Errorf("%w: head", ErrSnapshot)
			}
			if err := begin(st); err != nil {
				return st, err
			}
		case kind == blockRecords && begun:
			for len(b.rest) > 0 {
				rec := Record{Key: string(b.bytes()), Create: b.int(), Mod: b.int(), Expires: b.int(), Value: b.bytes()}
				if b.bad || rec.Create > rec.Mod || rec.Mod > st.Rev || rec.Create <= 0 || (count > 0 && rec.Key <= last) {
					return st, fmt.Errorf("%w: record %d in block %d", ErrSnapshot, count, n)
				}
				last = rec.Key
				count++
				if err := each(rec); err != nil {
					return st, err
				}
			}
		case kind == blockFoot && begun:
			foot := b.state()
			records := uint64(b.int())
			if b.bad || foot != st || records != count || len(b.rest) != 4 || binary.LittleEndian.Uint32(b.rest) != sum {
				return st, fmt.Errorf("%w: its foot does not match the %d records before it", ErrSnapshot, count)
			}
			if _, err := in.ReadByte(); err != io.EOF {
				return st, fmt.Errorf("%w: data after its end", ErrSnapshot)
			}
			return st, nil
		default:
			return st, fmt.Errorf("%w: block %d has unknown kind %q", ErrSnapshot, n, kind)
		}
		sum = crc32.Update(sum, castagnoli, head[:])
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
