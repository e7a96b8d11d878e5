package store

import "context"

// The history is the feed of everything: one entry a revision, in order, from
// the compacted revision on. Compaction pops it, and each entry popped says
// which version nobody can read any more, so its cost is that of what it drops.

// trimSlack is how much longer than Options.History an entry may stay, as a
// fraction, so that one timer trims many.
const trimSlack = 10

// retain adds an entry to the history's account. The committer calls it. A
// decoded form is taken as three times its encoded one.
func (s *Local) retain(e *entry) {
	e.retained = 256 + int64(len(e.Record.Key))
	if e.Prev != nil {
		e.retained += int64(e.Prev.Size())
		if e.Prev.Memo() != nil {
			e.retained += 3 * int64(e.Prev.Size())
		}
	}
	s.c.historyBytes += e.retained
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
	i, bytes := 0, s.c.historyBytes
	for ; i < h.n; i++ {
		e := h.at(i)
		if bytes <= s.opts.HistoryBytes && h.n-i <= s.opts.HistoryEvents && e.at+keep > now {
			return target, max(1, e.at+keep+keep/trimSlack)
		}
		bytes -= e.retained
		target = max(target, e.Rev)
	}
	return target, 0
}

// trim compacts to rev as far as pins allow. The committer calls it, with
// nothing decided that is not published.
func (s *Local) trim(rev Rev) {
	s.pinMu.Lock()
	rev = min(rev, s.Rev())
	for pinned := range s.pins {
		rev = min(rev, pinned)
	}
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
	for h.n > 0 && h.at(0).Rev <= rev {
		s.index.mu.Lock()
		s.forgetOldestLocked()
		s.index.mu.Unlock()
	}
}

// forgetOldestLocked drops the oldest entry of the history and what only it kept
// alive. The index is locked; the compacted revision was raised before.
func (s *Local) forgetOldestLocked() {
	h := &s.everything.all
	e := h.at(0)
	s.everything.mu.Lock()
	h.pop()
	s.everything.mu.Unlock()
	s.c.historyBytes -= e.retained
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
		return s.revError(ErrFutureRev, rev)
	}
	if rev < s.CompactedRev() {
		return s.revError(ErrCompacted, rev)
	}
	return s.c.do(ctx, func() {
		s.c.compactTo = max(s.c.compactTo, rev)
		s.trim(rev)
	})
}
