package wal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// Every entry's data is framed once more: a head with the entry's index, the
// length and the CRC32C of the body, itself under a CRC, and a tail. The
// library's own frame cannot tell a write that was cut short by a crash from a
// flipped bit in its length or type; with this one the recovery can prove that
// an entry is complete, and then refuses instead of cutting it off.
const (
	payloadHead = 28
	payloadTail = 8
)

var (
	payloadMagic = []byte{0xA7, 'S', 'G', '1'}
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
)

// seal fills the head of data (payloadHead bytes left free by the writer of the
// body) and appends the tail. It may change the body, which openPayload undoes.
func seal(data []byte, index uint64) []byte {
	body := data[payloadHead:]
	mask := maskFor(body)
	applyMask(body, mask)
	copy(data, payloadMagic)
	binary.LittleEndian.PutUint64(data[4:], index)
	binary.LittleEndian.PutUint32(data[12:], uint32(len(body)))
	binary.LittleEndian.PutUint32(data[16:], crc32.Checksum(body, castagnoli))
	binary.LittleEndian.PutUint32(data[20:], uint32(mask))
	binary.LittleEndian.PutUint32(data[24:], crc32.Checksum(data[:24], castagnoli))
	return binary.LittleEndian.AppendUint64(data, tailMark(index))
}

// maskFor returns the byte to combine a body with so that no sector of it is
// empty on disk: an empty sector then proves that it was never written. It is 0,
// for no change, unless a value has a long run of zeros, which objects have not.
func maskFor(body []byte) byte {
	var runs [256]bool // bytes that fill a sector
	for i := sector/2 - 1; i < len(body); i += sector / 2 {
		c, from, to := body[i], i, i+1
		for from > 0 && to-from < sector && body[from-1] == c {
			from--
		}
		for to < len(body) && to-from < sector && body[to] == c {
			to++
		}
		runs[c] = runs[c] || to-from >= sector
	}
	for mask, run := range runs {
		if !run {
			return byte(mask)
		}
	}
	return 0
}

func applyMask(body []byte, mask byte) {
	if mask != 0 {
		for i := range body {
			body[i] ^= mask
		}
	}
}

// tailMark has no byte that is zero, or that one flipped bit makes zero: where
// it reads as zero it was never written.
func tailMark(index uint64) uint64 { return index&0x3f3f3f3f3f3f3f3f | 0xc0c0c0c0c0c0c0c0 }

// openPayload returns the body of a sealed payload, which it may change, false if it is not the
// complete payload of that index.
func openPayload(data []byte, index uint64) ([]byte, bool) {
	h, ok := readHead(data)
	if !ok || h.index != index || h.size != int64(len(data)-payloadHead-payloadTail) {
		return nil, false
	}
	if !h.complete(data) {
		return nil, false
	}
	body := data[payloadHead : payloadHead+h.size]
	applyMask(body, h.mask)
	return body, true
}

type head struct {
	index uint64
	size  int64
	sum   uint32
	mask  byte
}

// readHead reads the head of a payload, false if it is damaged.
func readHead(data []byte) (head, bool) {
	if len(data) < payloadHead || !bytes.HasPrefix(data, payloadMagic) ||
		binary.LittleEndian.Uint32(data[24:]) != crc32.Checksum(data[:24], castagnoli) {
		return head{}, false
	}
	return head{
		index: binary.LittleEndian.Uint64(data[4:]),
		size:  int64(binary.LittleEndian.Uint32(data[12:])),
		sum:   binary.LittleEndian.Uint32(data[16:]),
		mask:  data[20],
	}, true
}

// complete reports whether data holds all of the payload, undamaged.
func (h head) complete(data []byte) bool {
	end := payloadHead + h.size
	if int64(len(data)) < end+payloadTail {
		return false
	}
	return crc32.Checksum(data[payloadHead:end], castagnoli) == h.sum &&
		binary.LittleEndian.Uint64(data[end:]) == tailMark(h.index)
}
