package wal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"google.golang.org/protobuf/encoding/protowire"
)

// ErrLog is a log that is damaged or has a gap.
var ErrLog = errors.New("log is damaged")

// segment is one file of the log. first is the index of its first entry (or of
// the entry that will be it).
type segment struct {
	name  string
	seq   uint64
	first uint64
}

// segments lists the files of the log in order.
func segments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var segs []segment
	for _, e := range entries {
		s := segment{name: e.Name()}
		if !strings.HasSuffix(s.name, ".wal") {
			continue
		}
		if n, err := fmt.Sscanf(s.name, "%016x-%016x.wal", &s.seq, &s.first); n != 2 || err != nil {
			continue
		}
		if n := len(segs); n > 0 && s.seq != segs[n-1].seq+1 {
			return nil, fmt.Errorf("%w: files between %s and %s are missing", ErrLog, segs[n-1].name, s.name)
		}
		segs = append(segs, s)
	}
	return segs, nil
}

// from returns the segments that hold the entries after index.
func from(segs []segment, index uint64) ([]segment, error) {
	for i := len(segs) - 1; i >= 0; i-- {
		if segs[i].first <= index+1 {
			return segs[i:], nil
		}
	}
	if len(segs) == 0 {
		return nil, fmt.Errorf("%w: it has no files", ErrLog)
	}
	return nil, fmt.Errorf("%w: it begins with entry %d, but entry %d is needed", ErrLog, segs[0].first, index+1)
}

// scanner reads the entries of a log and proves each: CRC chain over all
// segments, consecutive indexes, complete payloads.
type scanner struct {
	dir  string
	last uint64 // index of the last good entry
	crc  uint32 // of the chain so far

	size int64 // bytes of payload after the starting point
	torn string
}

// scan calls each for every entry after start. A torn end of the last segment
// is cut off; all else that is not as it was written is ErrLog.
func scan(dir string, start uint64, each func(index uint64, body []byte) error) (*scanner, error) {
	all, err := segments(dir)
	if err != nil {
		return nil, err
	}
	segs, err := from(all, start)
	if err != nil {
		return nil, err
	}
	s := &scanner{dir: dir}
	for i, seg := range segs {
		if err := s.segment(seg, i == 0, i == len(segs)-1, start, each); err != nil {
			return nil, err
		}
	}
	if s.last < start {
		if s.last != 0 || segs[len(segs)-1].first != start+1 {
			return nil, fmt.Errorf("%w: it ends with entry %d, but the snapshot was made at entry %d", ErrLog, s.last, start)
		}
		s.last = start
	}
	return s, nil
}

func (s *scanner) segment(seg segment, first, last bool, start uint64, each func(uint64, []byte) error) error {
	path := filepath.Join(s.dir, seg.name)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	dec := &frames{in: bufio.NewReaderSize(f, 64<<10), size: info.Size()}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s at offset %d: %w", ErrLog, path, dec.offset, fmt.Errorf(format, args...))
	}
	for n := 0; ; n++ {
		before := dec.offset
		var rec frame
		if rec, err = dec.next(); err != nil {
			break
		}
		if n == 0 && rec.kind != etcdwal.CrcType {
			return bad("begins with a record of type %d", rec.kind)
		}
		switch rec.kind {
		case etcdwal.CrcType:
			if n > 0 || !first && rec.crc != s.crc {
				return bad("does not continue the segment before it")
			}
			dec.crc = rec.crc
		case etcdwal.MetadataType:
			if !bytes.Equal(rec.data, metadata) {
				return bad("was written by something else: %q", rec.data)
			}
		case etcdwal.SnapshotType:
			if n != 2 || seg.seq != 0 {
				return bad("unexpected snapshot record")
			}
		case etcdwal.EntryType:
			index, data, err := entry(rec.data)
			if err != nil {
				return bad("entry: %w", err)
			}
			if s.last == 0 && first && (seg.seq != 0 && index == seg.first || index == 1) {
				s.last = index - 1
			}
			if index != s.last+1 {
				return bad("entry %d follows entry %d", index, s.last)
			}
			body, ok := openPayload(data, index)
			if !ok {
				return bad("entry %d is incomplete", index)
			}
			if index > start {
				if err := each(index, body); err != nil {
					return bad("entry %d: %w", index, err)
				}
				s.size += dec.offset - before
			}
			s.last = index
		default:
			return bad("unexpected record of type %d", rec.kind)
		}
	}
	s.crc = dec.crc
	if !last {
		if err != io.EOF {
			return bad("%w", err)
		}
		return nil
	}
	region, rerr := readTail(f, dec.offset)
	if rerr != nil {
		return rerr
	}
	next := s.last + 1
	if s.last == 0 {
		next = max(1, seg.first)
	}
	switch judgeTail(region, dec.offset, next) {
	case tailDamaged:
		if err == io.EOF {
			err = errors.New("data after the end")
		}
		return bad("entry %d was complete and cannot be read: %w", next, err)
	case tailTorn:
		s.torn = fmt.Sprintf("%s: cut %d bytes of an unfinished write at offset %d", path, len(region), dec.offset)
		return cutTail(path, dec.offset)
	default:
		if err != io.EOF {
			// All zeros from here on, but in a form the library does not take.
			return cutTail(path, dec.offset)
		}
		return nil
	}
}

// frames reads what the library has written to a segment. The library's own reader
// copies each entry twice more.
type frames struct {
	in     *bufio.Reader
	size   int64  // of the file
	offset int64  // of the next frame
	crc    uint32 // of all data before it, and of what was before this file
}

// frame is a walpb.Record.
type frame struct {
	kind int64
	crc  uint32
	data []byte // its own memory
}

// next returns the next frame. It fails with io.EOF at the end of what was written.
func (f *frames) next() (frame, error) {
	const head = 8
	var b [head]byte
	if _, err := io.ReadFull(f.in, b[:]); err != nil {
		return frame{}, err
	}
	// The length has 56 bits; above are, under a flag, the length of what follows to
	// the next multiple of 8.
	l := binary.LittleEndian.Uint64(b[:])
	if l == 0 { // allocated, not written
		return frame{}, io.EOF
	}
	size, padding := int64(l&(1<<56-1)), int64(0)
	if l>>63 != 0 {
		padding = int64(l >> 56 & 7)
	}
	if size > f.size-f.offset-head-padding {
		return frame{}, fmt.Errorf("%w: %d bytes", io.ErrUnexpectedEOF, size)
	}
	message := make([]byte, size+padding)
	if _, err := io.ReadFull(f.in, message); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	var out frame
	if err := fields(message[:size], func(field protowire.Number, n uint64, data []byte) {
		switch field {
		case 1:
			out.kind = int64(n)
		case 2:
			out.crc = uint32(n)
		case 3:
			out.data = data
		}
	}); err != nil {
		return frame{}, err
	}
	if out.kind != etcdwal.CrcType {
		if f.crc = crc32.Update(f.crc, castagnoli, out.data); f.crc != out.crc {
			return frame{}, errors.New("CRC mismatch")
		}
	}
	f.offset += head + size + padding
	return out, nil
}

// entry reads what is needed of a raftpb.Entry. The data is part of message.
func entry(message []byte) (index uint64, data []byte, err error) {
	err = fields(message, func(field protowire.Number, n uint64, b []byte) {
		switch field {
		case 3:
			index = n
		case 4:
			data = b
		}
	})
	return index, data, err
}

// fields calls each for the fields of a message that are numbers or bytes.
func fields(message []byte, each func(field protowire.Number, n uint64, data []byte)) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		var number uint64
		var data []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(field, kind, message)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		each(field, number, data)
		message = message[n:]
	}
	return nil
}
