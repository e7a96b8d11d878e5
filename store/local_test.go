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
