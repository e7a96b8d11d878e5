package plugins

import (
	"strings"

	"sagong/scheduler/state"
)

// ImageLocality prefers nodes that have the pod's images already.
type ImageLocality struct{}

const (
	imageThreshold    = 23 << 20   // bytes below which an image counts for nothing
	imageMaxThreshold = 1000 << 20 // bytes a container's image counts for at most
)

// Name implements Plugin.
func (ImageLocality) Name() string { return "ImageLocality" }

// Helps implements Plugin.
func (ImageLocality) Helps() Change { return 0 }

// Weight implements Static.
func (ImageLocality) Weight() int64 { return 1 }

// Score implements Static: bytes of the pod's images present on the node, as a
// share of what its containers may count for.
func (ImageLocality) Score(c *Class, n *state.Node) int64 {
	var sum int64
	containers := int64(len(c.Pod.Spec.Containers) + len(c.Pod.Spec.InitContainers))
	for _, x := range c.Pod.Spec.Containers {
		sum += imageSize(n, x.Image)
	}
	for _, x := range c.Pod.Spec.InitContainers {
		sum += imageSize(n, x.Image)
	}
	top := imageMaxThreshold * containers
	sum = min(max(sum, imageThreshold), top)
	if top <= imageThreshold {
		return 0
	}
	return MaxScore * (sum - imageThreshold) / (top - imageThreshold)
}

// Normalize implements Static: scores are 0..100 as they are.
func (ImageLocality) Normalize([]int64) {}

func imageSize(n *state.Node, image string) int64 {
	if !strings.Contains(image[strings.LastIndexByte(image, '/')+1:], ":") {
		image += ":latest"
	}
	for _, im := range n.Object.Status.Images {
		for _, name := range im.Names {
			if name == image {
				return im.SizeBytes
			}
		}
	}
	return 0
}
