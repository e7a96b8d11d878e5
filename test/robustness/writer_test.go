// Package robustness judges histories of this project's store by etcd's own
// validators: linearizability against etcd's model, reads of the past, and every
// guarantee of watches. The store is killed and started again in the middle.
//
// Compaction is left out: the validators replay the whole history from its first
// revision on, which a compacted store no longer has. store/storetest has it.
package robustness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/tests/v3/robustness/model"
	"golang.org/x/sys/unix"

	"sagong/store"
)

// The environment that makes the test binary the server of TestRobustness.
const (
	dirVariable   = "SAGONG_TEST_ROBUSTNESS_DIR"
	roundVariable = "SAGONG_TEST_ROBUSTNESS_ROUND"
)

const (
	prefix    = "/r/"
	prefixEnd = "/r0"
	clients   = 6
	// streams is how many client ids a client has: one for each operation of a
	// batch, since those overlap and the validators want none of a client's to.
	streams = 3
)

// line is what the server says. Exactly one of its fields is set.
type line struct {
	Call   *call   `json:",omitempty"`
	Return *result `json:",omitempty"`
	Watch  *watch  `json:",omitempty"`
	Events *events `json:",omitempty"`
}

// call is said before an operation begins, result after it ended. Times are those
// of the machine's monotonic clock, which goes on from one process to the next.
type call struct {
	Client  int
	Request model.EtcdRequest
	Time    int64
}

type result struct {
	Client   int
	Response model.MaybeEtcdResponse
	Time     int64
}

type watch struct {
	ID      int
	Request model.WatchRequest
}

type events struct {
	ID       int
	Response model.WatchResponse
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirVariable); dir != "" {
		var round int
		if _, err := fmt.Sscan(os.Getenv(roundVariable), &round); err == nil {
			err = serve(dir, round)
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

// server is a store and those who use it until it is killed.
type server struct {
	*store.Local
	round int
	mu    sync.Mutex
	out   *json.Encoder // a line is one write: only the last can be cut
}

func (s *server) say(l line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.out.Encode(l); err != nil {
		os.Exit(1)
	}
}

func serve(dir string, round int) error {
	l, err := store.Open(store.Options{Dir: dir, History: time.Hour})
	if err != nil {
		return err
	}
	s := &server{Local: l, round: round, out: json.NewEncoder(os.Stdout)}
	// The first read of all is of the empty store: the model begins there.
	first := &client{server: s, id: round * 1000}
	first.list(0, 0)

	var wg sync.WaitGroup
	for n, r := range []model.WatchRequest{
		{Key: prefix, WithPrefix: true}, {Key: prefix, WithPrefix: true}, {Key: prefix + "a/", WithPrefix: true}, {Key: prefix + "a/1"},
	} {
		r.WithPrevKV = true
		// Not from now on only: also from revisions of before the restart.
		from := l.CompactedRev()
		if n%2 == 1 {
			from += store.Rev(rand.Int64N(int64(l.Rev()-from) + 1))
		}
		r.Revision = int64(from) + 1 // etcd counts from the first revision wanted
		wg.Go(func() { s.follow(watch{ID: round*1000 + n, Request: r}, from) })
	}
	for n := range clients {
		c := &client{server: s, id: round*1000 + 10 + n*streams, rnd: rand.New(rand.NewPCG(uint64(round), uint64(n)))}
		wg.Go(c.work)
	}
	wg.Wait()
	return errors.New("nobody has killed the server")
}

// follow says what a watch delivers, and between how far it got.
func (s *server) follow(w watch, from store.Rev) {
	s.say(line{Watch: &w})
	in, err := s.Local.Watch(context.Background(), w.Request.Key, from, store.WatchOptions{Exact: !w.Request.WithPrefix})
	if err != nil {
		fmt.Fprintln(os.Stderr, "watch:", err)
		os.Exit(1)
	}
	for {
		all, err := in.Next(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, "next:", err)
			os.Exit(1)
		}
		// Small pieces, so that a line is soon out.
		for part := range slices.Chunk(all, 16) {
			var r model.WatchResponse
			for i := range part {
				r.Events = append(r.Events, event(&part[i]))
			}
			r.Revision = r.Events[len(r.Events)-1].Revision
			r.Time = time.Duration(now())
			s.say(line{Events: &events{w.ID, r}})
		}
		s.say(line{Events: &events{w.ID, model.WatchResponse{IsProgressNotify: true, Revision: int64(in.Rev()), Time: time.Duration(now())}}})
	}
}

func event(e *store.Event) model.WatchEvent {
	out := model.WatchEvent{PersistedEvent: model.PersistedEvent{Revision: int64(e.Rev), Event: model.Event{Key: e.Record.Key}}}
	if e.Type == store.Delete {
		out.Type = model.DeleteOperation
	} else {
		out.Type = model.PutOperation
		out.Value = model.ToValueOrHash(string(e.Record.Value()))
		out.IsCreate = e.Record.CreateRev == e.Rev
	}
	if e.Prev != nil {
		v := keyValue(e.Prev).ValueRevision
		out.PrevValue = &v
	}
	return out
}

// keyValue leaves out etcd's Version, the number of writes since the key was
// made, which this store does not keep; see recording.versions.
func keyValue(r *store.Record) model.KeyValue {
	return model.KeyValue{Key: r.Key, ValueRevision: model.ValueRevision{
		Value: model.ToValueOrHash(string(r.Value())), ModRevision: int64(r.ModRev),
	}}
}

// client does one thing after another.
type client struct {
	*server
	id   int
	rnd  *rand.Rand
	n    int                  // values written, which are never the same
	seen map[string]store.Rev // what it last saw of a key
}

func (c *client) work() {
	c.seen = map[string]store.Rev{}
	for {
		switch n := c.rnd.IntN(10); {
		case n < 2:
			c.get(c.key())
		case n < 3:
			c.list(0, int64(c.rnd.IntN(4)))
		case n < 4: // the past
			oldest := c.CompactedRev()
			c.list(oldest+store.Rev(c.rnd.Int64N(int64(c.Rev()-oldest)+1)), int64(c.rnd.IntN(4)))
		case n < 9:
			c.commit(1)
		default:
			c.commit(streams)
		}
	}
}

func (c *client) key() string {
	return fmt.Sprintf("%s%c/%d", prefix, 'a'+c.rnd.IntN(2), c.rnd.IntN(3))
}

func (c *client) begin(stream int, r model.EtcdRequest) {
	c.say(line{Call: &call{c.id + stream, r, now()}})
}

func (c *client) end(stream int, r model.EtcdResponse) {
	c.say(line{Return: &result{c.id + stream, model.MaybeEtcdResponse{EtcdResponse: r}, now()}})
}

func (c *client) get(key string) {
	c.begin(0, model.EtcdRequest{Type: model.Range, Range: &model.RangeRequest{RangeOptions: model.RangeOptions{Start: key}}})
	r, rev, err := c.Get(context.Background(), key, 0)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		c.fail(err)
	}
	found := rangeOf(r)
	c.seen[key] = 0
	if r != nil {
		c.seen[key] = r.ModRev
	}
	c.end(0, model.EtcdResponse{Range: &found, Revision: int64(rev)})
}

// list reads all keys, at a revision of the past when rev is not 0.
func (c *client) list(rev store.Rev, limit int64) {
	c.begin(0, model.EtcdRequest{Type: model.Range, Range: &model.RangeRequest{
		RangeOptions: model.RangeOptions{Start: prefix, End: prefixEnd, Limit: limit}, Revision: int64(rev),
	}})
	l, err := c.List(context.Background(), prefix, store.ListOptions{Rev: rev, Limit: int(limit)})
	if err != nil {
		c.fail(err)
	}
	if rev != 0 {
		l.Rev = c.Rev() // etcd's header has the present revision
	}
	found := rangeOf(l.Records...)
	found.Count += l.Remaining
	c.end(0, model.EtcdResponse{Range: &found, Revision: int64(l.Rev)})
}

func rangeOf(records ...*store.Record) model.RangeResponse {
	out := model.RangeResponse{KVs: []model.KeyValue{}}
	for _, r := range records {
		if r != nil {
			out.KVs = append(out.KVs, keyValue(r))
		}
	}
	out.Count = int64(len(out.KVs))
	return out
}

// commit writes n keys at once: puts and deletes, with and without a condition,
// whose revision may be one that is no longer true.
func (c *client) commit(n int) {
	ops := make([]store.Op, n)
	for i := range ops {
		c.n++
		key := c.key()
		op := store.Op{Key: key, Expect: c.seen[key], Value: fmt.Appendf(nil, "%d-%d", c.id, c.n)}
		if c.rnd.IntN(4) == 0 {
			op.Expect = store.AnyRev
		}
		if c.rnd.IntN(4) == 0 && op.Expect != 0 {
			op.Delete = true
		}
		ops[i] = op
		c.begin(i, request(op))
	}
	for i, r := range c.Commit(context.Background(), ops) {
		op := ops[i]
		txn := &model.TxnResponse{Results: []model.EtcdOperationResult{{}}}
		var failed *store.OpError
		switch {
		case r.Err == nil:
			c.seen[op.Key] = r.Rev
			if op.Delete {
				c.seen[op.Key] = 0
				txn.Results[0].Deleted = 1
			}
		case errors.As(r.Err, &failed) && op.Expect == store.AnyRev:
			c.seen[op.Key] = 0 // a delete of what is not there: etcd's succeeds and does nothing
		case errors.As(r.Err, &failed):
			c.seen[op.Key] = 0
			if failed.Current != nil {
				c.seen[op.Key] = failed.Current.ModRev
			}
			txn.Failure = true
			txn.Results[0].RangeResponse = rangeOf(failed.Current)
		default:
			c.fail(r.Err)
		}
		c.end(i, model.EtcdResponse{Txn: txn, Revision: int64(r.Rev)})
	}
}

// request is an operation as Kubernetes puts it to etcd: with a condition, and a
// read in case it fails.
func request(op store.Op) model.EtcdRequest {
	txn := &model.TxnRequest{OperationsOnSuccess: []model.EtcdOperation{write(op.Key, string(op.Value), op.Delete)}}
	if op.Expect != store.AnyRev {
		txn.Conditions = []model.EtcdCondition{{Key: op.Key, ExpectedRevision: int64(op.Expect)}}
		txn.OperationsOnFailure = []model.EtcdOperation{{Type: model.RangeOperation, Range: model.RangeOptions{Start: op.Key}}}
	}
	return model.EtcdRequest{Type: model.Txn, Txn: txn}
}

func write(key, value string, remove bool) model.EtcdOperation {
	if remove {
		return model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: key}}
	}
	return model.EtcdOperation{Type: model.PutOperation, Put: model.PutOptions{Key: key, Value: model.ToValueOrHash(value)}}
}

func (c *client) fail(err error) {
	fmt.Fprintln(os.Stderr, "client:", err)
	os.Exit(1)
}
