package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/client"
	"sagong/object"
)

// Engine runs controllers: it owns their queues, retries and ordering.
type Engine struct {
	c       client.Client
	log     *slog.Logger
	metrics Metrics

	controllers []Controller
	names       map[string]bool
	owners      map[Output]string
}

// NewEngine makes an engine whose controllers write with c. metrics may be nil.
func NewEngine(c client.Client, log *slog.Logger, metrics Metrics) *Engine {
	if metrics == nil {
		metrics = NoMetrics{}
	}
	return &Engine{c: c, log: log, metrics: metrics, names: map[string]bool{}, owners: map[Output]string{}}
}

// Add takes controllers before Run. It refuses two of one name, and two that
// own the same thing.
func (e *Engine) Add(controllers ...Controller) error {
	for _, c := range controllers {
		if e.names[c.Name()] {
			return fmt.Errorf("cannot add controller %s: there is one of that name", c.Name())
		}
		for _, o := range c.Outputs() {
			if by := e.owners[o]; by != "" {
				return fmt.Errorf("cannot add controller %s: %s %s belongs to %s", c.Name(), o.Kind, o.Field, by)
			}
		}
		for _, o := range c.Outputs() {
			e.owners[o] = c.Name()
		}
		e.names[c.Name()] = true
		e.controllers = append(e.controllers, c)
	}
	return nil
}

// Run runs all controllers, each as soon as its views are synced, until ctx
// ends and every handling has returned. It may run again afterwards.
func (e *Engine) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	t := newTimers()
	wg.Go(func() { t.run(ctx) })
	for _, c := range e.controllers {
		wg.Go(func() { e.run(ctx, c, t) })
	}
	wg.Wait()
	return ctx.Err()
}

func (e *Engine) run(ctx context.Context, c Controller, t *timers) {
	log := e.log.With("controller", c.Name())
	limit := DefaultWorkers
	if w, ok := c.(Workers); ok {
		limit = w.Workers()
	}
	var workers sync.WaitGroup
	var q *queue
	q = newQueue(c.Name(), t, e.metrics, limit, func() {
		workers.Go(func() {
			for {
				k, ok := q.next()
				if !ok {
					return
				}
				e.handle(ctx, c, q, k, log)
			}
		})
	})
	inputs := c.Inputs()
	for _, in := range inputs {
		if err := in.source.Synced(ctx); err != nil {
			return
		}
		q.sources[in.source.Definition()] = in.source
	}
	var stops []func()
	for _, in := range inputs {
		stops = append(stops, in.source.onAdvance(q.advance))
		if in.follow != nil {
			stops = append(stops, in.follow(q.add))
		}
	}
	if r, ok := c.(Runner); ok {
		workers.Go(func() {
			if err := r.Run(ctx, e.c, q.add); err != nil && ctx.Err() == nil {
				log.Error("controller ended early", "err", err)
			}
		})
	}
	<-ctx.Done()
	for _, stop := range stops {
		stop()
	}
	q.close()
	workers.Wait()
}

// errPanic marks an error made of a panic.
var errPanic = errors.New("panic")

func (e *Engine) handle(ctx context.Context, c Controller, q *queue, k object.Key, log *slog.Logger) {
	start := time.Now()
	tc := &tracked{Client: e.c}
	result, err := reconcileSafely(ctx, c, tc, k)
	e.metrics.Worked(q.name, time.Since(start))
	o := outcome{notes: tc.take(), after: result.After, rest: result.Rest, failed: err != nil, conflict: apierrors.IsConflict(err)}
	retry := q.done(k, o)
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, errPanic):
		log.Error("a handling panicked", "key", k.String(), "err", err, "retry", retry)
	case o.conflict:
		log.Debug("a write met a newer object", "key", k.String(), "err", err)
	default:
		log.Warn("cannot reconcile", "key", k.String(), "err", err, "retry", retry)
	}
}

func reconcileSafely(ctx context.Context, c Controller, tc *tracked, k object.Key) (r Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
		}
	}()
	return c.Reconcile(ctx, tc, k)
}
