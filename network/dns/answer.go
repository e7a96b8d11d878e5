package dns

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// outcome says who finishes an answer.
type outcome int

const (
	// answered: the answer is complete.
	answered outcome = iota
	// silent: there is nothing to answer.
	silent
	// detailed: the name is ours, and the question needs more than an address.
	detailed
	// foreign: the name is not ours.
	foreign
)

// zone is the part of the name space that the cluster owns.
type zone struct {
	name string
	wire []byte
	// pods is the wire format of pod.<zone>.
	pods []byte
	// soa is the zone's SOA record after its owner name.
	soa []byte
}

// fast answers what nearly all queries ask: whether a name of the cluster has
// addresses, and that most names of search paths do not exist. It appends the
// answer to out, whose capacity it uses.
func (s *Server) fast(q *question, query, out []byte, tcp bool) ([]byte, outcome) {
	switch q.parse(query) {
	case ignored:
		return out, silent
	case malformed:
		return appendError(out, query, rcodeFormat), answered
	case unusual:
		return out, detailed
	}
	if q.class != classIN {
		return out, detailed
	}
	labels, ok := q.below(s.zone.wire)
	if !ok {
		return out, foreign
	}
	limit := q.size
	if tcp {
		limit = 1<<16 - 1
	}
	r := s.index.find(q.wire())
	if r == nil {
		if a, ok := s.podAddress(q, labels); ok {
			if q.typ != typeA {
				return s.negative(out, query, q, rcodeSuccess), answered
			}
			var record [sizeA]byte
			return s.positive(out, query, q, appendAddress(record[:0], a), sizeA, limit), answered
		}
		return s.negative(out, query, q, rcodeNoName), answered
	}
	if r.cname != "" {
		return out, detailed
	}
	switch {
	case q.typ == typeA && len(r.a) > 0:
		return s.positive(out, query, q, r.a, sizeA, limit), answered
	case q.typ == typeAAAA && len(r.aaaa) > 0:
		return s.positive(out, query, q, r.aaaa, sizeAAAA, limit), answered
	case q.typ == typeA || q.typ == typeAAAA:
		return s.negative(out, query, q, rcodeSuccess), answered
	}
	return out, detailed
}

// positive appends an answer of ready-made records of equal size, beginning
// with a random one, so that clients which take the first spread out.
func (s *Server) positive(out, query []byte, q *question, answers []byte, size, limit int) []byte {
	n := len(answers) / size
	room := limit - q.end
	if q.edns {
		room -= optSize
	}
	fit := min(n, room/size)
	flags := uint16(flagResponse | flagAuthority | flagAvailable | q.flags&flagDesired)
	if fit < n {
		flags |= flagTruncated
	}
	out = appendHead(out, query, q, flags, fit, 0)
	first := 0
	if n > 1 {
		first = int(rand.Uint32N(uint32(n))) * size
	}
	head := answers[first:]
	head = head[:min(len(head), fit*size)]
	out = append(out, head...)
	out = append(out, answers[:fit*size-len(head)]...)
	return appendOPT(out, q)
}

// negative appends an answer that says that there is nothing, and how long that
// may be believed.
func (s *Server) negative(out, query []byte, q *question, rcode uint16) []byte {
	flags := uint16(flagResponse|flagAuthority|flagAvailable|q.flags&flagDesired) | rcode
	out = appendHead(out, query, q, flags, 0, 1)
	// The zone's name is the end of the question's.
	out = binary.BigEndian.AppendUint16(out, 0xc000|uint16(headerSize+q.len-len(s.zone.wire)))
	out = append(out, s.zone.soa...)
	return appendOPT(out, q)
}

// podAddress computes a-b-c-d.namespace.pod.<zone>.
func (s *Server) podAddress(q *question, labels int) (a netip.Addr, ok bool) {
	n, below := q.below(s.zone.pods)
	if !below || n != 2 || labels != 3 {
		return a, false
	}
	return parseDashed(q.label(0))
}

func appendHead(out, query []byte, q *question, flags uint16, answers, authority int) []byte {
	out = binary.BigEndian.AppendUint16(out, q.id)
	out = binary.BigEndian.AppendUint16(out, flags)
	out = binary.BigEndian.AppendUint16(out, 1)
	out = binary.BigEndian.AppendUint16(out, uint16(answers))
	out = binary.BigEndian.AppendUint16(out, uint16(authority))
	additional := uint16(0)
	if q.edns {
		additional = 1
	}
	out = binary.BigEndian.AppendUint16(out, additional)
	// As it was asked: some clients check the letters' case.
	return append(out, query[headerSize:q.end]...)
}

const optSize = 11

func appendOPT(out []byte, q *question) []byte {
	if !q.edns {
		return out
	}
	return append(out, 0, 0, typeOPT, ednsSize>>8, ednsSize&0xff, 0, 0, 0, 0, 0, 0)
}

// appendError answers a query that cannot be read: its header only.
func appendError(out, query []byte, rcode uint16) []byte {
	flags := binary.BigEndian.Uint16(query[2:])
	out = append(out, query[:2]...)
	out = binary.BigEndian.AppendUint16(out, flagResponse|flags&(opcodeMask|flagDesired)|flagAvailable|rcode)
	return append(out, 0, 0, 0, 0, 0, 0, 0, 0)
}
