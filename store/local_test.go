package store_test

import (
	"testing"

	"sagong/store"
	"sagong/store/storetest"
)

func TestMemoryConforms(t *testing.T) {
	storetest.Run(t, storetest.Harness{Open: func(t *testing.T, opts store.Options) store.Store {
		s := store.OpenMemory(opts)
		t.Cleanup(func() { s.Close() })
		return s
	}})
}

func TestDiskConforms(t *testing.T) {
	storetest.Run(t, storetest.Harness{Open: func(t *testing.T, opts store.Options) store.Store {
		opts.Dir = t.TempDir()
		s, err := store.Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}})
}
