package netlink

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Route is an entry of the main routing table.
type Route struct {
	// Destination; 0.0.0.0/0 or ::/0 is the default route.
	Destination netip.Prefix
	// Gateway is the next hop; invalid for destinations on the link itself.
	Gateway netip.Addr
	// OnLink says that the gateway is on the link although no route says so.
	OnLink bool
	// Source is the address that local packets prefer; may be invalid.
	Source netip.Addr
	// Link is the interface index; 0 for a route without one.
	Link int
	// Type is a unix.RTN_ constant; 0 is unicast.
	Type uint8
	// Protocol tells who made the route.
	Protocol uint8
	// Metric ranks routes to the same destination; the lowest wins.
	Metric uint32
}

func (b *Builder) rtmsg(r Route) {
	var h [unix.SizeofRtMsg]byte
	h[0], h[1] = family(r.Destination.Addr()), uint8(r.Destination.Bits())
	h[4] = unix.RT_TABLE_MAIN
	h[5] = r.Protocol
	h[6] = unix.RT_SCOPE_UNIVERSE
	if !r.Gateway.IsValid() && r.Link != 0 && r.Destination.Addr().Is4() {
		h[6] = unix.RT_SCOPE_LINK
	}
	h[7] = max(r.Type, unix.RTN_UNICAST)
	if r.OnLink {
		binary.NativeEndian.PutUint32(h[8:], unix.RTNH_F_ONLINK)
	}
	b.Raw(h[:]...)
	if r.Destination.Bits() > 0 {
		b.Addr(unix.RTA_DST, r.Destination.Addr())
	}
	if r.Gateway.IsValid() {
		b.Addr(unix.RTA_GATEWAY, r.Gateway)
	}
	if r.Source.IsValid() {
		b.Addr(unix.RTA_PREFSRC, r.Source)
	}
	if r.Link != 0 {
		b.Uint32(unix.RTA_OIF, uint32(r.Link))
	}
	if r.Metric != 0 {
		b.Uint32(unix.RTA_PRIORITY, r.Metric)
	}
}

// SetRoute adds a route, in place of one with the same destination and metric.
func (b *Builder) SetRoute(r Route) {
	b.Begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, "add route "+r.Destination.String())
	b.rtmsg(r)
}

// DeleteRoute removes a route.
func (b *Builder) DeleteRoute(r Route) {
	b.Begin(unix.RTM_DELROUTE, 0, "remove route "+r.Destination.String())
	b.rtmsg(r)
}

// Routes returns the main table's IPv4 routes made by the given protocol; 0 for all.
func (c *Conn) Routes(protocol uint8) ([]Route, error) {
	var b Builder
	b.Begin(unix.RTM_GETROUTE, 0, "list routes")
	var h [unix.SizeofRtMsg]byte
	h[0], h[4], h[5] = unix.AF_INET, unix.RT_TABLE_MAIN, protocol
	b.Raw(h[:]...)
	var all []Route
	err := c.Dump(&b, func(m Message) error {
		if m.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg || m.Data[4] != unix.RT_TABLE_MAIN {
			return nil
		}
		r, err := parseRoute(m.Data)
		if err == nil && (protocol == 0 || r.Protocol == protocol) {
			all = append(all, r)
		}
		return err
	})
	return all, err
}

// RouteTo returns the route that a packet to addr takes. Gateway is invalid
// when addr is on the link.
func (c *Conn) RouteTo(addr netip.Addr) (Route, error) {
	var b Builder
	b.Begin(unix.RTM_GETROUTE, 0, "find the route to "+addr.String())
	var h [unix.SizeofRtMsg]byte
	h[0], h[1] = family(addr), uint8(addr.BitLen())
	b.Raw(h[:]...)
	b.Addr(unix.RTA_DST, addr)
	var r Route
	err := c.Get(&b, func(m Message) (err error) {
		if m.Type == unix.RTM_NEWROUTE {
			r, err = parseRoute(m.Data)
		}
		return err
	})
	return r, err
}

func parseRoute(p []byte) (Route, error) {
	if len(p) < unix.SizeofRtMsg {
		return Route{}, errShort
	}
	r := Route{Protocol: p[5], Type: p[7], OnLink: binary.NativeEndian.Uint32(p[8:])&unix.RTNH_F_ONLINK != 0}
	dst := netip.IPv4Unspecified()
	if p[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	err := Attributes(p[unix.SizeofRtMsg:], func(a Attribute) {
		switch a.Type {
		case unix.RTA_DST:
			dst = a.Addr()
		case unix.RTA_GATEWAY:
			r.Gateway = a.Addr()
		case unix.RTA_PREFSRC:
			r.Source = a.Addr()
		case unix.RTA_OIF:
			r.Link = int(a.Uint32())
		case unix.RTA_PRIORITY:
			r.Metric = a.Uint32()
		}
	})
	r.Destination = netip.PrefixFrom(dst, int(p[1]))
	return r, err
}
