package volume

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"sagong/kubelet/pod"
)

const emptyDirPlugin = "kubernetes.io~empty-dir"

// emptyDir lives as long as its pod: a directory, or a memory file system no
// larger than sizeLimit and than what the pod may use of memory.
type emptyDir struct{ m *Manager }

func (emptyDir) Handles(v *corev1.Volume) bool { return v.EmptyDir != nil }

func (emptyDir) Live() bool { return false }

func (e emptyDir) Mount(ctx context.Context, r *Request) (string, error) {
	dir := r.dir(emptyDirPlugin)
	src := r.Volume.EmptyDir
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("cannot make emptyDir: %w", err)
	}
	mounted, err := isMountpoint(dir)
	if err != nil {
		return "", err
	}
	switch {
	case src.Medium == corev1.StorageMediumDefault || mounted:
	case src.Medium == corev1.StorageMediumMemory:
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, e.size(r)); err != nil {
			return "", fmt.Errorf("cannot mount a memory file system: %w", err)
		}
	case strings.HasPrefix(string(src.Medium), string(corev1.StorageMediumHugePages)):
		data, err := hugePageSize(r)
		if err != nil {
			return "", err
		}
		if err := unix.Mount("nodev", dir, "hugetlbfs", 0, data); err != nil {
			return "", fmt.Errorf("cannot mount a huge page file system: %w", err)
		}
	default:
		return "", fmt.Errorf("unknown storage medium %q", src.Medium)
	}
	// The umask must not narrow what every user of the pod may write to.
	if err := os.Chmod(dir, 0o777); err != nil {
		return "", fmt.Errorf("cannot make emptyDir: %w", err)
	}
	return dir, own(r.Pod, dir, true)
}

// size is the mount option that bounds a memory file system.
func (e emptyDir) size(r *Request) string {
	var limit *resource.Quantity
	take := func(q *resource.Quantity) {
		if q != nil && !q.IsZero() && (limit == nil || q.Cmp(*limit) < 0) {
			limit = q
		}
	}
	take(r.Volume.EmptyDir.SizeLimit)
	all := true
	for _, m := range pod.Members(r.Pod) {
		if m.Class != pod.Ephemeral && m.Resources.Limits.Memory().IsZero() {
			all = false
		}
	}
	if all {
		l := pod.Limits(r.Pod)
		take(l.Memory())
	}
	if e.m.cfg.Allocatable != nil {
		a := e.m.cfg.Allocatable()
		take(a.Memory())
	}
	if limit == nil {
		return ""
	}
	return fmt.Sprintf("size=%d", limit.Value())
}

// hugePageSize is the mount option for the page size that the medium or the
// pod's limits name.
func hugePageSize(r *Request) (string, error) {
	size := strings.TrimPrefix(string(r.Volume.EmptyDir.Medium), string(corev1.StorageMediumHugePagesPrefix))
	if r.Volume.EmptyDir.Medium == corev1.StorageMediumHugePages {
		size = ""
		for n := range pod.Limits(r.Pod) {
			s, ok := strings.CutPrefix(string(n), corev1.ResourceHugePagesPrefix)
			if !ok {
				continue
			}
			if size != "" && size != s {
				return "", fmt.Errorf("cannot choose a page size: the pod asks for several, name one in medium")
			}
			size = s
		}
	}
	if size == "" {
		return "", fmt.Errorf("cannot choose a page size: the pod asks for no huge pages")
	}
	return "pagesize=" + strings.TrimSuffix(size, "i"), nil
}
