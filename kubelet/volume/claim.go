package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"

	"sagong/kinds/storage"
)

// Storage finds what is behind claims.
type Storage interface {
	Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
	Volume(ctx context.Context, name string) (*corev1.PersistentVolume, error)
	// Fits says why a volume cannot be used on this node, going by its affinity.
	Fits(v *corev1.PersistentVolume) error
	// Resized hears that a volume has the size its object says.
	Resized(ctx context.Context, p *corev1.Pod, c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) error
}

// claim is a volume that a PersistentVolumeClaim is bound to, the claim being
// the user's or made for the pod.
type claim struct{ m *Manager }

func (claim) Handles(v *corev1.Volume) bool {
	return v.PersistentVolumeClaim != nil || v.Ephemeral != nil
}

func (claim) Live() bool { return false }

func (c claim) Mount(ctx context.Context, r *Request) (string, error) {
	name := r.Pod.Name + "-" + r.Volume.Name
	if s := r.Volume.PersistentVolumeClaim; s != nil {
		name = s.ClaimName
	}
	if c.m.cfg.Storage == nil {
		return "", fmt.Errorf("%w: %s", ErrUnsupported, typeName(r.Volume))
	}
	pvc, pv, err := c.resolve(ctx, r, name)
	if err != nil {
		return "", fmt.Errorf("error processing PVC %s/%s: %w", r.Pod.Namespace, name, err)
	}
	if pv.Spec.VolumeMode != nil && *pv.Spec.VolumeMode == corev1.PersistentVolumeBlock {
		return "", fmt.Errorf("volume %s has volumeMode Block: block volumes are not supported by this node", pv.Name)
	}
	if err := c.m.cfg.Storage.Fits(pv); err != nil {
		return "", fmt.Errorf("MountVolume.NodeAffinity check failed for volume %q : %w", pv.Name, err)
	}
	if slices.Contains(pv.Spec.AccessModes, corev1.ReadWriteOncePod) && c.otherUser(r, pv.Name) {
		return "", errors.New("volume uses the ReadWriteOncePod access mode and is already in use by another pod")
	}
	return c.mount(ctx, r, pvc, pv)
}

// resolve finds the claim and the volume that it is bound to, and makes sure
// that the two agree.
func (c claim) resolve(ctx context.Context, r *Request, name string) (*corev1.PersistentVolumeClaim, *corev1.PersistentVolume, error) {
	pvc, err := c.m.cfg.Storage.Claim(ctx, r.Pod.Namespace, name)
	if err != nil {
		return nil, nil, fmt.Errorf("failed to fetch PVC from API server: %w", err)
	}
	if r.Volume.Ephemeral != nil {
		if err := ephemeral.VolumeIsForPod(r.Pod, pvc); err != nil {
			return nil, nil, err
		}
	}
	// A pod that runs already goes on with what it has.
	if pvc.DeletionTimestamp != nil && r.Pod.Status.Phase != corev1.PodRunning {
		return nil, nil, errors.New("can't start pod because PVC is being deleted")
	}
	if pvc.Status.Phase != corev1.ClaimBound || pvc.Spec.VolumeName == "" {
		return nil, nil, errors.New("PVC is not bound")
	}
	pv, err := c.m.cfg.Storage.Volume(ctx, pvc.Spec.VolumeName)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("failed to fetch PV %q from API server: %w", pvc.Spec.VolumeName, err)
	case pv.Spec.ClaimRef == nil:
		return nil, nil, fmt.Errorf("found PV object %s but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim", pv.Name)
	case pv.Spec.ClaimRef.UID != pvc.UID:
		return nil, nil, fmt.Errorf("found PV object %s but its pv.Spec.ClaimRef.UID %s does not point to claim.UID %s", pv.Name, pv.Spec.ClaimRef.UID, pvc.UID)
	}
	return pvc, pv, nil
}

// otherUser says whether another pod of this node has a volume: the directories
// of pods tell, so that a restart forgets nothing.
func (c claim) otherUser(r *Request, pv string) bool {
	found, _ := filepath.Glob(filepath.Join(c.m.cfg.Dir, "*", "volumes", "*", pv))
	own := c.m.PodDir(r.Pod.UID) + string(filepath.Separator)
	return slices.ContainsFunc(found, func(dir string) bool { return len(dir) < len(own) || dir[:len(own)] != own })
}

// mount mounts a volume by its source. Each has a directory in the pod's, if
// only to say that the pod uses it.
func (c claim) mount(ctx context.Context, r *Request, pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) (string, error) {
	s := &pv.Spec.PersistentVolumeSource
	mark := func(plugin string) (string, error) {
		dir := filepath.Join(c.m.PodDir(r.Pod.UID), "volumes", plugin, pv.Name)
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return "", fmt.Errorf("cannot make volume directory: %w", err)
		}
		return dir, nil
	}
	switch {
	case s.HostPath != nil:
		if _, err := mark("kubernetes.io~host-path"); err != nil {
			return "", err
		}
		return hostPathAt(s.HostPath)
	case s.Local != nil:
		dir, err := mark("kubernetes.io~local-volume")
		if err != nil {
			return "", err
		}
		return s.Local.Path, c.local(r, s.Local, dir)
	case s.NFS != nil:
		dir, err := mark("kubernetes.io~nfs")
		if err != nil {
			return "", err
		}
		return dir, c.m.mountNFS(ctx, s.NFS, pv.Spec.MountOptions, dir)
	case s.CSI != nil && s.CSI.Driver == storage.LocalDriver:
		dir, err := mark("kubernetes.io~csi")
		if err != nil {
			return "", err
		}
		return c.disk(ctx, r, pvc, pv, filepath.Join(dir, "mount"))
	case s.CSI != nil:
		return "", fmt.Errorf("driver name %s not found in the list of registered CSI drivers", s.CSI.Driver)
	}
	return "", fmt.Errorf("%w: the source of persistent volume %s", ErrUnsupported, pv.Name)
}

// local checks a directory of the node that an administrator set aside.
func (c claim) local(r *Request, s *corev1.LocalVolumeSource, dir string) error {
	st, err := os.Stat(s.Path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("path %q does not exist", s.Path)
	}
	if err != nil {
		return fmt.Errorf("cannot look at local volume: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("path %q is not a directory: block devices are not supported by this node", s.Path)
	}
	return once(dir, func() error { return ownVolume(r.Pod, s.Path) })
}

// once runs f for a volume of a pod unless it has succeeded before.
func once(dir string, f func() error) error {
	done := filepath.Join(dir, "done")
	if _, err := os.Lstat(done); err == nil {
		return nil
	}
	if err := f(); err != nil {
		return err
	}
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		return fmt.Errorf("cannot note that a volume is ready: %w", err)
	}
	return nil
}

// disk mounts a volume of the built-in driver.
func (c claim) disk(ctx context.Context, r *Request, pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("cannot make volume directory: %w", err)
	}
	flags, options, err := mountOptions(pv.Spec.MountOptions)
	if err != nil {
		return "", err
	}
	if pv.Spec.CSI.ReadOnly {
		flags |= msReadOnly
	}
	mounted, err := isMountpoint(dir)
	if err != nil {
		return "", err
	}
	if !mounted {
		size := pv.Spec.Capacity[corev1.ResourceStorage]
		sized, err := c.m.Disk.Mount(ctx, pv.Spec.CSI.VolumeHandle, size.Value(), dir, flags, options)
		if err != nil {
			return "", err
		}
		if have := pvc.Status.Capacity[corev1.ResourceStorage]; sized && have.Cmp(size) < 0 {
			if err := c.m.cfg.Storage.Resized(ctx, r.Pod, pvc, pv); err != nil {
				return "", fmt.Errorf("cannot report the volume's new size: %w", err)
			}
		}
	}
	if pv.Spec.CSI.ReadOnly {
		return dir, nil
	}
	return dir, once(filepath.Dir(dir), func() error { return ownVolume(r.Pod, dir) })
}
