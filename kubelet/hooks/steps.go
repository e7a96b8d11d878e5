// Package hooks carries out what package pod decides: each step of a pod's and
// of a container's life is one file, in one ordered list, and states what it
// guarantees to those after it. A step may be repeated at any time and must
// then find its work done; a tear-down needs nothing but the pod's name and
// UID, so that it also removes what a crash left.
package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/kubelet/pod"
	"sagong/kubelet/volume"
	"sagong/runtime"
	"sagong/runtime/image"
)

// Images is what steps need of the node's image store.
type Images interface {
	Get(ref string) (*image.Image, error)
	Pull(ctx context.Context, ref string, o image.PullOptions) (*image.Image, error)
	// Use pins an image for a container until Release.
	Use(ctx context.Context, ref, owner string) (*image.Image, error)
	Release(owner string) error
}

// Network connects pods. Both methods are idempotent.
type Network interface {
	// Attach gives the pod called key addresses, the primary first.
	Attach(ctx context.Context, key, netnsPath string) ([]netip.Addr, error)
	Detach(ctx context.Context, key string) error
}

// HostPort is a port of the node that leads to a port of a pod.
type HostPort struct {
	HostIP   netip.Addr // unspecified: every address of the node
	HostPort uint16
	Protocol corev1.Protocol
	PodPort  uint16
}

// HostPorts leads ports of the node to pods. Set replaces what a pod had.
type HostPorts interface {
	Set(ctx context.Context, key string, podIPs []netip.Addr, ports []HostPort) error
	Remove(ctx context.Context, key string) error
}

// Services finds the Services whose addresses become environment variables.
type Services interface {
	// InNamespace lists the Services of a namespace, in any order.
	InNamespace(namespace string) []*corev1.Service
}

// RuntimeClasses finds the handler that a RuntimeClass names.
type RuntimeClasses interface {
	RuntimeHandler(ctx context.Context, class string) (string, error)
}

// Config are the node's settings for the steps.
type Config struct {
	NodeName string
	// LogDir holds a directory of logs a pod.
	LogDir string
	// SeccompDir holds the profiles of type Localhost.
	SeccompDir string
	// SeccompDefault gives containers without a profile RuntimeDefault.
	SeccompDefault bool
	// ClusterDNS and ClusterDomain are for dnsPolicy ClusterFirst.
	ClusterDNS    []netip.Addr
	ClusterDomain string
	// ResolvConf is the node's own resolver configuration.
	ResolvConf string
	// HostIPs are the node's addresses, the primary first.
	HostIPs []netip.Addr
	// Capacity of the node, for limits and scores.
	Capacity pod.Capacity
	// Allocatable of the node, for resourceFieldRef.
	Allocatable func() corev1.ResourceList
	// AllowedUnsafeSysctls are names, or prefixes that end with "*".
	AllowedUnsafeSysctls []string
	// RuntimeHandlers are the names of handlers that a RuntimeClass may ask for;
	// all mean the one runtime of the node.
	RuntimeHandlers []string
	// AppArmor says that the node's kernel enforces AppArmor profiles.
	AppArmor bool
	// MaxParallelPulls bounds image pulls; 0 is 3.
	MaxParallelPulls int
	// Parallel bounds how many pods or containers are made at a time; 0 is 4.
	Parallel int
}

// Deps are what steps work with.
type Deps struct {
	Runtime   runtime.Runtime
	Images    Images
	Network   Network
	HostPorts HostPorts // nil: host ports are refused
	Volumes   *volume.Manager
	Devices   Devices // nil: resource claims are refused
	Objects   volume.Objects
	Services  Services
	Classes   RuntimeClasses
	Recorder  client.Recorder
	Log       *slog.Logger
}

// Pod is one pod while its steps run.
type Pod struct {
	*corev1.Pod
	// Paths are the volumes' places on the host, by name.
	Paths map[string]string
	// NetNS is the network namespace; empty on the host's network.
	NetNS string
	// IPs of the pod, the primary first.
	IPs []netip.Addr
}

// Ident is all that a tear-down needs.
type Ident struct {
	UID             types.UID
	Namespace, Name string
}

// PodStep is a step of making a pod ready for containers.
type PodStep interface {
	// Name for logs.
	Name() string
	// SetUp does the step, or finds it done.
	SetUp(ctx context.Context, p *Pod) error
	// TearDown undoes it and succeeds when there is nothing to undo.
	TearDown(ctx context.Context, id Ident) error
}

// ContainerStep is a step of starting a container.
type ContainerStep interface {
	Name() string
	// Do does the step. An error ends the start; a *Failure says how status
	// and events report it.
	Do(ctx context.Context, r *Run) error
}

// Run is one start of a container while its steps run.
type Run struct {
	Pod     *Pod
	Member  pod.Member
	Attempt int
	ID      string
	Backoff time.Duration

	Image *image.Image
	Spec  runtime.Container
	// Pulled, Created and Started say how far the start got.
	Pulled  bool
	Created bool
	Started runtime.Started
	// OnStarted is called as soon as the process runs, before its hook.
	OnStarted func()
}

// Failure is why a container did not start, as container status shows it.
type Failure struct {
	Reason, Message string
	// Image: the image could not be had. RetryAt says when to try again.
	Image          bool
	BackOffMessage string
	RetryAfter     time.Duration
	Err            error
}

// Error is reason and message.
func (f *Failure) Error() string { return f.Reason + ": " + f.Message }

// Unwrap is the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Steps carries out the life of pods on a node. All methods may be called at
// the same time for different containers or pods.
type Steps struct {
	cfg Config
	Deps
	pods       []PodStep
	containers []ContainerStep
	work       chan struct{}
	pulls      *pulls
	stops      sync.Map // container id to *stopping
}

// New returns the steps of a node.
func New(cfg Config, d Deps) *Steps {
	if cfg.MaxParallelPulls <= 0 {
		cfg.MaxParallelPulls = 3
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = 4
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	s := &Steps{cfg: cfg, Deps: d, work: make(chan struct{}, cfg.Parallel), pulls: newPulls(cfg.MaxParallelPulls)}
	s.pods, s.containers = podSteps(s), containerSteps(s)
	return s
}

// enter waits for one of the places in which CPU-bound work is done, so that a
// hundred pods at once do not slow each other down.
func (s *Steps) enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case s.work <- struct{}{}:
		return func() { <-s.work }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// SetUp makes a pod ready for containers. On an error, what was done stays and
// is found by the next SetUp.
func (s *Steps) SetUp(ctx context.Context, p *Pod) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for _, st := range s.pods {
		if err := st.SetUp(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", st.Name(), err)
		}
	}
	return nil
}

// TearDown undoes SetUp in reverse, going on after failures.
func (s *Steps) TearDown(ctx context.Context, id Ident) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	var errs []error
	for i := len(s.pods) - 1; i >= 0; i-- {
		if err := s.pods[i].TearDown(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.pods[i].Name(), err))
		}
	}
	s.pulls.forget(id.UID)
	return errors.Join(errs...)
}

// Reset removes a lost sandbox, its containers and addresses, and keeps the
// volumes and devices.
func (s *Steps) Reset(ctx context.Context, id Ident) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	var errs []error
	for i := len(s.pods) - 1; i >= 0; i-- {
		switch s.pods[i].(type) {
		case volumesStep, devicesStep, directoriesStep:
			continue
		}
		if err := s.pods[i].TearDown(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.pods[i].Name(), err))
		}
	}
	return errors.Join(errs...)
}

// Start runs a container: image, definition, creation, start, hook.
func (s *Steps) Start(ctx context.Context, r *Run) error {
	for _, st := range s.containers {
		if err := st.Do(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// PodLogDir is where the logs of a pod's containers lie.
func (s *Steps) PodLogDir(id Ident) string { return PodLogDir(s.cfg.LogDir, id) }

// PodLogDir is where the logs of a pod's containers lie below a directory.
func PodLogDir(dir string, id Ident) string {
	return filepath.Join(dir, id.Namespace+"_"+id.Name+"_"+string(id.UID))
}

// LogPath is the log file of one attempt at running a container.
func LogPath(dir string, id Ident, container string, attempt int) string {
	return filepath.Join(PodLogDir(dir, id), container, fmt.Sprintf("%d.log", attempt))
}

// IdentOf names a pod.
func IdentOf(p *corev1.Pod) Ident {
	return Ident{UID: p.UID, Namespace: p.Namespace, Name: p.Name}
}

// String is how texts name a pod: name_namespace(uid).
func (id Ident) String() string { return fmt.Sprintf("%s_%s(%s)", id.Name, id.Namespace, id.UID) }

// event records an event about a container of a pod.
func (s *Steps) event(r *Run, typ, reason, format string, args ...any) {
	s.Recorder.EventForField(r.Pod.Pod, r.Member.FieldPath, typ, reason, format, args...)
}
