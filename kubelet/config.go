package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"sagong/client"
	"sagong/kubelet/hooks"
	"sagong/kubelet/resource"
	"sagong/reconcile"
	"sagong/runtime"
	"sagong/runtime/image"
)

// Config describes a node and how its agent behaves. NodeName, HostIPs, Dir and
// RunDir are required; Defaults fills the rest.
type Config struct {
	NodeName string
	// Labels and Taints the node is registered with, besides the standard ones.
	Labels map[string]string
	Taints []corev1.Taint
	// HostIPs are the node's addresses, the primary first.
	HostIPs []netip.Addr
	// Dir holds what outlives the process, RunDir what outlives it until the
	// machine restarts, LogDir a directory of logs a pod (default Dir/logs).
	Dir, RunDir, LogDir string
	// CDIDirs hold specifications of devices, the most important last; default
	// /etc/cdi, /var/run/cdi.
	CDIDirs []string
	// Port of the kubelet's own API, for node status.
	Port int32
	// Version is what the node says it is: "v1.37.2".
	Version string
	// MaxPods is how many pods fit; default 110.
	MaxPods int64
	// PodCIDRs are the ranges of pod addresses; empty: those that a controller
	// writes into the Node.
	PodCIDRs []netip.Prefix
	// Reserved is kept from pods, for the system and the agent.
	Reserved corev1.ResourceList
	// PodPidsLimit is how many processes a pod may have; 0 is unlimited.
	PodPidsLimit int64
	// ClusterDNS, ClusterDomain and ResolvConf shape the pods' resolv.conf.
	ClusterDNS    []netip.Addr
	ClusterDomain string
	ResolvConf    string
	// RuntimeHandlers are the names by which a RuntimeClass may ask for the
	// node's runtime; default "runc", "sagong".
	RuntimeHandlers []string
	// SeccompDefault gives containers without a profile RuntimeDefault.
	SeccompDefault       bool
	AllowedUnsafeSysctls []string
	NoCPUQuota           bool
	// Workers is how many pods are decided on at a time; Parallel how many pods
	// or containers are made at a time; MaxParallelPulls bounds image pulls.
	Workers, Parallel, MaxParallelPulls int
	// ProbeLimit is how many probes run at a time.
	ProbeLimit int
	// LeaseDuration of the node's lease, renewed at a quarter of it; default 40 s.
	LeaseDuration time.Duration
	// StatusInterval is how often an unchanged node status is written; default
	// 5 min.
	StatusInterval time.Duration
	// StatusDelay is how long a status that nobody waits for may be held back to
	// be written together with the next; default 30 ms.
	StatusDelay time.Duration
	// Eviction, image collection and log rotation.
	Resource resource.Config
}

// ImageStore is what the agent needs of the node's images.
type ImageStore interface {
	hooks.Images
	List() ([]*image.Image, error)
	Usage() (image.Usage, error)
	// Collect frees space by removing unused images, oldest first.
	Collect(ctx context.Context, free int64, minAge time.Duration) (freed int64, removed []string, err error)
	// Pins says which owner uses which image.
	Pins() map[string]string
}

// Network is the pod network of the node.
type Network interface {
	hooks.Network
	// Retain releases what pods other than these hold.
	Retain(ctx context.Context, keys []string) error
}

// Deps are what an agent works with. Client, Runtime, Images, OpenNetwork and
// Recorder are required.
type Deps struct {
	Client  client.Client
	Runtime runtime.Runtime
	Images  ImageStore
	// OpenNetwork is called once, when the node's pod ranges are known.
	OpenNetwork func(ctx context.Context, podCIDRs []netip.Prefix) (Network, error)
	// HostPorts leads host ports to pods; nil refuses them.
	HostPorts hooks.HostPorts
	// Metrics is where the agent registers what it measures; nil: it has its own.
	Metrics *prometheus.Registry
	// Slices weighs the classes of pods against each other; nil leaves them
	// equal.
	Slices Slices
	// Hub shares views with other components of the process; nil: the agent
	// has its own.
	Hub      *reconcile.Hub
	Recorder client.Recorder
	Log      *slog.Logger
}

// Defaults returns c with every unset optional field filled.
func (c Config) Defaults() Config {
	if c.LogDir == "" {
		c.LogDir = filepath.Join(c.Dir, "logs")
	}
	if c.Port == 0 {
		c.Port = 10250
	}
	if c.Version == "" {
		c.Version = "v1.37.2"
	}
	if c.MaxPods == 0 {
		c.MaxPods = 110
	}
	if c.ClusterDomain == "" {
		c.ClusterDomain = "cluster.local"
	}
	if c.RuntimeHandlers == nil {
		c.RuntimeHandlers = []string{"runc", "sagong"}
	}
	if c.Workers <= 0 {
		c.Workers = 4
	}
	if c.LeaseDuration <= 0 {
		c.LeaseDuration = 40 * time.Second
	}
	if c.StatusInterval <= 0 {
		c.StatusInterval = 5 * time.Minute
	}
	if c.StatusDelay <= 0 {
		c.StatusDelay = 30 * time.Millisecond
	}
	c.Resource = c.Resource.Defaults()
	return c
}

// Validate reports every fault of c at once.
func (c Config) Validate() error {
	var faults []error
	if c.NodeName == "" {
		faults = append(faults, errors.New("the node's name is missing"))
	}
	if len(c.HostIPs) == 0 {
		faults = append(faults, errors.New("the node has no address"))
	}
	for _, d := range []struct{ name, path string }{{"data", c.Dir}, {"run", c.RunDir}} {
		if !filepath.IsAbs(d.path) {
			faults = append(faults, fmt.Errorf("the %s directory %q is not an absolute path", d.name, d.path))
		}
	}
	if c.MaxPods < 0 {
		faults = append(faults, fmt.Errorf("%d pods are not possible", c.MaxPods))
	}
	return errors.Join(faults...)
}
