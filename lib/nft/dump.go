package nft

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
)

func begin(b *netlink.Builder, family Family, typ uint16, label string) {
	b.Begin(unix.NFNL_SUBSYS_NFTABLES<<8|typ, 0, label)
	b.Raw(byte(family), unix.NFNETLINK_V0, 0, 0)
}

// header is the length of the fixed part after the netlink header.
const header = 4

// Table is a table of the kernel.
type Table struct {
	Family Family
	Name   string
	// Text is what AddTable kept with it.
	Text []byte
}

// Tables lists the tables of all families.
func (c *Conn) Tables() ([]Table, error) {
	var all []Table
	var b netlink.Builder
	err := retry(func() error {
		all = nil
		begin(&b, unix.NFPROTO_UNSPEC, unix.NFT_MSG_GETTABLE, "list nftables tables")
		return c.nl.Dump(&b, func(m netlink.Message) error {
			if len(m.Data) < header {
				return errTruncated
			}
			t := Table{Family: Family(m.Data[0])}
			err := netlink.Attributes(m.Data[header:], func(a netlink.Attribute) {
				switch a.Type {
				case unix.NFTA_TABLE_NAME:
					t.Name = a.String()
				case tableUserdata:
					t.Text = append([]byte(nil), a.Data...)
				}
			})
			all = append(all, t)
			return err
		})
	})
	return all, err
}

var errTruncated = errors.New("nftables answer is cut short")

// retry repeats a dump that a change in the middle made useless.
func retry(f func() error) (err error) {
	for range 10 {
		if err = f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return err
}

// Chain is a chain of a table.
type Chain struct {
	Name string
	// Base: the chain hangs at a hook. Drop: what it does not decide is dropped.
	Base, Drop bool
}

// Chains lists the chains of a table; none when the table does not exist.
func (c *Conn) Chains(family Family, table string) ([]Chain, error) {
	var all []Chain
	err := retry(func() error {
		all = nil
		var b netlink.Builder
		begin(&b, family, unix.NFT_MSG_GETCHAIN, "list the chains of table "+table)
		b.String(unix.NFTA_CHAIN_TABLE, table)
		return c.nl.Dump(&b, func(m netlink.Message) error {
			if len(m.Data) < header {
				return errTruncated
			}
			in, chain := "", Chain{}
			err := netlink.Attributes(m.Data[header:], func(a netlink.Attribute) {
				switch a.Type {
				case unix.NFTA_CHAIN_TABLE:
					in = a.String()
				case unix.NFTA_CHAIN_NAME:
					chain.Name = a.String()
				case unix.NFTA_CHAIN_HOOK:
					chain.Base = true
				case unix.NFTA_CHAIN_POLICY:
					chain.Drop = a.Net32() == 0
				}
			})
			if in == table && Family(m.Data[0]) == family {
				all = append(all, chain)
			}
			return err
		})
	})
	return all, err
}

// Rule is a rule of a chain, by what is needed to find and delete it.
type Rule struct {
	Handle  uint64
	Comment string
}

// Rules lists the rules of a chain in order; none when it does not exist.
func (c *Conn) Rules(family Family, table, chain string) ([]Rule, error) {
	var all []Rule
	err := retry(func() error {
		all = nil
		var b netlink.Builder
		begin(&b, family, unix.NFT_MSG_GETRULE, "list the rules of chain "+chain)
		b.String(unix.NFTA_RULE_TABLE, table)
		b.String(unix.NFTA_RULE_CHAIN, chain)
		return c.nl.Dump(&b, func(m netlink.Message) error {
			if len(m.Data) < header {
				return errTruncated
			}
			r, inTable, inChain := Rule{}, "", ""
			err := netlink.Attributes(m.Data[header:], func(a netlink.Attribute) {
				switch a.Type {
				case unix.NFTA_RULE_TABLE:
					inTable = a.String()
				case unix.NFTA_RULE_CHAIN:
					inChain = a.String()
				case unix.NFTA_RULE_HANDLE:
					r.Handle = a.Net64()
				case unix.NFTA_RULE_USERDATA:
					r.Comment = parseComment(a.Data)
				}
			})
			if inTable == table && inChain == chain && Family(m.Data[0]) == family {
				all = append(all, r)
			}
			return err
		})
	})
	return all, err
}

// parseComment reads the comment from a rule's user data, as the nft tool
// writes it: type, length, text with a closing zero.
func parseComment(p []byte) string {
	for len(p) >= 2 {
		n := int(p[1])
		if len(p) < 2+n {
			return ""
		}
		if p[0] == 0 {
			return netlink.Attribute{Data: p[2 : 2+n]}.String()
		}
		p = p[2+n:]
	}
	return ""
}

// Dumped is an element as the kernel holds it. Its slices are the caller's.
type Dumped struct {
	Key, KeyEnd, Data []byte
	// Chain is where a verdict map leads.
	Chain string
	// Expires is the time left; 0 for elements without timeout.
	Expires time.Duration
}

// Elements reads a set or map. The error is unix.ENOENT when it does not exist.
func (c *Conn) Elements(family Family, table, set string) ([]Dumped, error) {
	var all []Dumped
	err := retry(func() error {
		all = all[:0]
		var b netlink.Builder
		begin(&b, family, unix.NFT_MSG_GETSETELEM, "list the elements of "+set)
		b.String(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		b.String(unix.NFTA_SET_ELEM_LIST_SET, set)
		return c.nl.Dump(&b, func(m netlink.Message) error {
			if len(m.Data) < header {
				return errTruncated
			}
			return parseElements(m.Data[header:], func(d Dumped) { all = append(all, d) })
		})
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read table %s: %w", table, err)
	}
	return all, nil
}

func parseElements(p []byte, f func(Dumped)) error {
	var inner error
	err := netlink.Attributes(p, func(a netlink.Attribute) {
		if a.Type != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return
		}
		inner = errors.Join(inner, netlink.Attributes(a.Data, func(a netlink.Attribute) {
			d, err := parseElement(a.Data)
			if err != nil {
				inner = errors.Join(inner, err)
				return
			}
			f(d)
		}))
	})
	return errors.Join(err, inner)
}

func parseElement(p []byte) (Dumped, error) {
	var d Dumped
	err := netlink.Attributes(p, func(a netlink.Attribute) {
		switch a.Type {
		case unix.NFTA_SET_ELEM_KEY:
			d.Key = parseValue(a.Data)
		case setElemKeyEnd:
			d.KeyEnd = parseValue(a.Data)
		case unix.NFTA_SET_ELEM_DATA:
			d.Data = parseValue(a.Data)
			d.Chain = parseVerdict(a.Data)
		case unix.NFTA_SET_ELEM_EXPIRATION:
			d.Expires = time.Duration(min(a.Net64(), 1<<40)) * time.Millisecond
		}
	})
	return d, err
}

func parseValue(p []byte) (v []byte) {
	_ = netlink.Attributes(p, func(a netlink.Attribute) {
		if a.Type == unix.NFTA_DATA_VALUE {
			v = append([]byte(nil), a.Data...)
		}
	})
	return v
}

func parseVerdict(p []byte) (chain string) {
	_ = netlink.Attributes(p, func(a netlink.Attribute) {
		if a.Type == unix.NFTA_DATA_VERDICT {
			_ = netlink.Attributes(a.Data, func(a netlink.Attribute) {
				if a.Type == unix.NFTA_VERDICT_CHAIN {
					chain = a.String()
				}
			})
		}
	})
	return chain
}
