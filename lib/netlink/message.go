// Package netlink speaks the kernel's netlink protocols: it encodes messages
// into one buffer, sends many in one system call, and collects the answers.
// Typed messages exist for links, addresses, routes, neighbours and connection
// tracking; lib/nft builds on the same parts.
//
// Only what this project needs is here, in exchange for two things that
// general libraries do not give: a batch of requests costs one round trip, and
// an error names the request that failed.
package netlink

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

const headerLen = unix.SizeofNlMsghdr

// nested marks an attribute that holds attributes.
const nested = unix.NLA_F_NESTED

// Builder appends netlink messages to a buffer. The zero value is ready.
// Begin starts a message, attribute calls add to it, and the next Begin or
// Bytes closes it.
type Builder struct {
	buf    []byte
	start  int
	open   bool
	labels []string
}

// Reset empties b and keeps its memory.
func (b *Builder) Reset() {
	b.buf, b.open, b.labels = b.buf[:0], false, b.labels[:0]
}

// Begin starts a message of the given type. The label says in words what the
// message does, for errors.
func (b *Builder) Begin(typ uint16, flags uint16, label string) {
	b.close()
	b.start, b.open = len(b.buf), true
	b.buf = append(b.buf, make([]byte, headerLen)...)
	binary.NativeEndian.PutUint16(b.buf[b.start+4:], typ)
	binary.NativeEndian.PutUint16(b.buf[b.start+6:], flags)
	b.labels = append(b.labels, label)
}

// Raw appends a fixed header that follows the netlink header.
func (b *Builder) Raw(p ...byte) {
	b.buf = append(b.buf, p...)
	b.align()
}

// Flags adds flags to the message that was begun last.
func (b *Builder) Flags(flags uint16) {
	old := binary.NativeEndian.Uint16(b.buf[b.start+6:])
	binary.NativeEndian.PutUint16(b.buf[b.start+6:], old|flags)
}

func (b *Builder) align() {
	for len(b.buf)%4 != 0 {
		b.buf = append(b.buf, 0)
	}
}

func (b *Builder) close() {
	if b.open {
		binary.NativeEndian.PutUint32(b.buf[b.start:], uint32(len(b.buf)-b.start))
		b.open = false
	}
}

// Bytes closes the last message and returns all of them. The slice is valid
// until the next call on b.
func (b *Builder) Bytes() []byte {
	b.close()
	return b.buf
}

// Len is the number of messages begun.
func (b *Builder) Len() int { return len(b.labels) }

// Size is the number of bytes so far.
func (b *Builder) Size() int { return len(b.buf) }

// Attr appends an attribute with the given payload.
func (b *Builder) Attr(typ uint16, payload []byte) {
	b.head(typ, len(payload))
	b.buf = append(b.buf, payload...)
	b.align()
}

func (b *Builder) head(typ uint16, n int) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(4+n))
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
}

// Nest starts an attribute that holds attributes; pass the result to End.
func (b *Builder) Nest(typ uint16) int {
	at := len(b.buf)
	b.head(typ|nested, 0)
	return at
}

// End closes the attribute that Nest returned.
func (b *Builder) End(at int) {
	binary.NativeEndian.PutUint16(b.buf[at:], uint16(len(b.buf)-at))
}

// Uint8 appends a byte.
func (b *Builder) Uint8(typ uint16, v uint8) { b.Attr(typ, []byte{v}) }

// Uint16 appends a 16-bit number in the machine's byte order.
func (b *Builder) Uint16(typ uint16, v uint16) {
	b.head(typ, 2)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, v)
	b.align()
}

// Uint32 appends a 32-bit number in the machine's byte order.
func (b *Builder) Uint32(typ uint16, v uint32) {
	b.head(typ, 4)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, v)
}

// Net16 appends a 16-bit number in network byte order.
func (b *Builder) Net16(typ uint16, v uint16) {
	b.head(typ, 2)
	b.buf = binary.BigEndian.AppendUint16(b.buf, v)
	b.align()
}

// Net32 appends a 32-bit number in network byte order.
func (b *Builder) Net32(typ uint16, v uint32) {
	b.head(typ, 4)
	b.buf = binary.BigEndian.AppendUint32(b.buf, v)
}

// Net64 appends a 64-bit number in network byte order.
func (b *Builder) Net64(typ uint16, v uint64) {
	b.head(typ, 8)
	b.buf = binary.BigEndian.AppendUint64(b.buf, v)
}

// String appends a string that ends with a zero byte.
func (b *Builder) String(typ uint16, s string) {
	b.head(typ, len(s)+1)
	b.buf = append(append(b.buf, s...), 0)
	b.align()
}

// Addr appends an IP address, 4 or 16 bytes.
func (b *Builder) Addr(typ uint16, a netip.Addr) { b.Attr(typ, a.AsSlice()) }

// Message is one decoded netlink message. Data aliases the receive buffer.
type Message struct {
	Type  uint16
	Flags uint16
	Seq   uint32
	Data  []byte
}

var errShort = errors.New("netlink message is cut short")

// ParseMessages calls f for each message in p and stops at its first error.
func ParseMessages(p []byte, f func(Message) error) error {
	for len(p) >= headerLen {
		n := int(binary.NativeEndian.Uint32(p))
		if n < headerLen || n > len(p) {
			return errShort
		}
		m := Message{
			Type:  binary.NativeEndian.Uint16(p[4:]),
			Flags: binary.NativeEndian.Uint16(p[6:]),
			Seq:   binary.NativeEndian.Uint32(p[8:]),
			Data:  p[headerLen:n:n],
		}
		if err := f(m); err != nil {
			return err
		}
		p = p[min((n+3)&^3, len(p)):]
	}
	if len(p) != 0 {
		return errShort
	}
	return nil
}

// Attribute is one decoded attribute; Type has no flag bits.
type Attribute struct {
	Type uint16
	Data []byte
}

// Attributes calls f for each attribute in p.
func Attributes(p []byte, f func(Attribute)) error {
	for len(p) >= 4 {
		n := int(binary.NativeEndian.Uint16(p))
		if n < 4 || n > len(p) {
			return errShort
		}
		f(Attribute{
			Type: binary.NativeEndian.Uint16(p[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER),
			Data: p[4:n:n],
		})
		p = p[min((n+3)&^3, len(p)):]
	}
	return nil
}

// Uint8 reads the attribute as a byte; 0 when it is too short.
func (a Attribute) Uint8() uint8 {
	if len(a.Data) < 1 {
		return 0
	}
	return a.Data[0]
}

// Uint16 reads a 16-bit number in the machine's byte order; 0 when it is too short.
func (a Attribute) Uint16() uint16 {
	if len(a.Data) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(a.Data)
}

// Uint32 reads a 32-bit number in the machine's byte order; 0 when it is too short.
func (a Attribute) Uint32() uint32 {
	if len(a.Data) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(a.Data)
}

// Net16 reads a 16-bit number in network byte order; 0 when it is too short.
func (a Attribute) Net16() uint16 {
	if len(a.Data) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(a.Data)
}

// Net32 reads a 32-bit number in network byte order; 0 when it is too short.
func (a Attribute) Net32() uint32 {
	if len(a.Data) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a.Data)
}

// Net64 reads a 64-bit number in network byte order; 0 when it is too short.
func (a Attribute) Net64() uint64 {
	if len(a.Data) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(a.Data)
}

// String reads a string that ends with a zero byte or with the attribute.
func (a Attribute) String() string {
	for i, c := range a.Data {
		if c == 0 {
			return string(a.Data[:i])
		}
	}
	return string(a.Data)
}

// Addr reads an IP address; the zero Addr when the length fits none.
func (a Attribute) Addr() netip.Addr {
	addr, _ := netip.AddrFromSlice(a.Data)
	return addr
}
