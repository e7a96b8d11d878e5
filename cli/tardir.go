package cli

import (
	"archive/tar"
	"io"
	"os"
)

// tarDirectory streams a directory as a tar archive.
func tarDirectory(dir string) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := t.AddFS(os.DirFS(dir))
		if cerr := t.Close(); err == nil {
			err = cerr
		}
		w.CloseWithError(err)
	}()
	return r
}
