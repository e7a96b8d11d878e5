package cgroup

import (
	"bytes"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// reader reads small files of one directory into one buffer without
// allocating. Descriptors are not kept: at tens of thousands of containers
// they would not fit the limit of open files.
type reader struct {
	buf [8192]byte
}

// file is the content, or nil when it cannot be read. It is valid until the
// next call.
func (r *reader) file(dir, name string) []byte {
	return readSmall(filepath.Join(dir, name), r.buf[:])
}

func readSmall(name string, buf []byte) []byte {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || m <= 0 {
			break
		}
		n += m
	}
	return buf[:n]
}

// number is the first number of the content; "max", nothing and too large are 0.
func number(b []byte) uint64 {
	v, ok := uint64(0), false
	for _, c := range b {
		if c < '0' || c > '9' {
			if ok {
				break
			}
			if c == ' ' || c == '\t' {
				continue
			}
			return 0
		}
		ok = true
		d := uint64(c - '0')
		if v > (1<<64-1-d)/10 {
			return 0
		}
		v = v*10 + d
	}
	return v
}

// eachKey calls f for every line "key value".
func eachKey(b []byte, f func(key, value []byte)) {
	for len(b) > 0 {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		if i := bytes.IndexByte(line, ' '); i > 0 {
			f(line[:i], line[i+1:])
		}
	}
}

// noLimit is what version 1 shows for no memory limit, or more.
const noLimit = 1 << 60

// Stats reads a cgroup. Files of controllers that are missing count as zero;
// the cgroup itself missing is an error.
func (t *Tree) Stats(path string) (Stats, error) {
	var s Stats
	var r reader
	var err error
	if t.layout.Version == 2 {
		err = r.statsV2(t.hierarchies[0].dir(path), &s)
	} else {
		err = r.statsV1(t, path, &s)
	}
	if s.Memory.Limit >= noLimit {
		s.Memory.Limit = 0
	}
	return s, err
}
