package netlink

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

func (b *Builder) ndmsg(fam uint8, link int, state uint16, flags uint8) {
	var h [unix.SizeofNdMsg]byte
	h[0] = fam
	binary.NativeEndian.PutUint32(h[4:], uint32(link))
	binary.NativeEndian.PutUint16(h[8:], state)
	h[10] = flags
	b.Raw(h[:]...)
}

// SetNeighbour fixes the link address of addr for ever: no ARP is asked, and
// the entry does not count as one to be collected.
func (b *Builder) SetNeighbour(link int, addr netip.Addr, mac net.HardwareAddr) {
	b.Begin(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, "add neighbour "+addr.String())
	b.ndmsg(family(addr), link, unix.NUD_PERMANENT, 0)
	b.Addr(unix.NDA_DST, addr)
	b.Attr(unix.NDA_LLADDR, mac)
}

// DeleteNeighbour removes what SetNeighbour made.
func (b *Builder) DeleteNeighbour(link int, addr netip.Addr) {
	b.Begin(unix.RTM_DELNEIGH, 0, "remove neighbour "+addr.String())
	b.ndmsg(family(addr), link, 0, 0)
	b.Addr(unix.NDA_DST, addr)
}

// SetForwarding tells a tunnel device behind which machine a link address is.
func (b *Builder) SetForwarding(link int, mac net.HardwareAddr, remote netip.Addr) {
	b.Begin(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, "add tunnel entry for "+remote.String())
	b.ndmsg(unix.AF_BRIDGE, link, unix.NUD_PERMANENT, unix.NTF_SELF)
	b.Attr(unix.NDA_LLADDR, mac)
	b.Addr(unix.NDA_DST, remote)
}

// DeleteForwarding removes what SetForwarding made.
func (b *Builder) DeleteForwarding(link int, mac net.HardwareAddr, remote netip.Addr) {
	b.Begin(unix.RTM_DELNEIGH, 0, "remove tunnel entry for "+remote.String())
	b.ndmsg(unix.AF_BRIDGE, link, 0, unix.NTF_SELF)
	b.Attr(unix.NDA_LLADDR, mac)
	b.Addr(unix.NDA_DST, remote)
}

// Neighbour is a fixed neighbour, or for the bridge family a tunnel entry.
type Neighbour struct {
	Link    int
	Address netip.Addr
	MAC     net.HardwareAddr
	State   uint16
}

// Neighbours lists the entries of one family: unix.AF_INET, AF_INET6, or
// AF_BRIDGE for tunnel entries.
func (c *Conn) Neighbours(fam uint8) ([]Neighbour, error) {
	var b Builder
	b.Begin(unix.RTM_GETNEIGH, 0, "list neighbours")
	b.ndmsg(fam, 0, 0, 0)
	var all []Neighbour
	err := c.Dump(&b, func(m Message) error {
		if m.Type != unix.RTM_NEWNEIGH {
			return nil
		}
		n, err := parseNeighbour(m.Data)
		if err == nil {
			all = append(all, n)
		}
		return err
	})
	return all, err
}

func parseNeighbour(p []byte) (Neighbour, error) {
	if len(p) < unix.SizeofNdMsg {
		return Neighbour{}, errShort
	}
	n := Neighbour{Link: int(binary.NativeEndian.Uint32(p[4:])), State: binary.NativeEndian.Uint16(p[8:])}
	err := Attributes(p[unix.SizeofNdMsg:], func(a Attribute) {
		switch a.Type {
		case unix.NDA_DST:
			n.Address = a.Addr()
		case unix.NDA_LLADDR:
			n.MAC = append(net.HardwareAddr(nil), a.Data...)
		}
	})
	return n, err
}
