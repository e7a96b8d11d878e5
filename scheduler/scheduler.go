// Package scheduler gives pods their nodes. One goroutine owns the queue and
// the state of the nodes, both changed event by event; it takes pods of one
// class together, places them by the rules of package plugins, makes room for
// those of higher priority, and hands what is to be written to others that
// commit it in batches.
package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/reconcile"
	"sagong/scheduler/configuration"
	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// Name is the scheduler that pods name unless they name another.
const Name = corev1.DefaultSchedulerName

// plansKept is how long plans are kept while nothing is placed: those of a large
// cluster take 25 MB, and a millisecond each to make anew.
const plansKept = time.Minute

// batchSize bounds how many pods are placed and bound together.
const batchSize = 512

// Config is what a Scheduler needs.
type Config struct {
	Client client.Client
	Hub    *reconcile.Hub
	// Recorder makes the recorder of a profile, whose name its events carry.
	Recorder func(profile string) client.Recorder
	Log      *slog.Logger
	Now      func() time.Time // nil means time.Now
	// Configuration is complete; nil means the defaults.
	Configuration *configuration.Configuration
	// Groups has pods that name a PodGroup placed by it, which must be in the
	// client's scheme; without it they wait for ever, and say so.
	Groups bool
	// Metrics are of this scheduler alone; nil is none.
	Metrics *Metrics
}

// Scheduler places pods.
type Scheduler struct {
	cfg      Config
	profiles map[string]*profile
	events   map[string]client.Recorder   // by profile
	rules    []plugins.Plugin             // of all profiles
	pods     *reconcile.View[*corev1.Pod] // nil before Run
	recall   state.Source                 // of pods
	owners   *plugins.Owners

	mu     sync.Mutex
	inbox  []func()
	signal chan struct{} // capacity 1

	writes  chan []write   // to the binder
	prebind sync.WaitGroup // pods whose rules write or wait before binding
	tickets chan struct{}  // bounds those

	// Owned by Run's goroutine.
	queue   *queue
	state   *state.State
	budgets budgets
	changes plugins.Change  // heard and not yet told to the queue
	freed   map[string]bool // nodes with nominees that pods have left since
	gated   map[types.UID]struct{}
	groups  map[types.NamespacedName]*podGroup // nil when they are not served
}

// New makes a scheduler that follows the hub's pods, nodes, namespaces and
// disruption budgets, and what its rules follow. It fails on arguments of rules
// that cannot be read.
func New(cfg Config) (*Scheduler, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Configuration == nil {
		cfg.Configuration = configuration.Default()
	}
	c := cfg.Configuration
	s := &Scheduler{
		cfg: cfg, profiles: map[string]*profile{}, events: map[string]client.Recorder{}, signal: make(chan struct{}, 1),
		writes: make(chan []write, 16), tickets: make(chan struct{}, maxPreBinds), queue: newQueue(c.InitialBackoff, c.MaxBackoff), state: state.New(),
		freed: map[string]bool{}, gated: map[types.UID]struct{}{},
	}
	s.queue.metrics = cfg.Metrics
	shared := plugins.Share(plugins.Deps{
		Hub: cfg.Hub, Groups: cfg.Groups, Client: cfg.Client, Events: cfg.Recorder(c.Profiles[0].Name), Log: cfg.Log, Now: cfg.Now, Post: s.post,
		Changed: func(c plugins.Change) { s.changes |= c },
	})
	s.owners = shared.Owners
	if shared.Devices != nil {
		s.queue.claims = shared.Devices.ClassKey
	}
	if cfg.Groups {
		s.groups = map[types.NamespacedName]*podGroup{}
	}
	for i := range c.Profiles {
		p, err := newProfile(&c.Profiles[i], shared)
		if err != nil {
			return nil, fmt.Errorf("cannot make the scheduler: %w", err)
		}
		s.profiles[p.name], s.events[p.name] = p, cfg.Recorder(p.name)
		s.rules = append(s.rules, p.rules...)
	}
	return s, nil
}

// Run places pods until ctx ends. Bindings under way are finished first.
func (s *Scheduler) Run(ctx context.Context) error {
	nodes, pods := reconcile.ViewOf[*corev1.Node](s.cfg.Hub), reconcile.ViewOf[*corev1.Pod](s.cfg.Hub)
	s.pods, s.recall = pods, pods.Recall
	budgets := reconcile.ViewOf[*policyv1.PodDisruptionBudget](s.cfg.Hub)
	namespaces := reconcile.ViewOf[*corev1.Namespace](s.cfg.Hub)
	for _, synced := range []func(context.Context) error{nodes.Synced, pods.Synced, budgets.Synced, namespaces.Synced, s.owners.Synced} {
		if err := synced(ctx); err != nil {
			return err
		}
	}
	for _, x := range s.rules {
		if st, ok := x.(plugins.Starter); ok {
			stop, err := st.Start(ctx)
			if err != nil {
				return err
			}
			defer stop()
		}
	}
	if s.groups != nil {
		groups := reconcile.ViewOf[*schedulingv1beta1.PodGroup](s.cfg.Hub)
		if err := groups.Synced(ctx); err != nil {
			return err
		}
		defer groups.OnChange(func(old, new *schedulingv1beta1.PodGroup) { s.post(func() { s.groupChanged(old, new) }) })()
	}
	defer nodes.OnChange(func(old, new *corev1.Node) { s.post(func() { s.nodeChanged(old, new) }) })()
	defer pods.OnChange(func(old, new *corev1.Pod) { s.post(func() { s.podChanged(old, new) }) })()
	defer budgets.OnChange(func(old, new *policyv1.PodDisruptionBudget) { s.post(func() { s.budgetChanged(old, new) }) })()

	var writers sync.WaitGroup
	writers.Go(func() { s.writeAll(context.WithoutCancel(ctx)) })
	defer writers.Wait()
	defer close(s.writes)
	preCtx, stopPreBinds := context.WithCancel(context.WithoutCancel(ctx))
	defer s.prebind.Wait()
	defer stopPreBinds()

	defer func() { s.cfg.Metrics.show(s.queue, len(s.gated)) }()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var placed time.Time // at last; zero when there are no plans since
	for {
		s.drain()
		next := s.queue.due(s.cfg.Now())
		s.cfg.Metrics.show(s.queue, len(s.gated))
		if s.placeBatch(preCtx) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			placed = s.cfg.Now()
			continue
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = max(next.Sub(s.cfg.Now()), time.Millisecond)
		}
		if !placed.IsZero() {
			if left := placed.Add(plansKept).Sub(s.cfg.Now()); left > 0 {
				wait = min(wait, left)
			} else {
				placed = time.Time{}
				s.dropPlans()
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.signal:
		case <-timer.C:
		}
	}
}

func (s *Scheduler) dropPlans() {
	for _, p := range s.profiles {
		p.plans = planCache{}
	}
}

// post runs f in Run's goroutine.
func (s *Scheduler) post(f func()) {
	s.mu.Lock()
	s.inbox = append(s.inbox, f)
	s.mu.Unlock()
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

func (s *Scheduler) drain() {
	s.mu.Lock()
	fs := s.inbox
	s.inbox = nil
	s.mu.Unlock()
	for _, f := range fs {
		f()
	}
	for node := range s.freed {
		s.wakeNominees(node)
	}
	clear(s.freed)
	if s.changes != 0 {
		// Once for all: each wake looks at every class that waits.
		c := s.changes
		s.changes = 0
		s.queue.wake(c, s.cfg.Now(), s.mayFit)
	}
}
