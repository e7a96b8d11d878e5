package kubelet

import (
	"context"
	"path/filepath"
)

// keepResources looks after memory, disk, images and logs until ctx ends.
func (a *Agent) keepResources(ctx context.Context) { <-ctx.Done() }

// rotated lists the older files that rotation made of a log.
func rotated(path string) []string {
	list, _ := filepath.Glob(path + ".*")
	return list
}
