package proxy

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
	"sagong/lib/nft"
)

// Dump writes what the kernel holds for a cluster's Services as a table for
// people: every address with the pool and the backends behind it, and the
// clients that affinity remembers. It reads the network namespace of the
// calling thread.
func Dump(w io.Writer, cluster string) error {
	conn, err := nft.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	k := &kernel{conn: conn, table: TableName(cluster), classes: map[class]bool{}}
	have, err := k.read()
	if err != nil {
		return err
	}
	clients, err := conn.Elements(nft.IPv4, k.table, mapAffinity)
	if err != nil {
		return err
	}
	return dump(w, have, clients)
}

func dump(w io.Writer, have map[elementKey]elementData, clients []nft.Dumped) error {
	buffered := bufio.NewWriter(w)
	out := tabwriter.NewWriter(buffered, 0, 0, 2, ' ', 0)
	pools := map[uint32][]netip.AddrPort{}
	var fronts, endpoints []elementKey
	for key := range have {
		switch key.set {
		case setServices, setPorts:
			fronts = append(fronts, key)
		case setEndpoints, setHandles:
			// A pool with affinity has its backends behind handles.
			count := have[idElement(setCounts, binary.NativeEndian.Uint32(key.key[:]))]
			if (class(count.number()).affinity() > 0) == (key.set == setHandles) {
				endpoints = append(endpoints, key)
			}
		}
	}
	slices.SortFunc(endpoints, func(a, b elementKey) int {
		return cmp.Compare(binary.NativeEndian.Uint32(a.key[4:]), binary.NativeEndian.Uint32(b.key[4:]))
	})
	for _, key := range endpoints {
		id := binary.NativeEndian.Uint32(key.key[:])
		if key.set == setHandles {
			pools[id] = append(pools[id], have[idElement(setLive, have[key].number())].backend())
		} else {
			pools[id] = append(pools[id], have[key].backend())
		}
	}
	slices.SortFunc(fronts, func(a, b elementKey) int {
		x, y := parseFront(a), parseFront(b)
		return cmp.Or(cmp.Compare(a.set, b.set), x.addr.Compare(y.addr), cmp.Compare(x.port, y.port), cmp.Compare(x.proto, y.proto))
	})
	fmt.Fprintln(out, "ADDRESS\tPROTOCOL\tPORT\tPOOL\tFLAGS\tBACKENDS")
	for _, key := range fronts {
		f, value := parseFront(key), have[key].number()
		id := value & idMask
		address := "(node)"
		if f.addr.IsValid() {
			address = f.addr.String()
		}
		c := class(have[idElement(setCounts, id)].number())
		fmt.Fprintf(out, "%s\t%s\t%d\t%d\t%s\t%s\n", address, protocolName(f.proto), f.port, id, flagNames(value, c), backendNames(pools[id], c))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	var ids []uint32
	for key, data := range have {
		if key.set == setAll {
			ids = append(ids, data.number()&idMask)
		}
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		fmt.Fprintf(buffered, "pool %d for pods and the node itself: %s\n", id, backendNames(pools[id], class(have[idElement(setCounts, id)].number())))
	}
	lines := map[string]time.Duration{}
	for _, d := range clients {
		if len(d.Key) != 8 || len(d.Data) != 4 {
			continue
		}
		if backend, ok := have[idElement(setLive, binary.NativeEndian.Uint32(d.Data))]; ok {
			lines[fmt.Sprintf("%s of pool %d stays at %s", netip.AddrFrom4([4]byte(d.Key[:4])),
				binary.NativeEndian.Uint32(d.Key[4:]), backend.backend())] = d.Expires
		}
	}
	for _, line := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintf(buffered, "%s for another %s\n", line, lines[line].Round(time.Second))
	}
	return buffered.Flush()
}

func protocolName(p uint8) string {
	switch p {
	case unix.IPPROTO_TCP:
		return "TCP"
	case unix.IPPROTO_UDP:
		return "UDP"
	case unix.IPPROTO_SCTP:
		return "SCTP"
	}
	return fmt.Sprint(p)
}

func flagNames(value uint32, c class) string {
	var names []string
	for _, f := range []struct {
		bit  uint32
		name string
	}{{localOnly, "local"}, {filtered, "filtered"}, {masqueraded, "masquerade"}} {
		if value&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	if s := c.affinity(); s > 0 {
		names = append(names, fmt.Sprintf("affinity=%ds", s))
	}
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ",")
}

func backendNames(b []netip.AddrPort, c class) string {
	if len(b) == 0 {
		if c == classDrop {
			return "none here: drop"
		}
		return "none: reject"
	}
	names := make([]string, len(b))
	for i := range b {
		names[i] = b[i].String()
	}
	return strings.Join(names, " ")
}
