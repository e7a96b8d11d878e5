package netlink

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

func (b *Builder) ifinfo(index int, flags, change uint32) {
	var h [unix.SizeofIfInfomsg]byte
	binary.NativeEndian.PutUint32(h[4:], uint32(index))
	binary.NativeEndian.PutUint32(h[8:], flags)
	binary.NativeEndian.PutUint32(h[12:], change)
	b.Raw(h[:]...)
}

// Veth describes a pair of virtual interfaces: one here, the other in the
// network namespace behind PeerNamespace.
type Veth struct {
	Name, PeerName string
	MAC, PeerMAC   net.HardwareAddr
	MTU            int
	// Group lets DeleteGroup remove many interfaces at once; 0 is no group.
	Group uint32
	// PeerNamespace is an open file of a network namespace.
	PeerNamespace int
}

const vethInfoPeer = 1

// AddVeth makes a pair, this end up; the kernel refuses to have the peer up
// before both ends exist. The peer is born in its namespace: moving it there
// afterwards costs thirty times as much.
func (b *Builder) AddVeth(v Veth) {
	b.Begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "make interface "+v.Name)
	b.ifinfo(0, unix.IFF_UP, unix.IFF_UP)
	b.String(unix.IFLA_IFNAME, v.Name)
	if v.Group != 0 {
		b.Uint32(unix.IFLA_GROUP, v.Group)
	}
	b.end(v.MAC, v.MTU)
	info := b.Nest(unix.IFLA_LINKINFO)
	b.String(unix.IFLA_INFO_KIND, "veth")
	data := b.Nest(unix.IFLA_INFO_DATA)
	peer := b.Nest(vethInfoPeer)
	b.ifinfo(0, 0, 0)
	b.String(unix.IFLA_IFNAME, v.PeerName)
	b.end(v.PeerMAC, v.MTU)
	b.Uint32(unix.IFLA_NET_NS_FD, uint32(v.PeerNamespace))
	b.End(peer)
	b.End(data)
	b.End(info)
}

// end appends what both ends of a pair have. One queue each: the default of one
// a core multiplies the memory of every pod.
func (b *Builder) end(mac net.HardwareAddr, mtu int) {
	b.Attr(unix.IFLA_ADDRESS, mac)
	b.Uint32(unix.IFLA_MTU, uint32(mtu))
	b.Uint32(unix.IFLA_NUM_TX_QUEUES, 1)
	b.Uint32(unix.IFLA_NUM_RX_QUEUES, 1)
}

// VXLAN describes a tunnel device without learning.
type VXLAN struct {
	Name  string
	MAC   net.HardwareAddr
	MTU   int
	VNI   uint32
	Port  uint16
	Local netip.Addr
	// Link is the index of the interface that carries the tunnel.
	Link int
}

const (
	vxlanID       = 1
	vxlanLink     = 3
	vxlanLocal    = 4
	vxlanLearning = 7
	vxlanPort     = 15
)

// AddVXLAN makes a tunnel device, up.
func (b *Builder) AddVXLAN(v VXLAN) {
	b.Begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "make tunnel interface "+v.Name)
	b.ifinfo(0, unix.IFF_UP, unix.IFF_UP)
	b.String(unix.IFLA_IFNAME, v.Name)
	b.Attr(unix.IFLA_ADDRESS, v.MAC)
	b.Uint32(unix.IFLA_MTU, uint32(v.MTU))
	info := b.Nest(unix.IFLA_LINKINFO)
	b.String(unix.IFLA_INFO_KIND, "vxlan")
	data := b.Nest(unix.IFLA_INFO_DATA)
	b.Uint32(vxlanID, v.VNI)
	b.Uint32(vxlanLink, uint32(v.Link))
	b.Addr(vxlanLocal, v.Local)
	b.Uint8(vxlanLearning, 0)
	b.Net16(vxlanPort, v.Port)
	b.End(data)
	b.End(info)
}

// SetUp brings an interface up.
func (b *Builder) SetUp(index int) {
	b.Begin(unix.RTM_NEWLINK, 0, "bring an interface up")
	b.ifinfo(index, unix.IFF_UP, unix.IFF_UP)
}

// SetDown takes an interface down; its routes go with it.
func (b *Builder) SetDown(index int) {
	b.Begin(unix.RTM_NEWLINK, 0, "take an interface down")
	b.ifinfo(index, 0, unix.IFF_UP)
}

// SetAlias keeps a text with an interface, which `ip link` shows. The kernel
// ignores it in the message that makes the interface.
func (b *Builder) SetAlias(index int, text string) {
	b.Begin(unix.RTM_SETLINK, 0, "name an interface's use")
	b.ifinfo(index, 0, 0)
	b.Attr(unix.IFLA_IFALIAS, []byte(text[:min(len(text), 255)]))
}

// DeleteLink removes an interface.
func (b *Builder) DeleteLink(index int) {
	b.Begin(unix.RTM_DELLINK, 0, "remove an interface")
	b.ifinfo(index, 0, 0)
}

// DeleteGroup removes all interfaces of a group; the kernel waits only once for
// all of them. The error is unix.ENODEV when there are none.
func (b *Builder) DeleteGroup(group uint32) {
	b.Begin(unix.RTM_DELLINK, 0, "remove a group of interfaces")
	b.ifinfo(0, 0, 0)
	b.Uint32(unix.IFLA_GROUP, group)
}

// Link is an interface.
type Link struct {
	Index int
	Name  string
	Kind  string
	MAC   net.HardwareAddr
	MTU   int
	Alias string
	Up    bool
	VXLAN VXLAN
}

// Links returns every interface of the namespace.
func (c *Conn) Links() ([]Link, error) {
	var b Builder
	b.Begin(unix.RTM_GETLINK, 0, "list interfaces")
	b.ifinfo(0, 0, 0)
	var links []Link
	err := c.Dump(&b, func(m Message) error {
		if m.Type != unix.RTM_NEWLINK {
			return nil
		}
		l, err := parseLink(m.Data)
		if err == nil {
			links = append(links, l)
		}
		return err
	})
	return links, err
}

// Link returns the interface called name; the error is unix.ENODEV when there is none.
func (c *Conn) Link(name string) (Link, error) {
	var b Builder
	b.Begin(unix.RTM_GETLINK, 0, "find interface "+name)
	b.ifinfo(0, 0, 0)
	b.String(unix.IFLA_IFNAME, name)
	var l Link
	err := c.Get(&b, func(m Message) (err error) {
		if m.Type == unix.RTM_NEWLINK {
			l, err = parseLink(m.Data)
		}
		return err
	})
	return l, err
}

func parseLink(p []byte) (Link, error) {
	if len(p) < unix.SizeofIfInfomsg {
		return Link{}, errShort
	}
	l := Link{
		Index: int(int32(binary.NativeEndian.Uint32(p[4:]))),
		Up:    binary.NativeEndian.Uint32(p[8:])&unix.IFF_UP != 0,
	}
	err := Attributes(p[unix.SizeofIfInfomsg:], func(a Attribute) {
		switch a.Type {
		case unix.IFLA_IFNAME:
			l.Name = a.String()
		case unix.IFLA_ADDRESS:
			l.MAC = append(net.HardwareAddr(nil), a.Data...)
		case unix.IFLA_MTU:
			l.MTU = int(a.Uint32())
		case unix.IFLA_IFALIAS:
			l.Alias = a.String()
		case unix.IFLA_LINKINFO:
			_ = Attributes(a.Data, func(a Attribute) {
				switch a.Type {
				case unix.IFLA_INFO_KIND:
					l.Kind = a.String()
				case unix.IFLA_INFO_DATA:
					if l.Kind == "vxlan" {
						l.VXLAN = parseVXLAN(a.Data)
					}
				}
			})
		}
	})
	l.VXLAN.Name, l.VXLAN.MAC, l.VXLAN.MTU = l.Name, l.MAC, l.MTU
	return l, err
}

func parseVXLAN(p []byte) VXLAN {
	var v VXLAN
	_ = Attributes(p, func(a Attribute) {
		switch a.Type {
		case vxlanID:
			v.VNI = a.Uint32()
		case vxlanLink:
			v.Link = int(a.Uint32())
		case vxlanLocal:
			v.Local = a.Addr()
		case vxlanPort:
			v.Port = a.Net16()
		}
	})
	return v
}
