package robustness

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
	"go.uber.org/zap"

	"sagong/store"
)

// recording is what clients and watchers saw, and what the disk has.
type recording struct {
	operations []porcupine.Operation
	open       map[int]int // client: its operation that has not returned
	watches    map[int]*model.WatchOperation
	persisted  []model.WatchEvent
}

// TestRobustness kills a server at work again and again, between two kills lets
// it begin from a snapshot, and has the whole history validated.
func TestRobustness(t *testing.T) {
	r := &recording{open: map[int]int{}, watches: map[int]*model.WatchOperation{}}
	dir := t.TempDir()
	for round := range 4 {
		r.run(t, dir, round)
		r.readDisk(t, dir, round)
	}
	t.Logf("%d operations, %d watches, %d revisions", len(r.operations), len(r.watches), len(r.persisted))
	r.versions(t)
	requests := r.requests(t)
	if err := judge(r.reports(), requests); err != nil {
		t.Fatal(err)
	}

	// The validators see through this translation what is wrong.
	rejected := func(name, want string, reports []report.ClientReport, requests []model.EtcdRequest) {
		t.Helper()
		if err := judge(reports, requests); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, the validators say: %v", name, want, err)
		}
	}
	reports, w := r.broken()
	for i := range w.Responses {
		if e := w.Responses[i].Events; i > 0 && len(e) > 0 {
			w.Responses[i].Events = nil
			break
		}
	}
	rejected("events are missing", "Reliable", reports, requests)

	reports, w = r.broken()
	early := w.Responses[len(w.Responses)-1].Revision
	w.Responses = slices.Insert(w.Responses, 0, model.WatchResponse{IsProgressNotify: true, Revision: early})
	rejected("a bookmark too early", "Bookmarkable", reports, requests)

	reports, _ = r.broken()
	for i, op := range reports[0].KeyValue {
		in, out := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
		if out.Range != nil && in.Range.Revision == 0 && len(out.Range.KVs) > 0 {
			out.Revision = 1 // of the empty store
			reports[0].KeyValue[i].Output = out
			break
		}
	}
	rejected("a read of what was not there yet", "illegal", reports, requests)

	reports, _ = r.broken()
	rejected("a write is not on disk", "Failure", reports, slices.Delete(slices.Clone(requests), len(requests)/2, len(requests)/2+1))
}

// broken is a copy of the reports to be changed, and in it the longest watch.
func (r *recording) broken() ([]report.ClientReport, *model.WatchOperation) {
	reports := r.reports()
	var best *model.WatchOperation
	for i := range reports[0].Watch {
		if w := &reports[0].Watch[i]; best == nil || len(w.Responses) > len(best.Responses) {
			best = w
		}
	}
	return reports, best
}

// judge runs etcd's validators.
func judge(reports []report.ClientReport, requests []model.EtcdRequest) error {
	res := validate.ValidateAndReturnVisualize(zap.NewNop(), validate.Config{ExpectRevisionUnique: true}, reports, requests, 2*time.Minute)
	return res.Error()
}

// run has a server at work until it has returned so many results, and kills it.
func (r *recording) run(t *testing.T, dir string, round int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), dirVariable+"="+dir, fmt.Sprintf("%s=%d", roundVariable, round))
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const results = 400
	n := 0
	for in := json.NewDecoder(pipe); ; {
		var l line
		if in.Decode(&l) != nil {
			break // the end, or a last line that was cut
		}
		r.add(l)
		if l.Return == nil {
			continue
		}
		if n++; n == results {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if n < results {
		t.Fatalf("round %d: the server ended after %d results", round, n)
	}
	// What has not returned may have happened or not.
	for _, at := range r.open {
		op := &r.operations[at]
		op.Return = now()
		op.Output = model.MaybeEtcdResponse{Error: "killed"}
	}
	clear(r.open)
}

func (r *recording) add(l line) {
	switch {
	case l.Call != nil:
		r.open[l.Call.Client] = len(r.operations)
		r.operations = append(r.operations, porcupine.Operation{ClientId: l.Call.Client, Input: l.Call.Request, Call: l.Call.Time})
	case l.Return != nil:
		op := &r.operations[r.open[l.Return.Client]]
		delete(r.open, l.Return.Client)
		op.Return = max(l.Return.Time, op.Call+1)
		op.Output = l.Return.Response
	case l.Watch != nil:
		r.watches[l.Watch.ID] = &model.WatchOperation{Request: l.Watch.Request}
	case l.Events != nil:
		w := r.watches[l.Events.ID]
		w.Responses = append(w.Responses, l.Events.Response)
	}
}

// readDisk takes from the data directory what has been written since it was last
// read. In every second round it has the store write a snapshot, from which the
// next server begins.
func (r *recording) readDisk(t *testing.T, dir string, round int) {
	t.Helper()
	opts := store.Options{Dir: dir, History: time.Hour}
	if round%2 == 1 {
		opts.SnapshotBytes = 1
	}
	s, err := store.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	if round%2 == 1 {
		op := store.Op{Key: prefix + "a/0", Expect: store.AnyRev, Value: fmt.Appendf(nil, "between-%d", round)}
		id := round*1000 + 999
		r.add(line{Call: &call{id, request(op), now()}})
		res := s.Commit(t.Context(), []store.Op{op})[0]
		if res.Err != nil {
			t.Fatal(res.Err)
		}
		r.add(line{Return: &result{id, model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{
			Txn: &model.TxnResponse{Results: []model.EtcdOperationResult{{}}}, Revision: int64(res.Rev),
		}}, now()}})
	}
	from := store.Rev(1)
	if n := len(r.persisted); n > 0 {
		from = store.Rev(r.persisted[n-1].Revision)
	}
	w, err := s.Watch(t.Context(), prefix, from, store.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for w.Rev() < s.Rev() {
		all, err := w.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			r.persisted = append(r.persisted, event(&all[i]))
		}
	}
	w.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if snaps, _ := filepath.Glob(filepath.Join(dir, "snap", "*.snap")); round%2 == 1 && len(snaps) == 0 {
		t.Error("there is no snapshot")
	}
}

// versions fills in etcd's Version of every value seen, the number of writes
// since the key was made, by the revision at which it was written.
func (r *recording) versions(t *testing.T) {
	of, at := map[int64]int64{}, map[string]int64{}
	for _, e := range r.persisted {
		switch {
		case e.Type == model.DeleteOperation:
			delete(at, e.Key)
		default:
			at[e.Key]++
			of[e.Revision] = at[e.Key]
		}
	}
	fill := func(v *model.ValueRevision) {
		if v.Version = of[v.ModRevision]; v.Version == 0 {
			t.Errorf("somebody saw revision %d, which the disk does not have", v.ModRevision)
		}
	}
	for _, op := range r.operations {
		out := op.Output.(model.MaybeEtcdResponse)
		all := []*model.RangeResponse{out.Range}
		if out.Txn != nil {
			for i := range out.Txn.Results {
				all = append(all, &out.Txn.Results[i].RangeResponse)
			}
		}
		for _, found := range all {
			if found == nil {
				continue
			}
			for i := range found.KVs {
				fill(&found.KVs[i].ValueRevision)
			}
		}
	}
	for _, w := range r.watches {
		for _, resp := range w.Responses {
			for i := range resp.Events {
				if v := resp.Events[i].PrevValue; v != nil {
					fill(v)
				}
			}
		}
	}
}

// requests is the history of the disk in the form of etcd's log.
func (r *recording) requests(t *testing.T) []model.EtcdRequest {
	out := make([]model.EtcdRequest, len(r.persisted))
	for i, e := range r.persisted {
		if e.Revision != int64(i)+2 {
			t.Fatalf("change %d on disk has revision %d: there is a gap", i, e.Revision)
		}
		op := model.EtcdOperation{Type: e.Type, Put: model.PutOptions{Key: e.Key, Value: e.Value}}
		if e.Type == model.DeleteOperation {
			op.Put, op.Delete = model.PutOptions{}, model.DeleteOptions{Key: e.Key}
		}
		out[i] = model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{OperationsOnSuccess: []model.EtcdOperation{op}}}
	}
	return out
}

// reports is the recording as the validators want it: a copy.
func (r *recording) reports() []report.ClientReport {
	out := report.ClientReport{KeyValue: slices.Clone(r.operations)}
	for _, w := range r.watches {
		c := *w
		c.Responses = slices.Clone(w.Responses)
		out.Watch = append(out.Watch, c)
	}
	return []report.ClientReport{out}
}
