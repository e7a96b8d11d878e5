package store

import (
	"sync"
	"sync/atomic"
	"time"

	"sagong/store/wal"
)

const (
	// maxBatch is the size at which a batch is written before more is taken.
	maxBatch = 8 << 20
	// maxExpired bounds the deletes of expired keys in one round.
	maxExpired = 4096
	// gatherFor is how long what is queued waits for writes that are announced.
	gatherFor = time.Millisecond
)

// committer judges operations in order, makes batches of them durable and then
// visible. Everything below queue is its goroutine's alone.
type committer struct {
	s *Local

	mu    sync.Mutex
	queue []*submission
	stop  error // why writes are refused
	kick  chan struct{}

	announced atomic.Int32 // writes that may be queued soon

	next     Rev // revision of the next operation
	batch    wal.Batch
	force    bool      // the batch must be written though all of it is lazy
	lazyUsed bool      // some operation was lazy since the store was opened
	skip     bool      // the next batch begins after a gap
	lazy     int64     // when the batch must be on disk for its lazy operations, 0 none
	pending  []*entry  // decided, not yet published
	items    []*item   // of pending
	stamps   []Stamper // of pending, nil where there is none
	waiting  []*submission
	failed   error
	deadline deadlines

	historyBytes int64
	events       int      // in the history
	busy         []*topic // that have more events than they may keep for long
	thinAt       int64    // when to look at them again, 0 for never
	packer       packer
	scratch      scratch
	packed       uint64    // place in the history up to which old versions are packed
	unpacked     []*Record // that were read when the store was opened and are not in the history
	packAt       int64     // when to look again, 0 for never
	trimAt       int64     // when to look at the history again, 0 when it is empty
	trimHold     int64     // not before this
	compactTo    Rev       // asked for by Compact
	snapshot     chan error
	wanted       []chan error // who asked for a snapshot that begins from now on
	served       []chan error // who waits for the one under way
	closeErr     error
}

func (c *committer) init(s *Local) {
	c.s = s
	c.next = emptyRev + 1
	c.kick = make(chan struct{}, 1)
}

// run is the committer's goroutine. It sleeps until there is work or the next
// deadline.
func (c *committer) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Stop()
		if wait := c.sleep(); wait >= 0 {
			timer.Reset(wait)
		}
		select {
		case <-c.kick:
			c.gather(timer)
		case <-timer.C:
		case err := <-c.snapshot:
			c.snapshotDone(err)
		case <-c.s.closing:
			c.close()
			return
		}
		c.round()
	}
}

// gather waits for writes that are announced. A sync takes a few hundred
// microseconds whatever it writes, and to get a processor back afterwards often
// takes longer: with one each, 64 clients had two thirds of the writes a second.
func (c *committer) gather(timer *time.Timer) {
	if c.s.disk == nil || c.announced.Load() <= 0 {
		return
	}
	timer.Reset(gatherFor)
	for c.announced.Load() > 0 {
		select {
		case <-c.kick:
		case <-timer.C:
			return
		case <-c.s.closing:
			return
		}
	}
}

// sleep returns the time until the committer must act by itself, below zero for
// never.
func (c *committer) sleep() time.Duration {
	soonest := int64(0)
	consider := func(at int64) {
		if at != 0 && (soonest == 0 || at < soonest) {
			soonest = at
		}
	}
	consider(c.trimAt)
	consider(c.packAt)
	consider(c.thinAt)
	if c.failed == nil {
		consider(c.lazy)
		if len(c.deadline) > 0 {
			consider(max(1, c.deadline[0].at))
		}
	}
	if soonest == 0 {
		return -1
	}
	return time.Duration(max(0, soonest-c.s.now())) * time.Millisecond
}

// round serves what is queued and what is due.
func (c *committer) round() {
	c.mu.Lock()
	queue := c.queue
	c.queue = nil
	c.mu.Unlock()

	now := c.s.now()
	if c.failed == nil {
		if ops := c.deadline.due(now, maxExpired); len(ops) > 0 {
			c.judge(&submission{ops: ops, results: make([]Result, len(ops)), done: make(chan struct{})})
		}
	}
	for _, sub := range queue {
		switch {
		case sub.gone.Load():
		case sub.do != nil:
			c.flush(false)
			sub.do()
			close(sub.done)
		default:
			c.judge(sub)
		}
	}
	c.flush(c.lazy != 0 && c.lazy <= now)
	if c.snapshot == nil && len(c.wanted) > 0 {
		c.rewrite()
	}

	c.packAt = c.pack(now)
	if now < c.trimHold {
		return
	}
	if c.thinAt != 0 && c.thinAt <= now {
		c.thin(now)
	}
	target, again := c.s.trimTarget(now)
	c.trimAt = again
	if target > 0 {
		c.s.trim(target)
		if c.s.CompactedRev() < target { // held up by a pin
			c.trimHold = now + 50
			c.trimAt = c.trimHold
		}
	}
}

// judge decides the operations of a submission against what is published and
// what was decided before them.
func (c *committer) judge(sub *submission) {
	c.waiting = append(c.waiting, sub)
	for i, n := 0, 0; i < len(sub.ops) && c.failed == nil; i += n {
		for n = 1; i+n < len(sub.ops) && sub.ops[i+n].Joined; n++ {
		}
		for _, op := range sub.ops[i : i+n] {
			if !op.Lazy {
				// A failed condition is an answer too: it may rest on what is not
				// yet on disk.
				sub.durable = true
			}
		}
		c.decideAll(sub.ops[i:i+n], sub.results[i:i+n])
		if c.batch.Size() > maxBatch {
			c.write()
			c.publish()
			c.answer(len(c.waiting) - 1) // all but this one
		}
	}
}

// decideAll decides operations that are joined, or one that is not. They come to
// the log in one batch, which a crash leaves whole or not at all.
func (c *committer) decideAll(ops []Op, results []Result) {
	if len(ops) > 1 {
		for i := range ops {
			if _, _, err := c.check(&ops[i]); err != nil {
				for j := range results {
					results[j] = Result{Rev: c.next - 1, Err: err}
				}
				return
			}
		}
	}
	for i := range ops {
		results[i] = c.decide(&ops[i])
	}
}

// check holds an operation's condition against what was decided before it: the
// key's item (nil for none) and newest version, or which condition failed.
func (c *committer) check(op *Op) (it *item, tip *Record, failed error) {
	if it = c.s.index.get(op.Key); it != nil {
		tip = it.tip
	}
	exists := tip != nil && !tip.deleted
	refuse := func(kind error) (*item, *Record, error) {
		e := &OpError{Kind: kind, Key: op.Key, Expect: op.Expect}
		if exists {
			e.Current = tip
		}
		return nil, nil, e
	}
	switch {
	case op.Expect == 0 && exists:
		return refuse(ErrExists)
	case op.Expect == 0 && op.Delete:
		return refuse(ErrNotFound)
	case !exists && (op.Delete || op.Expect > 0):
		return refuse(ErrNotFound)
	case op.Expect > 0 && tip.ModRev != op.Expect:
		return refuse(ErrConflict)
	}
	return it, tip, nil
}

func (c *committer) decide(op *Op) Result {
	s := c.s
	it, tip, err := c.check(op)
	if err != nil {
		return Result{Rev: c.next - 1, Err: err}
	}
	exists := tip != nil && !tip.deleted
	if it == nil {
		it = s.index.ensure(op.Key)
	}
	rev := c.next
	c.next++
	rec := &Record{Key: it.key, CreateRev: rev, ModRev: rev, deleted: op.Delete}
	rec.value.set(op.Value)
	if exists {
		rec.CreateRev = tip.CreateRev
	}
	if op.Delete {
		rec.value.share(&tip.value)
	}
	var stamp Stamper
	if op.Memo != nil {
		rec.SetMemo(op.Memo)
		stamp, _ = op.Memo.(Stamper)
	}
	now := s.now()
	if op.TTL > 0 && !op.Delete {
		rec.Expires = expiresAt(time.Now(), op.TTL)
		c.deadline.add(rec, now, op.TTL)
	}
	rec.older.Store(tip)
	it.tip = rec

	if s.disk != nil {
		if c.batch.Len() == 0 {
			c.batch.Start(c.header(rev))
		}
		if op.Delete {
			c.batch.Delete(rec.Key, int64(rec.CreateRev))
		} else {
			stored := op.Value
			if op.sealed != nil {
				stored = op.sealed
			}
			c.batch.Put(rec.Key, stored, int64(rec.CreateRev), rec.Expires)
		}
		if op.Lazy && !c.lazyUsed {
			// The log must say so before the first of them can be lost.
			c.lazyUsed = true
			c.batch.MarkLazy()
			c.force = true
		}
		if op.Lazy && c.lazy == 0 {
			c.lazy = now + s.opts.LazySync.Milliseconds()
		}
	}
	e := &entry{Event: Event{Rev: rev, Record: rec}, at: now}
	if op.Delete {
		e.Type = Delete
	}
	if exists {
		e.Prev = tip
	}
	c.pending = append(c.pending, e)
	c.items = append(c.items, it)
	c.stamps = append(c.stamps, stamp)
	return Result{Record: rec, Prev: e.Prev, Rev: rev}
}

// header is that of a batch beginning with revision rev.
func (c *committer) header(rev Rev) wal.Header {
	return wal.Header{First: int64(rev), Compacted: c.s.compacted.Load(), Millis: time.Now().UnixMilli(), Lazy: c.lazyUsed, Skip: c.skip}
}

// flush publishes what was decided and answers those who wait; what is not all
// lazy is written first.
func (c *committer) flush(force bool) {
	durable := force || c.force || c.batch.Size() > maxBatch
	for _, sub := range c.waiting {
		durable = durable || sub.durable
	}
	if durable {
		c.write()
	}
	c.publish()
	c.answer(len(c.waiting))
}

// answer tells the first n of those who wait.
func (c *committer) answer(n int) {
	for _, sub := range c.waiting[:n] {
		if c.failed != nil {
			for j := range sub.results {
				sub.results[j] = Result{Rev: c.s.Rev(), Err: c.failed}
			}
		}
		close(sub.done)
	}
	left := copy(c.waiting, c.waiting[n:])
	clear(c.waiting[left:])
	c.waiting = c.waiting[:left]
}

// write makes the batch durable.
func (c *committer) write() {
	if c.s.disk == nil || c.failed != nil || c.batch.Len() == 0 {
		return
	}
	if err := c.s.disk.Append(&c.batch); err != nil {
		c.fail(err)
		return
	}
	c.batch.Reset()
	c.lazy, c.force, c.skip = 0, false, false
	if c.snapshot == nil && c.s.disk.SnapshotDue() && len(c.wanted) == 0 {
		c.publish()
		c.beginSnapshot()
	}
}

// fail stops all writes for good: after a failed write or sync nobody knows
// what the disk holds, and the kernel may report a retry as good that is not.
func (c *committer) fail(cause error) {
	c.failed = stopError(c.s.opts.Dir, cause)
	c.s.log.Error("store has stopped writing", "error", c.failed)
	c.mu.Lock()
	c.stop = c.failed
	c.mu.Unlock()
}

// close writes what is left and lets go of the disk.
func (c *committer) close() {
	c.mu.Lock()
	c.stop = ErrClosed
	c.mu.Unlock()
	c.round()
	c.flush(true)
	if c.snapshot != nil {
		c.snapshotDone(<-c.snapshot)
	}
	c.refuseWanted(ErrClosed)
	if c.s.disk == nil {
		return
	}
	if c.failed == nil && c.lazyUsed {
		// All is on disk: an empty batch without the mark says so.
		c.lazyUsed = false
		c.batch.Start(c.header(c.next))
		c.closeErr = c.s.disk.Append(&c.batch)
	}
	if err := c.s.disk.Close(); c.closeErr == nil {
		c.closeErr = err
	}
}
