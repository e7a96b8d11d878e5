package store

import "slices"

// publish makes what was decided visible: feeds, then index and revision, then
// those who wait. After a failure it drops it instead.
func (c *committer) publish() {
	if len(c.pending) == 0 {
		return
	}
	s := c.s
	if c.failed == nil {
		for i, st := range c.stamps {
			if st != nil {
				st.Stamp(c.pending[i].Rev)
			}
		}
		// The feeds first: watchers do not pass the revision. Then the index and
		// the revision together, so that a list finds one exactly at the other.
		touched := c.feed()
		s.index.mu.Lock()
		for i, e := range c.pending {
			s.index.publishLocked(c.items[i], e.Record)
		}
		s.rev.Store(int64(c.pending[len(c.pending)-1].Rev))
		s.index.mu.Unlock()
		for _, t := range touched {
			t.wake(s.opts.Crowd, s.opts.CrowdDelay)
		}
	}
	clear(c.pending)
	clear(c.items)
	clear(c.stamps)
	c.pending, c.items, c.stamps = c.pending[:0], c.items[:0], c.stamps[:0]
}

// feed appends what was decided to the feeds and returns their topics.
func (c *committer) feed() []*topic {
	s := c.s
	touched := []*topic{s.everything}
	s.everything.mu.Lock()
	for _, e := range c.pending {
		s.retain(e)
		e.seq = s.everything.all.end()
		s.everything.appendLocked(e)
	}
	s.everything.mu.Unlock()
	var t *topic
	for _, e := range c.pending {
		key := e.Record.Key
		n := s.opts.Topic(key)
		if n == 0 {
			continue
		}
		if t == nil || t.name != key[:n] {
			if t != nil {
				t.mu.Unlock()
			}
			t = s.topic(key[:n])
			t.mu.Lock()
			if !slices.Contains(touched, t) {
				touched = append(touched, t)
			}
		}
		e.topic = t
		t.appendLocked(e)
		c.noteBusy(t)
	}
	if t != nil {
		t.mu.Unlock()
	}
	return touched
}
