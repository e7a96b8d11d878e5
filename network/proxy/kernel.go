package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"sagong/lib/nft"
)

// tablePrefix begins the names of all clusters' tables.
const tablePrefix = "sagong-proxy-"

// TableName is the name of the cluster's nftables table for Services.
func TableName(cluster string) string { return tablePrefix + cluster }

// kernel keeps the table in the kernel equal to the model: usually by sending
// what changed, after a fault by comparing, and if need be from scratch. Each
// way is one transaction: packets meet the old table or the new one.
type kernel struct {
	conn   *nft.Conn
	layout layout
	table  string
	batch  *nft.Batch
	// classes that have a chain.
	classes map[class]bool
	// unsure: what the kernel has is not known, and must be read.
	unsure bool
	// numbered: pools and handles in the kernel's table have the model's numbers.
	numbered bool
	log      *slog.Logger
	// compared and rebuilt count what was done besides sending changes.
	compared, rebuilt int
}

// openKernel connects and chooses the tag that tells this table's marks from
// those of other clusters on the machine.
func openKernel(cluster string, l layout, log *slog.Logger) (*kernel, error) {
	conn, err := nft.Open()
	if err != nil {
		return nil, err
	}
	k := &kernel{conn: conn, table: TableName(cluster), classes: map[class]bool{}, unsure: true, log: log}
	k.batch = nft.NewBatch(nft.IPv4, k.table)
	tables, err := conn.Tables()
	if err != nil {
		conn.Close()
		return nil, err
	}
	taken := map[uint32]bool{}
	for _, t := range tables {
		if !strings.HasPrefix(t.Name, tablePrefix) {
			continue
		}
		tag, data := parseText(t.Text)
		if t.Name == k.table {
			l.tag = tag
			k.numbered = data == dataVersion
		}
		taken[tag] = true
	}
	for tag := uint32(1); l.tag == 0; tag++ {
		if tag > 15 {
			conn.Close()
			return nil, errors.New("cannot run one more cluster on this machine: all 15 connection mark tags are taken")
		}
		if !taken[tag] {
			l.tag = tag
		}
	}
	k.layout = l
	return k, nil
}

// exists reports whether the table is there with this layout.
func (k *kernel) exists() (bool, error) {
	tables, err := k.conn.Tables()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(tables, func(t nft.Table) bool {
		return t.Name == k.table && t.Family == nft.IPv4 && string(t.Text) == k.layout.text()
	}), nil
}

// read returns every element that the kernel has, and notes the classes.
func (k *kernel) read() (map[elementKey]elementData, error) {
	have := map[elementKey]elementData{}
	for s := range setCount {
		elements, err := k.conn.Elements(nft.IPv4, k.table, setLayouts[s].Name)
		if err != nil {
			return nil, err
		}
		for _, d := range elements {
			if key, data, ok := parseElement(s, d); ok {
				have[key] = data
			}
		}
	}
	classes, err := k.conn.Elements(nft.IPv4, k.table, mapClasses)
	if err != nil {
		return nil, err
	}
	clear(k.classes)
	for _, d := range classes {
		if len(d.Key) == 4 {
			var data elementData
			copy(data[:], d.Key)
			k.classes[class(data.number())] = true
		}
	}
	return have, nil
}

// adopt tells the model the numbers that a former process gave to addresses.
func (k *kernel) adopt(m *model) error {
	if !k.numbered {
		return nil
	}
	have, err := k.read()
	if err != nil {
		return err
	}
	for key, data := range have {
		switch key.set {
		case setServices, setPorts:
			id := data.number() & idMask
			m.adopted[parseFront(key)] = id
			m.nextID = max(m.nextID, id%idMask+1)
		case setHandles:
			handle := data.number()
			m.nextHandle = max(m.nextHandle, handle%handleMask+1)
			if live, ok := have[idElement(setLive, handle)]; ok {
				m.adoptedHandles[poolBackend{binary.NativeEndian.Uint32(key.key[:]), live.backend()}] = handle
			}
		}
	}
	return nil
}

// flush brings the kernel's table up to the model, and reports whether there was
// anything to do.
func (k *kernel) flush(m *model) (changed bool, err error) {
	if !k.unsure {
		if len(m.touched) == 0 {
			return false, nil
		}
		if err = k.send(m); err == nil {
			return true, nil
		}
		k.log.Warn("the kernel refused a change of Services, comparing with it", "err", err)
		k.unsure = true
	}
	k.compared++
	if err = k.compare(m); err == nil {
		return true, nil
	}
	k.rebuilt++
	if err = k.rebuild(m); err != nil {
		return false, err
	}
	k.unsure = false
	return true, nil
}

// compare reads the kernel's table and sends the differences.
func (k *kernel) compare(m *model) error {
	ok, err := k.exists()
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("cannot update table %s: %w", k.table, unix.ENOENT)
	}
	have, err := k.read()
	if err != nil {
		return err
	}
	m.forgetTouched()
	for key, data := range have {
		if want, ok := m.want[key]; !ok || want != data {
			m.touched[key] = kernelElement{true, data}
			switch id := binary.NativeEndian.Uint32(key.key[:]); key.set {
			case setEndpoints:
				m.noteFormer(id, data.backend())
			case setHandles:
				if live, ok := have[idElement(setLive, data.number())]; ok {
					m.noteFormer(id, live.backend())
				}
			}
		}
	}
	for key := range m.want {
		if _, ok := have[key]; !ok {
			m.touched[key] = kernelElement{}
		}
	}
	if err := k.send(m); err != nil {
		return err
	}
	k.unsure = false
	return nil
}

// send encodes the touched elements: first what goes, then what comes.
func (k *kernel) send(m *model) error {
	b := k.batch
	b.Reset()
	for s := range setCount {
		for key, was := range m.touched {
			if key.set != s || !was.present {
				continue
			}
			if now, ok := m.want[key]; !ok || now != was.data {
				if s == setRanges {
					b.DeleteRange(setLayouts[s].Name, key.element(was.data))
				} else {
					b.DeleteElement(setLayouts[s].Name, key.key[:keyLengths[s]])
				}
			}
		}
	}
	var added []class
	for key := range m.touched {
		if key.set == setCounts {
			if now, ok := m.want[key]; ok {
				if c := class(now.number()); !k.classes[c] && !slices.Contains(added, c) {
					added = append(added, c)
					createClass(b, c)
				}
			}
		}
	}
	for s := range setCount {
		for key, was := range m.touched {
			if key.set != s {
				continue
			}
			if now, ok := m.want[key]; ok && (!was.present || now != was.data) {
				b.AddElement(setLayouts[s].Name, key.element(now))
			}
		}
	}
	if err := k.conn.Apply(b); err != nil {
		return err
	}
	for _, c := range added {
		k.classes[c] = true
	}
	return nil
}

// rebuild replaces the table, whatever there is. What clients were remembered
// for affinity stays remembered.
func (k *kernel) rebuild(m *model) error {
	var remembered []nft.Dumped
	if k.numbered {
		var err error
		if remembered, err = k.conn.Elements(nft.IPv4, k.table, mapAffinity); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	b := k.batch
	b.Reset()
	b.AddTable(nil)
	b.DeleteTable()
	k.layout.create(b)
	classes := m.neededClasses()
	classes[classReject], classes[classDrop] = true, true
	for c := range classes {
		createClass(b, c)
	}
	for s := range setCount {
		for key, data := range m.want {
			if key.set == s {
				b.AddElement(setLayouts[s].Name, key.element(data))
			}
		}
	}
	for _, d := range remembered {
		if d.Expires > 0 && len(d.Key) == 8 && len(d.Data) == 4 {
			b.AddElement(mapAffinity, nft.Element{Key: d.Key, Data: d.Data, Timeout: d.Expires})
		}
	}
	if err := k.conn.Apply(b); err != nil {
		return err
	}
	k.classes, k.numbered = classes, true
	// The buffer has the size of the whole table, and the next change is small.
	k.batch = nft.NewBatch(nft.IPv4, k.table)
	return nil
}

func (k *kernel) close() error { return k.conn.Close() }
