package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// tail is what follows the last good entry of the last segment.
type tail int

const (
	tailClean   tail = iota // nothing
	tailTorn                // the rest of a write that a crash cut short
	tailDamaged             // an entry that was once complete
)

const sector = 512

// judgeTail says what region is, the bytes from offset at of the file on, when
// the entry of index next is the first that could not be read.
//
// At most one entry is ever under way, and it counts only after a sync. So the
// region may be thrown away exactly if it can be shown that the entry was not
// written completely: its end is missing, or a whole sector in it is empty.
// What is there in full but cannot be read was changed afterwards.
func judgeTail(region []byte, at int64, next uint64) tail {
	region = bytes.TrimRight(region, "\x00")
	if len(region) == 0 {
		return tailClean
	}
	for p := 0; ; p++ {
		n := bytes.Index(region[p:], payloadMagic)
		if n < 0 {
			break
		}
		p += n
		h, ok := readHead(region[p:])
		if !ok || h.index < next {
			continue
		}
		if h.index > next || h.complete(region[p:]) {
			return tailDamaged
		}
		end := int64(p) + payloadHead + h.size
		if missing(region, end) || emptySector(region[p:end+payloadTail], at+int64(p)) {
			return tailTorn
		}
		return tailDamaged
	}
	// Not even the head of the entry is there.
	const frame = 64 // more than the library puts before the payload
	if len(region) < frame+payloadHead || emptySector(region, at) {
		return tailTorn
	}
	return tailDamaged
}

// missing reports whether the mark at offset end of region was never written.
// Trailing zeros have been cut off region; the mark has no zero byte.
func missing(region []byte, end int64) bool { return int64(len(region)) < end+payloadTail }

// emptySector reports whether a sector that data touches has only zeros in its
// part of it; data begins at offset at of the file.
func emptySector(data []byte, at int64) bool {
	for len(data) > 0 {
		n := min(sector-at%sector, int64(len(data)))
		if len(bytes.TrimLeft(data[:n], "\x00")) == 0 {
			return true
		}
		data, at = data[n:], at+n
	}
	return false
}

// readTail reads a file from offset at to its last byte that is not zero.
// Preallocated space is skipped where the file system knows it.
func readTail(f *os.File, at int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var region []byte
	chunk := make([]byte, 256<<10)
	for off := at; off < info.Size(); {
		// A file system without the call has data everywhere.
		data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err == nil {
			off = data
		}
		n, err := f.ReadAt(chunk[:min(int64(len(chunk)), info.Size()-off)], off)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if n == 0 {
			break
		}
		if written := bytes.TrimRight(chunk[:n], "\x00"); len(written) > 0 {
			region = append(region, make([]byte, off-at-int64(len(region)))...)
			region = append(region, written...)
		}
		off += int64(n)
	}
	return region, nil
}

// cutTail empties a segment from offset at on and keeps its size, so that what
// is appended does not have to allocate.
func cutTail(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := f.Truncate(at); err != nil {
		return fmt.Errorf("cannot cut %s: %w", path, err)
	}
	if err := f.Truncate(info.Size()); err != nil {
		return fmt.Errorf("cannot cut %s: %w", path, err)
	}
	return f.Sync()
}
