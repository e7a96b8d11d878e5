package image

import (
	"context"
	"io"
	"time"
)

func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	return nil, ErrUnreachable
}
func (s *Store) Import(ctx context.Context, r io.Reader, o ImportOptions) ([]*Image, error) {
	return nil, ErrCorrupt
}
func (s *Store) ImportPath(ctx context.Context, path string, o ImportOptions) ([]*Image, error) {
	return nil, ErrCorrupt
}
func (s *Store) Export(ctx context.Context, w io.Writer, refs ...string) error { return nil }
func (s *Store) Sweep(ctx context.Context) (int64, error)                      { return 0, nil }
func (s *Store) Collect(ctx context.Context, free int64, minAge time.Duration) (int64, error) {
	return 0, nil
}
func (s *Store) Usage() (Usage, error)                         { return Usage{}, nil }
func (s *Store) complete(ctx context.Context, id string) error { return nil }
func (s *Store) clearUnfinished() error                        { return nil }

type hostClients struct{}

func (h *hostClients) close() {}
