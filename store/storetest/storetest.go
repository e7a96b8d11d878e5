// Package storetest is the suite that every implementation of store.Store
// passes: the one in memory, the one on disk, and any other.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sagong/store"
)

// Harness makes stores for the suite. The options' Topic and Tag are the
// suite's; Open returns an empty store.
type Harness struct {
	Open func(t *testing.T, opts store.Options) store.Store
}

// Tag is the tag of the suite's records: the value up to the first comma.
func Tag(r *store.Record) string {
	tag, _, _ := strings.Cut(string(r.Value()), ",")
	return tag
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *env)
	}{
		{"Conditions", conditions},
		{"Batch", batch},
		{"Joined", joined},
		{"Memo", memo},
		{"GetAtRevision", getAtRevision},
		{"List", list},
		{"ListPages", listPages},
		{"ListByTag", listByTag},
		{"ListAtRevision", listAtRevision},
		{"Compact", compact},
		{"CompactDeleted", compactDeleted},
		{"WatchFrom", watchFrom},
		{"WatchSelection", watchSelection},
		{"WatchTags", watchTags},
		{"WatchProgress", watchProgress},
		{"WatchCompacted", watchCompacted},
		{"WatchEnds", watchEnds},
		{"TTL", ttl},
		{"Lazy", lazy},
		{"Concurrent", concurrent},
		{"Linearizable", linearizable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := h.Open(t, store.Options{Tag: Tag})
			e := &env{T: t, Store: s, ctx: t.Context()}
			c.run(t, e)
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// env is a store with the shorthands of the suite.
type env struct {
	*testing.T
	store.Store
	ctx context.Context
}

func (e *env) put(key, value string, expect store.Rev) *store.Record {
	e.Helper()
	r := e.Commit(e.ctx, []store.Op{{Key: key, Value: []byte(value), Expect: expect}})[0]
	if r.Err != nil {
		e.Fatalf("put %s: %v", key, r.Err)
	}
	return r.Record
}

func (e *env) del(key string) store.Result {
	e.Helper()
	r := e.Commit(e.ctx, []store.Op{{Key: key, Delete: true, Expect: store.AnyRev}})[0]
	if r.Err != nil {
		e.Fatalf("delete %s: %v", key, r.Err)
	}
	return r
}

func (e *env) list(prefix string, opts store.ListOptions) store.ListResult {
	e.Helper()
	l, err := e.List(e.ctx, prefix, opts)
	if err != nil {
		e.Fatalf("list %s: %v", prefix, err)
	}
	return l
}

func (e *env) watch(prefix string, from store.Rev, opts store.WatchOptions) store.Watcher {
	e.Helper()
	w, err := e.Watch(e.ctx, prefix, from, opts)
	if err != nil {
		e.Fatalf("watch %s from %d: %v", prefix, from, err)
	}
	e.Cleanup(w.Close)
	return w
}

// next reads n events, one line each: type, key, value, and before it the value
// of the version replaced.
func (e *env) next(w store.Watcher, n int) []string {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.ctx, 10*time.Second)
	defer cancel()
	var lines []string
	for len(lines) < n {
		evs, err := w.Next(ctx)
		if err != nil {
			e.Fatalf("next after %q: %v", lines, err)
		}
		for _, ev := range evs {
			lines = append(lines, line(ev))
		}
	}
	return lines
}

// quiet checks that nothing is pending on w. It relies on nothing but the order
// of events: what was committed before is there already.
func (e *env) quiet(w store.Watcher) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.ctx, 20*time.Millisecond)
	defer cancel()
	if evs, err := w.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		for _, ev := range evs {
			e.Errorf("unexpected %s", line(ev))
		}
		e.Fatalf("want nothing to happen, got error %v", err)
	}
}

func line(ev store.Event) string {
	s := fmt.Sprintf("%v %s=%s", ev.Type, ev.Record.Key, ev.Record.Value())
	if ev.Prev != nil {
		s += " was " + string(ev.Prev.Value())
	}
	return s
}

func (e *env) same(what string, got, want any) {
	e.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		e.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func keys(records []*store.Record) string {
	var b strings.Builder
	for i, r := range records {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=%s", r.Key, r.Value())
	}
	return b.String()
}
