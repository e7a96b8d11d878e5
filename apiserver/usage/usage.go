// Package usage answers metrics.k8s.io: what nodes and pods use, from the node
// agents' own statistics. Nothing is collected while nobody asks, and at most
// once in Interval however many ask. See docs/decisions/metrics.md.
package usage

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"sagong/apiserver/resource"
	"sagong/object"
	"sagong/reconcile"
)

const (
	// Interval is how old an answer may be, and the least time between two
	// readings of a node that several askers share; metrics-server's default.
	Interval = 15 * time.Second
	// settle is how long a second reading follows the first when nobody asked
	// before: processor time becomes a rate only between two.
	settle = time.Second
	// remember is how long a reading serves as the first of two. Beyond it the
	// rate would tell of a past that nobody asked for.
	remember = 2 * time.Minute
	// deadline ends one reading of all nodes: the answer is about those that
	// were in time. readers is how many nodes are read at once.
	deadline = 10 * time.Second
	readers  = 64
)

// Options say what a Collector reads.
type Options struct {
	Nodes *reconcile.View[*corev1.Node]
	Pods  *reconcile.View[*corev1.Pod]
	// Read fetches /metrics/resource of a node's agent.
	Read func(ctx context.Context, n *corev1.Node) ([]byte, error)
	Log  *slog.Logger
}

// Collector reads the agents of all nodes when somebody asks.
type Collector struct {
	Options

	mu      sync.Mutex
	latest  *reading      // the newest, with its rates
	flight  chan struct{} // closed when the reading under way is done; nil without one
	forgets *time.Timer
}

// New makes a collector. Register it.
func New(o Options) *Collector {
	o.Pods.Index("namespace", func(p *corev1.Pod) []string { return []string{p.Namespace} })
	return &Collector{Options: o}
}

// Register has an engine answer metrics.k8s.io from c.
func (c *Collector) Register(e *resource.Engine) {
	e.ReadFrom(object.Of[*metricsv1beta1.NodeMetrics](e.Scheme()), nodeSource{c})
	e.ReadFrom(object.Of[*metricsv1beta1.PodMetrics](e.Scheme()), podSource{c})
}

// current returns a reading not older than Interval, with rates. Those who ask
// while one is under way wait for that one.
func (c *Collector) current(ctx context.Context) (*reading, error) {
	if err := errors.Join(c.Nodes.Need(ctx), c.Pods.Need(ctx)); err != nil {
		return nil, err
	}
	c.mu.Lock()
	if r := c.latest; r != nil && r.rated && time.Since(r.at) < Interval {
		c.mu.Unlock()
		return r, nil
	}
	flight := c.flight
	if flight == nil {
		flight = make(chan struct{})
		c.flight = flight
		before := c.latest
		// The reading outlives an asker that gives up: others wait for it.
		go c.collect(context.WithoutCancel(ctx), before, flight)
	}
	c.mu.Unlock()
	select {
	case <-flight:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.latest, nil
}

// collect reads all nodes, twice when there is nothing to compare with.
func (c *Collector) collect(ctx context.Context, before *reading, done chan struct{}) {
	if before != nil && time.Since(before.at) > remember {
		before = nil
	}
	if before == nil {
		before = c.read(ctx)
		wait := time.NewTimer(settle)
		<-wait.C
	}
	now := c.read(ctx)
	now.compare(before)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latest, c.flight = now, nil
	if c.forgets == nil {
		c.forgets = time.AfterFunc(remember, c.forget)
	} else {
		c.forgets.Reset(remember)
	}
	close(done)
}

// forget drops a reading that has become useless.
func (c *Collector) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.latest != nil && time.Since(c.latest.at) >= remember {
		c.latest = nil
	}
}
