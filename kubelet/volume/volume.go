// Package volume gives the containers of a pod their volumes: a contract, one
// file for each type, and a manager that makes, refreshes and removes all
// volumes of a pod. What it makes lies below one directory a pod and survives
// the process; a tear-down needs nothing but that directory.
package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Objects reads what volumes refer to.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// Bundles reads the authorities that volumes show.
type Bundles interface {
	TrustBundles(ctx context.Context) ([]*certificatesv1.ClusterTrustBundle, error)
}

// Tokens issues tokens of service accounts.
type Tokens interface {
	Token(ctx context.Context, namespace, serviceAccount string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
}

// Config says where volumes lie.
type Config struct {
	// Dir holds a directory a pod, on disk.
	Dir string
	// MemoryDir is for what must never reach a disk (secrets, tokens). It is
	// made, and a memory file system is mounted there unless it lies on one.
	MemoryDir string
	// Allocatable of the node, for resourceFieldRef.
	Allocatable func() corev1.ResourceList
	// DiskDir is where the volumes of the built-in driver are.
	DiskDir string
	// Storage finds what is behind claims; nil on a node without.
	Storage Storage
	// Mounted, when set, is told of each volume that was mounted for a pod, or could
	// not be.
	Mounted func(v *corev1.Volume, took time.Duration, err error)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Request is one volume of one pod.
type Request struct {
	Pod    *corev1.Pod
	Volume *corev1.Volume
	// PodIPs are known once the network is up; volumes do not need them.
	manager *Manager
}

// dir is where the volume lies, by the names that upstream gives directories.
func (r *Request) dir(plugin string) string {
	return filepath.Join(r.manager.PodDir(r.Pod.UID), "volumes", plugin, r.Volume.Name)
}

// memoryDir is the same on the memory file system.
func (r *Request) memoryDir(plugin string) string {
	return filepath.Join(r.manager.cfg.MemoryDir, string(r.Pod.UID), plugin, r.Volume.Name)
}

// Type is a kind of volume.
type Type interface {
	// Handles says whether the volume is of this type.
	Handles(*corev1.Volume) bool
	// Mount makes the volume and returns where it is on the host. It may be
	// called again for a volume that is there, and then brings it up to date
	// without disturbing its users.
	Mount(ctx context.Context, r *Request) (path string, err error)
	// Live says that Mount must be called again when the pod or an object that
	// it refers to changes; it may name a time to do so in any case.
	Live() bool
}

// ErrUnsupported is said of volume types that this node cannot mount.
var ErrUnsupported = errors.New("volume type is not supported by this node")

// Manager makes and removes the volumes of pods. All methods may be called at
// the same time; calls for one pod must not be.
type Manager struct {
	// Disk keeps the volumes of the built-in driver.
	Disk LocalDisk
	// Images gives the content of images; set it before the first pod.
	Images Images
	// Bundles are those of the cluster; set it before the first pod.
	Bundles Bundles

	cfg     Config
	objects Objects
	tokens  *tokenCache
	types   []Type

	memory sync.Once
	memErr error

	mountCall func(source, target, fstype string, flags uintptr, data string) error
}

// NewManager returns a manager. It touches the disk only when asked to mount.
func NewManager(cfg Config, o Objects, t Tokens) *Manager {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &Manager{Disk: LocalDisk{Dir: cfg.DiskDir}, cfg: cfg, objects: o, tokens: newTokenCache(t, cfg.Now), mountCall: unix.Mount}
	m.types = all(m)
	return m
}

// PodDir is the directory of a pod.
func (m *Manager) PodDir(uid types.UID) string { return filepath.Join(m.cfg.Dir, string(uid)) }

// Error names the volume that could not be mounted.
type Error struct {
	Volume string
	Err    error
}

// Error reads as upstream's event does.
func (e *Error) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Mount makes all volumes of a pod, or brings them up to date, and returns
// their host paths by volume name. It goes on after a failure and returns all
// of them, each an *Error.
func (m *Manager) Mount(ctx context.Context, p *corev1.Pod) (map[string]string, error) {
	paths := make(map[string]string, len(p.Spec.Volumes))
	var errs []error
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		begun := time.Now()
		path, err := m.mount(ctx, p, v)
		if m.cfg.Mounted != nil {
			m.cfg.Mounted(v, time.Since(begun), err)
		}
		if err != nil {
			errs = append(errs, &Error{Volume: v.Name, Err: err})
			continue
		}
		paths[v.Name] = path
	}
	return paths, errors.Join(errs...)
}

func (m *Manager) mount(ctx context.Context, p *corev1.Pod, v *corev1.Volume) (string, error) {
	t := m.typeOf(v)
	if t == nil {
		return "", fmt.Errorf("%w: %s", ErrUnsupported, typeName(v))
	}
	return t.Mount(ctx, &Request{Pod: p, Volume: v, manager: m})
}

func (m *Manager) typeOf(v *corev1.Volume) Type {
	for _, t := range m.types {
		if t.Handles(v) {
			return t
		}
	}
	return nil
}

// Refresh brings live volumes up to date and returns when it must be called
// again at the latest (tokens), zero for never.
func (m *Manager) Refresh(ctx context.Context, p *corev1.Pod) (time.Time, error) {
	var errs []error
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if t := m.typeOf(v); t != nil && t.Live() {
			if _, err := m.mount(ctx, p, v); err != nil {
				errs = append(errs, &Error{Volume: v.Name, Err: err})
			}
		}
	}
	return m.tokens.next(p.UID), errors.Join(errs...)
}

// NextRefresh is when tokens of the pod must be renewed; zero for never.
func (m *Manager) NextRefresh(uid types.UID) time.Time { return m.tokens.next(uid) }

// Live says whether the pod has volumes that Refresh brings up to date.
func (m *Manager) Live(p *corev1.Pod) bool {
	for i := range p.Spec.Volumes {
		if t := m.typeOf(&p.Spec.Volumes[i]); t != nil && t.Live() {
			return true
		}
	}
	return false
}

// Unmount removes all volumes of a pod and its directory. It succeeds when
// nothing is left, also when nothing was there.
func (m *Manager) Unmount(ctx context.Context, uid types.UID) error {
	m.tokens.forget(uid)
	if err := m.releaseImages(uid); err != nil {
		return err
	}
	return errors.Join(
		removeTree(filepath.Join(m.cfg.MemoryDir, string(uid))),
		removeTree(m.PodDir(uid)),
	)
}

// Pods lists the pods that have a directory.
func (m *Manager) Pods() ([]types.UID, error) {
	seen := map[types.UID]bool{}
	var all []types.UID
	for _, dir := range []string{m.cfg.Dir, m.cfg.MemoryDir} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("cannot list pods with volumes: %w", err)
		}
		for _, e := range entries {
			if uid := types.UID(e.Name()); !seen[uid] {
				seen[uid] = true
				all = append(all, uid)
			}
		}
	}
	return all, nil
}

// typeName is the field of a volume source that is set.
func typeName(v *corev1.Volume) string {
	s := v.VolumeSource
	switch {
	case s.PersistentVolumeClaim != nil:
		return "persistentVolumeClaim"
	case s.CSI != nil:
		return "csi"
	case s.NFS != nil:
		return "nfs"
	case s.ISCSI != nil:
		return "iscsi"
	case s.FC != nil:
		return "fc"
	case s.Ephemeral != nil:
		return "ephemeral"
	case s.Image != nil:
		return "image"
	case s.GitRepo != nil:
		return "gitRepo"
	case s.FlexVolume != nil:
		return "flexVolume"
	case s.GCEPersistentDisk != nil:
		return "gcePersistentDisk"
	case s.AWSElasticBlockStore != nil:
		return "awsElasticBlockStore"
	case s.AzureDisk != nil:
		return "azureDisk"
	case s.AzureFile != nil:
		return "azureFile"
	case s.CephFS != nil:
		return "cephfs"
	case s.Cinder != nil:
		return "cinder"
	case s.Glusterfs != nil:
		return "glusterfs"
	case s.RBD != nil:
		return "rbd"
	case s.VsphereVolume != nil:
		return "vsphereVolume"
	case s.PortworxVolume != nil:
		return "portworxVolume"
	case s.Quobyte != nil:
		return "quobyte"
	case s.PhotonPersistentDisk != nil:
		return "photonPersistentDisk"
	case s.ScaleIO != nil:
		return "scaleIO"
	case s.StorageOS != nil:
		return "storageos"
	case s.Flocker != nil:
		return "flocker"
	}
	return "unknown"
}
