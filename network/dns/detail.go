package dns

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"
)

// maxAliases bounds a chain of aliases.
const maxAliases = 8

// detail answers what the fast path leaves: other types, aliases, reverse
// names, unusual queries. It returns nil when nothing shall be answered.
func (s *Server) detail(ctx context.Context, query []byte, tcp bool) []byte {
	var m miekg.Msg
	if err := m.Unpack(query); err != nil {
		return appendError(nil, query, rcodeFormat)
	}
	reply := new(miekg.Msg)
	reply.SetReply(&m)
	reply.RecursionAvailable = true
	limit := plainSize
	if opt := m.IsEdns0(); opt != nil {
		reply.SetEdns0(ednsSize, false)
		limit = min(max(int(opt.UDPSize()), plainSize), ednsSize)
		if opt.Version() != 0 {
			reply.Rcode = miekg.RcodeBadVers
			return s.pack(reply, query, limit, tcp)
		}
	}
	switch {
	case m.Opcode != miekg.OpcodeQuery:
		reply.Rcode = miekg.RcodeNotImplemented
	case len(m.Question) != 1:
		reply.Rcode = miekg.RcodeFormatError
	case m.Question[0].Qclass != miekg.ClassINET:
		reply.Rcode = miekg.RcodeRefused
	case s.owns(m.Question[0].Name):
		reply.Authoritative = true
		s.local(ctx, reply, m.Question[0], 0)
	default:
		// A query that parse found unusual, for a name elsewhere.
		return s.forward(ctx, query, tcp)
	}
	return s.pack(reply, query, limit, tcp)
}

func (s *Server) pack(reply *miekg.Msg, query []byte, limit int, tcp bool) []byte {
	if tcp {
		limit = miekg.MaxMsgSize
	}
	reply.Truncate(limit)
	p, err := reply.Pack()
	if err != nil {
		return appendError(nil, query, rcodeFailure)
	}
	return p
}

// owns reports whether a name is answered here and nowhere else.
func (s *Server) owns(name string) bool {
	if miekg.IsSubDomain(s.zone.name, name) {
		return true
	}
	a, ok := parseReverseName(name)
	if !ok {
		return false
	}
	if wire, err := packName(name); err == nil && s.index.find([]byte(wire)) != nil {
		return true
	}
	return s.isOwnAddress(a)
}

// isOwnAddress reports whether an address can only be one of this cluster.
func (s *Server) isOwnAddress(a netip.Addr) bool {
	return slices.ContainsFunc(s.cfg.Ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

func parseReverseName(name string) (netip.Addr, bool) {
	labels, ok := strings.CutSuffix(strings.ToLower(name), ".in-addr.arpa.")
	if !ok {
		return netip.Addr{}, false
	}
	parts := strings.Split(labels, ".")
	slices.Reverse(parts)
	a, err := netip.ParseAddr(strings.Join(parts, "."))
	return a, err == nil && a.Is4()
}

// local fills the reply for a name of the cluster.
func (s *Server) local(ctx context.Context, reply *miekg.Msg, q miekg.Question, depth int) {
	wire, err := packName(q.Name)
	if err != nil {
		reply.Rcode = miekg.RcodeNameError
		s.nothing(reply, q.Name)
		return
	}
	r := s.index.find([]byte(wire))
	if r == nil {
		if a, ok := s.podName(q.Name); ok {
			if q.Qtype == miekg.TypeA || q.Qtype == miekg.TypeANY {
				reply.Answer = append(reply.Answer, addressRecord(q.Name, a))
			} else {
				s.nothing(reply, q.Name)
			}
			return
		}
		reply.Rcode = miekg.RcodeNameError
		s.nothing(reply, q.Name)
		return
	}
	before := len(reply.Answer)
	head := func(typ uint16) miekg.RR_Header {
		return miekg.RR_Header{Name: q.Name, Rrtype: typ, Class: miekg.ClassINET, Ttl: ttl}
	}
	isZone := strings.EqualFold(q.Name, s.zone.name)
	if r.cname != "" {
		reply.Answer = append(reply.Answer, &miekg.CNAME{Hdr: head(miekg.TypeCNAME), Target: r.cname})
		if q.Qtype == miekg.TypeA || q.Qtype == miekg.TypeAAAA {
			s.follow(ctx, reply, r.cname, q.Qtype, depth+1)
		}
		return
	}
	switch q.Qtype {
	case miekg.TypeA:
		reply.Answer = append(reply.Answer, addressRecords(q.Name, r.a, sizeA)...)
	case miekg.TypeAAAA:
		reply.Answer = append(reply.Answer, addressRecords(q.Name, r.aaaa, sizeAAAA)...)
	case miekg.TypeSRV:
		s.serviceRecords(reply, q.Name, r.srv)
	case miekg.TypePTR:
		for _, target := range r.ptr {
			reply.Answer = append(reply.Answer, &miekg.PTR{Hdr: head(miekg.TypePTR), Ptr: target})
		}
	case miekg.TypeTXT:
		for _, text := range r.txt {
			reply.Answer = append(reply.Answer, &miekg.TXT{Hdr: head(miekg.TypeTXT), Txt: []string{text}})
		}
	case miekg.TypeSOA:
		if isZone {
			reply.Answer = append(reply.Answer, s.soa(q.Name))
		}
	case miekg.TypeNS:
		if isZone {
			ns := "ns.dns." + s.zone.name
			reply.Answer = append(reply.Answer, &miekg.NS{Hdr: head(miekg.TypeNS), Ns: ns})
			for _, a := range s.cfg.Addresses {
				reply.Extra = append(reply.Extra, addressRecord(ns, a))
			}
		}
	case miekg.TypeANY:
		// RFC 8482: a short answer, useless for amplification.
		reply.Answer = append(reply.Answer, &miekg.HINFO{Hdr: head(miekg.TypeHINFO), Cpu: "RFC8482"})
	}
	if len(reply.Answer) == before {
		s.nothing(reply, q.Name)
	}
}

// follow adds what an alias leads to: the resolvers of C libraries do not ask
// again themselves.
func (s *Server) follow(ctx context.Context, reply *miekg.Msg, target string, typ uint16, depth int) {
	if depth > maxAliases {
		reply.Rcode = miekg.RcodeServerFailure
		return
	}
	if s.owns(target) {
		s.local(ctx, reply, miekg.Question{Name: target, Qtype: typ, Qclass: miekg.ClassINET}, depth)
		return
	}
	var q, answer miekg.Msg
	q.SetQuestion(target, typ)
	q.SetEdns0(ednsSize, false)
	p, err := q.Pack()
	if err == nil {
		err = answer.Unpack(s.forward(ctx, p, false))
	}
	if err != nil {
		reply.Rcode = miekg.RcodeServerFailure
		return
	}
	if answer.Truncated {
		if err := answer.Unpack(s.forward(ctx, p, true)); err != nil {
			reply.Rcode = miekg.RcodeServerFailure
			return
		}
	}
	// The alias itself exists: that its target does not is said by the code.
	reply.Rcode = answer.Rcode
	reply.Answer = append(reply.Answer, answer.Answer...)
	if len(answer.Answer) == 0 {
		reply.Ns = append(reply.Ns, answer.Ns...)
	}
}

// serviceRecords adds SRV records and the addresses of their targets.
func (s *Server) serviceRecords(reply *miekg.Msg, name string, all []service) {
	type port struct {
		target string
		port   uint16
	}
	seen, targets := map[port]bool{}, map[string]bool{}
	var distinct []service
	for _, v := range all {
		if k := (port{v.target, v.port}); !seen[k] {
			seen[k] = true
			distinct = append(distinct, v)
		}
	}
	slices.SortFunc(distinct, func(a, b service) int {
		return cmp.Or(cmp.Compare(a.target, b.target), cmp.Compare(a.port, b.port))
	})
	for _, v := range distinct {
		reply.Answer = append(reply.Answer, &miekg.SRV{
			Hdr:    miekg.RR_Header{Name: name, Rrtype: miekg.TypeSRV, Class: miekg.ClassINET, Ttl: ttl},
			Weight: uint16(max(100/len(distinct), 1)), Port: v.port, Target: v.target,
		})
		if targets[v.target] {
			continue
		}
		targets[v.target] = true
		for _, a := range v.addrs {
			reply.Extra = append(reply.Extra, addressRecord(v.target, a))
		}
	}
}

func (s *Server) podName(name string) (netip.Addr, bool) {
	rest, ok := strings.CutSuffix(strings.ToLower(name), ".pod."+s.zone.name)
	if !ok {
		return netip.Addr{}, false
	}
	label, namespace, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(namespace, ".") {
		return netip.Addr{}, false
	}
	return parseDashed([]byte(label))
}

func addressRecord(name string, a netip.Addr) miekg.RR {
	h := miekg.RR_Header{Name: name, Rrtype: miekg.TypeA, Class: miekg.ClassINET, Ttl: ttl}
	if a.Is4() {
		return &miekg.A{Hdr: h, A: net.IP(a.AsSlice())}
	}
	h.Rrtype = miekg.TypeAAAA
	return &miekg.AAAA{Hdr: h, AAAA: net.IP(a.AsSlice())}
}

// addressRecords reads ready-made answers back.
func addressRecords(name string, ready []byte, size int) []miekg.RR {
	var out []miekg.RR
	for ; len(ready) >= size; ready = ready[size:] {
		if a, ok := netip.AddrFromSlice(ready[12:size]); ok {
			out = append(out, addressRecord(name, a))
		}
	}
	return out
}

// nothing adds how long it may be believed that there is nothing.
func (s *Server) nothing(reply *miekg.Msg, name string) {
	owner := s.zone.name
	if !miekg.IsSubDomain(owner, name) {
		owner = "in-addr.arpa."
	}
	reply.Ns = append(reply.Ns, s.soa(owner))
}

func (s *Server) soa(owner string) miekg.RR {
	return &miekg.SOA{
		Hdr: miekg.RR_Header{Name: owner, Rrtype: miekg.TypeSOA, Class: miekg.ClassINET, Ttl: ttl},
		Ns:  "ns.dns." + s.zone.name, Mbox: "hostmaster." + s.zone.name,
		Serial: s.serial, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}
}
