package ext4

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Format makes an empty file system of size bytes in a file that reads as zeros
// so far, as one does that was just made of that size. Its root directory has
// nothing in it, not even lost+found, and every user may write to it.
func Format(f File, size int64, uuid [16]byte, now time.Time) error {
	l, err := plan(size)
	if err != nil {
		return err
	}
	journal := int64(journalBlocks(l.blocks))
	root := l.overhead(0)   // one block of directory
	first := root + 1       // of the journal
	used := first + journal // blocks of group 0
	descs := make([]byte, (l.groups+descsInBlock-1)/descsInBlock*BlockSize)
	free := int64(0)
	for g := range l.groups {
		taken, inodes, dirs, flags := l.overhead(g), uint16(0), uint16(0), uint16(blockUninit|inodeUninit|inodesZeroed)
		if g == 0 {
			taken, inodes, dirs, flags = used, firstInode-1, 1, inodesZeroed
		}
		if g == l.groups-1 {
			flags &^= blockUninit
		}
		if flags&blockUninit == 0 {
			if err := write(f, l.blockBitmap(g), l.bitmap(g, taken)); err != nil {
				return err
			}
		}
		free += l.length(g) - taken
		l.desc(descs[g*descSize:], g, l.length(g)-taken, inodes, dirs, flags, uuid[:])
	}
	bitmap := make([]byte, BlockSize)
	mark(bitmap, 0, firstInode-1)
	mark(bitmap, groupInodes, groupBlocks)
	if err := write(f, l.inodeBitmap(0), bitmap); err != nil {
		return err
	}
	stamp := uint32(now.Unix())
	table := make([]byte, BlockSize)
	inode(table[(rootInode-1)*inodeSize:], 0o040777, 2, root, 1, stamp)
	inode(table[(journalInode-1)*inodeSize:], 0o100600, 1, first, journal, stamp)
	if err := write(f, l.inodeTable(0), table); err != nil {
		return err
	}
	if err := write(f, root, rootDirectory()); err != nil {
		return err
	}
	if err := write(f, first, journalHead(journal, uuid)); err != nil {
		return err
	}
	if err := l.writeDescs(f, descs, 0); err != nil {
		return err
	}
	return l.writeSupers(f, l.super(free, uuid, stamp, table[(journalInode-1)*inodeSize:]))
}

// bitmap is that of a group whose first taken blocks are in use; blocks beyond
// its end count as used.
func (l layout) bitmap(g, taken int64) []byte {
	b := make([]byte, BlockSize)
	mark(b, 0, taken)
	mark(b, l.length(g), groupBlocks)
	return b
}

// inode fills an inode with one extent.
func inode(b []byte, mode, links uint16, start, blocks int64, stamp uint32) {
	le.PutUint16(b[0:], mode)
	le.PutUint32(b[4:], uint32(blocks*BlockSize))
	for _, at := range []int{8, 12, 16, 144} { // access, change, modification, birth
		le.PutUint32(b[at:], stamp)
	}
	le.PutUint16(b[26:], links)
	le.PutUint32(b[28:], uint32(blocks*(BlockSize/512)))
	le.PutUint32(b[32:], 0x80000) // extents
	e := b[40:]
	le.PutUint16(e[0:], 0xF30A)
	le.PutUint16(e[2:], 1) // entries
	le.PutUint16(e[4:], 4) // at most
	le.PutUint16(e[16:], uint16(blocks))
	le.PutUint32(e[20:], uint32(start))
	le.PutUint16(b[128:], 32) // bytes beyond the old size of inodes
}

func rootDirectory() []byte {
	b := make([]byte, BlockSize)
	entry := func(at int, length uint16, name string) {
		le.PutUint32(b[at:], rootInode)
		le.PutUint16(b[at+4:], length)
		b[at+6], b[at+7] = byte(len(name)), 2
		copy(b[at+8:], name)
	}
	entry(0, 12, ".")
	entry(12, BlockSize-12, "..")
	return b
}

// journalHead is the superblock of an empty journal; it alone is big-endian.
func journalHead(blocks int64, uuid [16]byte) []byte {
	b := make([]byte, BlockSize)
	for i, n := range []uint32{0xC03B3998, 4, 0, BlockSize, uint32(blocks), 1, 1} {
		binary.BigEndian.PutUint32(b[4*i:], n)
	}
	copy(b[0x30:], uuid[:])
	binary.BigEndian.PutUint32(b[0x40:], 1) // users
	return b
}

// super makes the superblock; journal is the journal's inode.
func (l layout) super(free int64, uuid [16]byte, stamp uint32, journal []byte) []byte {
	b := make([]byte, 1024)
	for at, n := range map[int]uint32{
		0: uint32(l.groups * groupInodes), 4: uint32(l.blocks), 12: uint32(free), 16: uint32(l.groups*groupInodes - (firstInode - 1)),
		0x18: 2, 0x1C: 2, 0x20: groupBlocks, 0x24: groupBlocks, 0x28: groupInodes,
		0x30: stamp, 0x40: stamp, 0x4C: 1, 0x54: firstInode, 0x5C: compat, 0x60: incompat, 0x64: readOnly,
		0xE0: journalInode, 0x100: 0xC /* attributes, ACLs */, 0x108: stamp, 0x160: 1, /* names hash as signed */
	} {
		le.PutUint32(b[at:], n)
	}
	for at, n := range map[int]uint16{
		0x36: 0xFFFF /* never force a check */, 0x38: magic, 0x3A: 1 /* clean */, 0x3C: 2, /* read-only after errors */
		0x58: inodeSize, 0x15C: 32, 0x15E: 32,
	} {
		le.PutUint16(b[at:], n)
	}
	copy(b[0x68:], uuid[:])
	copy(b[0xEC:], uuid[:]) // seed of hashed directories
	b[0xFC], b[0xFD] = 1, 1 // half MD4; the journal's inode is kept below
	copy(b[0x10C:], journal[40:100])
	copy(b[0x10C+16*4:], journal[4:8])
	return b
}

// writeDescs writes the descriptors of all meta groups from that of group g on,
// each in as many copies as there are groups for.
func (l layout) writeDescs(f File, descs []byte, g int64) error {
	for m := g / descsInBlock; m*descsInBlock < l.groups; m++ {
		for _, at := range []int64{m * descsInBlock, m*descsInBlock + 1, (m+1)*descsInBlock - 1} {
			if at < l.groups {
				if err := write(f, l.descs(at), descs[m*BlockSize:(m+1)*BlockSize]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// writeSupers writes the copies of the superblock, and itself last.
func (l layout) writeSupers(f File, b []byte) error {
	for g := l.groups - 1; g >= 0; g-- {
		if !hasSuper(g) {
			continue
		}
		at := l.first(g) * BlockSize
		if g == 0 {
			at = 1024
		}
		le.PutUint16(b[0x5A:], uint16(g))
		if _, err := f.WriteAt(b, at); err != nil {
			return fmt.Errorf("cannot write superblock of group %d: %w", g, err)
		}
	}
	return nil
}
