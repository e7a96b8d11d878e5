package pod

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func newBook(t testing.TB, path string, now *time.Time, cidrs ...string) *addressBook {
	t.Helper()
	var ranges []netip.Prefix
	for _, c := range cidrs {
		ranges = append(ranges, prefix(c))
	}
	b, err := openBook(path, ranges, 30*time.Second, func() time.Time { return *now })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.close() })
	return b
}

func (b *addressBook) mustLease(t testing.TB, key string) netip.Addr {
	t.Helper()
	a, _, err := b.lease(key)
	if err != nil {
		t.Fatal(err)
	}
	return a[0]
}

func TestAddressesRestBeforeReuse(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBook(t, filepath.Join(t.TempDir(), "addresses"), &now, "10.0.0.0/29")
	// Of eight addresses three are nobody's.
	var got []string
	for i := range 5 {
		got = append(got, b.mustLease(t, fmt.Sprint(i)).String())
	}
	if want := []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"}; !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
	if _, _, err := b.lease("one more"); err == nil || err.Error() != "cannot give the pod an address: all 5 of 10.0.0.0/29 are taken" {
		t.Fatalf("a full range: %v", err)
	}
	for _, key := range []string{"3", "1"} {
		if _, err := b.release(key); err != nil {
			t.Fatal(err)
		}
	}
	// Better an address that has rested too little than none; the oldest first.
	if a := b.mustLease(t, "5"); a.String() != "10.0.0.5" {
		t.Errorf("got %s", a)
	}
	now = now.Add(30 * time.Second)
	if _, err := b.release("0"); err != nil {
		t.Fatal(err)
	}
	if a := b.mustLease(t, "6"); a.String() != "10.0.0.3" {
		t.Errorf("got %s, want the one that has rested", a)
	}
}

func TestBookSurvivesDamage(t *testing.T) {
	now := time.Unix(1000, 0)
	path := filepath.Join(t.TempDir(), "addresses")
	b := newBook(t, path, &now, "10.0.0.0/24")
	for _, key := range []string{"ns/a", "b with space", "c\nd", "e"} {
		b.mustLease(t, key)
	}
	if _, err := b.release("e"); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(b.leases)
	if err := b.close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Cut off anywhere, the file gives a book of earlier times.
	for n := range len(whole) {
		if err := os.WriteFile(path, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		b := newBook(t, path, &now, "10.0.0.0/24")
		if len(b.leases) > 4 {
			t.Fatalf("cut at %d: %v", n, b.leases)
		}
		b.mustLease(t, "new")
		b.close()
	}
	if err := os.WriteFile(path, append(whole, []byte("deadbeef + nonsense\ngarbage")...), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(newBook(t, path, &now, "10.0.0.0/24").leases); got != want {
		t.Errorf("with a torn end: %s, want %s", got, want)
	}
}

// Whatever pods come and go, no two hold one address, and a new process knows
// the same as the old one.
func TestBookNeverGivesAnAddressTwice(t *testing.T) {
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 2))
		now := time.Unix(1000, 0)
		path := filepath.Join(t.TempDir(), "addresses")
		b := newBook(t, path, &now, "10.0.0.0/26")
		held := map[string]netip.Addr{}
		for step := range 6000 {
			now = now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
			key := fmt.Sprint(r.IntN(80))
			if r.IntN(2) == 0 {
				a, known, err := b.lease(key)
				if err != nil {
					if len(held) < 61 {
						t.Fatalf("seed %d step %d: %v with %d held", seed, step, err, len(held))
					}
					continue
				}
				if known != held[key].IsValid() || known && held[key] != a[0] {
					t.Fatalf("seed %d step %d: %s got %v known=%v, had %v", seed, step, key, a, known, held[key])
				}
				for other, b := range held {
					if other != key && b == a[0] {
						t.Fatalf("seed %d step %d: %s and %s share %s", seed, step, key, other, b)
					}
				}
				held[key] = a[0]
			} else {
				if _, err := b.release(key); err != nil {
					t.Fatal(err)
				}
				delete(held, key)
			}
			if step%500 == 0 {
				b.close()
				b = newBook(t, path, &now, "10.0.0.0/26")
				if len(b.leases) != len(held) {
					t.Fatalf("seed %d step %d: %d leases after a restart, want %d", seed, step, len(b.leases), len(held))
				}
			}
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 200_000 {
			t.Errorf("the file has grown to %d bytes", info.Size())
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(formatRecord("ns/pod", []netip.Addr{addr("10.0.0.1"), addr("fd00::1")}))
	f.Add(formatRecord("x \n\"", nil))
	f.Fuzz(func(t *testing.T, line string) {
		key, addrs, ok := parseRecord(line)
		if !ok {
			return
		}
		again, back, ok := parseRecord(formatRecord(key, addrs)[:len(formatRecord(key, addrs))-1])
		if !ok || again != key || !slices.Equal(back, addrs) {
			t.Errorf("%q %v became %q %v", key, addrs, again, back)
		}
	})
}

func TestConfigFaultsAreNamed(t *testing.T) {
	err := Config{NodeIP: addr("127.0.0.1"), PodCIDRs: []netip.Prefix{prefix("10.0.0.1/24"), prefix("fd00::/64")}, MTU: 3, Encapsulation: "x"}.Validate()
	if err == nil {
		t.Fatal("a bad configuration was taken")
	}
	t.Log(err)
}
