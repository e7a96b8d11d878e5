// Package kubelet is the node agent: it registers a node, keeps its pods as the
// API wants them, and reports their status. What a pod needs is decided in
// package pod, as a pure function, and done by package hooks; this package
// keeps what is observed, runs decisions over a queue, and restores everything
// after a restart. It meets the rest of the system through client.Client only.
//
// At rest a pod costs memory and nothing else: decisions are made by a few
// workers, deadlines lie in one heap, probes share one pool. A goroutine is
// held only by an action that takes time, while it does.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"sagong/client"
	"sagong/kubelet/device"
	"sagong/kubelet/hooks"
	"sagong/kubelet/plugin"
	"sagong/kubelet/pod"
	"sagong/kubelet/probe"
	"sagong/kubelet/reference"
	"sagong/kubelet/resource"
	"sagong/kubelet/timing"
	"sagong/kubelet/volume"
	"sagong/object"
	"sagong/reconcile"
)

// Agent is the agent of one node.
type Agent struct {
	cfg     Config
	dep     Deps
	log     *slog.Logger
	machine Machine

	hub      *reconcile.Hub
	ownHub   bool
	pods     *reconcile.View[*corev1.Pod]
	nodes    *reconcile.View[*corev1.Node]
	services *reconcile.View[*corev1.Service]

	refs    *reference.Store
	volumes *volume.Manager
	devices *device.Manager
	steps   *hooks.Steps
	probes  *probe.Manager
	timers  *timing.Timers
	queue   *timing.Queue[types.UID]
	writer  *statusWriter
	ledger  *ledger
	network lateNetwork

	nodeChanged chan struct{}
	pressure    atomic.Pointer[resource.Pressure]
	apparmor    bool

	mu      sync.Mutex
	entries map[types.UID]*entry
	taken   chan struct{} // closed when what runs has been taken over

	endMu sync.Mutex
	ends  map[string][]chan struct{} // who waits for the end of an attempt
	rates rates

	metrics *metrics
	probed  *prometheus.Registry // how probes went

	ctx  context.Context // of Run; actions end with it
	work sync.WaitGroup  // actions under way
}

// New checks the configuration and reads what the machine is. Nothing runs yet.
func New(cfg Config, d Deps) (*Agent, error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cannot make a node agent: %w", err)
	}
	if d.Client == nil || d.Runtime == nil || d.Images == nil || d.OpenNetwork == nil || d.Recorder == nil {
		return nil, errors.New("cannot make a node agent: a dependency is missing")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	for _, dir := range []string{cfg.Dir, cfg.RunDir, cfg.LogDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("cannot make a node agent: %w", err)
		}
	}
	m, err := readMachine(cfg, d.Runtime.Name())
	if err != nil {
		return nil, fmt.Errorf("cannot make a node agent: %w", err)
	}
	if d.Metrics == nil {
		d.Metrics = prometheus.NewRegistry()
	}
	measures := newMetrics(d.Metrics)
	d.Runtime, d.Images = measured{d.Runtime, measures}, measuredImages{d.Images, measures}
	a := &Agent{
		metrics: measures, probed: prometheus.NewRegistry(),
		cfg: cfg, dep: d, log: d.Log, machine: m, hub: d.Hub,
		timers: timing.NewTimers(), queue: timing.NewQueue[types.UID](), ledger: newLedger(),
		nodeChanged: make(chan struct{}, 1), entries: map[types.UID]*entry{}, taken: make(chan struct{}), ends: map[string][]chan struct{}{}, ctx: context.Background(),
	}
	d.Metrics.MustRegister(prometheus.CollectorFunc(a.collect))
	a.pressure.Store(&resource.Pressure{})
	a.network.ready = make(chan struct{})
	if data, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil && len(data) > 0 {
		a.apparmor = data[0] == 'Y'
	}
	if a.hub == nil {
		a.hub, a.ownHub = reconcile.NewHub(d.Client, d.Log), true
	}
	a.pods = reconcile.NewView[*corev1.Pod](d.Client, d.Log, client.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", cfg.NodeName).String()})
	a.nodes = reconcile.NewView[*corev1.Node](d.Client, d.Log, client.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", cfg.NodeName).String()})
	a.services = reconcile.ViewOf[*corev1.Service](a.hub)
	a.services.Index("namespace", func(s *corev1.Service) []string { return []string{s.Namespace} })
	return a, nil
}

// Allocatable is what pods may use of the node.
func (a *Agent) Allocatable() corev1.ResourceList { return allocatable(a.machine.Capacity, a.cfg) }

// Adopted waits until the agent has taken over what an earlier one left
// running, host ports included.
func (a *Agent) Adopted(ctx context.Context) error {
	select {
	case <-a.taken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// InNamespace lists Services, for environment variables.
func (a *Agent) InNamespace(namespace string) []*corev1.Service {
	return a.services.By("namespace", namespace)
}

// RuntimeHandler finds the handler that a RuntimeClass names. Pods that name
// one are few: it is read when it is needed.
func (a *Agent) RuntimeHandler(ctx context.Context, class string) (string, error) {
	c, err := client.Get[*nodev1.RuntimeClass](ctx, a.dep.Client, "", class)
	if err != nil {
		return "", err
	}
	return c.Handler, nil
}

// lateNetwork is the pod network, once the node's pod ranges are known.
type lateNetwork struct {
	mu    sync.Mutex // held while it is opened
	ready chan struct{}
	net   Network
}

// Attach waits for the network.
func (l *lateNetwork) Attach(ctx context.Context, key, netns string) ([]netip.Addr, error) {
	select {
	case <-l.ready:
		return l.net.Attach(ctx, key, netns)
	default:
		return nil, errors.New("the node has no pod range yet")
	}
}

// Detach releases a pod's addresses.
func (l *lateNetwork) Detach(ctx context.Context, key string) error {
	select {
	case <-l.ready:
		return l.net.Detach(ctx, key)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// notReady says why the node cannot run pods, or nothing.
func (a *Agent) notReady() string {
	select {
	case <-a.network.ready:
		return ""
	default:
		return "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: the node has no pod range yet"
	}
}

// Token asks the API for a token of a service account.
func (a *Agent) Token(ctx context.Context, namespace, account string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	out, err := a.dep.Client.CreateSubresource(ctx, object.Of[*corev1.ServiceAccount](a.dep.Client.Scheme()), namespace, account, "token", r)
	if err != nil {
		return nil, err
	}
	t, ok := out.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, fmt.Errorf("the API answered a token request with %T", out)
	}
	return t, nil
}

// Run keeps the node until ctx ends, then stops deciding, waits for what is
// under way and returns ctx's error. Pods run on, and a later agent on the same
// directories takes them over.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.ctx = ctx
	a.refs = reference.New(ctx, a.dep.Client, a.log, a.referenceChanged)
	a.volumes = volume.NewManager(volume.Config{
		Dir: filepath.Join(a.cfg.Dir, "pods"), MemoryDir: filepath.Join(a.cfg.RunDir, "secrets"),
		DiskDir: filepath.Join(a.cfg.Dir, "volumes"), Storage: (*persistent)(a),
		Allocatable: a.Allocatable, Log: a.log, Mounted: a.metrics.mounted,
	}, a.refs, a)
	a.volumes.Bundles = a.refs
	if err := a.volumes.Disk.Tidy(); err != nil {
		return fmt.Errorf("cannot open the local volumes: %w", err)
	}
	devices, err := device.New(device.Config{
		Client: a.dep.Client, Node: a.cfg.NodeName, File: filepath.Join(a.cfg.Dir, "dra_manager_state"), CDI: a.cfg.CDIDirs, Log: a.log, HealthChanged: a.queue.Add,
		Later: func(key string, d time.Duration, f func(context.Context)) {
			a.timers.Set(driverGone(key), time.Now().Add(d), func() { a.work.Go(func() { f(a.ctx) }) })
		},
	})
	if err != nil {
		return err
	}
	a.devices = devices
	plugins := &plugin.Watcher{Dir: filepath.Join(a.cfg.Dir, "plugins_registry"), Handlers: map[string]plugin.Handler{registration.DRAPlugin: devices}, Log: a.log}
	disks := newLocalVolumes(a)
	parallel := a.cfg.Parallel
	if parallel <= 0 {
		parallel = max(4, 2*goruntime.NumCPU())
	}
	mem := a.machine.Capacity[corev1.ResourceMemory]
	a.steps = hooks.New(hooks.Config{
		NodeName: a.cfg.NodeName, LogDir: a.cfg.LogDir, SeccompDir: filepath.Join(a.cfg.Dir, "seccomp"),
		SeccompDefault: a.cfg.SeccompDefault, ClusterDNS: a.cfg.ClusterDNS, ClusterDomain: a.cfg.ClusterDomain,
		ResolvConf: a.cfg.ResolvConf, HostIPs: a.cfg.HostIPs, Allocatable: a.Allocatable,
		Capacity: pod.Capacity{MemoryBytes: mem.Value(), PodPids: a.cfg.PodPidsLimit, NoCPUQuota: a.cfg.NoCPUQuota},
		AppArmor: a.apparmor, RuntimeHandlers: a.cfg.RuntimeHandlers,
		AllowedUnsafeSysctls: a.cfg.AllowedUnsafeSysctls, MaxParallelPulls: a.cfg.MaxParallelPulls, Parallel: parallel,
	}, hooks.Deps{
		Runtime: a.dep.Runtime, Images: a.dep.Images, Network: &a.network, HostPorts: a.dep.HostPorts,
		Volumes: a.volumes, Devices: devices, Objects: a.refs, Services: a, Classes: a, Recorder: a.dep.Recorder, Log: a.log,
	})
	a.volumes.Images = a.steps
	a.probes = probe.NewManager(ctx, a.dep.Runtime, a.timers, a.dep.Recorder, a.log, a.cfg.ProbeLimit, a.queue.Add)
	a.probed.MustRegister(prometheus.CollectorFunc(a.probes.Collect))
	a.writer = newStatusWriter(a)

	var wg sync.WaitGroup
	fatal := make(chan error, 1)
	fail := func(err error) {
		select {
		case fatal <- err:
		default:
		}
	}
	if a.ownHub {
		wg.Go(func() { _ = a.hub.Run(ctx) })
	}
	a.nodes.OnChange(func(old, new *corev1.Node) { a.onNode(old, new) })
	wg.Go(func() { _ = a.nodes.Run(ctx) })
	wg.Go(func() { _ = a.pods.Run(ctx) })
	wg.Go(func() { _ = disks.view.Run(ctx) })
	wg.Go(func() { a.timers.Run(ctx) })
	wg.Go(func() { a.writer.run(ctx) })
	wg.Go(func() {
		if err := a.begin(ctx); err != nil && ctx.Err() == nil {
			fail(err)
			return
		}
		wg.Go(func() { disks.run(ctx) })
		wg.Go(func() {
			devices.Start(ctx)
			if err := plugins.Run(ctx); err != nil && ctx.Err() == nil {
				a.log.Error("cannot serve plugins", "err", err)
			}
		})
		wg.Go(func() { a.keepLease(ctx) })
		wg.Go(func() { a.keepNode(ctx) })
		wg.Go(func() { a.keepResources(ctx) })
		for range a.cfg.Workers {
			wg.Go(a.decide)
		}
		wg.Go(func() { a.follow(ctx) })
	})
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case err = <-fatal:
	}
	cancel()
	a.queue.Close()
	wg.Wait()
	a.work.Wait()
	a.probes.Wait()
	a.refs.Wait()
	return err
}

// driverGone names the alarm of a driver that went away.
type driverGone string

// begin registers the node, opens the network and takes over what runs.
func (a *Agent) begin(ctx context.Context) error {
	if len(a.cfg.PodCIDRs) > 0 {
		if err := a.openNetwork(ctx, a.cfg.PodCIDRs); err != nil {
			return err
		}
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		node, err := a.register(ctx)
		if err == nil {
			// A node that has its pod ranges already must not be reported NotReady
			// just because its agent was started anew.
			err = a.openFor(node)
		}
		if err == nil {
			err = a.registerDriver(ctx, node)
		}
		if err == nil {
			err = a.reportNode(ctx, false)
		}
		if err == nil {
			break
		}
		a.log.Warn("cannot register the node, trying again", "err", err, "in", wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	if err := a.pods.Synced(ctx); err != nil {
		return err
	}
	if err := a.services.Need(ctx); err != nil {
		return err
	}
	return a.adopt(ctx)
}

// onNode follows the node's own object: its pod ranges, and its deletion.
func (a *Agent) onNode(_, n *corev1.Node) {
	if n == nil {
		a.touchNode()
		return
	}
	if err := a.openFor(n); err != nil {
		a.log.Error("cannot open the pod network, trying again", "err", err)
		a.timers.Set("network", time.Now().Add(2*time.Second), func() {
			if n, ok := a.nodes.Get("", a.cfg.NodeName); ok {
				a.work.Go(func() { a.onNode(nil, n) })
			}
		})
	}
}

// openFor opens the network for the pod ranges that a Node holds, unless it is
// open or there are none yet.
func (a *Agent) openFor(n *corev1.Node) error {
	ranges := n.Spec.PodCIDRs
	if len(ranges) == 0 && n.Spec.PodCIDR != "" {
		ranges = []string{n.Spec.PodCIDR}
	}
	if len(ranges) == 0 {
		return nil
	}
	var cidrs []netip.Prefix
	for _, r := range ranges {
		p, err := netip.ParsePrefix(r)
		if err != nil {
			return fmt.Errorf("cannot read the node's pod range: %w", err)
		}
		cidrs = append(cidrs, p)
	}
	return a.openNetwork(a.ctx, cidrs)
}

// openNetwork opens the network once.
func (a *Agent) openNetwork(ctx context.Context, cidrs []netip.Prefix) error {
	a.network.mu.Lock()
	defer a.network.mu.Unlock()
	if a.notReady() == "" {
		return nil
	}
	n, err := a.dep.OpenNetwork(ctx, cidrs)
	if err != nil {
		return fmt.Errorf("cannot open the pod network: %w", err)
	}
	a.network.net = n
	close(a.network.ready)
	a.touchNode()
	return nil
}

// decide is a worker: it decides on one pod after the other.
func (a *Agent) decide() {
	for {
		uid, ok := a.queue.Next()
		if !ok {
			return
		}
		a.mu.Lock()
		e := a.entries[uid]
		a.mu.Unlock()
		if e != nil {
			a.sync(e)
		}
		a.queue.Done(uid)
	}
}
