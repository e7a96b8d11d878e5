package compose

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"sagong/client"
	"sagong/config"
	"sagong/kubelet"
	"sagong/kubelet/hooks"
	"sagong/lib/cgroup"
	"sagong/network/dns"
	"sagong/network/pod"
	"sagong/network/proxy"
	"sagong/reconcile"
	"sagong/runtime/image"
	"sagong/runtime/native"
	"sagong/simulate"
)

// node is the agent of this machine's node with all it stands on.
type node struct {
	cfg      config.Config
	log      *slog.Logger
	hub      *reconcile.Hub
	runtime  *native.Runtime
	images   *image.Store
	agent    *kubelet.Agent
	handler  http.Handler // the agent's own API
	admin    *adminSocket
	dns      *dns.Server
	notices  []string
	registry *prometheus.Registry // of what it measures

	clusterCIDR, serviceCIDR netip.Prefix
	nodeIP, clusterDNS       netip.Addr

	mu      sync.Mutex
	network *pod.Network // once the node's pod ranges are known
	proxy   *proxy.Proxy
	opened  chan struct{} // closed when both are open
	adopted chan struct{} // closed when the host ports of running pods are set again
}

// clusterFacts are what a node needs to know of its cluster.
type clusterFacts struct {
	clusterCIDR, serviceCIDR netip.Prefix
	dns                      netip.Addr
	domain                   string
	name                     string // the tunnel between nodes derives from it
}

// openNode opens the runtime, the images and the rest on this machine. Nothing
// follows the API yet.
func openNode(c config.Config, f clusterFacts, cl client.Client, hub *reconcile.Hub, events *reconcile.Recorder, registry *prometheus.Registry, log *slog.Logger) (_ *node, err error) {
	n := &node{
		cfg: c, log: log, hub: hub, registry: registry, clusterCIDR: f.clusterCIDR, serviceCIDR: f.serviceCIDR, clusterDNS: f.dns,
		opened: make(chan struct{}), adopted: make(chan struct{}),
	}
	if n.nodeIP, err = netip.ParseAddr(c.NodeIP); err != nil {
		return nil, fmt.Errorf("cannot use the node's address: %w", err)
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if err := os.MkdirAll(nodeRunDir(c), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the run directory: %w", err)
	}
	if err := os.MkdirAll(nodeDataDir(c), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the data directory: %w", err)
	}
	before, notices := raiseHostLimits()
	n.notices = notices
	if err := saveHostLimits(hostLimitsFile(c), before); err != nil {
		return nil, err
	}
	io, err := imageOptions(c, log)
	if err != nil {
		return nil, err
	}
	if n.images, err = image.Open(io); err != nil {
		return nil, err
	}
	if n.runtime, err = native.Open(nativeOptions(c, log)); err != nil {
		return nil, err
	}
	n.notices = append(n.notices, n.runtime.Notices()...)
	labels := map[string]string{}
	for _, l := range c.NodeLabels {
		k, v, _ := strings.Cut(l, "=")
		labels[k] = v
	}
	layout, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	slices, err := cgroup.Open(layout, cgroupRoot(c))
	if err != nil {
		return nil, err
	}
	n.agent, err = kubelet.New(kubelet.Config{
		NodeName: c.NodeName, Labels: labels, HostIPs: []netip.Addr{n.nodeIP},
		Dir: nodeDataDir(c), RunDir: nodeRunDir(c), Port: int32(c.KubeletPort), Version: config.KubernetesVersion,
		MaxPods: int64(c.MaxPods), ClusterDNS: []netip.Addr{f.dns}, ClusterDomain: f.domain,
	}, kubelet.Deps{
		Client: cl, Runtime: n.runtime, Images: n.images, OpenNetwork: n.openNetwork, HostPorts: (*hostPorts)(n), Slices: slices,
		Hub: hub, Metrics: registry, Recorder: events.For("kubelet", c.NodeName), Log: log.With("room", "kubelet"),
	})
	if err != nil {
		return nil, err
	}
	n.handler = n.agent.Handler(nil)
	if n.dns, err = dns.Open(context.Background(), dns.Config{
		Zone: f.domain, Addresses: []netip.Addr{f.dns}, Ranges: []netip.Prefix{f.clusterCIDR, f.serviceCIDR}, Log: log.With("room", "dns"),
	}); err != nil {
		return nil, err
	}
	n.admin, err = startAdminSocket(c, n.images, func() []string { return n.notices }, log)
	return n, err
}

func hostLimitsFile(c config.Config) string { return filepath.Join(nodeRunDir(c), "host-limits") }

func nativeOptions(c config.Config, log *slog.Logger) native.Options {
	return native.Options{
		DataDir: filepath.Join(nodeDataDir(c), "runtime"), RunDir: filepath.Join(nodeRunDir(c), "runtime"),
		CgroupRoot: cgroupRoot(c), Version: config.Version, Log: log.With("room", "runtime"),
	}
}

// cgroupRoot is unique for each cluster and node on the machine.
func cgroupRoot(c config.Config) string {
	root := "/sagong"
	if c.Name != config.DefaultName {
		root += "-" + c.Name
	}
	if c.Server != "" {
		root += "." + c.NodeName // an agent beside others, perhaps of the same cluster
	}
	return root
}

func imageOptions(c config.Config, log *slog.Logger) (image.Options, error) {
	o := image.Options{
		Dir: filepath.Join(nodeDataDir(c), "images"), RunDir: filepath.Join(nodeRunDir(c), "images"),
		Registries: map[string]image.Registry{}, Log: log.With("room", "images"),
	}
	var err error
	if o.Builtins, err = image.Hello(); err != nil {
		return o, err
	}
	var trusted []byte
	for _, f := range c.RegistryCA {
		pem, err := os.ReadFile(f)
		if err != nil {
			return o, fmt.Errorf("cannot read the authority of a registry: %w", err)
		}
		trusted = append(trusted, pem...)
	}
	o.Registries["*"] = image.Registry{Endpoint: image.Endpoint{CA: trusted}}
	for _, m := range c.Mirrors {
		name, url, _ := strings.Cut(m, "=")
		r, known := o.Registries[name]
		if !known {
			r.Endpoint.CA = trusted
		}
		r.Mirrors = append(r.Mirrors, image.Endpoint{URL: url, CA: trusted})
		o.Registries[name] = r
	}
	return o, nil
}

func podConfig(c config.Config, log *slog.Logger) pod.Config {
	return pod.Config{Cluster: c.Name, StateDir: filepath.Join(nodeRunDir(c), "network"), Log: log.With("room", "network")}
}

func proxyConfig(c config.Config, log *slog.Logger) proxy.Config {
	return proxy.Config{Cluster: c.Name, NodeName: c.NodeName, StateDir: filepath.Join(nodeRunDir(c), "proxy"), Log: log.With("room", "proxy")}
}

// openNetwork is called by the agent once, when the node's pod ranges are known.
func (n *node) openNetwork(ctx context.Context, cidrs []netip.Prefix) (kubelet.Network, error) {
	pc := podConfig(n.cfg, n.log)
	pc.NodeIP, pc.PodCIDRs, pc.ClusterCIDRs, pc.ServiceCIDRs = n.nodeIP, cidrs, []netip.Prefix{n.clusterCIDR}, []netip.Prefix{n.serviceCIDR}
	network, err := pod.Open(ctx, pc)
	if err != nil {
		return nil, err
	}
	xc := proxyConfig(n.cfg, n.log)
	xc.NodeIP, xc.PodCIDRs, xc.ClusterCIDRs, xc.ServiceCIDRs = n.nodeIP, cidrs, pc.ClusterCIDRs, pc.ServiceCIDRs
	xc.Served, xc.Ready = []netip.Addr{n.clusterDNS}, n.adopted
	px, err := proxy.Open(ctx, xc)
	if err != nil {
		network.Close()
		return nil, err
	}
	n.mu.Lock()
	n.network, n.proxy = network, px
	n.mu.Unlock()
	close(n.opened)
	return attacher{network}, nil
}

// attacher gives the agent what it asks of the pod network.
type attacher struct{ *pod.Network }

// Attach implements kubelet.Network.
func (a attacher) Attach(ctx context.Context, key, netns string) ([]netip.Addr, error) {
	got, err := a.Network.Attach(ctx, key, netns)
	return got.IPs, err
}

// hostPorts leads host ports to pods through the Service proxy.
type hostPorts node

// Set implements hooks.HostPorts.
func (h *hostPorts) Set(ctx context.Context, key string, podIPs []netip.Addr, ports []hooks.HostPort) error {
	if len(podIPs) == 0 {
		return errors.New("cannot set host ports of a pod without an address")
	}
	list := make([]proxy.HostPort, len(ports))
	for i, p := range ports {
		list[i] = proxy.HostPort{HostIP: p.HostIP, HostPort: p.HostPort, Protocol: p.Protocol, Backend: netip.AddrPortFrom(podIPs[0], p.PodPort)}
	}
	return h.change(ctx, key, list)
}

// Remove implements hooks.HostPorts.
func (h *hostPorts) Remove(ctx context.Context, key string) error { return h.change(ctx, key, nil) }

func (h *hostPorts) change(ctx context.Context, key string, list []proxy.HostPort) error {
	select {
	case <-h.opened:
	default:
		if len(list) == 0 {
			return nil
		}
		return errors.New("the node has no pod range yet")
	}
	h.proxy.SetHostPorts(key, list)
	return nil
}

// run follows the API until ctx ends. Pods run on.
func (n *node) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	part := func(name string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s ended: %w", name, err))
			}
		})
	}
	part("node agent", n.agent.Run)
	part("DNS server", func(ctx context.Context) error { return n.dns.Run(ctx, n.hub) })
	part("network", func(ctx context.Context) error {
		select {
		case <-n.opened:
		case <-ctx.Done():
			return ctx.Err()
		}
		part("Service proxy", func(ctx context.Context) error { return n.proxy.Run(ctx, n.hub) })
		return n.followPeers(ctx)
	})
	part("adoption", func(ctx context.Context) error {
		if err := n.agent.Adopted(ctx); err != nil {
			return err
		}
		close(n.adopted)
		return nil
	})
	wg.Wait()
	return context.Cause(ctx)
}

// peerCheck is how often the ways are looked at without a sign: links change
// without a word from the API.
const peerCheck = 30 * time.Second

// peerPause is the least time between two looks at the ways to other nodes.
const peerPause = 200 * time.Millisecond

// followPeers keeps the ways to the pods of other nodes. It looks again at every
// sign of life of another node, not only when its addresses change: whether a
// node is on the same link, and so needs no tunnel, is this machine's matter and
// may have changed since.
func (n *node) followPeers(ctx context.Context) error {
	nodes := reconcile.ViewOf[*corev1.Node](n.hub)
	changed := make(chan struct{}, 1)
	stop := nodes.OnChange(func(old, new *corev1.Node) {
		if new != nil && new.Name == n.cfg.NodeName {
			return
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer stop()
	again := time.NewTicker(peerCheck)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-again.C:
		}
		var peers []pod.Peer
		for _, o := range nodes.All() {
			if strings.HasPrefix(o.Spec.ProviderID, simulate.ProviderScheme) {
				continue
			}
			if p := peerOf(o); o.Name != n.cfg.NodeName && p.NodeIP.IsValid() && len(p.PodCIDRs) > 0 {
				peers = append(peers, p)
			}
		}
		if err := n.network.SetPeers(ctx, peers); err != nil {
			n.log.Error("cannot set the ways to other nodes", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(peerPause):
		}
	}
}

func peerOf(o *corev1.Node) pod.Peer {
	p := pod.Peer{Name: o.Name}
	for _, a := range o.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && !p.NodeIP.IsValid() {
			p.NodeIP = ip
		}
	}
	for _, text := range o.Spec.PodCIDRs {
		if c, err := netip.ParsePrefix(text); err == nil {
			p.PodCIDRs = append(p.PodCIDRs, c)
		}
	}
	return p
}

// close releases what openNode opened; pods run on.
func (n *node) close() {
	if n.admin != nil {
		n.admin.close()
	}
	var errs []error
	if n.dns != nil {
		errs = append(errs, n.dns.Close())
	}
	if n.proxy != nil {
		errs = append(errs, n.proxy.Close())
	}
	if n.network != nil {
		errs = append(errs, n.network.Close())
	}
	if n.runtime != nil {
		errs = append(errs, n.runtime.Close())
	}
	if n.images != nil {
		errs = append(errs, n.images.Close())
	}
	if err := errors.Join(errs...); err != nil {
		n.log.Error("cannot close the node in order", "err", err)
	}
}

// dnsPurge names the address that the DNS server put on this machine.
func dnsPurge(c config.Config) dns.Config {
	var o dns.Config
	if a, err := netip.ParseAddr(c.ClusterDNS); err == nil {
		o.Addresses = []netip.Addr{a}
	}
	return o
}

// StopNode ends every container of the cluster on this machine and takes its
// network away. No server or agent of it may run.
func StopNode(ctx context.Context, c config.Config, step func(string)) error {
	log := slog.New(slog.DiscardHandler)
	var errs []error
	errs = append(errs, stopExtraNodes(ctx, c, func(e config.Config) error {
		// What the node made in its network goes with its namespace.
		return errors.Join(native.Purge(nativeOptions(e, log)), kubelet.Purge(nodeDataDir(e), nodeRunDir(e)))
	}))
	errs = append(errs, native.Purge(nativeOptions(c, log)))
	step("containers stopped")
	errs = append(errs, kubelet.Purge(nodeDataDir(c), nodeRunDir(c)))
	errs = append(errs, proxy.Purge(ctx, proxyConfig(c, log)), pod.Purge(ctx, podConfig(c, log)), dns.Purge(ctx, dnsPurge(c)))
	others, _ := filepath.Glob("/run/sagong*/server.pid")
	others = slices.DeleteFunc(others, func(f string) bool { return f == PIDFile(c) })
	handed, err := handOverHostLimits(hostLimitsFile(c), others)
	errs = append(errs, err)
	if !handed {
		errs = append(errs, restoreHostLimits(hostLimitsFile(c)))
	}
	step("network removed")
	if err := os.RemoveAll(c.RunDir); err != nil {
		errs = append(errs, fmt.Errorf("cannot remove the run directory: %w", err))
	}
	return errors.Join(errs...)
}

// RemoveState removes the data directory.
func RemoveState(c config.Config) error {
	err := os.RemoveAll(c.DataDir)
	if errors.Is(err, syscall.EBUSY) {
		// A disk of its own is mounted there: what is on it goes, the mount is not ours.
		if left, rerr := os.ReadDir(c.DataDir); rerr == nil && len(left) == 0 {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("cannot remove the data directory: %w", err)
	}
	return nil
}
