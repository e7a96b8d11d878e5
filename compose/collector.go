package compose

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	gometrics "runtime/metrics"
)

const (
	// collectorHeadroom is how much garbage a small heap may gather before it is
	// collected.
	collectorHeadroom = 64 << 20
	// mostCollectorPercent keeps an idle server small all the same, and
	// leastCollectorPercent a large one: most of what it holds are bytes, which
	// cost the collector nothing.
	mostCollectorPercent, leastCollectorPercent = 400, 60
)

// tuneCollector lets a small heap grow further between two collections than Go
// does, until ctx ends. A server that holds 10 MB would else spend a sixth of its
// time on collecting when many requests come in. GOGC overrules it.
func tuneCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	set := 0
	// The cleanup of an object that nothing refers to runs after each collection.
	var after func(struct{})
	after = func(struct{}) {
		if ctx.Err() != nil {
			return
		}
		sample := []gometrics.Sample{{Name: "/gc/heap/live:bytes"}}
		gometrics.Read(sample)
		if p := collectorPercent(sample[0].Value.Uint64()); p < set*9/10 || p > set*11/10 {
			set = p
			debug.SetGCPercent(p)
		}
		runtime.AddCleanup(new([64]byte), after, struct{}{})
	}
	after(struct{}{})
}

// collectorPercent is the garbage allowed for a heap of live bytes, in percent
// of it.
func collectorPercent(live uint64) int {
	return int(min(mostCollectorPercent, max(leastCollectorPercent, 100*collectorHeadroom/max(live, 1))))
}
