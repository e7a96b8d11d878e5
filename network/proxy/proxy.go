// Package proxy makes Services work on a node: it keeps one nftables table
// equal to what Services and EndpointSlices say.
//
// The table holds data, not rules: a connection's destination is looked up in a
// map of Service addresses, which gives the number of a pool; another map gives
// the pool's class, which is little more than its number of backends, and so
// the chain that draws an index; a third map gives the backend for pool and
// index. Adding, removing or changing an endpoint changes two or three map
// elements, at any size. The pool's number and a few flags ride in the
// connection's mark, by which later hooks masquerade or refuse, and by which
// stale connections are found and forgotten.
//
// A planner decides what one Service needs, without side effects; a model
// turns plans into changed elements; the kernel part sends these, or after a
// fault compares or rebuilds, in one transaction each.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"sagong/lib/netlink"
	"sagong/lib/nft"
	"sagong/network/pod"
)

// Config describes the proxy of one node.
type Config struct {
	// Cluster is the cluster's name; the table's name derives from it.
	Cluster string
	// NodeName tells which endpoints are on this node.
	NodeName string
	// NodeIP is the source of masqueraded connections to this node's pods.
	NodeIP netip.Addr
	// PodCIDRs are the ranges of this node's pods, ClusterCIDRs those of all pods.
	PodCIDRs, ClusterCIDRs []netip.Prefix
	// ServiceCIDRs are the ranges of Service addresses.
	ServiceCIDRs []netip.Prefix
	// Served are Service addresses that this node answers itself, such as that
	// of the cluster's DNS: the proxy leaves them alone.
	Served []netip.Addr
	// StateDir is where former kernel settings are kept.
	StateDir string
	// Ready, when not nil, holds back the first change until it is closed: after
	// a restart, until the host ports of running pods are set again.
	Ready <-chan struct{}
	// Log receives faults of single Services; nil: discarded.
	Log *slog.Logger
}

func (c Config) validate() error {
	switch {
	case c.Cluster == "" || c.NodeName == "" || c.StateDir == "":
		return errors.New("cluster, node name or state directory is missing")
	case !c.NodeIP.Is4():
		return fmt.Errorf("node address %s is not an IPv4 address", c.NodeIP)
	}
	for _, p := range slices.Concat(c.PodCIDRs, c.ClusterCIDRs, c.ServiceCIDRs) {
		if !p.Addr().Is4() || p != p.Masked() {
			return fmt.Errorf("range %s is not an IPv4 network prefix", p)
		}
	}
	return nil
}

// Proxy is the Service proxy of one node. All methods may be used concurrently.
// Set and Delete calls only note what changed; Flush, or Run, carries it out.
type Proxy struct {
	cfg  Config
	node node

	// mu guards what is noted. It is never held while the kernel works: views of
	// the API call Set and Delete, and all that follow a view wait for each other.
	mu       sync.Mutex
	started  bool
	services map[string]*service
	// sliceOwner is the Service that each EndpointSlice belonged to.
	sliceOwner map[string]string
	zone       string // of this node
	hostPorts  map[string][]HostPort
	dirty      map[string]bool

	// work guards what Flush changes; it is taken before mu.
	work   sync.Mutex
	model  *model
	kernel *kernel
	flows  *netlink.Conn
	faults map[string]string
	health health
	stats  Stats

	// wake tells Run that something is dirty.
	wake chan struct{}
}

// service is what is known of one Service.
type service struct {
	object *corev1.Service
	slices map[string]*discoveryv1.EndpointSlice
}

// Stats says what the proxy did since it was opened.
type Stats struct {
	// Flushes that changed the kernel, how many of them had to compare with it,
	// and how many had to make the table from scratch.
	Flushes, Compared, Rebuilt int
	// LastFlush is when the last of them ended, LastDuration how long it took.
	LastFlush    time.Time
	LastDuration time.Duration
	// Elements are all map and set elements that the kernel shall have.
	Elements int
}

// Stats returns the counters.
func (p *Proxy) Stats() Stats {
	p.work.Lock()
	defer p.work.Unlock()
	s := p.stats
	s.Compared, s.Rebuilt, s.Elements = p.kernel.compared, p.kernel.rebuilt, len(p.model.want)
	return s
}

// hostPortOwner begins the owner names of pods with host ports: after all
// Services, which win where both want a port.
const hostPortOwner = "~pod/"

// Open connects to the kernel and reads what a former process left there. It
// changes nothing that packets meet: that begins with Start. It acts on the
// network namespace of the calling thread.
func Open(ctx context.Context, cfg Config) (_ *Proxy, err error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("cannot open the Service proxy: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{
		cfg: cfg, services: map[string]*service{}, sliceOwner: map[string]string{},
		hostPorts: map[string][]HostPort{}, dirty: map[string]bool{}, faults: map[string]string{},
		wake: make(chan struct{}, 1),
	}
	defer func() {
		if err != nil {
			p.Close()
			err = fmt.Errorf("cannot open the Service proxy: %w", err)
		}
	}()
	p.node = node{name: cfg.NodeName, served: cfg.Served, sctp: tracksSCTP()}
	if p.kernel, err = openKernel(cfg.Cluster, layout{
		nodeIP: cfg.NodeIP, clusterCIDRs: cfg.ClusterCIDRs, serviceCIDRs: cfg.ServiceCIDRs,
		served: cfg.Served, podPrefix: pod.InterfacePrefix(cfg.Cluster), tunnel: pod.TunnelInterface(cfg.Cluster),
	}, cfg.Log); err != nil {
		return nil, err
	}
	if p.flows, err = netlink.Dial(unix.NETLINK_NETFILTER); err != nil {
		return nil, err
	}
	p.model = newModel(p.kernel.layout.tag, cfg.PodCIDRs)
	if err := p.kernel.adopt(p.model); err != nil {
		return nil, err
	}
	settings := netlink.NewSettings(settingsPath(cfg.StateDir))
	for _, s := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet"} {
		if err := settings.Set(s, "1"); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func settingsPath(stateDir string) string { return filepath.Join(stateDir, "proxy-settings") }

func tracksSCTP() bool {
	_, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established")
	return err == nil
}

// Close frees what the process holds; Services keep working as they are.
func (p *Proxy) Close() error {
	p.work.Lock()
	defer p.work.Unlock()
	errs := []error{p.health.close()}
	if p.kernel != nil {
		errs = append(errs, p.kernel.close())
	}
	if p.flows != nil {
		errs = append(errs, p.flows.Close())
	}
	return errors.Join(errs...)
}

func ownerOf(namespace, name string) string { return namespace + "/" + name }

func (p *Proxy) service(owner string) *service {
	s := p.services[owner]
	if s == nil {
		s = &service{slices: map[string]*discoveryv1.EndpointSlice{}}
		p.services[owner] = s
	}
	return s
}

func (p *Proxy) mark(owner string) {
	p.dirty[owner] = true
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// SetService notes a Service that is new or has changed.
func (p *Proxy) SetService(s *corev1.Service) {
	p.mu.Lock()
	defer p.mu.Unlock()
	owner := ownerOf(s.Namespace, s.Name)
	p.service(owner).object = s
	p.mark(owner)
}

// DeleteService notes that a Service is gone.
func (p *Proxy) DeleteService(namespace, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	owner := ownerOf(namespace, name)
	if s := p.services[owner]; s != nil {
		s.object = nil
		p.drop(owner, s)
		p.mark(owner)
	}
}

// drop forgets a Service of which nothing is known any more.
func (p *Proxy) drop(owner string, s *service) {
	if s.object == nil && len(s.slices) == 0 {
		delete(p.services, owner)
	}
}

// SetEndpointSlice notes an EndpointSlice that is new or has changed.
func (p *Proxy) SetEndpointSlice(s *discoveryv1.EndpointSlice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := ownerOf(s.Namespace, s.Name)
	owner := ""
	if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
		owner = ownerOf(s.Namespace, name)
	}
	if last := p.sliceOwner[key]; last != owner {
		p.removeSlice(key)
	}
	if owner == "" {
		return
	}
	p.sliceOwner[key] = owner
	p.service(owner).slices[key] = s
	p.mark(owner)
}

// DeleteEndpointSlice notes that an EndpointSlice is gone.
func (p *Proxy) DeleteEndpointSlice(namespace, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removeSlice(ownerOf(namespace, name))
}

func (p *Proxy) removeSlice(key string) {
	owner, ok := p.sliceOwner[key]
	if !ok {
		return
	}
	delete(p.sliceOwner, key)
	if s := p.services[owner]; s != nil {
		delete(s.slices, key)
		p.drop(owner, s)
	}
	p.mark(owner)
}

// SetZone notes the zone that this node is in, "" for none.
func (p *Proxy) SetZone(zone string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.zone == zone {
		return
	}
	p.zone = zone
	for owner, s := range p.services {
		if hinted(s) {
			p.mark(owner)
		}
	}
}

// hinted tells whether some endpoint of a Service is meant for some clients only.
func hinted(s *service) bool {
	for _, slice := range s.slices {
		for i := range slice.Endpoints {
			if slice.Endpoints[i].Hints != nil {
				return true
			}
		}
	}
	return false
}

// SetHostPorts notes all host ports of the pod called key; none removes them.
func (p *Proxy) SetHostPorts(key string, ports []HostPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(ports) == 0 {
		if _, ok := p.hostPorts[key]; !ok {
			return
		}
		delete(p.hostPorts, key)
	} else {
		p.hostPorts[key] = slices.Clone(ports)
	}
	p.mark(hostPortOwner + key)
}

// Start lets Flush change the kernel. Until then everything stays as a former
// process left it: call it when all Services and endpoints have been set.
func (p *Proxy) Start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started = true
}

// Flush carries out every change noted so far and returns when packets meet
// it. Before Start it does nothing. After an error the changes are kept, and
// the next Flush compares with the kernel first.
func (p *Proxy) Flush(ctx context.Context) error {
	p.work.Lock()
	defer p.work.Unlock()
	inputs, ok := p.take()
	if !ok {
		return nil
	}
	p.mu.Lock()
	p.node.zone = p.zone
	p.mu.Unlock()
	for _, in := range inputs {
		next := in.plan(p.node)
		p.report(in.owner, next.faults)
		p.model.apply(in.owner, next)
		p.health.set(in.owner, next.healthPort, next.localReady)
	}
	start := time.Now()
	changed, err := p.kernel.flush(p.model)
	if err != nil {
		return fmt.Errorf("cannot update Services: %w", err)
	}
	if changed {
		p.stats.Flushes++
		p.stats.LastFlush = time.Now()
		p.stats.LastDuration = p.stats.LastFlush.Sub(start)
	}
	// A failure here must not have the elements sent again.
	p.model.forgetTouched()
	if err := p.forget(); err != nil {
		return fmt.Errorf("cannot forget connections to former endpoints: %w", err)
	}
	p.model.commit()
	if err := p.health.serve(); err != nil {
		// The Services themselves work; the port may be free at the next Flush.
		p.cfg.Log.Warn("load balancers may not see this node", "err", err)
	}
	return nil
}

// input is what is known of one owner at the time of a Flush.
type input struct {
	owner     string
	object    *corev1.Service
	slices    []*discoveryv1.EndpointSlice
	hostPorts []HostPort
}

// take returns what changed since the last time, and whether Flush may go on.
func (p *Proxy) take() (inputs []input, started bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started {
		return nil, false
	}
	for _, owner := range slices.Sorted(maps.Keys(p.dirty)) {
		in := input{owner: owner}
		if key, ok := strings.CutPrefix(owner, hostPortOwner); ok {
			in.hostPorts = p.hostPorts[key]
		} else if s := p.services[owner]; s != nil {
			in.object = s.object
			in.slices = slices.Collect(maps.Values(s.slices))
		}
		inputs = append(inputs, in)
	}
	p.dirty = map[string]bool{}
	return inputs, true
}

func (in input) plan(n node) plan {
	if strings.HasPrefix(in.owner, hostPortOwner) {
		return planHostPorts(in.owner, in.hostPorts, n)
	}
	// In a fixed order, so that the same objects give the same plan.
	slices.SortFunc(in.slices, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	return planService(in.owner, in.object, in.slices, n)
}

// report logs a Service's faults when they change.
func (p *Proxy) report(owner string, faults []string) {
	text := strings.Join(faults, "; ")
	if text == p.faults[owner] {
		return
	}
	if text == "" {
		delete(p.faults, owner)
		return
	}
	p.faults[owner] = text
	p.cfg.Log.Warn("part of a Service cannot be served", "service", owner, "fault", text)
}

// check has the next Flush compare with the kernel if the table is gone: some
// tools flush all of nftables. It reports whether a Flush is needed.
func (p *Proxy) check() (needed bool, err error) {
	p.work.Lock()
	defer p.work.Unlock()
	p.mu.Lock()
	started := p.started
	p.mu.Unlock()
	if !started || p.kernel.unsure {
		return started, nil
	}
	ok, err := p.kernel.exists()
	if err == nil && !ok {
		p.kernel.unsure = true
		p.cfg.Log.Warn("the table for Services was removed, making it again", "table", p.kernel.table)
	}
	return !ok, err
}

// Purge removes everything that proxies of the cluster left in the kernel and
// on disk. Only Cluster and StateDir of cfg are read; no Proxy may be open.
func Purge(ctx context.Context, cfg Config) error {
	conn, err := nft.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	b := nft.NewBatch(nft.IPv4, TableName(cfg.Cluster))
	b.AddTable(nil)
	b.DeleteTable()
	if err := conn.Apply(b); err != nil {
		return fmt.Errorf("cannot purge the Service proxy: %w", err)
	}
	tables, err := conn.Tables()
	if err != nil {
		return fmt.Errorf("cannot purge the Service proxy: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t nft.Table) bool { return strings.HasPrefix(t.Name, tablePrefix) }) {
		if err := netlink.NewSettings(settingsPath(cfg.StateDir)).Restore(); err != nil {
			return fmt.Errorf("cannot purge the Service proxy: %w", err)
		}
	}
	if err := os.Remove(settingsPath(cfg.StateDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot purge the Service proxy: %w", err)
	}
	_ = os.Remove(cfg.StateDir)
	return nil
}
