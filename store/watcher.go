package store

import (
	"context"
	"strings"
	"sync"
)

// maxEvents bounds what one Next returns, so that a watcher far behind does not
// hold its topic's lock for long.
const maxEvents = 4096

// maxScan bounds in the same way what is looked at without being selected.
const maxScan = 16384

// watcher is a cursor on the feeds of a topic. It reads the topic's common feed
// up to join, the place where its own feed began for it, and from there its own.
type watcher struct {
	s      *Local
	t      *topic
	own    *feed // narrowest feed that has all events of this watch
	forget func()

	prefix string
	exact  bool
	tag    string
	free   bool // own selects exactly: no filter is needed

	pos    uint64 // next entry of t.all to read, while below join
	join   uint64
	ownPos uint64

	events    []Event
	entries   []*entry
	delivered Rev // under t.mu
	done      chan struct{}
	closing   sync.Once
}

// watch starts at the entries above from, which is between the compacted and
// the newest revision. It may fail with ErrCompacted.
func (s *Local) watch(prefix string, from Rev, opts WatchOptions) (*watcher, error) {
	n := s.opts.Topic(prefix)
	name := prefix[:n]
	for {
		t := s.topic(name)
		t.mu.Lock()
		if t.dead {
			t.mu.Unlock()
			continue
		}
		// Trimming raises the compacted revision before it takes the lock.
		if c := s.floorLocked(t); from < c {
			t.mu.Unlock()
			return nil, s.revError(ErrCompacted, from, c)
		}
		w := &watcher{s: s, t: t, prefix: prefix, exact: opts.Exact, tag: opts.Tag, delivered: from, done: make(chan struct{})}
		w.subscribeLocked()
		t.mu.Unlock()
		return w, nil
	}
}

// floorLocked is the oldest revision from which one may follow a topic.
func (s *Local) floorLocked(t *topic) Rev {
	thinned := t.thinned.Load()
	if t == s.everything {
		thinned = s.thinned.Load()
	}
	return Rev(max(thinned, s.compacted.Load()))
}

// subscribeLocked chooses the narrowest feed and makes it if needed.
func (w *watcher) subscribeLocked() {
	t := w.t
	w.pos = after(&t.all.ring, w.delivered)
	w.join = t.all.end()
	join := func(m *map[string]*feed, key string) {
		f := (*m)[key]
		if f == nil {
			if *m == nil {
				*m = map[string]*feed{}
			}
			f = &feed{}
			(*m)[key] = f
		}
		w.own, w.ownPos = f, f.end()
		w.forget = func() {
			if f.watchers == 0 && (*m)[key] == f {
				delete(*m, key)
			}
		}
	}
	space := ""
	if t.name != "" {
		space = t.space(w.prefix)
	}
	switch {
	case t.name == "": // the topic of everything has no narrower feeds
		w.own, w.ownPos = &t.all, w.join
		w.free = w.prefix == "" && !w.exact && w.tag == ""
	case w.exact:
		join(&t.keys, w.prefix)
		w.free = w.tag == ""
	case w.tag != "":
		join(&t.tags, w.tag)
		w.free = w.prefix == t.name
	case space != "":
		join(&t.spaces, space)
		w.free = w.prefix == space
	default:
		w.own, w.ownPos = &t.all, w.join
		w.free = w.prefix == t.name
	}
	w.own.watchers++
}

func (w *watcher) selectsLocked(e *entry) bool {
	key := e.Record.Key
	if w.exact && key != w.prefix || !strings.HasPrefix(key, w.prefix) {
		return false
	}
	if w.tag == "" {
		return true
	}
	if w.t.name == "" {
		// The entry's cached tag is guarded by the lock of its own topic.
		return w.s.opts.Tag != nil && (w.s.opts.Tag(e.Record) == w.tag || e.Prev != nil && w.s.opts.Tag(e.Prev) == w.tag)
	}
	w.t.tagLocked(e)
	return e.tag == w.tag || e.prevTag == w.tag
}

// Next implements Watcher.
func (w *watcher) Next(ctx context.Context) ([]Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for {
		select {
		case <-w.done:
			return nil, ErrClosed
		case <-w.s.closing:
			return nil, ErrClosed
		default:
		}
		w.t.mu.Lock()
		more, err := w.takeLocked()
		var wake <-chan struct{}
		if err == nil && len(w.entries) == 0 && !more {
			// Somebody may subscribe between the append to a feed and its
			// publication: what is below join never reaches the own feed.
			f := w.own
			if w.pos < w.join {
				f = &w.t.all
			}
			wake = f.waitChan()
		}
		w.t.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if len(w.entries) > 0 {
			w.events = w.events[:0]
			for i, e := range w.entries {
				w.events = append(w.events, e.Event)
				w.entries[i] = nil // hold nothing alive beyond the history
			}
			return w.events, nil
		}
		if more {
			continue // let others have the lock for a moment
		}
		clear(w.events)
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-w.done:
			return nil, ErrClosed
		case <-w.s.closing:
			return nil, ErrClosed
		}
	}
}

// takeLocked moves what is new into w.entries and the progress forward. It
// reports whether there may be more at once.
func (w *watcher) takeLocked() (more bool, err error) {
	w.entries = w.entries[:0]
	published := Rev(w.s.rev.Load())
	budget := maxScan
	if w.pos < w.join {
		if w.pos < w.t.all.first || !w.fromLocked(&w.t.all, &w.pos, w.join, published, false, &budget) {
			return false, w.s.revError(ErrCompacted, w.delivered, w.s.floorLocked(w.t))
		}
	}
	if w.pos == w.join && budget > 0 && len(w.entries) < maxEvents {
		if w.ownPos < w.own.first || !w.fromLocked(w.own, &w.ownPos, w.own.end(), published, w.free, &budget) {
			return false, w.s.revError(ErrCompacted, w.delivered, w.s.floorLocked(w.t))
		}
	}
	if w.upToLocked(published) {
		w.delivered = max(w.delivered, published)
		return false, nil
	}
	if n := len(w.entries); n > 0 {
		w.delivered = w.entries[n-1].Rev
	}
	return budget <= 0, nil
}

// fromLocked collects the selected entries of f in [pos, end) that are
// published, within the bounds, and moves pos. It returns false when one of them
// was thinned out.
func (w *watcher) fromLocked(f *feed, pos *uint64, end uint64, published Rev, free bool, budget *int) bool {
	for ; *pos < end && len(w.entries) < maxEvents && *budget > 0; *pos++ {
		e := f.at(int(*pos - f.first))
		if e == nil {
			return false
		}
		if e.Rev > published {
			break
		}
		*budget--
		if free || w.selectsLocked(e) {
			w.entries = append(w.entries, e)
		}
	}
	return true
}

// upToLocked reports whether nothing published is left to read.
func (w *watcher) upToLocked(published Rev) bool {
	if w.pos < w.join || w.ownPos < w.own.first {
		return false
	}
	if w.ownPos == w.own.end() {
		return true
	}
	e := w.own.at(int(w.ownPos - w.own.first))
	return e != nil && e.Rev > published
}

// Rev implements Watcher. When nothing is pending, it is the store's revision.
func (w *watcher) Rev() Rev {
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	published := Rev(w.s.rev.Load())
	if w.upToLocked(published) {
		w.delivered = max(w.delivered, published)
	}
	return w.delivered
}

// Close implements Watcher.
func (w *watcher) Close() {
	w.closing.Do(func() {
		close(w.done)
		w.t.mu.Lock()
		w.own.watchers--
		if w.forget != nil {
			w.forget()
		}
		w.t.mu.Unlock()
	})
}
