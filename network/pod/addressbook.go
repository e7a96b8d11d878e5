package pod

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// addressBook knows which pod holds which address: a bitmap for each podCIDR in
// memory, and a file that every change is appended to. A record is complete or,
// torn by a crash, ignored: its check sum tells. The file is not synced to disk,
// because after a crash of the machine no pod is left that could hold an address.
type addressBook struct {
	mu      sync.Mutex
	pools   []*pool
	leases  map[string][]netip.Addr
	holders map[netip.Addr]string
	resting []rest
	delay   time.Duration
	now     func() time.Time
	path    string
	file    *os.File
	records int
}

// rest is a released address that nobody may get yet: connections and caches
// elsewhere may still take it for the pod that had it.
type rest struct {
	addr netip.Addr
	till time.Time
}

// openBook reads the file at path, or starts it.
func openBook(path string, cidrs []netip.Prefix, delay time.Duration, now func() time.Time) (*addressBook, error) {
	b := &addressBook{
		leases: map[string][]netip.Addr{}, holders: map[netip.Addr]string{},
		delay: delay, now: now, path: path,
	}
	for _, c := range cidrs {
		b.pools = append(b.pools, newPool(c))
	}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the pod addresses: %w", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		b.replay(lines.Text())
	}
	if err := b.rewrite(); err != nil {
		return nil, err
	}
	return b, nil
}

// replay applies one record of the file; a damaged one is left out.
func (b *addressBook) replay(line string) {
	key, addrs, ok := parseRecord(line)
	if !ok {
		return
	}
	for _, a := range b.leases[key] {
		b.set(a, false)
		delete(b.holders, a)
	}
	delete(b.leases, key)
	if len(addrs) == 0 {
		return
	}
	// A pod whose address is outside of the podCIDR, which has changed since,
	// keeps it; the bitmap has no place for it.
	b.leases[key] = addrs
	for _, a := range addrs {
		b.holders[a] = key
		b.set(a, true)
	}
}

// formatRecord encodes a change: the key holds addrs from now on, none for released.
func formatRecord(key string, addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	body := strconv.Quote(key) + " " + strings.Join(texts, ",")
	return fmt.Sprintf("%08x %s\n", crc32.ChecksumIEEE([]byte(body)), body)
}

func parseRecord(line string) (key string, addrs []netip.Addr, ok bool) {
	sum, body, found := strings.Cut(line, " ")
	want, err := strconv.ParseUint(sum, 16, 32)
	if !found || err != nil || uint32(want) != crc32.ChecksumIEEE([]byte(body)) {
		return "", nil, false
	}
	quoted, err := strconv.QuotedPrefix(body)
	if err != nil {
		return "", nil, false
	}
	key, err = strconv.Unquote(quoted)
	if err != nil {
		return "", nil, false
	}
	rest := strings.TrimPrefix(body[len(quoted):], " ")
	if rest == "" {
		return key, nil, true
	}
	for text := range strings.SplitSeq(rest, ",") {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return "", nil, false
		}
		addrs = append(addrs, a)
	}
	return key, addrs, true
}

// rewrite replaces the file by one that holds the living leases only.
func (b *addressBook) rewrite() error {
	var out bytes.Buffer
	for _, key := range b.keys() {
		out.WriteString(formatRecord(key, b.leases[key]))
	}
	if err := os.MkdirAll(filepath.Dir(b.path), 0o755); err != nil {
		return fmt.Errorf("cannot keep the pod addresses: %w", err)
	}
	next := b.path + ".new"
	if err := os.WriteFile(next, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("cannot keep the pod addresses: %w", err)
	}
	f, err := os.OpenFile(next, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot keep the pod addresses: %w", err)
	}
	if err := os.Rename(next, b.path); err != nil {
		f.Close()
		return fmt.Errorf("cannot keep the pod addresses: %w", err)
	}
	if b.file != nil {
		b.file.Close()
	}
	b.file, b.records = f, len(b.leases)
	return nil
}

func (b *addressBook) append(key string, addrs []netip.Addr) error {
	if b.file == nil {
		return errors.New("cannot keep a pod address: the network is closed")
	}
	if b.records > 1024 && b.records > 4*len(b.leases) {
		if err := b.rewrite(); err != nil {
			return err
		}
	}
	if _, err := b.file.WriteString(formatRecord(key, addrs)); err != nil {
		// Part of the record may be in the file; the next one must start a line.
		_, _ = b.file.WriteString("\n")
		return fmt.Errorf("cannot keep a pod address: %w", err)
	}
	b.records++
	return nil
}

// lease returns the addresses of key, and whether it had them before.
func (b *addressBook) lease(key string) (addrs []netip.Addr, known bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if addrs, ok := b.leases[key]; ok {
		return addrs, true, nil
	}
	b.wake()
	for _, p := range b.pools {
		a, ok := p.take()
		if !ok {
			a, ok = b.tired(p)
		}
		if !ok {
			for _, a := range addrs {
				b.set(a, false)
			}
			return nil, false, fmt.Errorf("cannot give the pod an address: all %d of %s are taken", p.size-p.reserved, p.cidr)
		}
		addrs = append(addrs, a)
	}
	if err := b.append(key, addrs); err != nil {
		for _, a := range addrs {
			b.set(a, false)
		}
		return nil, false, err
	}
	b.leases[key] = addrs
	for _, a := range addrs {
		b.holders[a] = key
	}
	return addrs, false, nil
}

// release lets the addresses of key rest and then return to the pool.
func (b *addressBook) release(key string) ([]netip.Addr, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	addrs, ok := b.leases[key]
	if !ok {
		return nil, nil
	}
	if err := b.append(key, nil); err != nil {
		return nil, err
	}
	delete(b.leases, key)
	till := b.now().Add(b.delay)
	for _, a := range addrs {
		delete(b.holders, a)
		b.resting = append(b.resting, rest{a, till})
	}
	return addrs, nil
}

// wake returns the addresses that have rested long enough.
func (b *addressBook) wake() {
	now := b.now()
	n := 0
	for n < len(b.resting) && !b.resting[n].till.After(now) {
		b.set(b.resting[n].addr, false)
		n++
	}
	b.resting = slices.Delete(b.resting, 0, n)
}

// tired takes the address that has rested longest, for a pool that is full:
// an address too early is better than a pod without.
func (b *addressBook) tired(p *pool) (netip.Addr, bool) {
	for i, r := range b.resting {
		if p.cidr.Contains(r.addr) {
			b.resting = slices.Delete(b.resting, i, i+1)
			return r.addr, true
		}
	}
	return netip.Addr{}, false
}

func (b *addressBook) set(a netip.Addr, used bool) {
	for _, p := range b.pools {
		if p.cidr.Contains(a) {
			p.set(a, used)
			return
		}
	}
}

func (b *addressBook) keys() []string {
	keys := make([]string, 0, len(b.leases))
	for k := range b.leases {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (b *addressBook) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil {
		return nil
	}
	err := b.file.Close()
	b.file = nil
	return err
}
