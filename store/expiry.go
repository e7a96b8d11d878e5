package store

import (
	"container/heap"
	"time"
)

// deadline is the end of a key's time to live on the store's monotonic clock.
// A later write to the key leaves it behind; it is recognised by the revision.
type deadline struct {
	at  int64 // milliseconds since the store was opened
	key string
	rev Rev
}

// deadlines is a heap, soonest first.
type deadlines []deadline

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at < d[j].at }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }

// Push implements heap.Interface.
func (d *deadlines) Push(x any) { *d = append(*d, x.(deadline)) }

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	n := len(*d) - 1
	last := (*d)[n]
	(*d)[n] = deadline{}
	*d = (*d)[:n]
	return last
}

// add notes the end of a record's life; ttl is what is left of it.
func (d *deadlines) add(r *Record, now int64, ttl time.Duration) {
	// Whole seconds, so that many share one wake-up.
	at := (now + ttl.Milliseconds() + 999) / 1000 * 1000
	heap.Push(d, deadline{at: at, key: r.Key, rev: r.ModRev})
}

// due pops what has ended by now, up to limit, as operations that delete the key
// unless it was written again.
func (d *deadlines) due(now int64, limit int) []Op {
	var ops []Op
	for len(*d) > 0 && (*d)[0].at <= now && len(ops) < limit {
		e := heap.Pop(d).(deadline)
		ops = append(ops, Op{Key: e.key, Expect: e.rev, Delete: true})
	}
	return ops
}

// expiresAt is the wall clock that is persisted for a TTL.
func expiresAt(now time.Time, ttl time.Duration) int64 {
	return now.Add(ttl + time.Second - 1).Unix()
}
