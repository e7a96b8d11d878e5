package timing

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTimersFireInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := NewTimers()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { ts.Run(ctx) })
		began := time.Now()
		var fired []time.Duration
		note := func() { fired = append(fired, time.Since(began)) }
		for _, i := range rand.Perm(100) {
			ts.Set(i, began.Add(time.Duration(i)*time.Second), note)
		}
		ts.Clear(7)
		ts.Set(8, began.Add(200*time.Second), note)
		ts.Set(9, began.Add(time.Second/2), note)
		time.Sleep(150 * time.Second)
		synctest.Wait()
		if len(fired) != 98 || fired[0] != 0 || fired[1] != time.Second/2 {
			t.Errorf("%d fired: %v", len(fired), fired[:3])
		}
		for i := 1; i < len(fired); i++ {
			if fired[i] < fired[i-1] {
				t.Errorf("%v after %v", fired[i], fired[i-1])
			}
		}
		if ts.Len() != 1 {
			t.Errorf("%d are armed", ts.Len())
		}
		cancel()
		wg.Wait()
	})
}

// No key is worked on twice at a time, and none that was added is lost.
func TestQueue(t *testing.T) {
	q := NewQueue[int]()
	const keys, adds = 10, 5000
	var wg sync.WaitGroup
	var busy [keys]atomic.Int32
	var version, seen [keys]atomic.Int64
	for range 4 {
		wg.Go(func() {
			for {
				k, ok := q.Next()
				if !ok {
					return
				}
				if busy[k].Add(1) != 1 {
					t.Errorf("%d is worked on twice at a time", k)
				}
				seen[k].Store(version[k].Load())
				busy[k].Add(-1)
				q.Done(k)
			}
		})
	}
	for range adds {
		k := rand.IntN(keys)
		version[k].Add(1)
		q.Add(k)
	}
	for k := range keys {
		for seen[k].Load() != version[k].Load() {
			time.Sleep(time.Millisecond)
		}
	}
	q.Close()
	wg.Wait()
}
