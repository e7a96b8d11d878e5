package reconcile

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sagong/object"
)

// TestRestGathersChanges has a key whose handling asks for rest: what comes
// meanwhile is handled once, at its end.
func TestRestGathersChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timers := newTimers()
		ctx, cancel := context.WithCancel(t.Context())
		go timers.run(ctx)
		defer func() { cancel(); synctest.Wait() }()
		q := newQueue("q", timers, NoMetrics{}, 1, func() {})
		k := object.Key{Name: "k"}
		take := func(want bool) {
			t.Helper()
			synctest.Wait()
			q.mu.Lock()
			q.active = 1
			q.mu.Unlock()
			if _, ok := q.next(); ok != want {
				t.Fatalf("handed out: %t", ok)
			}
		}
		q.add(k)
		take(true)
		q.add(k) // while it is being handled
		q.done(k, outcome{rest: time.Second})
		q.add(k)
		take(false)
		time.Sleep(time.Second - 1)
		take(false)
		time.Sleep(1)
		take(true)
		q.done(k, outcome{rest: time.Second})
		time.Sleep(time.Second)
		take(false) // nothing came
		if n := len(q.entries); n != 0 {
			t.Errorf("%d keys are remembered", n)
		}
		q.add(k)
		take(true)
		q.done(k, outcome{rest: time.Second, failed: true})
		time.Sleep(firstDelay)
		take(true) // a failure is retried without rest
		q.done(k, outcome{rest: time.Second})
		q.close()
		q.add(k)
		time.Sleep(time.Minute)
		take(false)
	})
}
