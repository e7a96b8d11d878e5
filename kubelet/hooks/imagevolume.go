package hooks

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
)

// ImageLayers implements volume.Images: the image of a volume is pulled as that
// of a container is.
func (s *Steps) ImageLayers(ctx context.Context, p *corev1.Pod, volume, ref string, policy corev1.PullPolicy, owner string) ([]string, error) {
	r := &Run{Pod: &Pod{Pod: p}, ID: owner, Member: pod.Member{Container: &corev1.Container{Name: volume, Image: ref, ImagePullPolicy: policy}}}
	if err := (imageStep{s}).Do(ctx, r); err != nil {
		return nil, err
	}
	return r.Image.LowerDirs(), nil
}

// Release implements volume.Images.
func (s *Steps) Release(owner string) error { return s.Images.Release(owner) }
