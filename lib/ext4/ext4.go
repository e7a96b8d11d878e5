// Package ext4 makes and enlarges ext4 file systems in files, without a program
// of the host. What it writes is little: groups that nothing lies in are marked
// as not initialised, and the kernel fills them when it needs them. The format:
// https://www.kernel.org/doc/html/latest/filesystems/ext4/
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

const (
	// BlockSize in bytes; all else is counted in blocks.
	BlockSize = 4096

	groupBlocks  = 8 * BlockSize // what one block of bitmap can tell of
	groupInodes  = 8192
	inodeSize    = 256
	inodeBlocks  = groupInodes * inodeSize / BlockSize
	descSize     = 32
	descsInBlock = BlockSize / descSize
	magic        = 0xEF53

	rootInode, journalInode, firstInode = 2, 8, 11

	// leastTail is what a last group must have beyond its own tables.
	leastTail = 64
)

// Features: see "Super Block" in the format.
const (
	compat       = 0x4 | 0x8 | 0x20                     // journal, extended attributes, hashed directories
	incompat     = 0x2 | 0x10 | 0x40                    // file types in directories, descriptors in each meta group, extents
	readOnly     = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 // few copies of the superblock, large and huge files, descriptor checksums, many links, large inodes
	needsReplay  = 0x4                                  // incompat: the journal holds what the disk does not
	blockUninit  = 2
	inodeUninit  = 1
	inodesZeroed = 4
)

// File is what holds a file system.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// ErrNotClean says that a file system must be mounted once, so that the kernel
// replays its journal.
var ErrNotClean = errors.New("the file system was not unmounted in order")

// le is the byte order of everything but the journal.
var le = binary.LittleEndian

// ImageSize is how large a file must be, in bytes, for its file system to hold
// capacity bytes of files.
func ImageSize(capacity int64) int64 {
	data := (capacity + BlockSize - 1) / BlockSize
	data += int64(journalBlocks(data + data/16))
	data += min(data/48, kernelReserve) + slack
	const own = 4 + inodeBlocks // bitmaps and inodes; superblock and descriptors of the rarer groups
	total := data + (data/(groupBlocks-own)+1)*own
	if total%groupBlocks < own+leastTail {
		total += own + leastTail // or the last group would not be made
	}
	return total * BlockSize
}

// kernelReserve is how many blocks the kernel keeps for its own needs, at most:
// a fiftieth of all, or this many.
const kernelReserve = 4096

// slack is for the tables of where files lie, in blocks.
const slack = 256

// journalBlocks grows with the file system, as mke2fs has it, but stays smaller:
// many volumes share one disk.
func journalBlocks(total int64) int {
	switch {
	case total < 1<<18: // 1 GiB
		return 1024
	case total < 1<<22: // 16 GiB
		return 4096
	}
	return 16384
}

// layout is where a file system of a number of blocks has its parts.
type layout struct {
	blocks int64
	groups int64
}

// plan rounds a size in bytes down to one whose last group is worth having.
func plan(size int64) (layout, error) {
	l := layout{blocks: size / BlockSize}
	l.groups = (l.blocks + groupBlocks - 1) / groupBlocks
	if l.groups > 1 && l.length(l.groups-1) < l.overhead(l.groups-1)+leastTail {
		l.groups--
		l.blocks = l.groups * groupBlocks
	}
	if l.groups < 1 || l.length(0) < l.overhead(0)+int64(journalBlocks(l.blocks))+leastTail {
		return l, fmt.Errorf("%d bytes are too few for a file system", size)
	}
	if l.blocks > 1<<32-1 || l.groups*groupInodes > 1<<32-1 {
		return l, fmt.Errorf("%d bytes are too many for this kind of file system", size)
	}
	return l, nil
}

func (l layout) first(g int64) int64  { return g * groupBlocks }
func (l layout) length(g int64) int64 { return min(groupBlocks, l.blocks-l.first(g)) }

// hasSuper says whether a group has a superblock: 0, 1 and powers of 3, 5, 7.
func hasSuper(g int64) bool {
	if g <= 1 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		n := base
		for n < g {
			n *= base
		}
		if n == g {
			return true
		}
	}
	return false
}

// hasDescs says whether a group has the descriptors of its meta group: the first
// two and the last of each do.
func hasDescs(g int64) bool {
	i := g % descsInBlock
	return i == 0 || i == 1 || i == descsInBlock-1
}

// head is how many blocks of superblock and descriptors a group begins with.
func head(g int64) (n int64) {
	if hasSuper(g) {
		n++
	}
	if hasDescs(g) {
		n++
	}
	return n
}

func (l layout) blockBitmap(g int64) int64 { return l.first(g) + head(g) }
func (l layout) inodeBitmap(g int64) int64 { return l.blockBitmap(g) + 1 }
func (l layout) inodeTable(g int64) int64  { return l.blockBitmap(g) + 2 }
func (l layout) overhead(g int64) int64    { return head(g) + 2 + inodeBlocks }

// descs is where the descriptors of group g are, in the copy of group at.
func (l layout) descs(at int64) int64 {
	if hasSuper(at) {
		return l.first(at) + 1
	}
	return l.first(at)
}

// desc fills a group's descriptor; free is how many blocks it has to give.
func (l layout) desc(b []byte, g, free int64, inodes, dirs, flags uint16, uuid []byte) {
	le.PutUint32(b[0:], uint32(l.blockBitmap(g)))
	le.PutUint32(b[4:], uint32(l.inodeBitmap(g)))
	le.PutUint32(b[8:], uint32(l.inodeTable(g)))
	le.PutUint16(b[12:], uint16(free))
	le.PutUint16(b[14:], groupInodes-inodes)
	le.PutUint16(b[16:], dirs)
	le.PutUint16(b[18:], flags)
	le.PutUint16(b[28:], groupInodes-inodes) // the table's unused end
	sumDesc(b, g, uuid)
}

// sumDesc writes a descriptor's checksum.
func sumDesc(b []byte, g int64, uuid []byte) {
	le.PutUint16(b[30:], 0)
	var n [4]byte
	le.PutUint32(n[:], uint32(g))
	le.PutUint16(b[30:], crc16(crc16(crc16(0xFFFF, uuid), n[:]), b[:30]))
}

// crc16 is the polynomial 0x8005, reflected.
func crc16(sum uint16, b []byte) uint16 {
	for _, x := range b {
		sum ^= uint16(x)
		for range 8 {
			if sum&1 != 0 {
				sum = sum>>1 ^ 0xA001
			} else {
				sum >>= 1
			}
		}
	}
	return sum
}

// mark sets the bits from up to, not including, to.
func mark(bitmap []byte, from, to int64) {
	for ; from < to; from++ {
		bitmap[from/8] |= 1 << (from % 8)
	}
}

func clearBits(bitmap []byte, from, to int64) {
	for ; from < to; from++ {
		bitmap[from/8] &^= 1 << (from % 8)
	}
}

// zeros counts what a bitmap says is free.
func zeros(bitmap []byte) (n int64) {
	for _, b := range bitmap {
		n += int64(8 - bits.OnesCount8(b))
	}
	return n
}

func write(f File, block int64, b []byte) error {
	if _, err := f.WriteAt(b, block*BlockSize); err != nil {
		return fmt.Errorf("cannot write block %d: %w", block, err)
	}
	return nil
}
