package image

import (
	"context"
	"io"
)

func (s *Store) Import(ctx context.Context, r io.Reader, o ImportOptions) ([]*Image, error) {
	return nil, ErrCorrupt
}
func (s *Store) ImportPath(ctx context.Context, path string, o ImportOptions) ([]*Image, error) {
	return nil, ErrCorrupt
}
func (s *Store) Export(ctx context.Context, w io.Writer, refs ...string) error { return nil }
