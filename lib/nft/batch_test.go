package nft_test

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
	"sagong/lib/netlink/nettest"
	. "sagong/lib/nft"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// sample is a transaction with every kind of message and expression.
func sample() *Batch {
	b := NewBatch(IPv4, "sample")
	b.AddTable([]byte("text"))
	b.AddSet(Set{Name: "plain", Key: Concat(Addr4, Protocol, Port)})
	b.AddSet(Set{Name: "map", Key: Mark, Data: Concat(Addr4, Port)})
	b.AddSet(Set{Name: "goto", Key: Mark, Data: Verdict})
	b.AddSet(Set{Name: "dynamic", Key: Addr4, Data: Concat(Addr4, Port), Dynamic: true, Timeout: true, Size: 1000})
	b.AddSet(Set{Name: "ranges", Key: Concat(Mark, Addr4), Interval: true})
	b.AddChain("plain", nil)
	b.AddChain("base", &Hook{Type: "filter", Number: unix.NF_INET_FORWARD, Priority: -5})
	b.AddChain("nat", &Hook{Type: "nat", Number: unix.NF_INET_PRE_ROUTING, Priority: -100})
	b.AddChain("src", &Hook{Type: "nat", Number: unix.NF_INET_POST_ROUTING, Priority: 100})
	b.AddChain("closed", &Hook{Type: "filter", Number: unix.NF_INET_FORWARD, Drop: true})
	b.InsertRule("closed", "a comment", Accept())
	b.AddRule("base", LoadSource(0), LoadProtocol(1), LoadPort(2), Lookup("plain", 0), Counter(), Accept())
	b.AddRule("base", LoadMark(0), Mask(0, 0xff), LookupGoto("goto", 0))
	b.AddRule("base", LoadState(0), Mask(0, StateNew), NotEqual(0, Native32(0)...), Jump("plain"))
	b.AddRule("base", LoadMark(0), LoadSource(1), LookupMissing("ranges", 0), Drop())
	b.AddRule("base", LoadStatus(0), Equal(0, Native32(StatusDNAT)...), Return())
	b.AddRule("base", LoadProtocol(0), Equal(0, unix.IPPROTO_TCP), RejectTCP())
	b.AddRule("base", RejectPort())
	b.AddRule("nat", LoadDestination(0), DestinationType(1), LoadMark(2), Set32(2, 1<<20), SetMark(2))
	b.AddRule("nat", Random(0, 3), LookupMap("map", 0, 4), LoadSource(8), Delete("dynamic", 8, 4), Update("dynamic", 8, 4, 5000), DNAT(IPv4, 4, 5))
	b.AddRule("src", SourceType(0), Equal(0, Native32(unix.RTN_LOCAL)...), Immediate(1, 10, 0, 0, 1), SNAT(IPv4, 1))
	b.AddRule("src", Masquerade())
	b.AddElement("plain", Element{Key: []byte{10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0}})
	b.AddElement("plain", Element{Key: []byte{10, 0, 0, 2, 6, 0, 0, 0, 0, 80, 0, 0}})
	b.AddElement("map", Element{Key: Native32(1), Data: []byte{10, 0, 0, 3, 0, 80, 0, 0}})
	b.AddElement("goto", Element{Key: Native32(1), Goto: "plain"})
	b.AddElement("dynamic", Element{Key: []byte{10, 0, 0, 1}, Data: []byte{10, 0, 0, 3, 0, 80, 0, 0}, Timeout: time.Minute})
	b.AddElement("ranges", Element{Key: append(Native32(1), 10, 0, 0, 0), KeyEnd: append(Native32(1), 10, 255, 255, 255)})
	return b
}

func TestEncodingIsGolden(t *testing.T) {
	var out strings.Builder
	err := netlink.ParseMessages(sample().Bytes(), func(m netlink.Message) error {
		_, err := fmt.Fprintf(&out, "type %#x flags %#x\n%s", m.Type, m.Flags, hex.Dump(m.Data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "batch.golden")
	if *rewrite {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the encoding changed; if that was meant, and the kernel takes it, run with -rewrite:\n%s", out.String())
	}
}

func openIn(t *testing.T) *Conn {
	ns := nettest.New(t, "nft")
	var c *Conn
	ns.Do(t, func() (err error) {
		c, err = Open()
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestKernelTakesEverything(t *testing.T) {
	c := openIn(t)
	b := sample()
	if err := c.Apply(b); err != nil {
		t.Fatal(err)
	}
	tables, err := c.Tables()
	if err != nil || len(tables) != 1 || tables[0].Name != "sample" || string(tables[0].Text) != "text" || tables[0].Family != IPv4 {
		t.Errorf("tables %v, %v", tables, err)
	}
	chains, err := c.Chains(IPv4, "sample")
	if err != nil || fmt.Sprint(chains) != "[{plain false false} {base true false} {nat true false} {src true false} {closed true true}]" {
		t.Errorf("chains %v, %v", chains, err)
	}
	plain, err := c.Elements(IPv4, "sample", "plain")
	if err != nil || len(plain) != 2 || len(plain[0].Key) != 12 {
		t.Errorf("elements %v, %v", plain, err)
	}
	m, err := c.Elements(IPv4, "sample", "map")
	if err != nil || len(m) != 1 || string(m[0].Key) != string(Native32(1)) || string(m[0].Data) != "\x0a\x00\x00\x03\x00\x50\x00\x00" {
		t.Errorf("map elements %v, %v", m, err)
	}
	v, err := c.Elements(IPv4, "sample", "goto")
	if err != nil || len(v) != 1 || v[0].Chain != "plain" {
		t.Errorf("verdict elements %v, %v", v, err)
	}
	d, err := c.Elements(IPv4, "sample", "dynamic")
	if err != nil || len(d) != 1 || d[0].Expires < 50*time.Second || d[0].Expires > time.Minute {
		t.Errorf("timed elements %v, %v", d, err)
	}
	r, err := c.Elements(IPv4, "sample", "ranges")
	if err != nil || len(r) != 1 || string(r[0].KeyEnd[4:]) != "\x0a\xff\xff\xff" {
		t.Errorf("range elements %v, %v", r, err)
	}
	rules, err := c.Rules(IPv4, "sample", "closed")
	if err != nil || len(rules) != 1 || rules[0].Comment != "a comment" {
		t.Fatalf("rules %v, %v", rules, err)
	}
	b.Reset()
	b.DeleteRule("closed", rules[0].Handle)
	b.DeleteRange("ranges", Element{Key: r[0].Key, KeyEnd: r[0].KeyEnd})
	b.DeleteElement("plain", plain[0].Key)
	b.AddElement("map", Element{Key: Native32(2), Data: m[0].Data})
	if err := c.Apply(b); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Elements(IPv4, "sample", "nothing"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a set that does not exist: %v", err)
	}
}

func TestFailureChangesNothingAndNamesTheFault(t *testing.T) {
	c := openIn(t)
	if err := c.Apply(sample()); err != nil {
		t.Fatal(err)
	}
	b := NewBatch(IPv4, "sample")
	b.AddElement("plain", Element{Key: []byte{10, 0, 0, 9, 6, 0, 0, 0, 0, 80, 0, 0}})
	b.DeleteElement("map", Native32(77))
	err := c.Apply(b)
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "delete elements from map") {
		t.Errorf("got %v", err)
	}
	if e, err := c.Elements(IPv4, "sample", "plain"); err != nil || len(e) != 2 {
		t.Errorf("the failed transaction left %v, %v", e, err)
	}
	b.Reset()
	if err := c.Apply(b); err != nil {
		t.Errorf("an empty transaction: %v", err)
	}
}

// The length of an attribute has 16 bits: many elements need many messages.
func TestManyElements(t *testing.T) {
	c := openIn(t)
	b := NewBatch(IPv4, "many")
	b.AddTable(nil)
	b.AddSet(Set{Name: "s", Key: Mark})
	const n = 100_000
	for i := range n {
		b.AddElement("s", Element{Key: Native32(uint32(i))})
	}
	if err := c.Apply(b); err != nil {
		t.Fatal(err)
	}
	if e, err := c.Elements(IPv4, "many", "s"); err != nil || len(e) != n {
		t.Errorf("%d elements, %v", len(e), err)
	}
}
