package netlink

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Messages and attributes of connection tracking that golang.org/x/sys/unix
// does not have.
const (
	ctGet    = 1
	ctDelete = 2

	ctTupleOrig  = 1
	ctTupleReply = 2
	ctMark       = 8
	ctZone       = 18
	ctMarkMask   = 21

	ctTupleIP    = 1
	ctTupleProto = 2

	ctIPv4Source      = 1
	ctIPv4Destination = 2
	ctIPv6Source      = 3
	ctIPv6Destination = 4

	ctProtoNumber      = 1
	ctProtoSource      = 2
	ctProtoDestination = 3
)

// Tuple is one direction of a tracked connection.
type Tuple struct {
	Protocol            uint8
	Source, Destination netip.AddrPort
}

// Flow is a tracked connection: as its first packet had it, and as answers to
// it come.
type Flow struct {
	Orig, Reply Tuple
	Mark        uint32
	Zone        uint16
}

func beginConntrack(b *Builder, typ uint16, fam uint8, label string) {
	b.Begin(unix.NFNL_SUBSYS_CTNETLINK<<8|typ, 0, label)
	b.Raw(fam, unix.NFNETLINK_V0, 0, 0)
}

// Flows calls f for every IPv4 connection whose mark, under mask, is mark. The
// kernel walks its whole table but copies only these.
func (c *Conn) Flows(mark, mask uint32, f func(Flow)) error {
	var b Builder
	beginConntrack(&b, ctGet, unix.AF_INET, "list tracked connections")
	b.Net32(ctMark, mark)
	b.Net32(ctMarkMask, mask)
	return c.Dump(&b, func(m Message) error {
		flow, err := parseFlow(m.Data)
		if err == nil && flow.Mark&mask == mark {
			f(flow)
		}
		return err
	})
}

// DeleteFlow forgets a connection: its next packet is a first packet again.
func (b *Builder) DeleteFlow(f Flow) {
	beginConntrack(b, ctDelete, family(f.Orig.Source.Addr()), "forget a tracked connection")
	b.tuple(ctTupleOrig, f.Orig)
	if f.Zone != 0 {
		b.Net16(ctZone, f.Zone)
	}
}

func (b *Builder) tuple(typ uint16, t Tuple) {
	outer := b.Nest(typ)
	ip := b.Nest(ctTupleIP)
	if t.Source.Addr().Is4() {
		b.Addr(ctIPv4Source, t.Source.Addr())
		b.Addr(ctIPv4Destination, t.Destination.Addr())
	} else {
		b.Addr(ctIPv6Source, t.Source.Addr())
		b.Addr(ctIPv6Destination, t.Destination.Addr())
	}
	b.End(ip)
	proto := b.Nest(ctTupleProto)
	b.Uint8(ctProtoNumber, t.Protocol)
	b.Net16(ctProtoSource, t.Source.Port())
	b.Net16(ctProtoDestination, t.Destination.Port())
	b.End(proto)
	b.End(outer)
}

func parseFlow(p []byte) (Flow, error) {
	var f Flow
	if len(p) < 4 {
		return f, errShort
	}
	err := Attributes(p[4:], func(a Attribute) {
		switch a.Type {
		case ctTupleOrig:
			f.Orig = parseTuple(a.Data)
		case ctTupleReply:
			f.Reply = parseTuple(a.Data)
		case ctMark:
			f.Mark = a.Net32()
		case ctZone:
			f.Zone = a.Net16()
		}
	})
	return f, err
}

func parseTuple(p []byte) Tuple {
	var t Tuple
	var source, destination netip.Addr
	var sourcePort, destinationPort uint16
	_ = Attributes(p, func(a Attribute) {
		switch a.Type {
		case ctTupleIP:
			_ = Attributes(a.Data, func(a Attribute) {
				switch a.Type {
				case ctIPv4Source, ctIPv6Source:
					source = a.Addr()
				case ctIPv4Destination, ctIPv6Destination:
					destination = a.Addr()
				}
			})
		case ctTupleProto:
			_ = Attributes(a.Data, func(a Attribute) {
				switch a.Type {
				case ctProtoNumber:
					t.Protocol = a.Uint8()
				case ctProtoSource:
					sourcePort = a.Net16()
				case ctProtoDestination:
					destinationPort = a.Net16()
				}
			})
		}
	})
	t.Source, t.Destination = netip.AddrPortFrom(source, sourcePort), netip.AddrPortFrom(destination, destinationPort)
	return t
}
