package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
)

// Reg is one of the sixteen four-byte registers, 0 to 15. A wider value takes
// as many as it needs, beginning at the one named.
type Reg uint8

func (r Reg) number() uint32 { return unix.NFT_REG32_00 + uint32(r) }

// Expr is one step of a rule.
type Expr struct {
	name string
	body func(*netlink.Builder)
}

func (e Expr) encode(b *netlink.Builder) {
	elem := b.Nest(listElem)
	b.String(unix.NFTA_EXPR_NAME, e.name)
	data := b.Nest(unix.NFTA_EXPR_DATA)
	if e.body != nil {
		e.body(b)
	}
	b.End(data)
	b.End(elem)
}

// Load reads part of the packet: base is unix.NFT_PAYLOAD_NETWORK_HEADER or
// NFT_PAYLOAD_TRANSPORT_HEADER.
func Load(to Reg, base, offset, length uint32) Expr {
	return Expr{"payload", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_PAYLOAD_DREG, to.number())
		b.Net32(unix.NFTA_PAYLOAD_BASE, base)
		b.Net32(unix.NFTA_PAYLOAD_OFFSET, offset)
		b.Net32(unix.NFTA_PAYLOAD_LEN, length)
	}}
}

// LoadSource reads the IPv4 source address.
func LoadSource(to Reg) Expr { return Load(to, unix.NFT_PAYLOAD_NETWORK_HEADER, 12, 4) }

// LoadDestination reads the IPv4 destination address.
func LoadDestination(to Reg) Expr { return Load(to, unix.NFT_PAYLOAD_NETWORK_HEADER, 16, 4) }

// LoadPort reads the destination port of TCP, UDP or SCTP.
func LoadPort(to Reg) Expr { return Load(to, unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2) }

// Meta reads a property of the packet's way, a unix.NFT_META_ constant.
func Meta(to Reg, key uint32) Expr {
	return Expr{"meta", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_META_DREG, to.number())
		b.Net32(unix.NFTA_META_KEY, key)
	}}
}

// LoadPriority reads the packet's priority.
func LoadPriority(to Reg) Expr { return Meta(to, unix.NFT_META_PRIORITY) }

// SetPriority sets the packet's priority.
func SetPriority(from Reg) Expr {
	return Expr{"meta", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_META_KEY, unix.NFT_META_PRIORITY)
		b.Net32(unix.NFTA_META_SREG, from.number())
	}}
}

// LoadProtocol reads the transport protocol.
func LoadProtocol(to Reg) Expr { return Meta(to, unix.NFT_META_L4PROTO) }

// Compare goes on when the register compares with v as op says, a unix.NFT_CMP_ constant.
func Compare(r Reg, op uint32, v []byte) Expr {
	return Expr{"cmp", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_CMP_SREG, r.number())
		b.Net32(unix.NFTA_CMP_OP, op)
		value(b, unix.NFTA_CMP_DATA, v)
	}}
}

// Equal goes on when the register holds v.
func Equal(r Reg, v ...byte) Expr { return Compare(r, unix.NFT_CMP_EQ, v) }

// NotEqual goes on when the register does not hold v.
func NotEqual(r Reg, v ...byte) Expr { return Compare(r, unix.NFT_CMP_NEQ, v) }

// And keeps the bits of mask and then flips those of xor.
func And(to, from Reg, mask, xor []byte) Expr {
	return Expr{"bitwise", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_BITWISE_SREG, from.number())
		b.Net32(unix.NFTA_BITWISE_DREG, to.number())
		b.Net32(unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		value(b, unix.NFTA_BITWISE_MASK, mask)
		value(b, unix.NFTA_BITWISE_XOR, xor)
	}}
}

// Mask keeps the bits of mask in a 32-bit number.
func Mask(r Reg, mask uint32) Expr { return And(r, r, Native32(mask), Native32(0)) }

// Set32 sets the bits of bits in a 32-bit number.
func Set32(r Reg, bits uint32) Expr { return And(r, r, Native32(^bits), Native32(bits)) }

// Native32 is v in the machine's byte order, as registers and marks hold it.
func Native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// Lookup goes on when the key at from is in the set.
func Lookup(set string, from Reg) Expr { return lookup(set, from, nil, 0) }

// LookupMissing goes on when the key at from is not in the set.
func LookupMissing(set string, from Reg) Expr {
	return lookup(set, from, nil, unix.NFT_LOOKUP_F_INV)
}

// LookupMap goes on when the key at from is in the map, with its value at to.
func LookupMap(m string, from, to Reg) Expr {
	n := to.number()
	return lookup(m, from, &n, 0)
}

// LookupGoto continues in the chain that the map holds for the key at from.
func LookupGoto(m string, from Reg) Expr {
	n := uint32(unix.NFT_REG_VERDICT)
	return lookup(m, from, &n, 0)
}

func lookup(set string, from Reg, to *uint32, flags uint32) Expr {
	return Expr{"lookup", func(b *netlink.Builder) {
		b.String(unix.NFTA_LOOKUP_SET, set)
		b.Net32(unix.NFTA_LOOKUP_SREG, from.number())
		if to != nil {
			b.Net32(unix.NFTA_LOOKUP_DREG, *to)
		}
		if flags != 0 {
			b.Net32(unix.NFTA_LOOKUP_FLAGS, flags)
		}
	}}
}

// Update adds the key at from, with the value at data, to a dynamic map, or
// starts its timeout anew. The timeout is in milliseconds.
func Update(m string, from, data Reg, timeout uint64) Expr {
	return dynset(m, unix.NFT_DYNSET_OP_UPDATE, from, data, timeout)
}

// Delete removes the key at from from a dynamic map. The kernel wants a data
// register although it does not read it.
func Delete(m string, from, data Reg) Expr { return dynset(m, dynsetDelete, from, data, 0) }

func dynset(m string, op uint32, from, data Reg, timeout uint64) Expr {
	return Expr{"dynset", func(b *netlink.Builder) {
		b.String(unix.NFTA_DYNSET_SET_NAME, m)
		b.Net32(unix.NFTA_DYNSET_OP, op)
		b.Net32(unix.NFTA_DYNSET_SREG_KEY, from.number())
		b.Net32(unix.NFTA_DYNSET_SREG_DATA, data.number())
		if timeout > 0 {
			b.Net64(unix.NFTA_DYNSET_TIMEOUT, timeout)
		}
	}}
}

// Immediate loads a constant.
func Immediate(to Reg, v ...byte) Expr {
	return Expr{"immediate", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_IMMEDIATE_DREG, to.number())
		value(b, unix.NFTA_IMMEDIATE_DATA, v)
	}}
}

// Jump continues in a chain and comes back.
func Jump(chain string) Expr { return verdict(unix.NFT_JUMP, chain) }

// Goto continues in a chain for good.
func Goto(chain string) Expr { return verdict(unix.NFT_GOTO, chain) }

// Return ends the chain.
func Return() Expr { return verdict(unix.NFT_RETURN, "") }

// Drop discards the packet.
func Drop() Expr { return verdict(0, "") }

// Accept ends the packet's way through this hook's chain.
func Accept() Expr { return verdict(1, "") }

func verdict(code int, chain string) Expr {
	return Expr{"immediate", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		at := b.Nest(unix.NFTA_IMMEDIATE_DATA)
		encodeVerdict(b, code, chain)
		b.End(at)
	}}
}

func encodeVerdict(b *netlink.Builder, code int, chain string) {
	at := b.Nest(unix.NFTA_DATA_VERDICT)
	b.Net32(unix.NFTA_VERDICT_CODE, uint32(int32(code)))
	if chain != "" {
		b.String(unix.NFTA_VERDICT_CHAIN, chain)
	}
	b.End(at)
}

func value(b *netlink.Builder, typ uint16, v []byte) {
	at := b.Nest(typ)
	b.Attr(unix.NFTA_DATA_VALUE, v)
	b.End(at)
}

// LoadMark reads the connection's mark.
func LoadMark(to Reg) Expr { return connection(to, unix.NFT_CT_MARK) }

// LoadState reads the connection's state as bits, of which StateNew is one.
func LoadState(to Reg) Expr { return connection(to, unix.NFT_CT_STATE) }

// StateNew and its kind are the bits that LoadState reads.
const (
	StateInvalid     = 1
	StateEstablished = 2
	StateRelated     = 4
	StateNew         = 8
)

// LoadStatus reads the connection's status bits, of which StatusDNAT is one.
func LoadStatus(to Reg) Expr { return connection(to, unix.NFT_CT_STATUS) }

// StatusDNAT says that the connection's destination was rewritten.
const StatusDNAT = 1 << 5

func connection(to Reg, key uint32) Expr {
	return Expr{"ct", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_CT_DREG, to.number())
		b.Net32(unix.NFTA_CT_KEY, key)
	}}
}

// SetMark sets the connection's mark.
func SetMark(from Reg) Expr {
	return Expr{"ct", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_CT_KEY, unix.NFT_CT_MARK)
		b.Net32(unix.NFTA_CT_SREG, from.number())
	}}
}

// Untrack keeps the packet out of connection tracking.
func Untrack() Expr { return Expr{"notrack", nil} }

// Random draws a number from 0 to n-1.
func Random(to Reg, n uint32) Expr {
	return Expr{"numgen", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_NG_DREG, to.number())
		b.Net32(unix.NFTA_NG_MODULUS, n)
		b.Net32(unix.NFTA_NG_TYPE, unix.NFT_NG_RANDOM)
		b.Net32(unix.NFTA_NG_OFFSET, 0)
	}}
}

// DNAT sends the connection to the address and port in the registers.
func DNAT(family Family, addr, port Reg) Expr {
	return Expr{"nat", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
		b.Net32(unix.NFTA_NAT_FAMILY, uint32(family))
		b.Net32(unix.NFTA_NAT_REG_ADDR_MIN, addr.number())
		b.Net32(unix.NFTA_NAT_REG_PROTO_MIN, port.number())
	}}
}

// SNAT makes the connection come from the address in the register, with a
// source port chosen at random, so that concurrent choices rarely collide.
func SNAT(family Family, addr Reg) Expr {
	return Expr{"nat", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_SNAT)
		b.Net32(unix.NFTA_NAT_FAMILY, uint32(family))
		b.Net32(unix.NFTA_NAT_REG_ADDR_MIN, addr.number())
		b.Net32(unix.NFTA_NAT_FLAGS, masqueradeFull)
	}}
}

// Masquerade makes the connection come from the address of the interface it
// leaves by, with a random source port.
func Masquerade() Expr {
	return Expr{"masq", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_MASQ_FLAGS, masqueradeFull)
	}}
}

// DestinationType reads what the destination is to this machine, such as
// unix.RTN_LOCAL.
func DestinationType(to Reg) Expr { return fib(to, unix.NFTA_FIB_F_DADDR) }

// SourceType reads what the source is to this machine.
func SourceType(to Reg) Expr { return fib(to, unix.NFTA_FIB_F_SADDR) }

func fib(to Reg, flags uint32) Expr {
	return Expr{"fib", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_FIB_DREG, to.number())
		b.Net32(unix.NFTA_FIB_RESULT, fibResultType)
		b.Net32(unix.NFTA_FIB_FLAGS, flags)
	}}
}

// RejectTCP answers with a reset.
func RejectTCP() Expr { return reject(unix.NFT_REJECT_TCP_RST, 0) }

// RejectPort answers that the port cannot be reached.
func RejectPort() Expr { return reject(unix.NFT_REJECT_ICMP_UNREACH, 3) }

func reject(typ uint32, code uint8) Expr {
	return Expr{"reject", func(b *netlink.Builder) {
		b.Net32(unix.NFTA_REJECT_TYPE, typ)
		b.Uint8(unix.NFTA_REJECT_ICMP_CODE, code)
	}}
}

// Counter counts packets and bytes.
func Counter() Expr { return Expr{"counter", nil} }
