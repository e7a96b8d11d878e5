package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Where much changes, less is kept, and nobody is told anything else than what was:
// every list and every watch at every revision gives what it would have given, or
// says that it is gone; and nothing young is.
func TestBusyTopicsAreThinned(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { thinning(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func thinning(t *testing.T, random *rand.Rand) {
	const busy, young = 50, 80 * time.Second
	s := OpenMemory(Options{BusyEvents: busy, BusyHistory: young})
	defer s.Close()
	prefixes := []string{"", "/r/leases/", "/r/leases/n/", "/r/pods/", "/r/pods/n/"}
	type moment struct {
		at     time.Time
		states map[string]string // by prefix
		event  string
		key    string
	}
	state := func(l ListResult) string {
		var b strings.Builder
		for _, r := range l.Records {
			fmt.Fprintf(&b, "%s=%s@%d ", r.Key, r.Value(), r.ModRev)
		}
		return b.String()
	}
	past := map[Rev]moment{}
	note := func(event, key string) {
		m := moment{time.Now(), map[string]string{}, event, key}
		for _, p := range prefixes {
			l, err := s.List(t.Context(), p, ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			m.states[p] = state(l)
		}
		past[s.Rev()] = m
	}
	note("", "")
	read := func(w Watcher) (events []string, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		for {
			batch, err := w.Next(ctx)
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				return events, nil
			case err != nil:
				return nil, err
			}
			for _, e := range batch {
				was := "nothing"
				if e.Prev != nil {
					was = string(e.Prev.Value())
				}
				events = append(events, fmt.Sprintf("%v %s=%s was %s", e.Type, e.Record.Key, e.Record.Value(), was))
			}
		}
	}
	follower, err := s.Watch(t.Context(), "/r/leases/", s.Rev(), WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Close()
	values := map[string]string{}
	var gone, kept, apart int
	for step := range 600 {
		time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
		key := fmt.Sprintf("/r/leases/n/%d", random.IntN(8))
		if random.IntN(10) == 0 {
			key = fmt.Sprintf("/r/pods/n/%d", random.IntN(8))
		}
		op := Op{Key: key, Expect: AnyRev, Value: fmt.Append(nil, step)}
		event := fmt.Sprintf("PUT %s=%d was %s", key, step, values[key])
		if values[key] == "" {
			event = fmt.Sprintf("PUT %s=%d was nothing", key, step)
		}
		if random.IntN(4) == 0 && values[key] != "" {
			op.Delete, op.Value = true, nil
			event = fmt.Sprintf("DELETE %s=%s was %s", key, values[key], values[key])
		}
		if values[key] = string(op.Value); s.Commit(t.Context(), []Op{op})[0].Err != nil {
			t.Fatal("a write failed")
		}
		note(event, key)
		if events, err := read(follower); err != nil || strings.HasPrefix(key, "/r/leases/") && (len(events) != 1 || events[0] != event) {
			t.Fatalf("a watcher that follows closely got %q, %v; want %q", events, err, event)
		}
		synctest.Wait() // the committer rests
		if s.floor("/r/pods/") < s.floor("/r/leases/") {
			apart++
		}
		if s.floor("") != s.floor("/r/leases/") {
			t.Fatalf("everything is kept from %d, leases from %d", s.floor(""), s.floor("/r/leases/"))
		}
		if h := &s.topics["/r/leases/"].all; h.n > busy+busy/trimSlack+eventsPerKey*s.index.keys["/r/leases/"] && s.now()-h.at(0).at > (young+young/trimSlack).Milliseconds()+1000 {
			t.Fatalf("%d events of leases are kept, for %d ms", h.n, s.now()-h.at(0).at)
		}
		rev, prefix := emptyRev+Rev(random.IntN(int(s.Rev()-emptyRev)+1)), prefixes[random.IntN(len(prefixes))]
		m := past[rev]
		fresh := time.Since(m.at) < young
		l, err := s.List(t.Context(), prefix, ListOptions{Rev: rev})
		switch {
		case err == nil && state(l) != m.states[prefix]:
			t.Fatalf("list of %q at %d: %s, want %s", prefix, rev, state(l), m.states[prefix])
		case err != nil && (fresh || !errors.Is(err, ErrCompacted)):
			t.Fatalf("list of %q at %d, which is %v old: %v", prefix, rev, time.Since(m.at), err)
		case err != nil:
			gone++
		default:
			kept++
		}
		if r, _, got := s.Get(t.Context(), key, rev); (got == nil) && !strings.Contains(m.states[""], fmt.Sprintf("%s=%s@%d ", key, r.Value(), r.ModRev)) ||
			errors.Is(got, ErrNotFound) && strings.Contains(m.states[""], key+"=") {
			t.Fatalf("get of %s at %d: %v, %v", key, rev, r, got)
		}
		w, err := s.Watch(t.Context(), prefix, rev, WatchOptions{})
		if err != nil {
			if fresh || !errors.Is(err, ErrCompacted) {
				t.Fatalf("watch of %q from %d, which is %v old: %v", prefix, rev, time.Since(m.at), err)
			}
			continue
		}
		if random.IntN(8) == 0 { // somebody slow
			time.Sleep(2 * young)
			s.Commit(t.Context(), []Op{{Key: "/r/leases/n/x", Expect: AnyRev}})
			values["/r/leases/n/x"] = ""
			note("PUT /r/leases/n/x= was "+map[bool]string{true: "", false: "nothing"}[strings.Contains(past[s.Rev()-1].states[""], "/n/x=")], "/r/leases/n/x")
			synctest.Wait()
			read(follower)
		}
		events, err := read(w)
		w.Close()
		var want []string
		for r := rev + 1; r <= s.Rev(); r++ {
			if strings.HasPrefix(past[r].key, prefix) {
				want = append(want, past[r].event)
			}
		}
		switch {
		case errors.Is(err, ErrCompacted) && !fresh:
		case err != nil && !errors.Is(err, ErrCompacted):
			t.Fatalf("watch of %q from %d: %v", prefix, rev, err)
		case err == nil && fmt.Sprint(events) != fmt.Sprint(want):
			t.Fatalf("watch of %q from %d of %d:\n%q, want\n%q", prefix, rev, s.Rev(), events, want)
		}
	}
	if gone == 0 || kept == 0 || apart == 0 {
		t.Errorf("%d lists were refused, %d were not; %d times leases were thinned", gone, kept, apart)
	}
	// What is pinned stays.
	rev, release := s.pin()
	before := past[rev].states[""]
	for range 3 * busy {
		s.Commit(t.Context(), []Op{{Key: "/r/leases/n/1", Expect: AnyRev}})
		time.Sleep(time.Second)
	}
	if l, err := s.List(t.Context(), "", ListOptions{Rev: rev}); err != nil || state(l) != before {
		t.Errorf("a list at a pinned revision: %v", err)
	}
	release()
	time.Sleep(time.Hour)
	synctest.Wait()
	now, err := s.List(t.Context(), "", ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.topics) > 1 || s.index.keys["/r/leases/"] != strings.Count(state(now), "/r/leases/") || s.everything.all.n != 0 || s.c.historyBytes != 0 || s.c.events != 0 || s.c.sleep() >= 0 { // the follower's topic stays
		t.Errorf("after an hour there are %d topics, %d places, %d events, %d bytes; wakes in %v", len(s.topics), s.everything.all.n, s.c.events, s.c.historyBytes, s.c.sleep())
	}
}
