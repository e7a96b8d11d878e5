// Package compose builds a whole process from a Config: a server with or without
// its node's agent, or an agent alone. It alone knows every room of the house.
package compose

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"syscall"

	"github.com/vishvananda/netlink"

	"sagong/config"
	"sagong/lib/disk"
)

// PIDFile names the running server or agent.
func PIDFile(c config.Config) string { return filepath.Join(c.RunDir, "server.pid") }

// PKIDir holds the authority, keys and certificates.
func PKIDir(c config.Config) string { return filepath.Join(c.DataDir, "pki") }

// KubeconfigFile is the administrator's.
func KubeconfigFile(c config.Config) string { return filepath.Join(c.DataDir, "admin.kubeconfig") }

func storeDir(c config.Config) string    { return filepath.Join(c.DataDir, "store") }
func agentSocket(c config.Config) string { return filepath.Join(c.RunDir, "agent.sock") }
func nodeDataDir(c config.Config) string { return filepath.Join(c.DataDir, "node") }
func nodeRunDir(c config.Config) string  { return filepath.Join(c.RunDir, "node") }

// apiPort is the API's port.
func apiPort(c config.Config) uint16 { return netip.MustParseAddrPort(c.Listen).Port() }

// apiAddresses are where the API listens: as told, and on loopback unless that
// covers it.
func apiAddresses(c config.Config) []string {
	at := netip.MustParseAddrPort(c.Listen)
	if at.Addr().IsUnspecified() || at.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		return []string{at.String()}
	}
	return []string{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port()).String(), at.String()}
}

// AdvertisedAPI is where other machines find the API.
func AdvertisedAPI(c config.Config) string {
	at := netip.MustParseAddrPort(c.Listen)
	if at.Addr().IsUnspecified() {
		return net.JoinHostPort(c.NodeIP, fmt.Sprint(at.Port()))
	}
	return at.String()
}

// DefaultAddress is this machine's address on the interface of its default
// route, or on any other interface that is up; invalid when there is none.
func DefaultAddress() netip.Addr {
	byLink := func(index int) netip.Addr {
		link, err := netlink.LinkByIndex(index)
		if err != nil {
			return netip.Addr{}
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return netip.Addr{}
		}
		for _, a := range addrs {
			if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && ip.IsGlobalUnicast() {
				return ip
			}
		}
		return netip.Addr{}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err == nil {
		for _, r := range routes {
			if r.Dst == nil || r.Dst.IP.IsUnspecified() {
				if a := byLink(r.LinkIndex); a.IsValid() {
					return a
				}
			}
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return netip.Addr{}
	}
	for _, l := range links {
		if l.Attrs().Flags&net.FlagUp != 0 && l.Attrs().Flags&net.FlagLoopback == 0 {
			if a := byLink(l.Attrs().Index); a.IsValid() {
				return a
			}
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// CheckPorts makes sure that a server could listen where it is told to.
func CheckPorts(c config.Config) error {
	var errs []error
	for _, at := range apiAddresses(c) {
		errs = append(errs, tryListen(at, "the API", "listen"))
	}
	if !c.NoAgent {
		errs = append(errs, tryListen(net.JoinHostPort(c.NodeIP, fmt.Sprint(c.KubeletPort)), "the node agent", "kubelet-port"))
	}
	return errors.Join(errs...)
}

func tryListen(at, what, flag string) error {
	l, err := net.Listen("tcp", at)
	if err == nil {
		return l.Close()
	}
	return listenError(err, at, what, flag)
}

// listenError says how to choose another address.
func listenError(err error, at, what, flag string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot serve %s on %s: the address is in use by another program; choose another with --%s", what, at, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot serve %s on %s: no interface of this machine has the address; choose another with --%s", what, at, flag)
	}
	return fmt.Errorf("cannot serve %s on %s: %w", what, at, err)
}

// writeFile replaces a file at once and for good, readable by its owner only.
func writeFile(file string, data []byte) error {
	err := disk.WriteFile(disk.OS{}, file, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", file, err)
	}
	return nil
}
