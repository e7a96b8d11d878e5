package compose

import (
	"testing"
	"time"
)

func TestCollectorPercent(t *testing.T) {
	for live, want := range map[uint64]struct{ busy, quiet int }{
		0: {400, 400}, 1 << 20: {400, 400}, 16 << 20: {400, 400}, 32 << 20: {350, 200}, 64 << 20: {175, 100}, 128 << 20: {87, 50}, 256 << 20: {60, 30}, 400 << 20: {60, 30}, 480 << 20: {53, 30}, 1 << 40: {50, 30},
	} {
		if busy, quiet := collectorPercent(live, false), collectorPercent(live, true); busy != want.busy || quiet != want.quiet {
			t.Errorf("%d MiB: %d%% and %d%%, want %+v", live>>20, busy, quiet, want)
		}
	}
}

func TestCollectorRests(t *testing.T) {
	start := time.Now()
	c := collections{last: start}
	for i, step := range []struct {
		at      time.Duration
		resting bool
		percent int
		burst   bool
	}{
		{at: time.Minute, percent: quietCollectorPercent},
		{at: time.Minute + time.Second, percent: 51, burst: true},
		{at: time.Minute + 2*time.Second, percent: 51, burst: true},
		{at: time.Minute + 12*time.Second, resting: true, percent: quietCollectorPercent},
		{at: 3 * time.Minute, percent: quietCollectorPercent},
	} {
		c.resting.Store(step.resting)
		percent, burst := c.collected(500<<20, start.Add(step.at))
		if percent != step.percent || burst != step.burst {
			t.Errorf("step %d: %d%%, burst %t", i, percent, burst)
		}
	}
}
