package store_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sagong/store"
	"sagong/store/storetest"
)

var value2k = func() []byte {
	b := make([]byte, 2048)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}()

// BenchmarkCommit is a durable compare-and-swap of 2 KB.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, store.Options{Dir: b.TempDir()})
			var wg sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			for n := range writers {
				wg.Go(func() {
					var rev [64]store.Rev
					for i := 0; left.Add(-1) >= 0; i++ {
						k := i % len(rev)
						op := []store.Op{{Key: fmt.Sprintf("/r/a/%d/%d", n, k), Value: value2k, Expect: rev[k]}}
						r := s.Commit(context.Background(), op)[0]
						if r.Err != nil {
							b.Error(r.Err)
							return
						}
						rev[k] = r.Rev
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}

// BenchmarkCommitBatch is one call with 1,000 creates, as a controller makes.
func BenchmarkCommitBatch(b *testing.B) {
	s := open(b, store.Options{Dir: b.TempDir()})
	ops := make([]store.Op, 1000)
	for b.Loop() {
		for i := range ops {
			ops[i] = store.Op{Key: fmt.Sprintf("/r/a/n/%d", i), Value: value2k, Expect: store.AnyRev}
		}
		if r := s.Commit(context.Background(), ops); r[999].Err != nil {
			b.Fatal(r[999].Err)
		}
	}
	b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

func fill(b *testing.B, s store.Store, n int) {
	for i := 0; i < n; i += 1000 {
		ops := make([]store.Op, 1000)
		for j := range ops {
			ops[j] = store.Op{Key: fmt.Sprintf("/r/a/n%02d/%06d", (i+j)%50, i+j), Value: append([]byte(nil), value2k...)}
		}
		if r := s.Commit(context.Background(), ops); r[999].Err != nil {
			b.Fatal(r[999].Err)
		}
	}
}

// BenchmarkList is a list of all of 100,000 objects, and of a page of 500 with
// the count of what remains.
func BenchmarkList(b *testing.B) {
	s := store.OpenMemory(store.Options{})
	defer s.Close()
	fill(b, s, 100_000)
	for name, opts := range map[string]store.ListOptions{"all": {}, "page": {Limit: 500}, "uncounted": {Limit: 500, Uncounted: true}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if l, err := s.List(context.Background(), "/r/a/", opts); err != nil || len(l.Records) == 0 {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("get", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, _, err := s.Get(context.Background(), "/r/a/n00/050000", 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

// BenchmarkOpen is a start with 100,000 objects, from the log and from a snapshot.
func BenchmarkOpen(b *testing.B) {
	for name, least := range map[string]int64{"log": 1 << 40, "snapshot": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			opts := store.Options{Dir: b.TempDir(), SnapshotBytes: least, HistoryBytes: 1}
			s, err := store.Open(opts)
			if err != nil {
				b.Fatal(err)
			}
			fill(b, s, 100_000)
			s.Close()
			s = nil
			for b.Loop() {
				s, err := store.Open(opts)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MB")
				s.Close()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkWatch delivers commits to many watchers: all of one topic, or each of
// one tag of its own.
func BenchmarkWatch(b *testing.B) {
	for _, c := range []struct {
		name     string
		watchers int
		tags     bool
	}{{"one topic", 1000, false}, {"tags", 10_000, true}} {
		b.Run(fmt.Sprintf("%s/watchers=%d", c.name, c.watchers), func(b *testing.B) {
			s := store.OpenMemory(store.Options{Tag: storetest.Tag})
			defer s.Close()
			ctx, cancel := context.WithCancel(context.Background())
			var delivered atomic.Int64
			var wg sync.WaitGroup
			for n := range c.watchers {
				opts := store.WatchOptions{}
				if c.tags {
					opts.Tag = fmt.Sprint(n)
				}
				w, err := s.Watch(ctx, "/r/a/", 0, opts)
				if err != nil {
					b.Fatal(err)
				}
				wg.Go(func() {
					defer w.Close()
					for {
						evs, err := w.Next(ctx)
						if err != nil {
							return
						}
						delivered.Add(int64(len(evs)))
					}
				})
			}
			b.ResetTimer()
			want := int64(0)
			for i := 0; i < b.N; i += 10 {
				ops := make([]store.Op, 10)
				for j := range ops {
					ops[j] = store.Op{Key: fmt.Sprintf("/r/a/n/%d", i+j), Value: fmt.Appendf(nil, "%d,", (i+j)%c.watchers), Expect: store.AnyRev}
				}
				s.Commit(ctx, ops)
				want += 10
			}
			if !c.tags {
				want *= int64(c.watchers)
			}
			for delivered.Load() < want {
				time.Sleep(100 * time.Microsecond)
			}
			b.ReportMetric(float64(want)/b.Elapsed().Seconds(), "deliveries/s")
			cancel()
			wg.Wait()
		})
	}
}
