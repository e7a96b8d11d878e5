package ext4

import (
	"fmt"
)

// Size reads how many bytes a file system takes of its file.
func Size(f File) (int64, error) {
	b, err := readSuper(f)
	if err != nil {
		return 0, err
	}
	return int64(le.Uint32(b[4:])) * BlockSize, nil
}

// readSuper reads the superblock of a file system that Format made, or the
// kernel since enlarged.
func readSuper(f File) ([]byte, error) {
	b := make([]byte, 1024)
	if _, err := f.ReadAt(b, 1024); err != nil {
		return nil, fmt.Errorf("cannot read superblock: %w", err)
	}
	if le.Uint16(b[0x38:]) != magic {
		return nil, fmt.Errorf("cannot read superblock: this is no ext4 file system")
	}
	if le.Uint32(b[0x60:])&^needsReplay != incompat || le.Uint32(b[0x28:]) != groupInodes || le.Uint32(b[0x20:]) != groupBlocks || le.Uint16(b[0x58:]) != inodeSize {
		return nil, fmt.Errorf("cannot read superblock: this file system was made by another program")
	}
	if le.Uint32(b[4:]) == 0 {
		return nil, fmt.Errorf("cannot read superblock: the file system has no blocks")
	}
	return b, nil
}

// Grow enlarges a file system that is not mounted to size bytes; the file must
// have them. One that is large enough stays as it is. Everything new is written
// before the superblock tells of it, and can be written again: who was
// interrupted calls Grow again before the file system is mounted.
func Grow(f File, size int64) error {
	b, err := readSuper(f)
	if err != nil {
		return err
	}
	l, err := plan(size)
	if err != nil {
		return err
	}
	old := layout{blocks: int64(le.Uint32(b[4:]))}
	old.groups = (old.blocks + groupBlocks - 1) / groupBlocks
	if l.blocks <= old.blocks {
		return nil
	}
	if le.Uint32(b[0x60:])&needsReplay != 0 {
		return ErrNotClean
	}
	descs := make([]byte, (l.groups+descsInBlock-1)/descsInBlock*BlockSize)
	for m := int64(0); m*descsInBlock < old.groups; m++ {
		if _, err := f.ReadAt(descs[m*BlockSize:(m+1)*BlockSize], old.descs(m*descsInBlock)*BlockSize); err != nil {
			return fmt.Errorf("cannot read descriptors: %w", err)
		}
	}
	uuid := b[0x68:0x78]
	last := old.groups - 1
	if err := l.extend(f, descs[last*descSize:], last, old.length(last), uuid); err != nil {
		return err
	}
	for g := old.groups; g < l.groups; g++ {
		flags := uint16(blockUninit | inodeUninit | inodesZeroed)
		if g == l.groups-1 {
			flags &^= blockUninit
			if err := write(f, l.blockBitmap(g), l.bitmap(g, l.overhead(g))); err != nil {
				return err
			}
		}
		l.desc(descs[g*descSize:], g, l.length(g)-l.overhead(g), 0, 0, flags, uuid)
	}
	free := int64(0)
	for g := range l.groups {
		free += int64(le.Uint16(descs[g*descSize+12:]))
	}
	if err := l.writeDescs(f, descs, last); err != nil {
		return err
	}
	le.PutUint32(b[0:], uint32(l.groups*groupInodes))
	le.PutUint32(b[16:], le.Uint32(b[16:])+uint32((l.groups-old.groups)*groupInodes))
	le.PutUint32(b[4:], uint32(l.blocks))
	le.PutUint32(b[12:], uint32(free))
	return l.writeSupers(f, b)
}

// extend frees the blocks that the last group before gets, from the end on.
func (l layout) extend(f File, desc []byte, g, end int64, uuid []byte) error {
	if end == l.length(g) {
		return nil
	}
	at := int64(le.Uint32(desc[0:]))
	if at != l.blockBitmap(g) {
		return fmt.Errorf("cannot enlarge: group %d has its bitmap in block %d", g, at)
	}
	bitmap := l.bitmap(g, l.overhead(g))
	flags := le.Uint16(desc[18:])
	if flags&blockUninit == 0 {
		if _, err := f.ReadAt(bitmap, at*BlockSize); err != nil {
			return fmt.Errorf("cannot read bitmap of group %d: %w", g, err)
		}
	}
	clearBits(bitmap, end, l.length(g))
	if err := write(f, at, bitmap); err != nil {
		return err
	}
	le.PutUint16(desc[12:], uint16(zeros(bitmap)))
	le.PutUint16(desc[18:], flags&^blockUninit)
	sumDesc(desc, g, uuid)
	return nil
}
