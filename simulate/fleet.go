package simulate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/kubelet/timing"
	"sagong/object"
	"sagong/reconcile"
)

// Fleet is a set of simulated nodes.
type Fleet struct {
	cfg      Config
	podDef   *object.Definition
	leaseDef *object.Definition
	timers   *timing.Timers
	podWork  *timing.Queue[*pod]
	// nodeWork has writers of its own, so that leases are renewed in time
	// however many pods wait for theirs.
	nodeWork *timing.Queue[*node]
	ready    chan struct{} // closed once every node is registered and Ready
	left     atomic.Int64  // nodes that are not

	mu     sync.Mutex // of all below, and of every node and pod
	nodes  map[string]*node
	pods   map[object.Key]*pod
	shapes map[string]*shape
	rand   *rand.Rand

	counts [counters]atomic.Int64
}

// Stats are totals since the start.
type Stats struct {
	// Pods is how many there are now, the rest how often it happened.
	Pods, Started, Ended, Removed, Refused int64
	// PodWrites and NodeWrites count requests that were answered, leases
	// included; Errors those that failed for other reasons than a conflict.
	PodWrites, NodeWrites, Conflicts, Errors int64
}

type counter int

const (
	countStarted counter = iota
	countEnded
	countRemoved
	countRefused
	countPodWrites
	countNodeWrites
	countConflicts
	countErrors
	counters
)

func (f *Fleet) count(c counter) { f.counts[c].Add(1) }

// New makes a fleet; cfg is completed and checked.
func New(cfg Config) (*Fleet, error) {
	cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	f := &Fleet{
		cfg: cfg, podDef: object.Of[*corev1.Pod](cfg.Client.Scheme()), leaseDef: object.Of[*coordinationv1.Lease](cfg.Client.Scheme()),
		timers: timing.NewTimers(), podWork: timing.NewQueue[*pod](), nodeWork: timing.NewQueue[*node](), ready: make(chan struct{}),
		nodes: make(map[string]*node, cfg.Count), pods: map[object.Key]*pod{}, shapes: map[string]*shape{},
		rand: rand.New(rand.NewPCG(cfg.Seed, 1)),
	}
	for i := range cfg.Count {
		n := f.newNode(i)
		f.nodes[n.name] = n
	}
	f.left.Store(int64(cfg.Count))
	return f, nil
}

// Ready is closed once every node is registered and Ready.
func (f *Fleet) Ready() <-chan struct{} { return f.ready }

// Stats may be asked for at any time.
func (f *Fleet) Stats() Stats {
	f.mu.Lock()
	pods := len(f.pods)
	f.mu.Unlock()
	at := func(c counter) int64 { return f.counts[c].Load() }
	return Stats{
		Pods: int64(pods), Started: at(countStarted), Ended: at(countEnded), Removed: at(countRemoved), Refused: at(countRefused),
		PodWrites: at(countPodWrites), NodeWrites: at(countNodeWrites), Conflicts: at(countConflicts), Errors: at(countErrors),
	}
}

// Run runs the nodes until ctx ends, then removes them, unless they are to be
// kept. Pods of theirs are left to the cluster, as those of any node that goes.
func (f *Fleet) Run(ctx context.Context) error {
	work, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for range f.cfg.Writers {
		wg.Go(func() { drain(work, f.podWork, f.servePod) })
	}
	// A renewal of a lease waits in the server for up to four seconds, and all nodes
	// have one within ten.
	for range max(f.cfg.Writers, f.cfg.Count/2) {
		wg.Go(func() { drain(work, f.nodeWork, f.serveNode) })
	}
	wg.Go(func() { f.timers.Run(work) })
	wg.Go(func() {
		// A node's pods are of interest once it is there; before, none has any.
		_ = reconcile.Follow(work, f.cfg.Client, object.Of[*corev1.Node](f.cfg.Client.Scheme()), "",
			client.ListOptions{LabelSelector: LabelFleet + "=" + f.cfg.Prefix}, f.cfg.Log, nodeFollower{f})
	})
	wg.Go(func() {
		_ = reconcile.Follow(work, f.cfg.Client, f.podDef, "",
			client.ListOptions{FieldSelector: "spec.nodeName!="}, f.cfg.Log, podFollower{f})
	})
	for i := range f.cfg.Count {
		f.nodeWork.Add(f.nodes[f.nodeName(i)])
	}
	wg.Go(func() { f.killNodes(work) })
	<-work.Done()
	f.podWork.Close()
	f.nodeWork.Close()
	wg.Wait()
	if f.cfg.Keep {
		return ctx.Err()
	}
	return errors.Join(ctx.Err(), f.remove(context.WithoutCancel(ctx)))
}

// drain serves a queue until it is closed.
func drain[K comparable](ctx context.Context, q *timing.Queue[K], serve func(context.Context, K)) {
	for {
		k, ok := q.Next()
		if !ok {
			return
		}
		if ctx.Err() == nil {
			serve(ctx, k)
		}
		q.Done(k)
	}
}

// removeTime bounds the removal of the nodes at the end.
const removeTime = 2 * time.Minute

// remove deletes every node; leases go with them, as they are owned.
func (f *Fleet) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	var writes []client.Write
	nodeDef := object.Of[*corev1.Node](f.cfg.Client.Scheme())
	for _, n := range f.nodes {
		writes = append(writes,
			client.Write{Op: client.OpDelete, Definition: nodeDef, Object: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.name}}},
			client.Write{Op: client.OpDelete, Definition: f.leaseDef, Object: &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: n.name}}})
	}
	failed := 0
	var last error
	for _, r := range f.cfg.Client.Batch(ctx, writes) {
		if r.Err != nil && !gone(r.Err) {
			failed, last = failed+1, r.Err
		}
	}
	if failed > 0 {
		return fmt.Errorf("cannot remove %d of %d nodes and leases: %w", failed, len(writes), last)
	}
	return nil
}

// killNodes carries out the outage of the configuration.
func (f *Fleet) killNodes(ctx context.Context) {
	if f.cfg.Kill.Nodes == 0 {
		return
	}
	select {
	case <-f.ready:
	case <-ctx.Done():
		return
	}
	f.mu.Lock()
	order := f.rand.Perm(f.cfg.Count)[:f.cfg.Kill.Nodes]
	f.mu.Unlock()
	for _, i := range order {
		n := f.nodes[f.nodeName(i)]
		f.timers.Set(outageOf{n}, time.Now().Add(f.cfg.Kill.After), func() {
			f.setOutage(n, f.cfg.Kill.State)
			if f.cfg.Kill.For > 0 {
				f.timers.Set(outageOf{n}, time.Now().Add(f.cfg.Kill.For), func() { f.setOutage(n, "") })
			}
		})
	}
}

type outageOf struct{ n *node }

func (f *Fleet) setOutage(n *node, state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n.killed = state
	f.settleState(n)
}
