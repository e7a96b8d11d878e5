package store_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"sagong/store"
)

// turning is a Cipher that anybody can break: it turns each byte by the number
// in front.
type turning struct {
	covers func(key string) bool
	by     atomic.Uint32
	fail   atomic.Bool
}

func (c *turning) Covers(key string) bool { return c.covers(key) }

func (c *turning) Seal(key string, value []byte) ([]byte, error) {
	if c.fail.Load() {
		return nil, errors.New("no key")
	}
	by := byte(c.by.Load())
	return turn(append([]byte{'#', by}, value...), by), nil
}

func turn(sealed []byte, by byte) []byte {
	for i := range sealed[2:] {
		sealed[2+i] += by + 1
	}
	return sealed
}

func (c *turning) Open(key string, stored []byte) ([]byte, bool, error) {
	if len(stored) < 2 || stored[0] != '#' {
		return stored, c.covers(key), nil
	}
	if c.fail.Load() {
		return nil, false, errors.New("no key")
	}
	return turn(bytes.Clone(stored), -stored[1]-2)[2:], stored[1] != byte(c.by.Load()) || !c.covers(key), nil
}

// holding lists the files below dir that hold text.
func holding(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			found = append(found, filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCipher(t *testing.T) {
	dir := t.TempDir()
	const planted, free = "planted value of a secret", "open to all who look"
	fill := func(s store.Store, n string) {
		put(t, s, "/s/secrets/a"+n, planted+n)
		put(t, s, "/s/other/b"+n, free+n)
	}
	clear := open(t, store.Options{Dir: dir})
	fill(clear, "0")
	clear.Close()
	if len(holding(t, dir, planted)) == 0 {
		t.Fatal("the search does not find what is there")
	}

	c := &turning{covers: func(key string) bool { return strings.HasPrefix(key, "/s/secrets/") }}
	s := open(t, store.Options{Dir: dir, Cipher: c})
	if !s.Stale() {
		t.Error("values in clear are not seen as stale")
	}
	fill(s, "1")
	before := dump(t, s, 0)
	if !strings.Contains(before, planted+"0") || !strings.Contains(before, planted+"1") {
		t.Errorf("in memory: %s", before)
	}
	for n := range 3 {
		c.by.Store(uint32(n))
		if err := s.Rewrite(t.Context()); err != nil {
			t.Fatal(err)
		}
		if found := holding(t, dir, planted); len(found) > 0 {
			t.Errorf("after a rewrite %v hold the planted value", found)
		}
		if n > 0 {
			if found := holding(t, dir, string(turn([]byte("##"+planted), byte(n-1))[2:])); len(found) > 0 {
				t.Errorf("after a rewrite %v hold it under the key of before", found)
			}
		}
	}
	if len(holding(t, dir, free)) == 0 {
		t.Error("what is not covered is sealed as well")
	}
	var backup bytes.Buffer
	if _, err := s.Snapshot(t.Context(), &backup); err != nil || bytes.Contains(backup.Bytes(), []byte(planted)) {
		t.Errorf("the backup holds the planted value, or failed: %v", err)
	}
	s.Close()

	s = open(t, store.Options{Dir: dir, Cipher: c})
	if s.Stale() || dump(t, s, 0) != before {
		t.Errorf("stale %t, opened again: %s", s.Stale(), dump(t, s, 0))
	}
	c.fail.Store(true)
	r := s.Commit(t.Context(), []store.Op{{Key: "/s/secrets/x", Expect: store.AnyRev}, {Key: "/s/other/x", Expect: store.AnyRev}})
	if r[0].Err == nil || r[1].Err == nil || !strings.Contains(r[0].Err.Error(), "cannot encrypt /s/secrets/x: no key") {
		t.Errorf("without a key: %+v", r)
	}
	if err := s.Rewrite(t.Context()); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("rewrite without a key: %v", err)
	}
	put(t, s, "/s/other/y", "goes on")
	s.Close()
	if _, err := store.Open(store.Options{Dir: dir, Cipher: c}); err == nil || !strings.Contains(err.Error(), "cannot decrypt /s/secrets/a0: no key") {
		t.Errorf("opened without its key: %v", err)
	}

	c.fail.Store(false)
	copied := t.TempDir()
	if _, err := store.Restore(copied, &backup, 1000); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, open(t, store.Options{Dir: copied, Cipher: c}), 0); got != before {
		t.Errorf("restored: %s", got)
	}
}

// Writers that seal with the old key while the store is rewritten leave nothing
// under it.
func TestRewriteUnderWrites(t *testing.T) {
	dir := t.TempDir()
	c := &turning{covers: func(string) bool { return true }}
	s := open(t, store.Options{Dir: dir, Cipher: c})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			s.Commit(t.Context(), []store.Op{{Key: "/s/secrets/a", Value: []byte(strings.Repeat("value ", 100)), Expect: store.AnyRev}})
		}
	}()
	for n := range 10 {
		c.by.Store(uint32(n))
		if err := s.Rewrite(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			if found := holding(t, dir, string(turn([]byte("##value value"), byte(n-1))[2:])); len(found) > 0 {
				t.Errorf("rewrite %d: %v hold what was sealed before", n, found)
			}
		}
	}
	close(stop)
	<-done
}
