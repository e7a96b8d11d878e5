package dns

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// upstreamPatience is how long one resolver may take, before the next is
	// asked; doubtPatience how long one that gave no answer lately, for doubtTime.
	upstreamPatience = 2 * time.Second
	doubtPatience    = 400 * time.Millisecond
	doubtTime        = 10 * time.Second
	// resolvConfAge is how old the knowledge of the resolvers may be.
	resolvConfAge = 5 * time.Second
	// systemdResolvConf has the real resolvers where /etc/resolv.conf names
	// systemd's stub on loopback, which node namespaces cannot reach.
	systemdResolvConf = "/run/systemd/resolve/resolv.conf"
)

// upstreams are the resolvers of the world outside.
type upstreams struct {
	path  string
	fixed []netip.AddrPort
	own   []netip.Addr

	mu      sync.Mutex
	checked time.Time
	changed time.Time
	list    []netip.AddrPort
	// doubted are resolvers that gave no answer, and when that was.
	doubted map[netip.AddrPort]time.Time
}

// attempt is one resolver to ask, and for how long.
type attempt struct {
	to       netip.AddrPort
	patience time.Duration
}

// plan returns the resolvers in the order to ask them: those in doubt last.
func (u *upstreams) plan() []attempt {
	list := u.get()
	var plan, doubted []attempt
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, to := range list {
		if at, ok := u.doubted[to]; ok && time.Since(at) < doubtTime {
			doubted = append(doubted, attempt{to, doubtPatience})
		} else {
			plan = append(plan, attempt{to, upstreamPatience})
		}
	}
	return append(plan, doubted...)
}

// note remembers whether a resolver answered.
func (u *upstreams) note(to netip.AddrPort, answered bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if answered {
		delete(u.doubted, to)
		return
	}
	if u.doubted == nil {
		u.doubted = map[netip.AddrPort]time.Time{}
	}
	u.doubted[to] = time.Now()
}

// get returns the resolvers in the order of the file, which is read again when
// it has changed.
func (u *upstreams) get() []netip.AddrPort {
	if u.fixed != nil {
		return u.fixed
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := time.Now(); now.Sub(u.checked) > resolvConfAge {
		u.checked = now
		if info, err := os.Stat(u.path); err == nil && !info.ModTime().Equal(u.changed) {
			u.changed = info.ModTime()
			u.list = u.read()
		}
	}
	return u.list
}

func (u *upstreams) read() []netip.AddrPort {
	list := readResolvConf(u.path)
	if len(list) > 0 && !slices.ContainsFunc(list, func(a netip.AddrPort) bool { return !a.Addr().IsLoopback() }) {
		if real := readResolvConf(systemdResolvConf); len(real) > 0 {
			list = real
		}
	}
	// A host that uses the cluster's DNS itself must not be asked in a circle.
	return slices.DeleteFunc(list, func(a netip.AddrPort) bool { return slices.Contains(u.own, a.Addr()) })
}

func readResolvConf(path string) (list []netip.AddrPort) {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[0] == "nameserver" {
			if a, err := netip.ParseAddr(fields[1]); err == nil {
				list = append(list, netip.AddrPortFrom(a.Unmap(), 53))
			}
		}
	}
	return list
}

// forward passes a query on to the resolvers, one after another, and returns
// the answer, which is a failure when none of them gave one.
func (s *Server) forward(ctx context.Context, query []byte, tcp bool) []byte {
	if len(query) < headerSize {
		return nil
	}
	for _, a := range s.upstreams.plan() {
		answer, err := exchange(ctx, a.to, query, tcp, a.patience)
		if ctx.Err() == nil {
			s.upstreams.note(a.to, err == nil)
		}
		if err == nil {
			s.stats.forwarded.Add(1)
			return answer
		}
		if ctx.Err() != nil {
			break
		}
	}
	s.stats.failed.Add(1)
	var q question
	if q.parse(query) == parsed {
		// With its question, or some clients take it for somebody else's.
		out := appendHead(nil, query, &q, flagResponse|flagAvailable|q.flags&flagDesired|rcodeFailure, 0, 0)
		return appendOPT(out, &q)
	}
	return appendError(nil, query, rcodeFailure)
}

var errForeignAnswer = errors.New("the answer is to another question")

// exchange asks one resolver under a number of its own: that of the client can
// be guessed by others on the node.
func exchange(ctx context.Context, to netip.AddrPort, query []byte, tcp bool, patience time.Duration) ([]byte, error) {
	network := "udp"
	if tcp {
		network = "tcp"
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	id := uint16(rand.Uint32())
	framed := make([]byte, 2, 2+len(query))
	binary.BigEndian.PutUint16(framed, uint16(len(query)))
	framed = append(framed, query...)
	binary.BigEndian.PutUint16(framed[2:], id)
	if tcp {
		if _, err := c.Write(framed); err != nil {
			return nil, err
		}
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return nil, err
		}
		answer := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(c, answer); err != nil {
			return nil, err
		}
		if !matches(answer, framed[2:]) {
			return nil, errForeignAnswer
		}
		copy(answer, query[:2])
		return answer, nil
	}
	if _, err := c.Write(framed[2:]); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		// Whatever else arrives may be an attempt to deceive: wait on.
		if answer := buf[:n]; matches(answer, framed[2:]) {
			copy(answer, query[:2])
			return answer, nil
		}
	}
}

// matches reports whether an answer has the number and the question of a query.
func matches(answer, query []byte) bool {
	if len(answer) < headerSize || string(answer[:2]) != string(query[:2]) || answer[2]&0x80 == 0 {
		return false
	}
	var a, q question
	// parse refuses answers, so show it the question alone.
	head := append([]byte(nil), answer...)
	head[2] &^= 0x80
	if r := q.parse(query); r == malformed || r == ignored {
		return false
	}
	switch a.parse(head) {
	case parsed, unusual:
		return a.len == 0 && q.len == 0 || string(a.wire()) == string(q.wire()) && a.typ == q.typ && a.class == q.class
	}
	// Some resolvers answer failures without the question.
	return binary.BigEndian.Uint16(answer[4:]) == 0 && answer[3]&15 != rcodeSuccess
}
