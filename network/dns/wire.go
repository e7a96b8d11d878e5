package dns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

const (
	headerSize = 12

	typeA    = 1
	typeAAAA = 28
	typeOPT  = 41
	classIN  = 1

	rcodeSuccess  = 0
	rcodeFormat   = 1
	rcodeFailure  = 2
	rcodeNoName   = 3
	rcodeNotImpl  = 4
	rcodeRefused  = 5
	flagResponse  = 1 << 15
	flagAuthority = 1 << 10
	flagTruncated = 1 << 9
	flagDesired   = 1 << 8
	flagAvailable = 1 << 7
	opcodeMask    = 15 << 11

	// ttl of all answers in seconds: the server is on the same node, so that
	// asking again costs little, and a changed name is known soon.
	ttl = 5
	// plainSize is the largest answer over UDP without EDNS, ednsSize the
	// largest with it: what passes every network unfragmented.
	plainSize = 512
	ednsSize  = 1232
	maxName   = 255
)

// question is the one question of a query, as far as the fast path reads it.
type question struct {
	id    uint16
	flags uint16
	// name in wire format and lower case, with its closing zero.
	name [maxName]byte
	len  int
	// labels is where each label of the name begins.
	labels [128]uint8
	count  int
	typ    uint16
	class  uint16
	// end is where the question ends in the query.
	end int
	// edns: the query has an OPT record; size is what the client takes.
	edns    bool
	size    int
	version uint8
}

// parseResult says what to do with a query.
type parseResult int

const (
	parsed parseResult = iota
	// ignored: not a query, or too short to answer.
	ignored
	// malformed: answer with a format error.
	malformed
	// unusual: legal, but not for the fast path.
	unusual
)

// parse reads a query.
func (q *question) parse(p []byte) parseResult {
	if len(p) < headerSize {
		return ignored
	}
	q.id = binary.BigEndian.Uint16(p)
	q.flags = binary.BigEndian.Uint16(p[2:])
	if q.flags&flagResponse != 0 {
		return ignored
	}
	if q.flags&opcodeMask != 0 {
		return unusual
	}
	if binary.BigEndian.Uint16(p[4:]) != 1 {
		return malformed
	}
	answers, authority, additional := binary.BigEndian.Uint16(p[6:]), binary.BigEndian.Uint16(p[8:]), binary.BigEndian.Uint16(p[10:])
	at := headerSize
	q.len, q.count = 0, 0
	for {
		if at >= len(p) {
			return malformed
		}
		n := int(p[at])
		if n > 63 || at+1+n > len(p) || q.len+1+n > maxName {
			return malformed
		}
		if n == 0 {
			q.name[q.len] = 0
			q.len++
			at++
			break
		}
		q.labels[q.count] = uint8(q.len)
		q.count++
		q.name[q.len] = byte(n)
		for i := 1; i <= n; i++ {
			c := p[at+i]
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			q.name[q.len+i] = c
		}
		q.len += 1 + n
		at += 1 + n
		// The closing zero must fit as well.
		if q.len >= maxName {
			return malformed
		}
	}
	if at+4 > len(p) {
		return malformed
	}
	q.typ, q.class = binary.BigEndian.Uint16(p[at:]), binary.BigEndian.Uint16(p[at+2:])
	q.end = at + 4
	q.edns, q.size, q.version = false, plainSize, 0
	if answers != 0 || authority != 0 || additional > 1 {
		return unusual
	}
	if additional == 1 {
		rest := p[q.end:]
		if len(rest) < 11 || rest[0] != 0 || binary.BigEndian.Uint16(rest[1:]) != typeOPT ||
			11+int(binary.BigEndian.Uint16(rest[9:])) > len(rest) {
			return unusual
		}
		q.edns, q.version = true, rest[6]
		q.size = min(max(int(binary.BigEndian.Uint16(rest[3:])), plainSize), ednsSize)
		if q.version != 0 {
			return unusual
		}
	}
	return parsed
}

// wire is the name as the index has it.
func (q *question) wire() []byte { return q.name[:q.len] }

// below reports whether the name is zone or below it, and how many labels it
// has more.
func (q *question) below(zone []byte) (labels int, ok bool) {
	at := q.len - len(zone)
	if at < 0 || string(q.name[at:q.len]) != string(zone) {
		return 0, false
	}
	for i := 0; i < q.count; i++ {
		if int(q.labels[i]) == at {
			return i, true
		}
	}
	return q.count, at == q.len-1
}

// label returns a label's text.
func (q *question) label(i int) []byte {
	at := int(q.labels[i])
	return q.name[at+1 : at+1+int(q.name[at])]
}

// packName encodes a name in wire format and lower case. Names come from the
// API's validation, but nothing here depends on it.
func packName(name string) (string, error) {
	var b strings.Builder
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name != "" {
		for label := range strings.SplitSeq(name, ".") {
			if len(label) == 0 || len(label) > 63 {
				return "", fmt.Errorf("cannot serve the name %q: a label has %d characters", name, len(label))
			}
			b.WriteByte(byte(len(label)))
			b.WriteString(label)
		}
	}
	b.WriteByte(0)
	if b.Len() > maxName {
		return "", fmt.Errorf("cannot serve the name %q: it is too long", name)
	}
	return b.String(), nil
}

// parseDashed reads an address written as a-b-c-d.
func parseDashed(label []byte) (netip.Addr, bool) {
	var buf [15]byte
	if len(label) > len(buf) {
		return netip.Addr{}, false
	}
	for i, c := range label {
		switch {
		case c == '-':
			c = '.'
		case c < '0' || c > '9':
			return netip.Addr{}, false
		}
		buf[i] = c
	}
	a, err := netip.ParseAddr(string(buf[:len(label)]))
	return a, err == nil && a.Is4()
}

// reverseName is the name under which an address is looked up.
func reverseName(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", b[3], b[2], b[1], b[0])
}

// parseReverse is the reverse of reverseName, from a question.
func (q *question) parseReverse() (netip.Addr, bool) {
	if n, ok := q.below([]byte("\x07in-addr\x04arpa\x00")); !ok || n != 4 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(fmt.Sprintf("%s.%s.%s.%s", q.label(3), q.label(2), q.label(1), q.label(0)))
	return a, err == nil && a.Is4()
}
