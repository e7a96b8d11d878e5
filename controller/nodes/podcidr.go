package nodes

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

type podCIDRController struct {
	nodes  *reconcile.View[*corev1.Node]
	events client.Recorder
	log    *slog.Logger

	mu     sync.Mutex
	ranges *ranges
}

// NewPodCIDR returns the controller that gives each node a range of pod
// addresses of the given length out of the cluster's.
func NewPodCIDR(h *reconcile.Hub, events client.Recorder, log *slog.Logger, cluster netip.Prefix, bits int) (reconcile.Controller, error) {
	r, err := newRanges(cluster, bits)
	if err != nil {
		return nil, err
	}
	return &podCIDRController{nodes: reconcile.ViewOf[*corev1.Node](h), events: events, log: log, ranges: r}, nil
}

func (c *podCIDRController) Name() string { return "node-ipam" }
func (c *podCIDRController) Workers() int { return 1 }

func (c *podCIDRController) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.On(c.nodes, func(old, new *corev1.Node, enqueue func(object.Key)) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if new == nil {
			c.ranges.release(old.Name)
			for _, n := range c.nodes.All() {
				if n.Spec.PodCIDR == "" { // there may be room now
					enqueue(object.KeyOf(n))
				}
			}
			return
		}
		if new.Spec.PodCIDR == "" {
			enqueue(object.KeyOf(new))
			return
		}
		if old == nil || old.Spec.PodCIDR == "" {
			c.ranges.release(new.Name) // what was allotted but not written
			for _, s := range podCIDRs(new) {
				if p, err := netip.ParsePrefix(s); err != nil {
					c.log.Error("a node has a pod range that cannot be read", "node", new.Name, "range", s, "err", err)
				} else if other := c.ranges.take(new.Name, p.Masked()); other != "" {
					c.log.Error("two nodes have overlapping pod ranges", "node", new.Name, "other", other, "range", s)
				}
			}
		}
	})}
}

func podCIDRs(n *corev1.Node) []string {
	if len(n.Spec.PodCIDRs) > 0 {
		return n.Spec.PodCIDRs
	}
	return []string{n.Spec.PodCIDR}
}

func (c *podCIDRController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.nodes.Definition().GVK().GroupKind(), Field: "spec.podCIDRs"}}
}

func (c *podCIDRController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	n, ok := c.nodes.Get("", key.Name)
	if !ok || n.Spec.PodCIDR != "" {
		return reconcile.Result{}, nil
	}
	c.mu.Lock()
	p, ok := c.ranges.allot(n.Name)
	c.mu.Unlock()
	if !ok {
		c.events.Eventf(n, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", n.Name)
		return reconcile.Result{}, nil // until a node goes
	}
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": n.UID},
		"spec":     map[string]any{"podCIDR": p.String(), "podCIDRs": []string{p.String()}},
	})
	if err != nil {
		return reconcile.Result{}, err
	}
	if _, err := client.PatchOf[*corev1.Node](ctx, w, "", n.Name, client.Patch{Type: types.StrategicMergePatchType, Data: body}); err != nil {
		// The range stays allotted to the node, and is tried again with it.
		return reconcile.Result{}, ignoreMissing(fmt.Errorf("cannot give node range %s: %w", p, err))
	}
	return reconcile.Result{}, nil
}

// ranges hands out equal parts of an address range.
type ranges struct {
	cluster netip.Prefix
	bits    int
	used    map[netip.Prefix]string // part to node
	of      map[string][]netip.Prefix
	next    uint64 // where to look first: parts are reused as late as possible
}

func newRanges(cluster netip.Prefix, bits int) (*ranges, error) {
	if !cluster.IsValid() || bits < cluster.Bits() || bits > cluster.Addr().BitLen() || bits-cluster.Bits() > 20 {
		return nil, fmt.Errorf("cannot divide %s into ranges of length /%d", cluster, bits)
	}
	return &ranges{cluster: cluster.Masked(), bits: bits, used: map[netip.Prefix]string{}, of: map[string][]netip.Prefix{}}, nil
}

func (r *ranges) count() uint64 { return 1 << (r.bits - r.cluster.Bits()) }

// part is the i-th range.
func (r *ranges) part(i uint64) netip.Prefix {
	a := r.cluster.Addr().As16()
	total := 128
	if r.cluster.Addr().Is4() {
		total = 32
	}
	shift := total - r.bits
	hi, lo := binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
	if shift >= 64 {
		hi |= i << (shift - 64)
	} else {
		lo |= i << shift
		if shift > 0 {
			hi |= i >> (64 - shift)
		}
	}
	binary.BigEndian.PutUint64(a[:8], hi)
	binary.BigEndian.PutUint64(a[8:], lo)
	addr := netip.AddrFrom16(a)
	if r.cluster.Addr().Is4() {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, r.bits)
}

// allot returns the range of a node, a free one when it has none yet.
func (r *ranges) allot(node string) (netip.Prefix, bool) {
	if have := r.of[node]; len(have) > 0 {
		return have[0], true
	}
	for range r.count() {
		p := r.part(r.next)
		r.next = (r.next + 1) % r.count()
		if r.free(p) {
			r.take(node, p)
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func (r *ranges) free(p netip.Prefix) bool {
	if r.used[p] != "" {
		return false
	}
	for other := range r.used {
		if other.Bits() != r.bits && other.Overlaps(p) {
			return false
		}
	}
	return true
}

// take notes that a node has a range, and returns the other node that has it too.
func (r *ranges) take(node string, p netip.Prefix) (other string) {
	switch by := r.used[p]; by {
	case node:
	case "":
		r.used[p] = node
		r.of[node] = append(r.of[node], p)
	default:
		return by
	}
	return ""
}

func (r *ranges) release(node string) {
	for _, p := range r.of[node] {
		delete(r.used, p)
	}
	delete(r.of, node)
}
