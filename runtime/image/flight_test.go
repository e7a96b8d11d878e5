package image

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight[string, int]
		begun := 0
		finish := make(chan int)
		work := func(ctx context.Context, tell func(Progress)) (int, error) {
			begun++
			tell(Progress{Layers: 1})
			select {
			case n := <-finish:
				tell(Progress{Layers: 2})
				return n, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		type result struct {
			n   int
			err error
		}
		results := make(chan result, 3)
		var heard []int
		ask := func(ctx context.Context, progress func(Progress)) {
			go func() {
				n, err := f.do(ctx, "k", progress, work)
				results <- result{n, err}
			}()
			synctest.Wait()
		}
		impatient, leave := context.WithCancel(t.Context())
		ask(impatient, nil)
		ask(t.Context(), func(p Progress) { heard = append(heard, p.Layers) })
		ask(t.Context(), nil)
		// The one who began it leaves; the others' work goes on.
		leave()
		if r := <-results; !errors.Is(r.err, context.Canceled) {
			t.Errorf("the impatient one got %v", r)
		}
		finish <- 7
		for range 2 {
			if r := <-results; r.n != 7 || r.err != nil {
				t.Errorf("a patient one got %v", r)
			}
		}
		if begun != 1 || len(heard) != 2 || heard[0] != 1 || heard[1] != 2 {
			t.Errorf("begun %d times, heard %v", begun, heard)
		}
		// When the last one leaves, it ends, and is begun afresh.
		impatient, leave = context.WithCancel(t.Context())
		ask(impatient, nil)
		leave()
		if r := <-results; !errors.Is(r.err, context.Canceled) {
			t.Errorf("the last one got %v", r)
		}
		ask(t.Context(), nil)
		finish <- 8
		if r := <-results; r.n != 8 || begun != 3 {
			t.Errorf("got %v, begun %d times", r, begun)
		}
	})
}
