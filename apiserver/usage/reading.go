package usage

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/object"
)

// reading is what all nodes answered at one time.
type reading struct {
	at    time.Time
	rated bool // compared with one before
	nodes map[string]*sample
	pods  map[object.Key]*podSample
}

// sample is what one node or container has used.
type sample struct {
	at     time.Time
	start  time.Time // of a container
	cpu    float64   // seconds since start
	memory float64   // working set, bytes

	// rate is cores used over window until at; window is zero when that is not
	// known.
	rate   float64
	window time.Duration
}

// podSample is what the containers of a pod have used, by name.
type podSample map[string]*sample

// read asks every node that is ready, many at a time.
func (c *Collector) read(ctx context.Context) *reading {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	r := &reading{at: time.Now(), nodes: map[string]*sample{}, pods: map[object.Key]*podSample{}}
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		nodes = make(chan *corev1.Node)
	)
	all := c.Nodes.All()
	for range min(readers, len(all)) {
		wg.Go(func() {
			for n := range nodes {
				text, err := c.Read(ctx, n)
				if err != nil {
					c.Log.Debug("cannot read what a node uses", "node", n.Name, "err", err)
					continue
				}
				p := parse(text, r.at)
				mu.Lock()
				r.nodes[n.Name] = &p.node
				for k, s := range p.pods {
					r.pods[k] = s
				}
				mu.Unlock()
			}
		})
	}
	for _, n := range all {
		if ready(n) {
			nodes <- n
		}
	}
	close(nodes)
	wg.Wait()
	return r
}

func ready(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// compare makes rates of the processor time used since the reading before.
func (r *reading) compare(before *reading) {
	for name, s := range r.nodes {
		if old := before.nodes[name]; old != nil {
			s.since(old.cpu, old.at)
		}
	}
	for k, pod := range r.pods {
		var was podSample
		if old := before.pods[k]; old != nil {
			was = *old
		}
		for name, s := range *pod {
			switch old := was[name]; {
			case old != nil && old.start.Equal(s.start):
				s.since(old.cpu, old.at)
			case s.start.After(before.at):
				// Its counter began at zero, when it started.
				s.since(0, s.start)
			}
		}
	}
	r.rated = true
}

// since computes the rate from an earlier value of the counter. Less than half a
// second apart the two say nothing.
func (s *sample) since(cpu float64, at time.Time) {
	window := s.at.Sub(at)
	if window < settle/2 || s.cpu < cpu {
		return
	}
	s.rate, s.window = (s.cpu-cpu)/window.Seconds(), window
}
