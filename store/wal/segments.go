package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
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
	dec := etcdwal.NewDecoder(fileutil.NewFileReader(f))
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s at offset %d: %w", ErrLog, path, dec.LastOffset(), fmt.Errorf(format, args...))
	}
	var rec walpb.Record
	for n := 0; ; n++ {
		before := dec.LastOffset()
		if err = dec.Decode(&rec); err != nil {
			break
		}
		if n == 0 && rec.GetType() != etcdwal.CrcType {
			return bad("begins with a record of type %d", rec.GetType())
		}
		switch rec.GetType() {
		case etcdwal.CrcType:
			if n > 0 || !first && rec.GetCrc() != s.crc {
				return bad("does not continue the segment before it")
			}
			dec.UpdateCRC(rec.GetCrc())
		case etcdwal.MetadataType:
			if !bytes.Equal(rec.Data, metadata) {
				return bad("was written by something else: %q", rec.Data)
			}
		case etcdwal.SnapshotType:
			if n != 2 || seg.seq != 0 {
				return bad("unexpected snapshot record")
			}
		case etcdwal.EntryType:
			var e raftpb.Entry
			if err := proto.Unmarshal(rec.Data, &e); err != nil {
				return bad("entry: %w", err)
			}
			index := e.GetIndex()
			if s.last == 0 && first && (seg.seq != 0 && index == seg.first || index == 1) {
				s.last = index - 1
			}
			if index != s.last+1 {
				return bad("entry %d follows entry %d", index, s.last)
			}
			body, ok := openPayload(e.Data, index)
			if !ok {
				return bad("entry %d is incomplete", index)
			}
			if index > start {
				if err := each(index, body); err != nil {
					return bad("entry %d: %w", index, err)
				}
				s.size += dec.LastOffset() - before
			}
			s.last = index
		default:
			return bad("unexpected record of type %d", rec.GetType())
		}
	}
	s.crc = dec.LastCRC()
	if !last {
		if err != io.EOF {
			return bad("%w", err)
		}
		return nil
	}
	region, rerr := readTail(f, dec.LastOffset())
	if rerr != nil {
		return rerr
	}
	next := s.last + 1
	if s.last == 0 {
		next = max(1, seg.first)
	}
	switch judgeTail(region, dec.LastOffset(), next) {
	case tailDamaged:
		if err == io.EOF {
			err = errors.New("data after the end")
		}
		return bad("entry %d was complete and cannot be read: %w", next, err)
	case tailTorn:
		s.torn = fmt.Sprintf("%s: cut %d bytes of an unfinished write at offset %d", path, len(region), dec.LastOffset())
		return cutTail(path, dec.LastOffset())
	default:
		if err != io.EOF {
			// All zeros from here on, but in a form the library does not take.
			return cutTail(path, dec.LastOffset())
		}
		return nil
	}
}
