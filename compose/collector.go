package compose

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	gometrics "runtime/metrics"
	"time"
)

const (
	// collectorHeadroom is how much garbage a small heap may gather before it is
	// collected.
	collectorHeadroom = 64 << 20
	// mostCollectorPercent keeps an idle server small all the same.
	mostCollectorPercent = 400
	// busyCollectorHeadroom is how much garbage a large heap may gather while
	// collections follow each other closely, but not more than mostBusyPercent: the
	// cost of a byte of garbage is that of what lives by what may gather.
	busyCollectorHeadroom = 256 << 20
	mostBusyPercent       = 75
	// A large heap may gather busyCollectorPercent of garbage in any case, and
	// quietCollectorPercent while collections are rare: to collect more often costs
	// little then, and what a server holds at rest is what its machine must have.
	busyCollectorPercent, quietCollectorPercent = 50, 30
	// quietCollector is the time between two collections from which on a server
	// is quiet. Thousands of nodes that renew their leases are: with 5,000 a second
	// makes 15 MB of garbage.
	quietCollector = 6 * time.Second
)

// tuneCollector lets a small heap grow further between two collections than Go
// does, until ctx ends. A server that holds 10 MB would else spend a sixth of its
// time on collecting when many requests come in. GOGC overrules it.
func tuneCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	set, last := 0, time.Now()
	// The cleanup of an object that nothing refers to runs after each collection.
	var after func(struct{})
	after = func(struct{}) {
		if ctx.Err() != nil {
			return
		}
		sample := []gometrics.Sample{{Name: "/gc/heap/live:bytes"}}
		gometrics.Read(sample)
		quiet := time.Since(last) > quietCollector
		last = time.Now()
		if p := collectorPercent(sample[0].Value.Uint64(), quiet); p < set*9/10 || p > set*11/10 {
			set = p
			debug.SetGCPercent(p)
		}
		runtime.AddCleanup(new([64]byte), after, struct{}{})
	}
	after(struct{}{})
}

// collectorPercent is the garbage allowed for a heap of live bytes, in percent
// of it.
func collectorPercent(live uint64, quiet bool) int {
	least := max(busyCollectorPercent, min(mostBusyPercent, 100*busyCollectorHeadroom/max(live, 1)))
	if quiet {
		least = quietCollectorPercent
	}
	return int(min(mostCollectorPercent, max(least, 100*collectorHeadroom/max(live, 1))))
}
