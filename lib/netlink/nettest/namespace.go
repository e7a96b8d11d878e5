// Package nettest gives tests network namespaces of their own, with servers and
// clients inside, so that they use the real kernel and leave nothing behind.
package nettest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
	"sagong/lib/nft"
)

// Namespace is a network namespace that ends with its test.
type Namespace struct {
	Path string
	Name string
}

// New makes a namespace with loopback up. Tests without root are skipped.
func New(t testing.TB, name string) *Namespace {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns := &Namespace{Path: filepath.Join(t.TempDir(), name), Name: name}
	if err := netlink.CreateNamespace(ns.Path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.DeleteNamespace(ns.Path); err != nil {
			t.Error(err)
		}
	})
	ns.Do(t, func() error {
		nl, err := netlink.Dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer nl.Close()
		var b netlink.Builder
		b.SetUp(1)
		return nl.Do(&b)
	})
	return ns
}

// Do runs f on a thread inside the namespace and fails the test on an error.
func (ns *Namespace) Do(t testing.TB, f func() error) {
	t.Helper()
	if err := netlink.InNamespace(ns.Path, f); err != nil {
		t.Fatal(err)
	}
}

// Enter moves the test's own goroutine into the namespace until the test ends.
// Other goroutines stay outside.
func (ns *Namespace) Enter(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A thread that cannot go back stays locked and ends with the goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		home.Close()
	})
}

// Link joins two namespaces by a cable, with an address at each end.
func Link(t testing.TB, a *Namespace, nameA string, addrA netip.Prefix, b *Namespace, nameB string, addrB netip.Prefix) {
	t.Helper()
	far, err := os.Open(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	configure := func(name string, addr netip.Prefix) error {
		nl, err := netlink.Dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer nl.Close()
		l, err := nl.Link(name)
		if err != nil {
			return err
		}
		var m netlink.Builder
		m.SetUp(l.Index)
		m.AddAddress(l.Index, addr)
		return nl.Do(&m)
	}
	ipA, ipB := addrA.Addr().As4(), addrB.Addr().As4()
	a.Do(t, func() error {
		nl, err := netlink.Dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer nl.Close()
		var m netlink.Builder
		m.AddVeth(netlink.Veth{
			Name: nameA, PeerName: nameB, MTU: 1500, PeerNamespace: int(far.Fd()),
			MAC: append(net.HardwareAddr{2, 0}, ipA[:]...), PeerMAC: append(net.HardwareAddr{2, 0}, ipB[:]...),
		})
		if err := nl.Do(&m); err != nil {
			return err
		}
		return configure(nameA, addrA)
	})
	b.Do(t, func() error { return configure(nameB, addrB) })
}

// Route adds a default route.
func (ns *Namespace) Route(t testing.TB, to netip.Prefix, via netip.Addr) {
	t.Helper()
	ns.Do(t, func() error {
		nl, err := netlink.Dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer nl.Close()
		var b netlink.Builder
		b.SetRoute(netlink.Route{Destination: to, Gateway: via})
		return nl.Do(&b)
	})
}

// Serve answers every TCP connection to addr with a line "name remote-address"
// and then echoes lines until the client hangs up.
func (ns *Namespace) Serve(t testing.TB, addr, name string) {
	t.Helper()
	var l net.Listener
	ns.Do(t, func() (err error) {
		l, err = net.Listen("tcp4", addr)
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "%s %s\n", name, c.RemoteAddr().(*net.TCPAddr).IP)
				for lines := bufio.NewScanner(c); lines.Scan(); {
					fmt.Fprintln(c, lines.Text())
				}
			}()
		}
	}()
}

// ServeUDP answers every datagram to addr with "name remote-address". The
// returned function ends it early.
func (ns *Namespace) ServeUDP(t testing.TB, addr, name string) (stop func()) {
	t.Helper()
	var p net.PacketConn
	ns.Do(t, func() (err error) {
		p, err = net.ListenPacket("udp4", addr)
		return err
	})
	t.Cleanup(func() { p.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			_, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = p.WriteTo(fmt.Appendf(nil, "%s %s", name, from.(*net.UDPAddr).IP), from)
		}
	}()
	return func() { p.Close() }
}

// Dial opens a connection from inside the namespace.
func (ns *Namespace) Dial(network, addr string, timeout time.Duration) (c net.Conn, err error) {
	e := netlink.InNamespace(ns.Path, func() error {
		d := net.Dialer{Timeout: timeout}
		c, err = d.DialContext(context.Background(), network, addr)
		return nil
	})
	if e != nil {
		return nil, e
	}
	return c, err
}

// patience is how long an answer is awaited that is to come.
const patience = 30 * time.Second

// Ask connects, reads one answer and hangs up.
func (ns *Namespace) Ask(network, addr string) (string, error) {
	c, err := ns.Dial(network, addr, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if strings.HasPrefix(network, "udp") {
		return AskOn(c)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// AskOn sends one datagram on a connected socket and reads one answer.
func AskOn(c net.Conn) (string, error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("?")); err != nil {
		return "", err
	}
	buf := make([]byte, 2048)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

// MustAsk is Ask that fails the test on an error.
func (ns *Namespace) MustAsk(t testing.TB, network, addr string) string {
	t.Helper()
	got, err := ns.Ask(network, addr)
	if err != nil {
		t.Fatalf("%s from %s to %s: %v", network, ns.Name, addr, err)
	}
	return got
}

// Refused reports whether err says that the packet was refused, rather than
// lost. EPERM is how a sender learns that its own machine refuses.
func Refused(err error) bool {
	for _, e := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ECONNRESET, syscall.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// State lists what the namespace holds: interfaces, addresses, routes,
// nftables tables and the given kernel settings, for comparison.
func (ns *Namespace) State(t testing.TB, settings ...string) string {
	t.Helper()
	var out []string
	ns.Do(t, func() error {
		nl, err := netlink.Dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer nl.Close()
		links, err := nl.Links()
		if err != nil {
			return err
		}
		for _, l := range links {
			out = append(out, fmt.Sprintf("link %s %s", l.Name, l.Kind))
		}
		addrs, err := nl.Addresses()
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if a.Prefix.Addr().Is4() {
				out = append(out, fmt.Sprintf("address %s", a.Prefix))
			}
		}
		routes, err := nl.Routes(0)
		if err != nil {
			return err
		}
		for _, r := range routes {
			out = append(out, fmt.Sprintf("route %s via %s type %d", r.Destination, r.Gateway, r.Type))
		}
		conn, err := nft.Open()
		if err != nil {
			return err
		}
		defer conn.Close()
		tables, err := conn.Tables()
		if err != nil {
			return err
		}
		for _, tb := range tables {
			out = append(out, "table "+tb.Name)
		}
		for _, s := range settings {
			v, err := os.ReadFile("/proc/sys/" + s)
			if err != nil {
				return err
			}
			out = append(out, s+" = "+strings.TrimSpace(string(v)))
		}
		return nil
	})
	slices.Sort(out)
	return strings.Join(out, "\n")
}
