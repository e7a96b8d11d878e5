package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"sagong/store"
)

// concurrent has writers at work while watchers list, watch from the list's
// revision, and rebuild the state from what they see: no gap, no repetition, no
// reordering, and the end is what a list gives.
func concurrent(t *testing.T, e *env) {
	const writers, watchers, writes = 4, 12, 400
	ctx, cancel := context.WithTimeout(e.ctx, 30*time.Second)
	defer cancel()
	var write, watch sync.WaitGroup
	final := make(chan store.Rev)
	for n := range watchers {
		watch.Go(func() {
			prefix, tag := "/r/a/", ""
			switch n % 4 {
			case 1:
				prefix = "/r/a/1/"
			case 2:
				tag = "t1"
			case 3:
				prefix = "/r/"
			}
			selects := func(r *store.Record) bool { return tag == "" || Tag(r) == tag }
			l, err := e.List(ctx, prefix, store.ListOptions{Tag: tag})
			if err != nil {
				t.Errorf("list: %v", err)
				return
			}
			state := map[string]store.Rev{}
			for _, r := range l.Records {
				if !selects(r) {
					t.Errorf("list by tag %q has %s=%s", tag, r.Key, r.Value())
				}
				state[r.Key] = r.ModRev
			}
			w, err := e.Watch(ctx, prefix, l.Rev, store.WatchOptions{Tag: tag})
			if err != nil {
				t.Errorf("watch: %v", err)
				return
			}
			defer w.Close()
			last, end := l.Rev, store.Rev(0)
			for end == 0 || w.Rev() < end {
				if end == 0 {
					select {
					case end = <-final:
						continue
					default:
					}
				}
				next, stop := context.WithTimeout(ctx, 5*time.Millisecond)
				evs, err := w.Next(next)
				stop()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
					t.Errorf("next: %v", err)
					return
				}
				if n := len(evs); n > 0 && tag != "" && n%3 == 0 {
					// A list by tag in the middle is one at its revision.
					a, err := e.List(ctx, prefix, store.ListOptions{Tag: tag})
					b, err2 := e.List(ctx, prefix, store.ListOptions{Tag: tag, Rev: a.Rev})
					if err != nil || err2 != nil || keys(a.Records) != keys(b.Records) {
						t.Errorf("list by tag at %d:\n%s, %v\nscanned:\n%s, %v", a.Rev, keys(a.Records), err, keys(b.Records), err2)
					}
				}
				for _, ev := range evs {
					if ev.Rev <= last || ev.Record.ModRev != ev.Rev {
						t.Errorf("event %d (record %d) after %d", ev.Rev, ev.Record.ModRev, last)
						return
					}
					last = ev.Rev
					if have, ok := state[ev.Record.Key]; ev.Prev != nil && selects(ev.Prev) != ok || ok && have != ev.Prev.ModRev {
						t.Errorf("event %d of %s replaces %v, but revision %d was seen", ev.Rev, ev.Record.Key, ev.Prev, have)
						return
					}
					delete(state, ev.Record.Key)
					if ev.Type == store.Put && selects(ev.Record) {
						state[ev.Record.Key] = ev.Rev
					}
				}
			}
			l, err = e.List(ctx, prefix, store.ListOptions{Rev: end})
			if err != nil {
				t.Errorf("list: %v", err)
				return
			}
			want := map[string]store.Rev{}
			for _, r := range l.Records {
				if selects(r) {
					want[r.Key] = r.ModRev
				}
			}
			if !maps.Equal(state, want) {
				t.Errorf("watcher %d has %d keys at the end, a list %d", n, len(state), len(want))
			}
		})
	}
	var mu sync.Mutex
	var revs []store.Rev
	for n := range writers {
		rnd := rand.New(rand.NewPCG(1, uint64(n)))
		write.Go(func() {
			for i := range writes {
				var ops []store.Op
				for range 1 + rnd.IntN(4) {
					ops = append(ops, store.Op{
						Key:    fmt.Sprintf("/r/%c/%d/%d", 'a'+rnd.IntN(2), rnd.IntN(3), rnd.IntN(20)),
						Value:  fmt.Appendf(nil, "t%d,%d", rnd.IntN(3), i),
						Expect: store.AnyRev, Delete: rnd.IntN(4) == 0, Lazy: rnd.IntN(3) == 0,
					})
				}
				for _, r := range e.Commit(ctx, ops) {
					if r.Err == nil {
						mu.Lock()
						revs = append(revs, r.Rev)
						mu.Unlock()
					} else if !errors.Is(r.Err, store.ErrNotFound) {
						t.Errorf("commit: %v", r.Err)
					}
				}
			}
		})
	}
	write.Wait()
	end := e.Rev()
	for range watchers {
		select {
		case final <- end:
		case <-ctx.Done():
			t.Fatal("a watcher has not come to the end")
		}
	}
	watch.Wait()
	slices.Sort(revs)
	for i, r := range revs {
		if r != end-store.Rev(len(revs)-1-i) {
			t.Fatalf("revision %d of %d results is %d: not contiguous", i, len(revs), r)
		}
	}
}

// The model of linearizable: one register a key, with the revision it was last
// written at.
type (
	regInput struct {
		key  string
		kind string // get, list, put, delete
		want store.Rev
	}
	regOutput struct {
		rev store.Rev // of the version seen or made, 0 for none
		ok  bool
	}
)

var registers = porcupine.Model{
	Partition: func(h []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, op := range h {
			k := op.Input.(regInput).key
			by[k] = append(by[k], op)
		}
		return slices.Collect(maps.Values(by))
	},
	Init: func() any { return store.Rev(0) },
	Step: func(state, input, output any) (bool, any) {
		cur, in, out := state.(store.Rev), input.(regInput), output.(regOutput)
		switch in.kind {
		case "get", "list":
			return out.rev == cur, cur
		case "delete":
			if !out.ok {
				return in.want != cur || cur == 0, cur
			}
			return in.want == cur && out.rev > cur, store.Rev(0)
		default:
			if !out.ok {
				return in.want != cur, cur
			}
			return in.want == cur && out.rev > cur, out.rev
		}
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

// linearizable checks gets, lists and compare-and-swaps against the model, and
// that a watch reports exactly the writes that succeeded.
func linearizable(t *testing.T, e *env) {
	const clients, steps = 6, 250
	keysOf := []string{"/r/a/0", "/r/a/1", "/r/a/2"}
	var mu sync.Mutex
	var history []porcupine.Operation
	wrote := map[store.Rev]string{}
	start := time.Now()
	w := e.watch("/r/a/", 0, store.WatchOptions{})
	var wg sync.WaitGroup
	for c := range clients {
		rnd := rand.New(rand.NewPCG(2, uint64(c)))
		wg.Go(func() {
			seen := map[string]store.Rev{}
			for range steps {
				key := keysOf[rnd.IntN(len(keysOf))]
				in, out := regInput{key: key, want: seen[key]}, regOutput{}
				call := time.Since(start).Nanoseconds()
				switch n := rnd.IntN(10); {
				case n < 3:
					in.kind = "get"
					r, _, err := e.Get(e.ctx, key, 0)
					if err == nil {
						out.rev = r.ModRev
					} else if !errors.Is(err, store.ErrNotFound) {
						t.Errorf("get: %v", err)
					}
					seen[key] = out.rev
				case n < 5:
					in.kind = "list"
					l, err := e.List(e.ctx, "/r/a/", store.ListOptions{})
					if err != nil {
						t.Errorf("list: %v", err)
					}
					for _, r := range l.Records {
						if r.Key == key {
							out.rev = r.ModRev
						}
					}
					seen[key] = out.rev
				default:
					in.kind = "put"
					if n == 9 && in.want != 0 {
						in.kind = "delete"
					}
					r := e.Commit(e.ctx, []store.Op{{Key: key, Value: []byte("v"), Expect: in.want, Delete: in.kind == "delete"}})[0]
					var oe *store.OpError
					switch {
					case r.Err == nil:
						out = regOutput{rev: r.Rev, ok: true}
						seen[key] = r.Rev
						if in.kind == "delete" {
							seen[key] = 0
						}
						mu.Lock()
						wrote[r.Rev] = in.kind + " " + key
						mu.Unlock()
					case errors.As(r.Err, &oe):
						seen[key] = 0
						if oe.Current != nil {
							seen[key] = oe.Current.ModRev
						}
					default:
						t.Errorf("commit: %v", r.Err)
					}
				}
				ret := time.Since(start).Nanoseconds()
				mu.Lock()
				history = append(history, porcupine.Operation{ClientId: c, Input: in, Call: call, Output: out, Return: ret})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	switch res, _ := porcupine.CheckOperationsVerbose(registers, history, 20*time.Second); res {
	case porcupine.Illegal:
		t.Error("the history is not linearizable")
	case porcupine.Unknown:
		t.Log("the history could not be decided in time")
	}
	for w.Rev() < e.Rev() {
		evs, err := w.Next(e.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range evs {
			kind := "put "
			if ev.Type == store.Delete {
				kind = "delete "
			}
			if got := wrote[ev.Rev]; got != kind+ev.Record.Key {
				t.Errorf("event %d is %s%s, but that revision was given to %q", ev.Rev, kind, ev.Record.Key, got)
			}
			delete(wrote, ev.Rev)
		}
	}
	if len(wrote) > 0 {
		t.Errorf("the watch missed %d writes", len(wrote))
	}
}
