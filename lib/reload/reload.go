// Package reload tells when files change. The kernel says so: nothing is read
// while nothing changes.
package reload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// File is one that is read again when it changes.
type File struct {
	Path string
	// Known is what was read of it already. It is not told of.
	Known []byte
	// Changed is told of each new content, or why it cannot be read. A file that
	// is missing for the moment is not told of.
	Changed func(ctx context.Context, data []byte, err error)
}

// Run follows files until ctx ends. A file may be written in place, replaced, or
// be a link in its directory that is replaced.
func Run(ctx context.Context, files []*File) error {
	if len(files) == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("cannot watch files: %w", err)
	}
	defer w.Close()
	for _, f := range files {
		if err := w.Add(filepath.Dir(f.Path)); err != nil {
			return fmt.Errorf("cannot watch %s: %w", f.Path, err)
		}
	}
	for {
		for _, f := range files {
			f.look(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.Errors: // such as too many events at once: look at all
		case e := <-w.Events:
			if e.Op == fsnotify.Chmod {
				continue
			}
		}
	}
}

func (f *File) look(ctx context.Context) {
	data, err := os.ReadFile(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		f.Changed(ctx, nil, err)
	case !bytes.Equal(data, f.Known):
		f.Known = data
		f.Changed(ctx, data, nil)
	}
}
