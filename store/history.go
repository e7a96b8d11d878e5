package store

import (
	"context"
	"math"
	"slices"
)

// The history is the feed of everything: one entry a revision, in order, from
// the compacted revision on. Compaction pops it, and each entry popped says
// which version nobody can read any more, so its cost is that of what it drops.

// trimSlack is how much longer than Options.History an entry may stay, as a
// fraction, so that one timer trims many.
const trimSlack = 10

// eventsPerKey is how many events of a busy topic are kept for each of its keys,
// whatever their age: it takes long to page through many.
const eventsPerKey = 4

// retain adds an entry to the history's account. The committer calls it. A
// decoded form is taken as three times its encoded one.
func (s *Local) retain(e *entry) {
	n := 256 + len(e.Record.Key)
	if e.Prev != nil {
		n += e.Prev.Size()
		if e.Prev.Memo() != nil {
			n += 3 * e.Prev.Size()
		}
	}
	e.retained = int32(min(n, math.MaxInt32))
	s.c.historyBytes += int64(e.retained)
	s.c.events++
}

// trimTarget returns the revision to compact to for the bounds of the options,
// and the time in milliseconds at which to look again, 0 if there is nothing.
func (s *Local) trimTarget(now int64) (Rev, int64) {
	h := &s.everything.all // pushed and popped by the committer alone
	keep := s.opts.History.Milliseconds()
	target := s.c.compactTo
	if target <= s.CompactedRev() {
		target = 0
	}
	bytes, events := s.c.historyBytes, s.c.events
	for i := range h.n {
		e := h.at(i)
		if e == nil {
			continue
		}
		if bytes <= s.opts.HistoryBytes && events <= s.opts.HistoryEvents && e.at+keep > now {
			return target, max(1, e.at+keep+keep/trimSlack)
		}
		bytes -= int64(e.retained)
		events--
		target = max(target, e.Rev)
	}
	return target, 0
}

// trim compacts to rev as far as pins allow. The committer calls it, with
// nothing decided that is not published.
func (s *Local) trim(rev Rev) {
	s.pinMu.Lock()
	rev = s.unpinnedLocked(rev)
	old := Rev(s.compacted.Load())
	if rev > old {
		// First, so that a reader who misses what is cut below can tell why.
		s.compacted.Store(int64(rev))
	}
	s.pinMu.Unlock()
	if rev <= old {
		return
	}
	h := &s.everything.all
	for h.n > 0 && (h.at(0) == nil || h.at(0).Rev <= rev) {
		s.index.mu.Lock()
		s.forgetOldestLocked()
		s.index.mu.Unlock()
	}
}

// unpinnedLocked is how far up to rev one may compact.
func (s *Local) unpinnedLocked(rev Rev) Rev {
	rev = min(rev, s.Rev())
	for pinned := range s.pins {
		rev = min(rev, pinned)
	}
	return rev
}

// floor is the oldest revision at which keys with a prefix can be read.
func (s *Local) floor(prefix string) Rev {
	thinned := s.thinned.Load()
	if thinned > s.compacted.Load() {
		if n := s.opts.Topic(prefix); n > 0 {
			s.topicsMu.RLock()
			t := s.topics[prefix[:n]]
			s.topicsMu.RUnlock()
			// A topic that is not there has lost its last event to the store's
			// compaction, which is read below.
			if thinned = 0; t != nil {
				thinned = t.thinned.Load()
			}
		}
	}
	return Rev(max(thinned, s.compacted.Load()))
}

// noteBusy remembers a topic that has more events than it may keep for long.
func (c *committer) noteBusy(t *topic) {
	if n := c.s.opts.BusyEvents; !t.busy && t.all.n > n+n/trimSlack {
		t.busy = true
		c.busy = append(c.busy, t)
		c.thinAt = 1
	}
}

// thin drops what busy topics no longer keep, and notes when there is more.
func (c *committer) thin(now int64) {
	c.thinAt = 0
	c.busy = slices.DeleteFunc(c.busy, func(t *topic) bool {
		at := c.s.thin(t, now)
		if at == 0 {
			t.busy = false
			return true
		}
		if c.thinAt == 0 || at < c.thinAt {
			c.thinAt = at
		}
		return false
	})
}

// thin compacts one topic to its bounds, as far as pins allow. It returns the time
// at which to look again, 0 when the topic has no more than it may keep.
func (s *Local) thin(t *topic, now int64) int64 {
	keep := s.opts.BusyHistory.Milliseconds()
	var target Rev
	s.index.mu.Lock()
	keys := s.index.keys[t.name]
	s.index.mu.Unlock()
	n, again := t.all.n-s.opts.BusyEvents-eventsPerKey*keys, int64(0)
	for i := range max(0, n) {
		e := t.all.at(i) // pushed and popped by the committer alone
		if e.at+keep > now {
			again = e.at + keep + keep/trimSlack
			break
		}
		target = e.Rev
	}
	if target == 0 {
		return again
	}
	s.pinMu.Lock()
	if rev := s.unpinnedLocked(target); rev < target {
		target, again = rev, now+1000
	}
	if int64(target) > t.thinned.Load() {
		// First, as in trim.
		t.thinned.Store(int64(target))
		s.thinned.Store(max(s.thinned.Load(), int64(target)))
	}
	s.pinMu.Unlock()
	for t.all.n > 0 && t.all.at(0).Rev <= target {
		e := t.all.at(0)
		s.index.mu.Lock()
		s.everything.mu.Lock()
		s.everything.all.drop(e.seq)
		s.everything.mu.Unlock()
		s.forgetLocked(e)
		s.index.mu.Unlock()
	}
	return again
}

// forgetOldestLocked drops the oldest entry of the history and what only it kept
// alive. The index is locked; the compacted revision was raised before.
func (s *Local) forgetOldestLocked() {
	h := &s.everything.all
	e := h.at(0)
	s.everything.mu.Lock()
	h.pop()
	s.everything.mu.Unlock()
	if e != nil {
		s.forgetLocked(e)
	}
}

// forgetLocked drops what only an entry kept alive, which has left the feed of
// everything and is the oldest of its topic.
func (s *Local) forgetLocked(e *entry) {
	s.c.historyBytes -= int64(e.retained)
	s.c.events--
	e.Record.older.Store(nil)
	if e.topic != nil {
		s.trimTopic(e.topic, e)
	}
	if e.Type == Delete {
		if it := s.index.get(e.Record.Key); it != nil && it.head.Load() == e.Record && it.tip == e.Record {
			s.index.removeLocked(it)
		}
	}
}

func (s *Local) trimTopic(t *topic, e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trimLocked(e)
	if t.all.n > 0 || t.all.watchers > 0 || len(t.tags)+len(t.spaces)+len(t.keys) > 0 {
		return
	}
	t.dead = true
	s.topicsMu.Lock()
	delete(s.topics, t.name)
	s.topicsMu.Unlock()
}

// Compact implements Store. While a snapshot is being collected, what it needs
// stays until it has it.
func (s *Local) Compact(ctx context.Context, rev Rev) error {
	if rev > s.Rev() {
		return s.revError(ErrFutureRev, rev, s.CompactedRev())
	}
	if rev < s.CompactedRev() {
		return s.revError(ErrCompacted, rev, s.CompactedRev())
	}
	return s.c.do(ctx, func() {
		s.c.compactTo = max(s.c.compactTo, rev)
		s.trim(rev)
	})
}
