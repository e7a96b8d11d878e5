package nodes

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Upstream's figures for how fast unready nodes of a zone are given up.
const (
	evictionInterval  = 10 * time.Second  // between two nodes of a zone
	slowInterval      = 100 * time.Second // in a large zone that is mostly unready
	unhealthyFraction = 0.55              // from which a zone counts as such
	unhealthyLeast    = 3                 // and this many nodes
	largeZone         = 50                // smaller ones then evict nothing
)

// zones paces the eviction from unready nodes, zone by zone.
type zones struct {
	mu    sync.Mutex
	nodes map[string]zoneNode
	count map[string]*zoneCount
	next  map[string]time.Time // when the next node of a zone may be given up
}

type zoneNode struct {
	zone  string
	ready bool
}

type zoneCount struct{ ready, unready int }

// unhealthy says whether most of a zone is unready, but not all of it.
func (c *zoneCount) unhealthy() bool {
	return c.ready > 0 && c.unready >= unhealthyLeast && float64(c.unready)/float64(c.ready+c.unready) >= unhealthyFraction
}

// stands says whether a zone, which may be nil, gives up no node at all.
func (c *zoneCount) stands() bool {
	return c != nil && c.unhealthy() && c.ready+c.unready <= largeZone
}

func newZones() *zones {
	return &zones{nodes: map[string]zoneNode{}, count: map[string]*zoneCount{}, next: map[string]time.Time{}}
}

// zoneOf is a node's zone, region included.
func zoneOf(n *corev1.Node) string {
	return n.Labels[corev1.LabelTopologyRegion] + "\x00" + n.Labels[corev1.LabelTopologyZone]
}

// set takes in a node's state; nil forgets it. It says whether that decides anew
// about other unready nodes: because the cluster went from all nodes unready to
// some ready or back, or because a zone no longer stands still.
func (z *zones) set(name string, n *corev1.Node) (turned bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	old, fresh := z.nodes[name], zoneNode{}
	if n != nil {
		fresh = zoneNode{zoneOf(n), readiness(n) == corev1.ConditionTrue}
	}
	dark, oldStood, freshStood := z.dark(), z.count[old.zone].stands(), z.count[fresh.zone].stands()
	if _, known := z.nodes[name]; known {
		z.add(old, -1)
		delete(z.nodes, name)
	}
	if n != nil {
		z.nodes[name] = fresh
		z.add(fresh, 1)
	}
	return dark != z.dark() || oldStood && !z.count[old.zone].stands() || freshStood && !z.count[fresh.zone].stands()
}

func (z *zones) add(n zoneNode, by int) {
	c := z.count[n.zone]
	if c == nil {
		c = &zoneCount{}
		z.count[n.zone] = c
	}
	if n.ready {
		c.ready += by
	} else {
		c.unready += by
	}
	if c.ready+c.unready == 0 {
		delete(z.count, n.zone)
	}
}

// dark says whether no node at all is ready.
func (z *zones) dark() bool {
	for _, c := range z.count {
		if c.ready > 0 {
			return false
		}
	}
	return true
}

// allow asks to give up a node. When it may not be now, wait says when to ask
// again; zero means once something has changed.
func (z *zones) allow(zone string, now time.Time) (ok bool, wait time.Duration) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.dark() {
		return false, 0
	}
	c := z.count[zone]
	if c == nil {
		return false, 0
	}
	if c.stands() {
		return false, 0
	}
	interval := evictionInterval
	if c.unhealthy() {
		interval = slowInterval
	}
	if at := z.next[zone]; now.Before(at) {
		return false, at.Sub(now)
	}
	z.next[zone] = now.Add(interval)
	return true, 0
}

// isDark is dark for callers without the lock.
func (z *zones) isDark() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.dark()
}
