package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Images gives the content of images.
type Images interface {
	// ImageLayers has an image on the node and pinned for an owner, and returns
	// its layers as directories, topmost first. policy may be empty.
	ImageLayers(ctx context.Context, p *corev1.Pod, volume, ref string, policy corev1.PullPolicy, owner string) ([]string, error)
	Release(owner string) error
}

// ImageOwner is what pins the image of a pod's volume.
func ImageOwner(uid types.UID, volume string) string {
	return imageOwners + string(uid) + "." + volume
}

const imageOwners = "volume."

// ImageOwnerPod is the pod that a pin is for, if it is for a volume.
func ImageOwnerPod(owner string) (uid types.UID, ok bool) {
	rest, ok := strings.CutPrefix(owner, imageOwners)
	if !ok {
		return "", false
	}
	name, _, _ := strings.Cut(rest, ".")
	return types.UID(name), true
}

const imagePlugin = "kubernetes.io~image"

// image shows the files of an image. Nobody can write to them, nor run them.
type image struct{ m *Manager }

func (image) Handles(v *corev1.Volume) bool { return v.Image != nil }

func (image) Live() bool { return false }

func (i image) Mount(ctx context.Context, r *Request) (string, error) {
	if i.m.Images == nil {
		return "", fmt.Errorf("%w: %s", ErrUnsupported, typeName(r.Volume))
	}
	dir := r.dir(imagePlugin)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make volume directory: %w", err)
	}
	if mounted, err := isMountpoint(dir); err != nil || mounted {
		return dir, err
	}
	s := r.Volume.Image
	layers, err := i.m.Images.ImageLayers(ctx, r.Pod, r.Volume.Name, s.Reference, s.PullPolicy, ImageOwner(r.Pod.UID, r.Volume.Name))
	if err != nil {
		return "", err
	}
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	switch len(layers) {
	case 0:
		err = unix.Mount("none", dir, "tmpfs", flags, "size=4k,mode=0755")
	case 1:
		if err = unix.Mount(layers[0], dir, "", unix.MS_BIND, ""); err == nil {
			err = unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
		}
	default:
		names := make([]string, len(layers))
		for n, l := range layers {
			names[n] = strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace(l)
		}
		options := "lowerdir=" + strings.Join(names, ":")
		if len(options) >= os.Getpagesize() {
			return "", fmt.Errorf("cannot mount image %q: it has too many layers", s.Reference)
		}
		err = unix.Mount("overlay", dir, "overlay", flags, options)
	}
	if err != nil {
		return "", fmt.Errorf("cannot mount image %q: %w", s.Reference, err)
	}
	return dir, nil
}

// releaseImages lets go of the images of a pod's volumes.
func (m *Manager) releaseImages(uid types.UID) error {
	if m.Images == nil {
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(m.PodDir(uid), "volumes", imagePlugin))
	if err != nil {
		return nil // it has none
	}
	for _, e := range entries {
		if err := m.Images.Release(ImageOwner(uid, e.Name())); err != nil {
			return fmt.Errorf("cannot release image of volume %q: %w", e.Name(), err)
		}
	}
	return nil
}
