package hooks

import "context"

// volumesStep guarantees that every volume of the pod is mounted and that
// Pod.Paths says where. Its tear-down removes the pod's directory.
type volumesStep struct{ s *Steps }

func (volumesStep) Name() string { return "volumes" }

func (v volumesStep) SetUp(ctx context.Context, p *Pod) error {
	paths, err := v.s.Volumes.Mount(ctx, p.Pod)
	p.Paths = paths
	return err
}

func (v volumesStep) TearDown(ctx context.Context, id Ident) error {
	return v.s.Volumes.Unmount(ctx, id.UID)
}
