package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"sagong/store"
)

func watchFrom(t *testing.T, e *env) {
	a := e.put("/r/a/x", "1", 0)
	now := e.watch("/r/a/", 0, store.WatchOptions{})
	e.put("/r/a/x", "2", a.ModRev)
	e.del("/r/a/x")
	past := e.watch("/r/a/", a.ModRev, store.WatchOptions{})
	want := "[PUT /r/a/x=2 was 1 DELETE /r/a/x=2 was 2]"
	e.same("from now on", e.next(now, 2), want)
	e.same("from a revision", e.next(past, 2), want)
	e.put("/r/a/y", "1", 0)
	e.same("what follows", e.next(past, 1), "[PUT /r/a/y=1]")
	if _, err := e.Watch(e.ctx, "/r/a/", e.Rev()+1, store.WatchOptions{}); !errors.Is(err, store.ErrFutureRev) {
		t.Errorf("watch from the future: %v", err)
	}
}

func watchSelection(t *testing.T, e *env) {
	from := e.put("/r/a/other", "0", 0).ModRev
	type sel struct {
		prefix string
		opts   store.WatchOptions
		want   []string
	}
	sels := []sel{
		{"/r/a/", store.WatchOptions{}, []string{"/r/a/n/1", "/r/a/n/10", "/r/a/m/1", "/r/a/n"}},
		{"/r/a/n/", store.WatchOptions{}, []string{"/r/a/n/1", "/r/a/n/10"}},
		{"/r/a/n/1", store.WatchOptions{}, []string{"/r/a/n/1", "/r/a/n/10"}},
		{"/r/a/n/1", store.WatchOptions{Exact: true}, []string{"/r/a/n/1"}},
		{"/r/a/n", store.WatchOptions{Exact: true}, []string{"/r/a/n"}},
		{"/r/a", store.WatchOptions{}, []string{"/r/a/n/1", "/r/a/n/10", "/r/a/m/1", "/r/aa/n/1", "/r/a/n"}},
		{"/r/", store.WatchOptions{}, []string{"/r/a/n/1", "/r/a/n/10", "/r/a/m/1", "/r/aa/n/1", "/r/b/n/1", "/r/a/n"}},
		{"", store.WatchOptions{}, []string{"/r/a/n/1", "/r/a/n/10", "/r/a/m/1", "/r/aa/n/1", "/r/b/n/1", "/r/a/n", "short"}},
		{"short", store.WatchOptions{Exact: true}, []string{"short"}},
	}
	live := make([]store.Watcher, len(sels))
	for i, s := range sels {
		live[i] = e.watch(s.prefix, from, s.opts)
	}
	half := make([]store.Watcher, len(sels)) // begins in the middle of what it will read
	for i, k := range []string{"/r/a/n/1", "/r/a/n/10", "/r/a/m/1", "/r/aa/n/1", "/r/b/n/1", "/r/a/n", "short"} {
		if i == 1 {
			for j, s := range sels {
				half[j] = e.watch(s.prefix, from, s.opts)
			}
		}
		e.put(k, "v", 0)
	}
	for i, s := range sels {
		var want []string
		for _, k := range s.want {
			want = append(want, "PUT "+k+"=v")
		}
		for name, w := range map[string]store.Watcher{"live": live[i], "half": half[i], "late": e.watch(s.prefix, from, s.opts)} {
			what := fmt.Sprintf("%s watch of %q %+v", name, s.prefix, s.opts)
			e.same(what, e.next(w, len(want)), want)
			e.quiet(w)
		}
	}
}

func watchTags(t *testing.T, e *env) {
	from := e.put("/r/a/n/x", ",0", 0).ModRev
	n1 := e.watch("/r/a/", from, store.WatchOptions{Tag: "n1"})
	n2 := e.watch("/r/a/", from, store.WatchOptions{Tag: "n2"})
	ns := e.watch("/r/a/m/", from, store.WatchOptions{Tag: "n1"})
	all := e.watch("", from, store.WatchOptions{Tag: "n1"})
	e.put("/r/a/n/x", "n1,1", store.AnyRev) // assigned
	e.put("/r/a/n/x", "n1,2", store.AnyRev) // changed
	e.put("/r/a/n/x", "n2,3", store.AnyRev) // moved: both see it
	e.put("/r/a/m/y", "n1,1", store.AnyRev)
	e.put("/r/a/m/z", ",1", store.AnyRev) // nobody's
	e.del("/r/a/n/x")
	e.del("/r/a/m/y")
	want1 := "[PUT /r/a/n/x=n1,1 was ,0 PUT /r/a/n/x=n1,2 was n1,1 PUT /r/a/n/x=n2,3 was n1,2 PUT /r/a/m/y=n1,1 DELETE /r/a/m/y=n1,1 was n1,1]"
	want2 := "[PUT /r/a/n/x=n2,3 was n1,2 DELETE /r/a/n/x=n2,3 was n2,3]"
	e.same("tag n1", e.next(n1, 5), want1)
	e.same("tag n2", e.next(n2, 2), want2)
	e.same("tag n1 in a namespace", e.next(ns, 2), "[PUT /r/a/m/y=n1,1 DELETE /r/a/m/y=n1,1 was n1,1]")
	e.same("tag n1 of everything", e.next(all, 5), want1)
	e.same("tag n2 from before", e.next(e.watch("/r/a/", from, store.WatchOptions{Tag: "n2"}), 2), want2)
	for _, w := range []store.Watcher{n1, n2, ns, all} {
		e.quiet(w)
	}
}

func watchProgress(t *testing.T, e *env) {
	from := e.put("/r/a/n/x", "1", 0).ModRev
	w := e.watch("/r/a/n/", from, store.WatchOptions{})
	e.same("at the start", w.Rev(), from)
	x := e.put("/r/a/n/x", "2", store.AnyRev)
	if w.Rev() >= x.ModRev {
		t.Errorf("progress %d before event %d was delivered", w.Rev(), x.ModRev)
	}
	e.next(w, 1)
	e.same("after the event", w.Rev(), x.ModRev)
	y := e.put("/r/b/n/x", "1", 0) // of another topic
	e.quiet(w)
	e.same("after a foreign event", w.Rev(), y.ModRev)
}

func watchCompacted(t *testing.T, e *env) {
	a := e.put("/r/a/n/x", "1", 0)
	behind := e.watch("/r/a/", a.ModRev, store.WatchOptions{})
	space := e.watch("/r/a/n/", a.ModRev, store.WatchOptions{})
	idle := e.watch("/r/a/m/", a.ModRev, store.WatchOptions{})
	done := e.watch("/r/a/", a.ModRev, store.WatchOptions{})
	b := e.put("/r/a/n/x", "2", a.ModRev)
	e.next(done, 1)
	if err := e.Compact(e.ctx, b.ModRev); err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]store.Watcher{"of the topic": behind, "of a namespace": space} {
		if _, err := w.Next(e.ctx); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("watcher %s that is behind: %v", name, err)
		}
	}
	if _, err := e.Watch(e.ctx, "/r/a/", a.ModRev, store.WatchOptions{}); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("watch from below: %v", err)
	}
	late := e.watch("/r/a/", b.ModRev, store.WatchOptions{})
	e.put("/r/a/m/x", "1", 0)
	for name, w := range map[string]store.Watcher{"idle": idle, "done": done, "late": late} {
		e.same(name, e.next(w, 1), "[PUT /r/a/m/x=1]")
	}
}

func watchEnds(t *testing.T, e *env) {
	w := e.watch("/r/a/", 0, store.WatchOptions{})
	ctx, cancel := context.WithTimeout(e.ctx, time.Millisecond)
	defer cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("next with an ended context: %v", err)
	}
	e.put("/r/a/x", "1", 0)
	e.same("after that", e.next(w, 1), "[PUT /r/a/x=1]")
	ended := make(chan error)
	go func() {
		_, err := w.Next(e.ctx)
		ended <- err
	}()
	w.Close()
	if err := <-ended; !errors.Is(err, store.ErrClosed) {
		t.Errorf("next of a closed watcher: %v", err)
	}
	w.Close()
	other := e.watch("/r/a/", 0, store.WatchOptions{})
	go func() {
		_, err := other.Next(e.ctx)
		ended <- err
	}()
	e.Store.Close()
	if err := <-ended; !errors.Is(err, store.ErrClosed) {
		t.Errorf("next in a closed store: %v", err)
	}
	if r := e.Commit(e.ctx, []store.Op{{Key: "/r/a/z"}})[0]; !errors.Is(r.Err, store.ErrClosed) {
		t.Errorf("commit to a closed store: %v", r.Err)
	}
	if _, err := e.Watch(e.ctx, "/r/a/", 0, store.WatchOptions{}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("watch of a closed store: %v", err)
	}
}

func ttl(t *testing.T, e *env) {
	w := e.watch("/r/a/", 0, store.WatchOptions{})
	rs := e.Commit(e.ctx, []store.Op{
		{Key: "/r/a/brief", Value: []byte("1"), TTL: time.Second},
		{Key: "/r/a/kept", Value: []byte("1"), TTL: time.Second},
		{Key: "/r/a/long", Value: []byte("1"), TTL: time.Hour},
	})
	e.put("/r/a/kept", "2", rs[1].Rev) // without a TTL it stays
	if left := rs[0].Record.Expires - time.Now().Unix(); left < 0 || left > 3 {
		t.Errorf("a TTL of one second expires in %d s", left)
	}
	e.next(w, 4)
	e.same("expiry", e.next(w, 1), "[DELETE /r/a/brief=1 was 1]")
	e.same("what is left", keys(e.list("/r/a/", store.ListOptions{}).Records), "/r/a/kept=2 /r/a/long=1")
}

func lazy(t *testing.T, e *env) {
	w := e.watch("/r/a/", 0, store.WatchOptions{})
	rev := e.Rev()
	for i := range 10 {
		r := e.Commit(e.ctx, []store.Op{{Key: fmt.Sprintf("/r/a/%d", i), Value: []byte("v"), Lazy: i%3 != 2}})[0]
		if r.Err != nil || r.Rev != rev+store.Rev(i)+1 {
			t.Fatalf("operation %d: revision %d, %v", i, r.Rev, r.Err)
		}
	}
	e.same("events", len(e.next(w, 10)), 10)
	e.same("records", len(e.list("/r/a/", store.ListOptions{}).Records), 10)
}
