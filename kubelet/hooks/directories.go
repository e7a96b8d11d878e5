package hooks

import (
	"context"
	"fmt"
	"os"
)

// directoriesStep guarantees that the pod's own directory and its directory of
// logs exist. Its tear-down leaves the logs: they outlive the containers and go
// when the pod is forgotten (RemoveLogs).
type directoriesStep struct{ s *Steps }

func (directoriesStep) Name() string { return "directories" }

func (d directoriesStep) SetUp(ctx context.Context, p *Pod) error {
	if err := os.MkdirAll(d.s.Volumes.PodDir(p.UID), 0o750); err != nil {
		return fmt.Errorf("cannot make pod directory: %w", err)
	}
	if err := os.MkdirAll(d.s.PodLogDir(IdentOf(p.Pod)), 0o755); err != nil {
		return fmt.Errorf("cannot make log directory: %w", err)
	}
	return nil
}

func (directoriesStep) TearDown(context.Context, Ident) error { return nil }

// RemoveLogs removes the logs of a pod.
func (s *Steps) RemoveLogs(id Ident) error {
	if err := os.RemoveAll(s.PodLogDir(id)); err != nil {
		return fmt.Errorf("cannot remove logs: %w", err)
	}
	return nil
}
