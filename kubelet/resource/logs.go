package resource

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// stampFormat names rotated logs so that they sort by age.
const stampFormat = "20060102-150405"

// Rotated lists the older files of a log, oldest first.
func Rotated(path string) []string {
	all, _ := filepath.Glob(path + ".*")
	all = slices.DeleteFunc(all, func(f string) bool { return strings.HasSuffix(f, ".tmp") })
	slices.Sort(all)
	return all
}

// Rotate starts a new file for a log that is larger than LogMaxSize and keeps
// LogMaxFiles of them in all, the older ones compressed but for the newest.
// reopen makes the writer move on to the new file. It says whether it did
// anything.
func Rotate(path string, c Config, now time.Time, reopen func() error) (bool, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot rotate log: %w", err)
	}
	if st.Size() < c.LogMaxSize {
		return false, nil
	}
	old := Rotated(path)
	// The file in use and the one made now count too.
	for len(old) > 0 && len(old) > c.LogMaxFiles-2 {
		if err := os.Remove(old[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("cannot remove old log: %w", err)
		}
		old = old[1:]
	}
	for _, f := range old {
		if !strings.HasSuffix(f, ".gz") {
			if err := compress(f); err != nil {
				return false, err
			}
		}
	}
	moved := path + "." + now.UTC().Format(stampFormat)
	if err := os.Rename(path, moved); err != nil {
		return false, fmt.Errorf("cannot rotate log: %w", err)
	}
	if err := reopen(); err != nil {
		// The writer still has the old file: give it its name back.
		return false, errors.Join(fmt.Errorf("cannot rotate log: %w", err), os.Rename(moved, path))
	}
	return true, nil
}

// compress replaces a file by its gzip form.
func compress(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot compress log: %w", err)
	}
	defer in.Close()
	tmp := path + ".tmp"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return fmt.Errorf("cannot compress log: %w", err)
	}
	defer os.Remove(tmp)
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if err = errors.Join(err, z.Close(), out.Close()); err != nil {
		return fmt.Errorf("cannot compress log: %w", err)
	}
	if err := os.Rename(tmp, path+".gz"); err != nil {
		return fmt.Errorf("cannot compress log: %w", err)
	}
	return os.Remove(path)
}
