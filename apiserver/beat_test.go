package apiserver

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Those that wait go on together, one that comes later at the next beat, and one
// whose client has gone at once.
func TestBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b beat
		begin := time.Now()
		after := func(ctx context.Context, want time.Duration) func() {
			return func() {
				b.wait(ctx)
				if d := time.Since(begin); d != want {
					t.Errorf("went on after %v, not %v", d, want)
				}
			}
		}
		var all sync.WaitGroup
		all.Go(after(t.Context(), beatEvery))
		time.Sleep(beatEvery / 2)
		all.Go(after(t.Context(), beatEvery))
		gone, cancel := context.WithCancel(t.Context())
		all.Go(after(gone, beatEvery/2))
		synctest.Wait()
		cancel()
		time.Sleep(beatEvery)
		all.Go(after(t.Context(), 5*beatEvery/2))
		all.Wait()
	})
}
