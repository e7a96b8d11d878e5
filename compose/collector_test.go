package compose

import "testing"

func TestCollectorPercent(t *testing.T) {
	for live, want := range map[uint64]struct{ busy, quiet int }{
		0: {400, 400}, 1 << 20: {400, 400}, 16 << 20: {400, 400}, 32 << 20: {200, 200}, 64 << 20: {100, 100}, 128 << 20: {75, 50}, 256 << 20: {75, 30}, 400 << 20: {64, 30}, 1 << 40: {50, 30},
	} {
		if busy, quiet := collectorPercent(live, false), collectorPercent(live, true); busy != want.busy || quiet != want.quiet {
			t.Errorf("%d MiB: %d%% and %d%%, want %+v", live>>20, busy, quiet, want)
		}
	}
}
