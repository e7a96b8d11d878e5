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

// Chains lists the names of the chains of a table.
func (c *Conn) Chains(family Family, table string) ([]string, error) {
	var all []string
	err := retry(func() error {
		all = nil
		var b netlink.Builder
		begin(&b, family, unix.NFT_MSG_GETCHAIN, "list the chains of table "+table)
		b.String(unix.NFTA_CHAIN_TABLE, table)
		return c.nl.Dump(&b, func(m netlink.Message) error {
			if len(m.Data) < header {
				return errTruncated
			}
			var in, name string
			err := netlink.Attributes(m.Data[header:], func(a netlink.Attribute) {
				switch a.Type {
				case unix.NFTA_CHAIN_TABLE:
					in = a.String()
				case unix.NFTA_CHAIN_NAME:
					name = a.String()
				}
			})
			if in == table {
				all = append(all, name)
			}
			return err
		})
	})
	return all, err
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
