// Package dns is the cluster's DNS server, one on every node. It answers for
// the names of Services and pods from an index that follows the API, and passes
// everything else on to the resolvers of the host.
//
// Nearly all questions ask for an address, and of these most are tries of a
// search path that lead nowhere. Both are answered in place, by copying
// ready-made records behind the question; what is left goes through a complete
// implementation of the protocol (miekg/dns).
//
// The server listens at the DNS Service's address, which it puts on its node's
// loopback interface: see docs/decisions/dns-address.md.
package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"sagong/lib/netlink"
)

// Config describes the DNS server of one node.
type Config struct {
	// Zone is the cluster's domain; empty: cluster.local.
	Zone string
	// Addresses are those of the DNS Service. The server puts them on the
	// loopback interface and listens there.
	Addresses []netip.Addr
	// Port to listen at; 0: 53.
	Port uint16
	// Ranges are those of Services and pods: their reverse names are never
	// asked outside.
	Ranges []netip.Prefix
	// ResolvConf names the resolvers of the host; empty: /etc/resolv.conf.
	ResolvConf string
	// Upstreams replaces ResolvConf when not nil.
	Upstreams []netip.AddrPort
	// Log receives names that cannot be served; nil: discarded.
	Log *slog.Logger
}

// maxForwards bounds the questions that wait for other servers.
const maxForwards = 4096

// tcpPatience is how long a TCP client may be silent.
const tcpPatience = 10 * time.Second

// Server is the DNS server of one node. All methods may be used concurrently.
type Server struct {
	cfg       Config
	zone      zone
	serial    uint32
	index     *index
	upstreams *upstreams
	stats     stats

	udp    []*net.UDPConn
	tcp    []net.Listener
	slots  chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	begun  sync.Once

	mu         sync.Mutex
	services   map[string]*known
	sliceOwner map[string]string
	clients    map[net.Conn]struct{}
}

// known is what is known of one Service.
type known struct {
	object *corev1.Service
	slices map[string]*discoveryv1.EndpointSlice
}

type stats struct{ answered, forwarded, failed atomic.Int64 }

// Stats counts questions since the server began.
type Stats struct {
	// Answered from the cluster's names, Forwarded with an answer, and Failed
	// because no resolver answered.
	Answered, Forwarded, Failed int64
}

// Open puts the addresses in place and opens the sockets. Questions wait there
// until Start. It acts on the network namespace of the calling thread.
func Open(ctx context.Context, cfg Config) (_ *Server, err error) {
	if cfg.Zone == "" {
		cfg.Zone = "cluster.local"
	}
	if cfg.Port == 0 {
		cfg.Port = 53
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, index: newIndex(), serial: uint32(time.Now().Unix()),
		upstreams: &upstreams{path: cfg.ResolvConf, fixed: cfg.Upstreams, own: cfg.Addresses},
		slots:     make(chan struct{}, maxForwards),
		services:  map[string]*known{}, sliceOwner: map[string]string{}, clients: map[net.Conn]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			s.Close()
			err = fmt.Errorf("cannot open the DNS server: %w", err)
		}
	}()
	if err := s.makeZone(); err != nil {
		return nil, err
	}
	if err := setAddresses(cfg.Addresses, true); err != nil {
		return nil, err
	}
	for _, a := range cfg.Addresses {
		if err := s.listen(netip.AddrPortFrom(a, cfg.Port)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// makeZone prepares what every negative answer ends with.
func (s *Server) makeZone() error {
	name := strings.ToLower(strings.TrimSuffix(s.cfg.Zone, ".")) + "."
	wire, err := packName(name)
	if err != nil {
		return err
	}
	pods, err := packName("pod." + name)
	if err != nil {
		return err
	}
	server, err := packName("ns.dns." + name)
	if err != nil {
		return err
	}
	mailbox, err := packName("hostmaster." + name)
	if err != nil {
		return err
	}
	s.zone = zone{name: name, wire: []byte(wire), pods: []byte(pods)}
	soa := []byte{0, 6, 0, classIN, 0, 0, 0, ttl, 0, byte(len(server) + len(mailbox) + 20)}
	soa = append(append(soa, server...), mailbox...)
	for _, n := range []uint32{s.serial, 7200, 1800, 86400, ttl} {
		soa = binary.BigEndian.AppendUint32(soa, n)
	}
	s.zone.soa = soa
	names, err := zoneNames(name, s.cfg.Addresses)
	if err != nil {
		return err
	}
	s.index.set("", names)
	return nil
}

// setAddresses puts addresses on the loopback interface, or takes them away.
func setAddresses(addrs []netip.Addr, present bool) error {
	nl, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	var b netlink.Builder
	for _, a := range addrs {
		p := netip.PrefixFrom(a, a.BitLen())
		if present {
			b.AddHostAddress(1, p)
		} else {
			b.DeleteAddress(1, p)
		}
	}
	for _, err := range nl.DoEach(&b) {
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return err
		}
	}
	return nil
}

// listen opens one UDP socket a core, among which the kernel spreads clients,
// and one for TCP.
func (s *Server) listen(at netip.AddrPort) error {
	// TCP first: its sockets do not share, so that a second server is found out.
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return fmt.Errorf("cannot listen at %s: %w", at, err)
	}
	s.tcp = append(s.tcp, l)
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}), err)
	}}
	for range runtime.GOMAXPROCS(0) {
		p, err := shared.ListenPacket(s.ctx, "udp", at.String())
		if err != nil {
			return fmt.Errorf("cannot listen at %s: %w", at, err)
		}
		conn := p.(*net.UDPConn)
		// Room for what arrives while the server restarts.
		_ = conn.SetReadBuffer(1 << 20)
		s.udp = append(s.udp, conn)
	}
	return nil
}

// Start begins to answer; the questions that wait are answered first. Call it
// when all Services and endpoints have been set: a name that is not known yet
// would be said not to exist.
func (s *Server) Start() {
	s.begun.Do(func() {
		for _, c := range s.udp {
			s.wg.Go(func() { s.serveUDP(c) })
		}
		for _, l := range s.tcp {
			s.wg.Go(func() { s.serveTCP(l) })
		}
	})
}

// Close stops answering and waits for all that is under way. The addresses
// stay, so that a restart is not seen as a missing network.
func (s *Server) Close() error {
	s.cancel()
	var errs []error
	for _, c := range s.udp {
		errs = append(errs, c.Close())
	}
	for _, l := range s.tcp {
		errs = append(errs, l.Close())
	}
	s.mu.Lock()
	for c := range s.clients {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return errors.Join(errs...)
}

// Purge takes the addresses away. No Server may be open.
func Purge(ctx context.Context, cfg Config) error {
	if err := setAddresses(cfg.Addresses, false); err != nil {
		return fmt.Errorf("cannot purge the DNS server: %w", err)
	}
	return nil
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	return Stats{s.stats.answered.Load(), s.stats.forwarded.Load(), s.stats.failed.Load()}
}

func (s *Server) serveUDP(c *net.UDPConn) {
	in, out := make([]byte, 4096), make([]byte, 0, 4096)
	var q question
	for {
		n, from, err := c.ReadFromUDPAddrPort(in)
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		answer, what := s.fast(&q, in[:n], out, false)
		switch what {
		case answered:
			s.stats.answered.Add(1)
			_, _ = c.WriteToUDPAddrPort(answer, from)
		case detailed, foreign:
			select {
			case s.slots <- struct{}{}:
			default:
				// Overloaded: the client asks again.
				continue
			}
			query := append([]byte(nil), in[:n]...)
			s.wg.Go(func() {
				defer func() { <-s.slots }()
				if answer := s.slow(query, what, false); answer != nil {
					_, _ = c.WriteToUDPAddrPort(answer, from)
				}
			})
		}
	}
}

// slow finishes what fast could not.
func (s *Server) slow(query []byte, what outcome, tcp bool) []byte {
	ctx, cancel := context.WithTimeout(s.ctx, 3*upstreamPatience)
	defer cancel()
	if what == foreign {
		var q question
		if q.parse(query) == parsed {
			a, reverse := q.parseReverse()
			if !reverse || !s.isOwnAddress(a) && s.index.find(q.wire()) == nil {
				return s.forward(ctx, query, tcp)
			}
		}
	}
	s.stats.answered.Add(1)
	return s.detail(ctx, query, tcp)
}

func (s *Server) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			c.Close()
			continue
		}
		s.mu.Lock()
		s.clients[c] = struct{}{}
		s.mu.Unlock()
		s.wg.Go(func() {
			defer func() {
				c.Close()
				s.mu.Lock()
				delete(s.clients, c)
				s.mu.Unlock()
				<-s.slots
			}()
			s.converse(c)
		})
	}
}

// converse answers the questions of one TCP client, in order.
func (s *Server) converse(c net.Conn) {
	var q question
	for s.ctx.Err() == nil {
		_ = c.SetDeadline(time.Now().Add(tcpPatience))
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		answer, what := s.fast(&q, query, make([]byte, 2, 512), true)
		switch what {
		case silent:
			return
		case answered:
			s.stats.answered.Add(1)
		case detailed, foreign:
			answer = append(answer[:2], s.slow(query, what, true)...)
		}
		if len(answer) > 2+1<<16-1 {
			return
		}
		binary.BigEndian.PutUint16(answer, uint16(len(answer)-2))
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}
