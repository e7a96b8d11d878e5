package compose

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	gometrics "runtime/metrics"
	"sync/atomic"
	"time"
)

const (
	// collectorHeadroom is how much garbage a small heap may gather before it is
	// collected, and burstCollectorHeadroom while collections follow each other
	// closely: of a burst of writes to a small server every tenth of its processor
	// time went to them.
	collectorHeadroom, burstCollectorHeadroom = 64 << 20, 112 << 20
	// mostCollectorPercent keeps an idle server small all the same.
	mostCollectorPercent = 400
	// busyCollectorHeadroom is how much garbage a large heap may gather while
	// collections follow each other closely, but not more than mostBusyPercent: the
	// cost of a byte of garbage is that of what lives by what may gather.
	busyCollectorHeadroom = 256 << 20
	mostBusyPercent       = 60
	// A large heap may gather busyCollectorPercent of garbage in any case, and
	// quietCollectorPercent while collections are rare: to collect more often costs
	// little then, and what a server holds at rest is what its machine must have.
	busyCollectorPercent, quietCollectorPercent = 50, 30
	// quietCollector is the time between two collections from which on a server
	// is quiet. Thousands of nodes that renew their leases are: with 5,000 a second
	// makes 15 MB of garbage.
	quietCollector = 6 * time.Second
	// restAfter is how long after the last of many collections a server collects
	// once more and gives back what it does not hold: what a burst leaves behind
	// would else stay until its garbage has grown by half of what lives.
	restAfter = 5 * time.Second
)

// tuneCollector lets a small heap grow further between two collections than Go
// does, until ctx ends. A server that holds 10 MB would else spend a sixth of its
// time on collecting when many requests come in. GOGC overrules it.
func tuneCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	var c collections
	rest := time.AfterFunc(restAfter, func() {
		c.resting.Store(true)
		debug.FreeOSMemory()
	})
	rest.Stop()
	context.AfterFunc(ctx, func() { rest.Stop() })
	c.last = time.Now()
	// The cleanup of an object that nothing refers to runs after each collection.
	var after func(struct{})
	after = func(struct{}) {
		if ctx.Err() != nil {
			return
		}
		sample := []gometrics.Sample{{Name: "/gc/heap/live:bytes"}}
		gometrics.Read(sample)
		percent, burst := c.collected(sample[0].Value.Uint64(), time.Now())
		if percent < c.set*9/10 || percent > c.set*11/10 {
			c.set = percent
			debug.SetGCPercent(percent)
		}
		if burst {
			rest.Reset(restAfter)
		}
		runtime.AddCleanup(new([64]byte), after, struct{}{})
	}
	after(struct{}{})
}

// collections is what is known of the collections so far.
type collections struct {
	set     int
	last    time.Time   // of the latest, or of the start
	resting atomic.Bool // the next collection is that after a burst
}

// collected is told of a collection that left live bytes. It returns the garbage
// allowed until the next, in percent, and whether this was one of a burst.
func (c *collections) collected(live uint64, now time.Time) (percent int, burst bool) {
	burst = !c.resting.Swap(false) && now.Sub(c.last) < quietCollector
	c.last = now
	return collectorPercent(live, !burst), burst
}

// collectorPercent is the garbage allowed for a heap of live bytes, in percent
// of it.
func collectorPercent(live uint64, quiet bool) int {
	live = max(live, 1)
	least := max(busyCollectorPercent, min(mostBusyPercent, 100*busyCollectorHeadroom/live), 100*burstCollectorHeadroom/live)
	if quiet {
		least = max(quietCollectorPercent, 100*collectorHeadroom/live)
	}
	return int(min(mostCollectorPercent, least))
}
