// Package nft encodes nftables transactions for the kernel and reads tables
// back. It exists because both ways around it are slow for tables of data:
// starting the nft binary, and a general library that holds every element as
// an object. A table is changed by filling a Batch and applying it; the kernel
// takes all of it or nothing.
package nft

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
)

// Family is the address family of a table.
type Family uint8

// The families in use.
const (
	IPv4 Family = unix.NFPROTO_IPV4
	IPv6 Family = unix.NFPROTO_IPV6
	Inet Family = unix.NFPROTO_INET
)

// Constants that golang.org/x/sys/unix does not have.
const (
	tableUserdata  = 6
	setDescConcat  = 2
	setFieldLen    = 1
	setElemKeyEnd  = 10
	dynsetDelete   = 2
	setConcat      = 0x80
	listElem       = 1
	verdictType    = 0xffffff00
	fibResultType  = 3
	masqueradeFull = unix.NF_NAT_RANGE_PROTO_RANDOM_FULLY
)

// maxMessage bounds one message of elements: the length of an attribute is a
// 16-bit number.
const maxMessage = 60000

// Batch is a transaction in the making. It is not safe for concurrent use.
type Batch struct {
	b      netlink.Builder
	family Family
	table  string
	setID  uint32
	ended  bool

	// The element message that is open for more.
	elements struct {
		typ   uint16
		set   string
		start int
		list  int
	}
}

// NewBatch starts a transaction on one table.
func NewBatch(family Family, table string) *Batch {
	b := &Batch{family: family, table: table}
	b.Reset()
	return b
}

// Reset empties b for the next transaction and keeps its memory.
func (b *Batch) Reset() {
	b.b.Reset()
	b.ended, b.setID, b.elements.set = false, 0, ""
	b.b.Begin(unix.NFNL_MSG_BATCH_BEGIN, 0, "change table "+b.table)
	b.b.Raw(unix.AF_UNSPEC, 0, 0, unix.NFNL_SUBSYS_NFTABLES)
}

// Empty reports whether nothing was added since Reset.
func (b *Batch) Empty() bool { return b.b.Len() == 1 }

// Size is the length of the encoded transaction in bytes.
func (b *Batch) Size() int { return b.b.Size() }

// Bytes ends the transaction and returns its encoding.
func (b *Batch) Bytes() []byte {
	b.end()
	return b.b.Bytes()
}

func (b *Batch) end() {
	if b.ended {
		return
	}
	b.closeElements()
	if !b.Empty() {
		b.b.Flags(unix.NLM_F_ACK)
	}
	b.ended = true
	b.b.Begin(unix.NFNL_MSG_BATCH_END, 0, "commit to table "+b.table)
	b.b.Raw(unix.AF_UNSPEC, 0, 0, unix.NFNL_SUBSYS_NFTABLES)
}

func (b *Batch) begin(typ, flags uint16, label string) {
	b.closeElements()
	b.b.Begin(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, label)
	b.b.Raw(byte(b.family), unix.NFNETLINK_V0, 0, 0)
}

// AddTable makes the table, or changes nothing when it exists. The text is kept
// with a new table for whoever reads it; an existing table keeps its own.
func (b *Batch) AddTable(text []byte) {
	b.begin(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "add table "+b.table)
	b.b.String(unix.NFTA_TABLE_NAME, b.table)
	if len(text) > 0 {
		b.b.Attr(tableUserdata, text)
	}
}

// DeleteTable removes the table with all that it holds; it must exist.
func (b *Batch) DeleteTable() {
	b.begin(unix.NFT_MSG_DELTABLE, 0, "delete table "+b.table)
	b.b.String(unix.NFTA_TABLE_NAME, b.table)
}

// Hook ties a chain to a place in the kernel's packet path.
type Hook struct {
	// Type is "filter" or "nat".
	Type string
	// Number is a unix.NF_INET_ constant.
	Number   uint32
	Priority int32
	// Drop: what the chain does not decide is dropped instead of accepted.
	Drop bool
}

// AddChain makes a chain; hook is nil for one that is only jumped to.
func (b *Batch) AddChain(name string, hook *Hook) {
	b.begin(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, "add chain "+name)
	b.b.String(unix.NFTA_CHAIN_TABLE, b.table)
	b.b.String(unix.NFTA_CHAIN_NAME, name)
	if hook == nil {
		return
	}
	at := b.b.Nest(unix.NFTA_CHAIN_HOOK)
	b.b.Net32(unix.NFTA_HOOK_HOOKNUM, hook.Number)
	b.b.Net32(unix.NFTA_HOOK_PRIORITY, uint32(hook.Priority))
	b.b.End(at)
	b.b.String(unix.NFTA_CHAIN_TYPE, hook.Type)
	if hook.Drop {
		b.b.Net32(unix.NFTA_CHAIN_POLICY, 0)
	}
}

// AddRule appends a rule to a chain.
func (b *Batch) AddRule(chain string, exprs ...Expr) {
	b.begin(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, "add a rule to chain "+chain)
	b.rule(chain, exprs)
}

// InsertRule puts a rule before all others of a chain, with a comment of up to
// 250 characters by which Rules shows it.
func (b *Batch) InsertRule(chain, comment string, exprs ...Expr) {
	b.begin(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE, "add a rule to chain "+chain)
	b.rule(chain, exprs)
	text := append([]byte(comment[:min(len(comment), 250)]), 0)
	b.b.Attr(unix.NFTA_RULE_USERDATA, append([]byte{0, byte(len(text))}, text...))
}

// DeleteRule removes a rule that Rules has listed.
func (b *Batch) DeleteRule(chain string, handle uint64) {
	b.begin(unix.NFT_MSG_DELRULE, 0, "delete a rule of chain "+chain)
	b.b.String(unix.NFTA_RULE_TABLE, b.table)
	b.b.String(unix.NFTA_RULE_CHAIN, chain)
	b.b.Net64(unix.NFTA_RULE_HANDLE, handle)
}

func (b *Batch) rule(chain string, exprs []Expr) {
	b.b.String(unix.NFTA_RULE_TABLE, b.table)
	b.b.String(unix.NFTA_RULE_CHAIN, chain)
	list := b.b.Nest(unix.NFTA_RULE_EXPRESSIONS)
	for _, e := range exprs {
		e.encode(&b.b)
	}
	b.b.End(list)
}

// Set describes a set or, when it has a data type, a map.
type Set struct {
	Name string
	Key  Type
	// Data is the zero Type for a set, Verdict for a map to chains.
	Data Type
	// Dynamic lets rules add elements.
	Dynamic bool
	// Timeout lets elements expire.
	Timeout bool
	// Interval lets keys be ranges.
	Interval bool
	// Size limits the number of elements; 0 for none.
	Size uint32
}

// AddSet makes a set or map, or changes nothing when the same one exists.
func (b *Batch) AddSet(s Set) {
	b.begin(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, "add set "+s.Name)
	b.b.String(unix.NFTA_SET_TABLE, b.table)
	b.b.String(unix.NFTA_SET_NAME, s.Name)
	var flags uint32
	if s.Data.len > 0 {
		flags |= unix.NFT_SET_MAP
	}
	if s.Dynamic {
		flags |= unix.NFT_SET_EVAL
	}
	if s.Timeout {
		flags |= unix.NFT_SET_TIMEOUT
	}
	if s.Interval {
		flags |= unix.NFT_SET_INTERVAL
		if len(s.Key.fields) > 1 {
			flags |= setConcat
		}
	}
	b.b.Net32(unix.NFTA_SET_FLAGS, flags)
	b.b.Net32(unix.NFTA_SET_KEY_TYPE, s.Key.id)
	b.b.Net32(unix.NFTA_SET_KEY_LEN, s.Key.len)
	if s.Data.len > 0 {
		b.b.Net32(unix.NFTA_SET_DATA_TYPE, s.Data.id)
		// A verdict's size is the kernel's own affair.
		if s.Data.id != verdictType {
			b.b.Net32(unix.NFTA_SET_DATA_LEN, s.Data.len)
		}
	}
	b.setID++
	b.b.Net32(unix.NFTA_SET_ID, b.setID)
	if s.Size > 0 || flags&setConcat != 0 {
		desc := b.b.Nest(unix.NFTA_SET_DESC)
		if s.Size > 0 {
			b.b.Net32(unix.NFTA_SET_DESC_SIZE, s.Size)
		}
		if flags&setConcat != 0 {
			concat := b.b.Nest(setDescConcat)
			for _, n := range s.Key.fields {
				elem := b.b.Nest(listElem)
				b.b.Net32(setFieldLen, n)
				b.b.End(elem)
			}
			b.b.End(concat)
		}
		b.b.End(desc)
	}
	b.b.Attr(unix.NFTA_SET_USERDATA, s.userdata())
}

// userdata tells the nft tool the byte order of key and data, without which it
// cannot print them.
func (s Set) userdata() []byte {
	p := []byte{0, 4}
	p = binary.NativeEndian.AppendUint32(p, s.Key.order)
	if s.Data.len > 0 && s.Data.id != verdictType {
		p = append(p, 1, 4)
		p = binary.NativeEndian.AppendUint32(p, s.Data.order)
	}
	return p
}

// Element is a member of a set or map. Key and Data are in the layout of the
// kernel's registers: every field padded to four bytes.
type Element struct {
	Key []byte
	// KeyEnd is the last key of a range in an interval set; nil for one key.
	KeyEnd []byte
	// Data is what the key maps to; nil in sets.
	Data []byte
	// Goto names the chain that the key leads to, in maps to chains.
	Goto string
	// Timeout is how long the element lives; 0: as its set says.
	Timeout time.Duration
}

// AddElement adds an element. A map element with the same key must not exist
// with other data.
func (b *Batch) AddElement(set string, e Element) {
	b.element(unix.NFT_MSG_NEWSETELEM, set, e)
}

// DeleteElement removes an element by its key, which must exist.
func (b *Batch) DeleteElement(set string, key []byte) {
	b.element(unix.NFT_MSG_DELSETELEM, set, Element{Key: key})
}

// DeleteRange removes a range by its two ends, in interval sets.
func (b *Batch) DeleteRange(set string, e Element) {
	b.element(unix.NFT_MSG_DELSETELEM, set, Element{Key: e.Key, KeyEnd: e.KeyEnd})
}

func (b *Batch) element(typ uint16, set string, e Element) {
	o := &b.elements
	if o.set != set || o.typ != typ || b.b.Size()-o.start > maxMessage {
		flags, verb := uint16(unix.NLM_F_CREATE), "add elements to "
		if typ == unix.NFT_MSG_DELSETELEM {
			flags, verb = 0, "delete elements from "
		}
		b.begin(typ, flags, verb+set)
		b.b.String(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
		b.b.String(unix.NFTA_SET_ELEM_LIST_SET, set)
		o.typ, o.set, o.start = typ, set, b.b.Size()
		o.list = b.b.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	}
	elem := b.b.Nest(listElem)
	b.value(unix.NFTA_SET_ELEM_KEY, e.Key)
	if e.KeyEnd != nil {
		b.value(setElemKeyEnd, e.KeyEnd)
	}
	if e.Data != nil {
		b.value(unix.NFTA_SET_ELEM_DATA, e.Data)
	}
	if e.Goto != "" {
		at := b.b.Nest(unix.NFTA_SET_ELEM_DATA)
		encodeVerdict(&b.b, unix.NFT_GOTO, e.Goto)
		b.b.End(at)
	}
	if e.Timeout > 0 {
		b.b.Net64(unix.NFTA_SET_ELEM_TIMEOUT, uint64(max(e.Timeout.Milliseconds(), 1)))
	}
	b.b.End(elem)
}

func (b *Batch) value(typ uint16, v []byte) {
	at := b.b.Nest(typ)
	b.b.Attr(unix.NFTA_DATA_VALUE, v)
	b.b.End(at)
}

func (b *Batch) closeElements() {
	if b.elements.set != "" {
		b.b.End(b.elements.list)
		b.elements.set = ""
	}
}

// Conn carries transactions and questions to the kernel, in the network
// namespace of the thread that opened it.
type Conn struct {
	nl   *netlink.Conn
	room int
}

// Open opens a connection.
func Open() (*Conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	return &Conn{nl: nl}, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.nl.Close() }

// Apply carries out b, all of it or nothing, and returns when packets see it.
// b is kept.
func (c *Conn) Apply(b *Batch) error {
	if b.Empty() {
		return nil
	}
	b.end()
	// The kernel counts its own overhead against the buffer too.
	if need := b.Size() + b.Size()/4 + 64<<10; need > c.room {
		if err := c.nl.GrowBuffers(need); err != nil {
			return err
		}
		c.room = need
	}
	if err := c.nl.Batch(&b.b); err != nil {
		return fmt.Errorf("cannot change nftables: %w", err)
	}
	return nil
}
