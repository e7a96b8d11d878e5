package netlink

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

func (b *Builder) ifaddr(index int, p netip.Prefix, scope uint8) {
	var h [unix.SizeofIfAddrmsg]byte
	h[0], h[1], h[3] = family(p.Addr()), uint8(p.Bits()), scope
	if p.Addr().Is6() {
		h[2] = unix.IFA_F_NODAD
	}
	binary.NativeEndian.PutUint32(h[4:], uint32(index))
	b.Raw(h[:]...)
	b.Addr(unix.IFA_LOCAL, p.Addr())
	b.Addr(unix.IFA_ADDRESS, p.Addr())
}

func family(a netip.Addr) uint8 {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// AddAddress gives an interface an address, or changes nothing when it has it.
// An IPv6 address is usable at once, without duplicate detection.
func (b *Builder) AddAddress(index int, p netip.Prefix) {
	b.Begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, "add address "+p.String())
	b.ifaddr(index, p, unix.RT_SCOPE_UNIVERSE)
}

// AddHostAddress is AddAddress for an address that is meant for this machine
// only and is not chosen as the source of outgoing packets.
func (b *Builder) AddHostAddress(index int, p netip.Prefix) {
	b.Begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, "add address "+p.String())
	b.ifaddr(index, p, unix.RT_SCOPE_HOST)
}

// DeleteAddress takes an address away from an interface.
func (b *Builder) DeleteAddress(index int, p netip.Prefix) {
	b.Begin(unix.RTM_DELADDR, 0, "remove address "+p.String())
	b.ifaddr(index, p, 0)
}

// Address is an address of an interface.
type Address struct {
	Link   int
	Prefix netip.Prefix
	Scope  uint8
}

// Addresses returns the addresses of every interface, both families.
func (c *Conn) Addresses() ([]Address, error) {
	var b Builder
	b.Begin(unix.RTM_GETADDR, 0, "list addresses")
	b.Raw(make([]byte, unix.SizeofIfAddrmsg)...)
	var all []Address
	err := c.Dump(&b, func(m Message) error {
		if m.Type != unix.RTM_NEWADDR {
			return nil
		}
		a, err := parseAddress(m.Data)
		if err == nil {
			all = append(all, a)
		}
		return err
	})
	return all, err
}

func parseAddress(p []byte) (Address, error) {
	if len(p) < unix.SizeofIfAddrmsg {
		return Address{}, errShort
	}
	a := Address{Link: int(binary.NativeEndian.Uint32(p[4:])), Scope: p[3]}
	bits := int(p[1])
	var local, address netip.Addr
	err := Attributes(p[unix.SizeofIfAddrmsg:], func(at Attribute) {
		switch at.Type {
		case unix.IFA_LOCAL:
			local = at.Addr()
		case unix.IFA_ADDRESS:
			address = at.Addr()
		}
	})
	// On a point-to-point interface IFA_ADDRESS is the other end.
	if !local.IsValid() {
		local = address
	}
	a.Prefix = netip.PrefixFrom(local, bits)
	return a, err
}
