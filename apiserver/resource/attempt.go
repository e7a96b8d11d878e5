package resource

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/apiserver/turn"
	"sagong/lib/tracing"
	"sagong/object"
	"sagong/store"
)

// attempt is one try of a write: it reads, decides and says what to commit. It
// is called again when the state it was decided on has changed meanwhile.
type attempt func(ctx context.Context) (step, error)

// step is what an attempt decided.
type step struct {
	// op is to be committed; nil when there is nothing to write, and item is
	// the result.
	op   *store.Op
	item Item
	kind *Kind
	obj  object.Object // as written by op
	gone bool          // the object is deleted, or would be (dry run)
	// admitted are the attributes admission let through, to be settled.
	admitted *Attributes
	// held says that a second try is the same write to admission: what it
	// reserved is kept until then.
	held bool
	// conflict says what a failed condition means: try again, or an error.
	conflict func(*store.OpError) (retry bool, err error)
	// with are the steps that are committed together with op, or not at all, and
	// anew begins the write again when one of these lost a race; nil for a write
	// whose every try begins with what is stored.
	with []step
	anew func()
}

// settledAll tells admission what became of a step and those with it.
func (e *Engine) settledAll(ctx context.Context, s step, err error) {
	for _, w := range s.with {
		e.settled(ctx, w.admitted, err)
	}
	e.settled(ctx, s.admitted, err)
}

// outcome is the result of a write.
type outcome struct {
	item Item
	gone bool
	err  error
}

// maxAttempts bounds a write that always loses its race; upstream tries for
// ever.
const maxAttempts = 200

// run carries out one write.
func (e *Engine) run(ctx context.Context, a attempt) outcome {
	return e.runAll(ctx, []attempt{a})[0]
}

// runAll carries out independent writes with one commit a round; nil attempts
// are left out.
func (e *Engine) runAll(ctx context.Context, all []attempt) []outcome {
	out := make([]outcome, len(all))
	left := make([]int, 0, len(all))
	for i, a := range all {
		if a != nil {
			left = append(left, i)
		}
	}
	ops := make([]store.Op, 0, len(left))
	steps := make([]step, 0, len(left))
	for try := 0; len(left) > 0; try++ {
		ops, steps = ops[:0], steps[:0]
		pending := make([]int, 0, len(left))
		decided := decide(ctx, all, left)
		for n, i := range left {
			s, err := decided[n].step, decided[n].err
			if err != nil {
				out[i] = outcome{err: err}
				continue
			}
			if s.op == nil {
				e.settled(ctx, s.admitted, nil)
				out[i] = outcome{item: s.item, gone: s.gone}
				continue
			}
			pending = append(pending, i)
			// Whoever sees the object finds what goes with it.
			for k, w := range s.with {
				ops = append(ops, *w.op)
				ops[len(ops)-1].Joined = k > 0
			}
			ops = append(ops, *s.op)
			ops[len(ops)-1].Joined = len(s.with) > 0
			steps = append(steps, s)
		}
		left = left[:0]
		if len(ops) == 0 {
			break
		}
		turn.Yield(ctx)
		commits := spanOf(ctx, steps)
		results := e.store.Commit(ctx, ops)
		commits.End()
		for n, s := range steps {
			i, r, with := pending[n], results[len(s.with)], results
			results = results[len(s.with)+1:]
			var failed *store.OpError
			switch {
			case r.Err == nil:
				// First the object learns its revision, which admission may ask for.
				for k, w := range s.with {
					e.committed(w, with[k])
				}
				out[i] = e.committed(s, r)
				e.settledAll(ctx, s, nil)
			case errors.As(r.Err, &failed):
				besides := failed.Key != s.op.Key
				retry, err := true, error(nil)
				if !besides {
					retry, err = s.conflict(failed)
				}
				if retry && try < maxAttempts && ctx.Err() == nil {
					switch {
					case !s.held || besides:
						e.settledAll(ctx, s, r.Err)
					default:
						e.settledAll(ctx, step{with: s.with}, r.Err)
					}
					if besides && s.anew != nil {
						s.anew()
					}
					left = append(left, i)
					continue
				}
				if err == nil {
					err = apierrors.NewConflict(s.kind.Definition.GR(), "", errors.New("the object changes too often, try again"))
				}
				e.settledAll(ctx, s, err)
				out[i] = outcome{err: err}
			default:
				e.settledAll(ctx, s, r.Err)
				out[i] = outcome{err: storeError(ctx, r.Err)}
			}
		}
	}
	return out
}

// together is a caller whom several writes may speak to at once.
func (c Caller) together() Caller {
	var mu sync.Mutex
	warn, annotate := c.Warn, c.Annotate
	if warn != nil {
		c.Warn = func(text string) {
			mu.Lock()
			defer mu.Unlock()
			warn(text)
		}
	}
	if annotate != nil {
		c.Annotate = func(key, value string) {
			mu.Lock()
			defer mu.Unlock()
			annotate(key, value)
		}
	}
	return c
}

// decision is what an attempt returned.
type decision struct {
	step step
	err  error
}

// maxWaiting bounds how many writes of a batch wait for others at a time.
const maxWaiting = 64

// decide makes attempts one after another, as long as none waits. While one does,
// for a webhook mostly, another goroutine goes on with the rest.
func decide(ctx context.Context, all []attempt, left []int) []decision {
	out := make([]decision, len(left))
	if len(left) == 1 {
		out[0].step, out[0].err = all[left[0]](ctx)
		return out
	}
	var (
		next, helpers atomic.Int64
		done          sync.WaitGroup
		work          func()
	)
	yield := sync.OnceFunc(func() { turn.Yield(ctx) })
	work = func() {
		for {
			n := int(next.Add(1)) - 1
			if n >= len(left) {
				return
			}
			// Webhooks are called at the same time, and each says that it waits.
			out[n].step, out[n].err = all[left[n]](turn.With(ctx, &turn.Turn{Yield: sync.OnceFunc(func() {
				yield()
				if int(next.Load()) < len(left) && helpers.Add(1) < maxWaiting {
					done.Go(work)
				}
			})}))
		}
	}
	work()
	done.Wait()
	return out
}

// spanOf begins the span of a commit, under the name that upstream's store gives
// it, when the request is traced.
func spanOf(ctx context.Context, steps []step) tracing.Span {
	name := "GuaranteedUpdate etcd3"
	switch op := steps[0].op; {
	case op.Delete:
		name = "Delete etcd3"
	case op.Expect == 0:
		name = "Create etcd3"
	}
	_, s := tracing.Start(ctx, name, func() []attribute.KeyValue {
		d := steps[0].kind.Definition
		all := []attribute.KeyValue{
			attribute.String("key", strings.TrimPrefix(steps[0].op.Key, "/registry")), attribute.String("group", d.Group), attribute.String("resource", d.Resource),
		}
		if steps[0].obj != nil {
			all = append(all, attribute.String("type", fmt.Sprintf("%T", steps[0].obj)))
		}
		return all
	})
	return s
}

func (e *Engine) committed(s step, r store.Result) outcome {
	it := e.item(s.kind, r.Record)
	if s.kind.shared.on.Load() {
		e.retired.add(r.Prev)
		if r.Record.Deleted() {
			e.retired.add(r.Record)
		}
	}
	if s.obj != nil {
		// The memo was stamped by the store; any other object is ours alone.
		m := s.kind.memoOf(s.op.Memo)
		if m == nil || m.obj != s.obj {
			s.obj.SetResourceVersion(it.rev.String())
		}
		it.obj = s.obj
		if m != nil && m.obj != nil && !s.gone && !s.kind.Custom() {
			e.alike.note(s.kind, m.obj, r.Record.Size())
			if s.kind.LetsGo() {
				s.kind.aging.note(r.Record)
			}
		}
	}
	return outcome{item: it, gone: s.gone}
}

// put makes the operation that stores obj, which must have no resourceVersion.
// The object itself is nobody else's; what it refers to may be published.
func (e *Engine) put(k *Kind, key string, expect store.Rev, obj object.Object, value []byte) *store.Op {
	op := &store.Op{Key: key, Expect: expect, Value: value, Lazy: k.Lazy}
	if k.TTL != nil {
		op.TTL = k.TTL(obj)
	}
	if k.shared.on.Load() {
		kept, m := k.newMemo(obj)
		if !k.Custom() {
			e.alike.share(k, m.obj, len(value), false)
		}
		op.Memo = kept
	}
	return op
}

// remove makes the operation that deletes the object in rec.
func (e *Engine) remove(k *Kind, rec *store.Record, obj object.Object) (*store.Op, object.Object) {
	last := object.ShallowCopy(obj)
	op := &store.Op{Key: rec.Key, Expect: rec.ModRev, Delete: true, Lazy: k.Lazy}
	if k.shared.on.Load() {
		op.Memo, _ = k.newMemo(last)
	}
	return op, last
}

// storeError tells the caller what a failure of the store means.
func storeError(ctx context.Context, err error) error {
	var rev *store.RevError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &rev) && errors.Is(err, store.ErrCompacted):
		return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", rev.Rev, rev.Compacted))
	case errors.As(err, &rev):
		return tooLarge(object.Revision(rev.Rev), object.Revision(rev.Current))
	case ctx.Err() != nil:
		return contextError(ctx)
	case errors.Is(err, store.ErrClosed):
		return apierrors.NewServiceUnavailable("the server is shutting down")
	case errors.Is(err, store.ErrStopped):
		return apierrors.NewServiceUnavailable(err.Error())
	default:
		return apierrors.NewInternalError(err)
	}
}
