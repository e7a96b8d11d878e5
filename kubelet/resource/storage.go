package resource

import (
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"sagong/kubelet/pod"
)

// Tree counts the bytes that a directory tree takes on its disk. What vanishes
// meanwhile is not counted, nor are file systems mounted below.
func Tree(root string) int64 {
	var st unix.Stat_t
	if unix.Lstat(root, &st) != nil {
		return 0
	}
	dev, sum := st.Dev, int64(0)
	seen := map[uint64]bool{}
	filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			return nil
		}
		if st.Dev != dev {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if st.Nlink > 1 && !e.IsDir() {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		sum += st.Blocks * 512
		return nil
	})
	return sum
}

// StorageLimited says whether a pod has limits of local storage that must be
// looked at.
func StorageLimited(p *corev1.Pod) bool {
	for i := range p.Spec.Volumes {
		if e := p.Spec.Volumes[i].EmptyDir; e != nil && e.SizeLimit != nil && !e.SizeLimit.IsZero() {
			return true
		}
	}
	for _, m := range pod.Members(p) {
		if !m.Resources.Limits.StorageEphemeral().IsZero() {
			return true
		}
	}
	return false
}

// Local is what a pod uses of local storage, in bytes.
type Local struct {
	// EmptyDirs by volume name; those in memory are not part of the pod's sum.
	EmptyDirs map[string]int64
	// Containers by name: writable layer and logs.
	Containers map[string]int64
}

// OverLimit says which limit of local storage a pod exceeds, as upstream words
// it; empty is none.
func OverLimit(p *corev1.Pod, l Local) string {
	sum := int64(0)
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		e := v.EmptyDir
		if e == nil {
			continue
		}
		used := l.EmptyDirs[v.Name]
		if e.Medium == corev1.StorageMediumDefault {
			sum += used
		}
		if e.SizeLimit != nil && !e.SizeLimit.IsZero() && used > e.SizeLimit.Value() {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, e.SizeLimit.String())
		}
	}
	for _, m := range pod.Members(p) {
		used := l.Containers[m.Name]
		sum += used
		if lim := m.Resources.Limits.StorageEphemeral(); !lim.IsZero() && used > lim.Value() {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", m.Name, lim.String())
		}
	}
	total := pod.Limits(p)
	if lim, ok := total[corev1.ResourceEphemeralStorage]; ok && sum > lim.Value() {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", resource.NewQuantity(lim.Value(), resource.BinarySI))
	}
	return ""
}
