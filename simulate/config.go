package simulate

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"sagong/client"
)

// Config describes a fleet. Client and Count are required; Defaults fills the
// rest.
type Config struct {
	Client client.Client
	Log    *slog.Logger

	// Count nodes are named Prefix-0 to Prefix-(Count-1).
	Count  int
	Prefix string
	// Zones spreads them over this many zones; 0 gives them none.
	Zones  int
	Labels map[string]string
	Taints []corev1.Taint
	// Capacity of each node; what is missing is filled in. All of it is
	// allocatable.
	Capacity corev1.ResourceList
	// PodRange holds the nodes' ranges of pod addresses, NodeRange their own
	// addresses. Nothing is ever sent to them.
	PodRange, NodeRange netip.Prefix
	// Version is what the nodes say they run: "v1.37.2".
	Version string

	// StartDelay is the time from a pod's arrival to its containers' start,
	// StopDelay from the wish to stop it to their end (at most its grace).
	StartDelay, StopDelay Distribution
	// RunFor is how long pods run whose restart policy is not Always.
	RunFor Distribution
	// CrashShare of the pods, between 0 and 1, crash CrashAfter their start.
	CrashShare float64
	CrashAfter Distribution

	// LeaseDuration of the nodes' leases, renewed at a quarter of it; default 40 s.
	LeaseDuration time.Duration
	// StatusInterval is how often an unchanged node status is written; default
	// 5 min.
	StatusInterval time.Duration
	// Writers is how many requests about pods are under way at a time, and about
	// nodes at least; default 32.
	Writers int
	// Kill takes nodes down.
	Kill Outage
	// Keep leaves Nodes and leases behind at the end.
	Keep bool
	// Seed of all that is random; 0 is as good as any.
	Seed uint64
}

// Outage takes Nodes of a fleet, chosen at random, down After the fleet is
// ready, For some time; 0 means for good.
type Outage struct {
	Nodes      int
	After, For time.Duration
	// State is how they are down: StateDown or StateCutOff.
	State string
}

// Defaults fills what is not set.
func (c *Config) Defaults() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Prefix == "" {
		c.Prefix = "sim"
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("128Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("500Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	for name, q := range c.Capacity {
		capacity[name] = q
	}
	c.Capacity = capacity
	def := func(p *netip.Prefix, text string) {
		if !p.IsValid() {
			*p = netip.MustParsePrefix(text)
		}
	}
	def(&c.PodRange, "100.64.0.0/10")
	def(&c.NodeRange, "198.18.0.0/15")
	if c.Version == "" {
		c.Version = "v0.0.0"
	}
	if c.LeaseDuration == 0 {
		c.LeaseDuration = 40 * time.Second
	}
	if c.StatusInterval == 0 {
		c.StatusInterval = 5 * time.Minute
	}
	if c.Writers == 0 {
		c.Writers = 32
	}
	if c.Kill.State == "" {
		c.Kill.State = StateDown
	}
}

// Validate says what is wrong with a configuration that Defaults has filled.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Count >= 1 && c.Count <= 100_000, "cannot simulate %d nodes: the count must lie between 1 and 100000", c.Count)
	check(len(validation.IsDNS1123Subdomain(c.Prefix)) == 0 && len(c.Prefix) <= 50, "cannot name nodes %q: the prefix must be a DNS name of at most 50 characters", c.Prefix)
	check(c.Zones >= 0, "cannot spread nodes over %d zones", c.Zones)
	check(c.CrashShare >= 0 && c.CrashShare <= 1, "cannot crash a share of %v: it must lie between 0 and 1", c.CrashShare)
	check(c.LeaseDuration >= 4*time.Second, "cannot hold leases of %v: at least 4 s", c.LeaseDuration)
	check(c.StatusInterval >= time.Second, "cannot report every %v: at least every second", c.StatusInterval)
	check(c.Writers >= 1 && c.Writers <= 1000, "cannot write with %d requests at a time: between 1 and 1000", c.Writers)
	check(c.Kill.Nodes >= 0 && c.Kill.Nodes <= c.Count, "cannot kill %d of %d nodes", c.Kill.Nodes, c.Count)
	check(c.Kill.State == StateDown || c.Kill.State == StateCutOff, "cannot kill nodes by %q: it must be %q or %q", c.Kill.State, StateDown, StateCutOff)
	for _, p := range []netip.Prefix{c.PodRange, c.NodeRange} {
		check(p.Addr().Is4(), "cannot use the range %v: it must be one of IPv4 addresses", p)
	}
	check(c.Kill.After >= 0, "cannot kill nodes after %v", c.Kill.After)
	check(c.Kill.For >= 0, "cannot kill nodes for %v", c.Kill.For)
	for key, value := range c.Labels {
		check(len(validation.IsQualifiedName(key))+len(validation.IsValidLabelValue(value)) == 0, "cannot label nodes with %q", key+"="+value)
	}
	for name, q := range c.Capacity {
		check(len(validation.IsQualifiedName(string(name))) == 0, "cannot give nodes %q: it is no name of a resource", name)
		check(name == corev1.ResourceCPU || q.Cmp(*resource.NewQuantity(q.Value(), q.Format)) == 0, "cannot give nodes %v of %q: it must be a whole number", &q, name)
	}
	pods := c.Capacity[corev1.ResourcePods]
	check(pods.Value() >= 0 && pods.Value() <= 65_000, "cannot fit %d pods on a node: at most 65000", pods.Value())
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	check(room(c.NodeRange) >= uint64(c.Count), "cannot give %d nodes addresses out of %v", c.Count, c.NodeRange)
	check(room(c.PodRange)>>c.podBits() >= uint64(c.Count), "cannot give %d nodes ranges of %d pod addresses out of %v", c.Count, 1<<c.podBits(), c.PodRange)
	return errors.Join(errs...)
}

func room(p netip.Prefix) uint64 { return 1 << (32 - p.Bits()) }

// podBits is the length of the host part of a node's range: twice as many
// addresses as pods, so that one is not given to another pod at once.
func (c *Config) podBits() int {
	pods := c.Capacity[corev1.ResourcePods]
	return max(8, bits.Len64(uint64(2*pods.Value())))
}

// nth is an address of a range, counted from 0.
func nth(p netip.Prefix, n uint32) netip.Addr {
	b := p.Masked().Addr().As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	v += n
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}
