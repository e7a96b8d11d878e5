package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"sagong/store"
)

func conditions(t *testing.T, e *env) {
	base := e.Rev()
	if base == 0 {
		t.Error("an empty store has revision 0, from which one cannot watch")
	}
	first := e.put("/r/a/x", "1", 0)
	e.same("revision of the first put", first.ModRev, base+1)
	for _, c := range []struct {
		name string
		op   store.Op
		want error
		cur  store.Rev
	}{
		{"create of an existing key", store.Op{Key: "/r/a/x", Value: []byte("2")}, store.ErrExists, first.ModRev},
		{"update at a wrong revision", store.Op{Key: "/r/a/x", Value: []byte("2"), Expect: first.ModRev + 7}, store.ErrConflict, first.ModRev},
		{"delete at a wrong revision", store.Op{Key: "/r/a/x", Delete: true, Expect: first.ModRev + 7}, store.ErrConflict, first.ModRev},
		{"update of a missing key", store.Op{Key: "/r/a/y", Value: []byte("2"), Expect: first.ModRev}, store.ErrNotFound, 0},
		{"delete of a missing key", store.Op{Key: "/r/a/y", Delete: true, Expect: store.AnyRev}, store.ErrNotFound, 0},
	} {
		r := e.Commit(e.ctx, []store.Op{c.op})[0]
		if !errors.Is(r.Err, c.want) {
			t.Errorf("%s: got error %v, want %v", c.name, r.Err, c.want)
			continue
		}
		var oe *store.OpError
		if !errors.As(r.Err, &oe) || oe.Key != c.op.Key {
			t.Errorf("%s: got %#v, want an OpError with the key", c.name, r.Err)
			continue
		}
		if (oe.Current == nil) != (c.cur == 0) || oe.Current != nil && oe.Current.ModRev != c.cur {
			t.Errorf("%s: current record is %+v, want revision %d", c.name, oe.Current, c.cur)
		}
	}
	e.same("revision after failures", e.Rev(), first.ModRev)

	second := e.put("/r/a/x", "2", first.ModRev)
	e.same("create revision is kept", second.CreateRev, first.CreateRev)
	e.same("revision of an update", second.ModRev, first.ModRev+1)
	third := e.put("/r/a/x", "3", store.AnyRev)
	gone := e.del("/r/a/x")
	e.same("revision of a delete", gone.Rev, third.ModRev+1)
	e.same("tombstone", fmt.Sprint(gone.Record.ModRev, gone.Record.CreateRev, string(gone.Record.Value()), gone.Record.Deleted()),
		fmt.Sprint(gone.Rev, first.CreateRev, "3", true))
	e.same("what a delete removed", gone.Prev.ModRev, third.ModRev)
	if _, at, err := e.Get(e.ctx, "/r/a/x", 0); !errors.Is(err, store.ErrNotFound) || at != gone.Rev {
		t.Errorf("get after delete: revision %d, error %v", at, err)
	}
	again := e.put("/r/a/x", "4", 0)
	e.same("create revision after a delete", again.CreateRev, again.ModRev)
	if prev := e.Commit(e.ctx, []store.Op{{Key: "/r/a/z", Value: []byte("1"), Expect: store.AnyRev}})[0].Prev; prev != nil {
		t.Errorf("unconditional put of a new key has a previous record %+v", prev)
	}

	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	if r := e.Commit(ctx, []store.Op{{Key: "/r/a/c"}})[0]; !errors.Is(r.Err, context.Canceled) {
		t.Errorf("commit with an ended context: %v", r.Err)
	}
}

func batch(t *testing.T, e *env) {
	base := e.Rev()
	rs := e.Commit(e.ctx, []store.Op{
		{Key: "/r/a/1", Value: []byte("a")},
		{Key: "/r/a/1", Value: []byte("b")},                                  // exists by now
		{Key: "/r/a/1", Value: []byte("c"), Expect: base + 1},                // sees the first
		{Key: "/r/a/2", Value: []byte("d"), Expect: store.AnyRev},            //
		{Key: "/r/a/1", Delete: true, Expect: base + 2},                      //
		{Key: "/r/a/1", Value: []byte("e")},                                  // is free again
		{Key: "/r/a/3", Value: []byte("f"), Expect: base + 1},                // does not exist
		{Key: "/r/a/4", Value: []byte("g"), Expect: store.AnyRev, TTL: 1e12}, //
	})
	want := []struct {
		rev store.Rev
		err error
	}{{1, nil}, {1, store.ErrExists}, {2, nil}, {3, nil}, {4, nil}, {5, nil}, {5, store.ErrNotFound}, {6, nil}}
	for i, r := range rs {
		if r.Rev != base+want[i].rev || !errors.Is(r.Err, want[i].err) {
			t.Errorf("operation %d: revision %d, error %v, want %d, %v", i, r.Rev-base, r.Err, want[i].rev, want[i].err)
		}
		if (r.Err == nil) != (r.Record != nil) {
			t.Errorf("operation %d: record %v with error %v", i, r.Record, r.Err)
		}
	}
	e.same("state", keys(e.list("/r/a/", store.ListOptions{}).Records), "/r/a/1=e /r/a/2=d /r/a/4=g")
	if len(e.Commit(e.ctx, nil)) != 0 {
		t.Error("an empty commit has results")
	}
}

func joined(t *testing.T, e *env) {
	held := e.put("/r/a/held", "1", 0)
	base := e.Rev()
	rs := e.Commit(e.ctx, []store.Op{
		{Key: "/r/a/x", Value: []byte("1")},
		{Key: "/r/a/y", Value: []byte("2"), Joined: true},
		{Key: "/r/a/z", Value: []byte("3")}, // no more of them
		{Key: "/r/a/u", Value: []byte("4")},
		{Key: "/r/a/held", Value: []byte("5"), Joined: true}, // exists
		{Key: "/r/a/v", Value: []byte("6"), Joined: true},
		{Key: "/r/a/x", Delete: true, Expect: base + 1},
		{Key: "/r/a/held", Value: []byte("7"), Expect: held.ModRev, Joined: true},
	})
	for i, want := range []store.Rev{1, 2, 3, 0, 0, 0, 4, 5} {
		r := rs[i]
		var failed *store.OpError
		switch {
		case want == 0 && (!errors.As(r.Err, &failed) || failed.Key != "/r/a/held" || !errors.Is(r.Err, store.ErrExists) || failed.Current.ModRev != held.ModRev):
			t.Errorf("operation %d: %v, want the failure of /r/a/held", i, r.Err)
		case want > 0 && (r.Err != nil || r.Rev != base+want):
			t.Errorf("operation %d: revision %d, error %v, want %d", i, r.Rev-base, r.Err, want)
		}
	}
	e.same("state", keys(e.list("/r/a/", store.ListOptions{}).Records), "/r/a/held=7 /r/a/y=2 /r/a/z=3")
}

type stamped struct{ rev store.Rev }

func (s *stamped) Stamp(r store.Rev) { s.rev = r }

func memo(t *testing.T, e *env) {
	m := &stamped{}
	r := e.Commit(e.ctx, []store.Op{{Key: "/r/a/x", Value: []byte("v"), Memo: m}})[0]
	if r.Record.Memo() != any(m) || m.rev != r.Rev {
		t.Errorf("memo %v is stamped %d, want %d", r.Record.Memo(), m.rev, r.Rev)
	}
	got, _, err := e.Get(e.ctx, "/r/a/x", 0)
	if err != nil || got != r.Record {
		t.Fatalf("get gives another record than commit: %v", err)
	}
	got.SetMemo("other")
	e.same("memo that was set", got.Memo(), "other")
	got.SetMemo(nil)
	e.same("memo that was dropped", got.Memo(), nil)
	d := &stamped{}
	gone := e.Commit(e.ctx, []store.Op{{Key: "/r/a/x", Delete: true, Expect: store.AnyRev, Memo: d}})[0]
	if gone.Record.Memo() != any(d) || d.rev != gone.Rev {
		t.Error("the memo of a delete is not on its tombstone")
	}
}

func getAtRevision(t *testing.T, e *env) {
	a := e.put("/r/a/x", "1", 0)
	b := e.put("/r/a/x", "2", a.ModRev)
	d := e.del("/r/a/x")
	c := e.put("/r/a/x", "3", 0)
	for _, want := range []struct {
		rev   store.Rev
		value string
	}{{a.ModRev, "1"}, {b.ModRev, "2"}, {d.Rev, ""}, {c.ModRev, "3"}, {0, "3"}} {
		r, at, err := e.Get(e.ctx, "/r/a/x", want.rev)
		e.same("revision of the read", at, c.ModRev)
		if want.value == "" {
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("get at %d: %v, want not found", want.rev, err)
			}
		} else if err != nil || string(r.Value()) != want.value {
			t.Errorf("get at %d: %v, %v, want %s", want.rev, r, err, want.value)
		}
	}
	var re *store.RevError
	if _, _, err := e.Get(e.ctx, "/r/a/x", c.ModRev+1); !errors.Is(err, store.ErrFutureRev) || !errors.As(err, &re) || re.Current != c.ModRev {
		t.Errorf("get in the future: %v", err)
	}
}

func list(t *testing.T, e *env) {
	for _, k := range []string{"/r/b/n/2", "/r/a/n/1", "/r/b/n/1", "/r/b/m/1", "/r/bb/n/1", "/r/c/n/1"} {
		e.put(k, "v", 0)
	}
	e.del("/r/b/m/1")
	for _, c := range []struct{ prefix, want string }{
		{"/r/b/", "/r/b/n/1=v /r/b/n/2=v"},
		{"/r/b/n/", "/r/b/n/1=v /r/b/n/2=v"},
		{"/r/b/m/", ""},
		{"/r/b/n/2", "/r/b/n/2=v"},
		{"/r/b", "/r/b/n/1=v /r/b/n/2=v /r/bb/n/1=v"},
		{"", "/r/a/n/1=v /r/b/n/1=v /r/b/n/2=v /r/bb/n/1=v /r/c/n/1=v"},
		{"/z/", ""},
	} {
		l := e.list(c.prefix, store.ListOptions{})
		e.same("list "+c.prefix, keys(l.Records), c.want)
		e.same("revision", l.Rev, e.Rev())
		e.same("count "+c.prefix, e.list(c.prefix, store.ListOptions{CountOnly: true}).Remaining, len(l.Records))
	}
	if _, err := e.List(e.ctx, "", store.ListOptions{Rev: e.Rev() + 1}); !errors.Is(err, store.ErrFutureRev) {
		t.Errorf("list in the future: %v", err)
	}
}

func listPages(t *testing.T, e *env) {
	for i := range 25 {
		e.put(fmt.Sprintf("/r/a/%02d", i), "v", 0)
	}
	rev := e.Rev()
	e.del("/r/a/03")
	e.put("/r/a/00x", "v", 0)
	e.put("/r/b/00", "v", 0)
	var got int
	opts := store.ListOptions{Rev: rev, Limit: 10}
	for {
		l := e.list("/r/a/", opts)
		for _, r := range l.Records {
			e.same("key", r.Key, fmt.Sprintf("/r/a/%02d", got))
			got++
		}
		e.same("more", l.More, got < 25)
		e.same("remaining", l.Remaining, 25-got)
		e.same("revision", l.Rev, rev)
		if !l.More {
			break
		}
		opts.From = l.Records[len(l.Records)-1].Key + "\x00"
	}
	e.same("records", got, 25)
	u := e.list("/r/a/", store.ListOptions{Rev: rev, Limit: 10, Uncounted: true})
	e.same("uncounted page", fmt.Sprint(len(u.Records), u.More, u.Remaining), "10 true 0")
	e.same("exact page", e.list("/r/a/", store.ListOptions{Rev: rev, Limit: 25}).More, false)
	e.same("after the last", len(e.list("/r/a/", store.ListOptions{From: "/r/a/24\x00"}).Records), 0)
	e.same("from a key", e.list("/r/a/", store.ListOptions{From: "/r/a/04", Limit: 1}).Records[0].Key, "/r/a/04")
	e.same("after a key that is gone", e.list("/r/a/", store.ListOptions{From: "/r/a/03", Limit: 1}).Records[0].Key, "/r/a/04")
	e.same("after a key before the prefix", e.list("/r/a/", store.ListOptions{From: "/r/", Limit: 1}).Records[0].Key, "/r/a/00")
}

func listByTag(t *testing.T, e *env) {
	e.put("/r/a/n/1", "n1,1", 0)
	e.put("/r/a/n/2", "n2,1", 0)
	e.put("/r/a/m/1", "n1,2", 0)
	e.put("/r/b/m/1", "n1,3", 0)
	e.put("/r/a/m/2", ",4", 0)
	list := func(prefix, want string, opts store.ListOptions) {
		t.Helper()
		e.same("list by tag", keys(e.list(prefix, opts).Records), want)
	}
	tag := store.ListOptions{Tag: "n1"}
	list("/r/a/", "/r/a/m/1=n1,2 /r/a/n/1=n1,1", tag)
	list("/r/a/n/", "/r/a/n/1=n1,1", tag)
	list("", "/r/a/m/1=n1,2 /r/a/n/1=n1,1 /r/b/m/1=n1,3", tag)
	list("/r/a/", "/r/a/m/1=n1,2", store.ListOptions{Tag: "n1", Limit: 1})
	list("/r/a/", "/r/a/n/1=n1,1", store.ListOptions{Tag: "n1", From: "/r/a/m/1\x00"})
	e.same("count", e.list("/r/a/", store.ListOptions{Tag: "n1", CountOnly: true}).Remaining, 2)
	before := e.Rev()
	e.put("/r/a/n/1", "n2,5", store.AnyRev) // moves
	e.put("/r/a/n/3", "n1,6", 0)
	e.del("/r/a/m/1")
	list("/r/a/", "/r/a/n/3=n1,6", tag)
	list("/r/a/", "/r/a/n/1=n2,5 /r/a/n/2=n2,1", store.ListOptions{Tag: "n2"})
	list("/r/a/", "/r/a/m/1=n1,2 /r/a/n/1=n1,1", store.ListOptions{Tag: "n1", Rev: before})
	e.put("/r/a/m/1", "n1,7", 0)
	e.del("/r/a/n/3")
	if err := e.Compact(e.ctx, e.Rev()); err != nil {
		t.Fatal(err)
	}
	list("/r/a/", "/r/a/m/1=n1,7", tag)
	list("/r/a/", "", store.ListOptions{Tag: "n9"})
}

func listAtRevision(t *testing.T, e *env) {
	want := map[store.Rev]string{}
	note := func() { want[e.Rev()] = keys(e.list("/r/a/", store.ListOptions{}).Records) }
	note()
	for i := range 40 {
		key := fmt.Sprintf("/r/a/%d", i%7)
		if i%5 == 4 {
			e.Commit(e.ctx, []store.Op{{Key: key, Delete: true, Expect: store.AnyRev}})
		} else {
			e.put(key, fmt.Sprint(i), store.AnyRev)
		}
		note()
	}
	for rev, w := range want {
		e.same(fmt.Sprint("list at ", rev), keys(e.list("/r/a/", store.ListOptions{Rev: rev}).Records), w)
	}
}

func compact(t *testing.T, e *env) {
	a := e.put("/r/a/x", "1", 0)
	b := e.put("/r/a/x", "2", a.ModRev)
	c := e.put("/r/a/y", "1", 0)
	d := e.put("/r/a/x", "3", b.ModRev)
	if err := e.Compact(e.ctx, c.ModRev); err != nil {
		t.Fatal(err)
	}
	e.same("compacted revision", e.CompactedRev(), c.ModRev)
	if _, err := e.List(e.ctx, "/r/a/", store.ListOptions{Rev: b.ModRev}); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("list below: %v", err)
	}
	if _, _, err := e.Get(e.ctx, "/r/a/x", b.ModRev); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("get below: %v", err)
	}
	e.same("list at it", keys(e.list("/r/a/", store.ListOptions{Rev: c.ModRev}).Records), "/r/a/x=2 /r/a/y=1")
	e.same("list above", keys(e.list("/r/a/", store.ListOptions{Rev: d.ModRev}).Records), "/r/a/x=3 /r/a/y=1")
	if err := e.Compact(e.ctx, a.ModRev); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("compact again below: %v", err)
	}
	if err := e.Compact(e.ctx, d.ModRev+1); !errors.Is(err, store.ErrFutureRev) {
		t.Errorf("compact the future: %v", err)
	}
}

func compactDeleted(t *testing.T, e *env) {
	for range 3 {
		e.put("/r/a/x", "1", 0)
		e.put("/r/a/keep", "1", store.AnyRev)
		e.del("/r/a/x")
		if err := e.Compact(e.ctx, e.Rev()); err != nil {
			t.Fatal(err)
		}
		e.same("list", keys(e.list("", store.ListOptions{}).Records), "/r/a/keep=1")
	}
	r := e.put("/r/a/x", "2", 0)
	e.same("revisions go on", r.ModRev, e.Rev())
	got, _, err := e.Get(e.ctx, "/r/a/x", 0)
	if err != nil || string(got.Value()) != "2" {
		t.Errorf("get: %v %v", got, err)
	}
}
