package plugins

import (
	"strings"

	"sagong/scheduler/state"
)

// ImageLocality prefers nodes that have the pod's images already. An image that
// few nodes have counts for less, so that its pods do not all go there.
type ImageLocality struct{}

const (
	imageThreshold    = 23 << 20   // bytes below which images count for nothing
	imageMaxThreshold = 1000 << 20 // bytes that one image counts for at most
)

// Name implements Plugin.
func (ImageLocality) Name() string { return "ImageLocality" }

// Helps implements Plugin.
func (ImageLocality) Helps() Change { return 0 }

// Scorer implements Absolute: bytes of the pod's images present, each scaled by
// the part of the nodes that have it, as a share of what they may count for.
func (ImageLocality) Scorer(c *Class, s *state.State) func(*state.Node) int64 {
	var images []string
	for i := range c.Pod.Spec.InitContainers {
		images = append(images, tagged(c.Pod.Spec.InitContainers[i].Image))
	}
	for i := range c.Pod.Spec.Containers {
		images = append(images, tagged(c.Pod.Spec.Containers[i].Image))
	}
	for i := range c.Pod.Spec.Volumes {
		if v := c.Pod.Spec.Volumes[i].Image; v != nil {
			images = append(images, tagged(v.Reference))
		}
	}
	top := int64(imageMaxThreshold * len(images))
	if top == 0 {
		return nil
	}
	return func(n *state.Node) int64 {
		var sum int64
		for _, name := range images {
			if size := n.Image(name); size > 0 {
				sum += int64(float64(size) * (float64(s.ImageNodes(name)) / float64(len(s.Nodes()))))
			}
		}
		sum = min(max(sum, imageThreshold), top)
		return MaxScore * (sum - imageThreshold) / (top - imageThreshold)
	}
}

// tagged is an image's name as nodes report it.
func tagged(image string) string {
	if strings.LastIndexByte(image, ':') <= strings.LastIndexByte(image, '/') {
		return image + ":latest"
	}
	return image
}
