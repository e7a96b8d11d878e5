package apiserver

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestRounds: each who has joined is woken once a round, not all at once, and
// nobody who has left; then there is no timer.
func TestRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rounds{every: time.Minute}
		var woken [40]int
		at := map[time.Time]int{}
		leave := make([]func(), len(woken))
		for i := range woken {
			leave[i] = r.join(func() { woken[i]++; at[time.Now()]++ })
		}
		time.Sleep(3*time.Minute + time.Second)
		synctest.Wait()
		for i, n := range woken {
			if n != 3 {
				t.Errorf("%d was woken %d times", i, n)
			}
		}
		for _, n := range at {
			if n > 3 {
				t.Errorf("%d were woken at once", n)
			}
		}
		for _, f := range leave {
			f()
		}
		before := woken
		time.Sleep(time.Hour)
		synctest.Wait()
		if woken != before || r.timer.Stop() {
			t.Error("those who left were woken")
		}
		defer r.join(func() { woken[0]++ })()
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if woken[0] != 4 {
			t.Errorf("woken %d times after a pause", woken[0])
		}
	})
}
