package compose

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"sagong/config"
	"sagong/lib/disk"
	"sagong/lib/process"
)

// runDir is a run directory in use by this process: one server or agent at a
// time, whatever data directory it has.
type runDir struct {
	lock io.Closer
	dir  string
	pid  string
	made bool // the directory, by this process
}

// claimRunDir makes the directories of a process, takes the run directory for
// it alone and names the process there.
func claimRunDir(c config.Config) (*runDir, error) {
	made, err := makeDir(c.RunDir, 0o755)
	if err != nil {
		return nil, fmt.Errorf("cannot make the run directory: %w", err)
	}
	lock, err := disk.OS{}.Lock(filepath.Join(c.RunDir, "lock"))
	if errors.Is(err, disk.ErrLocked) {
		who := "another process"
		if id, running, err := process.Load(PIDFile(c)); err == nil && running {
			who = fmt.Sprintf("process %d", id.PID)
		}
		return nil, fmt.Errorf("cannot use run directory %s: %s runs a cluster there; give this one another --name", c.RunDir, who)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use run directory %s: %w", c.RunDir, err)
	}
	r := &runDir{lock: lock, dir: c.RunDir, pid: PIDFile(c), made: made}
	self, err := process.Self()
	if err == nil {
		err = self.Save(r.pid)
	}
	if err != nil {
		r.release()
		return nil, err
	}
	return r, nil
}

// makeDir makes a directory, and says whether it was not there.
func makeDir(path string, mode fs.FileMode) (made bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	if err := os.Mkdir(path, mode); !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	return false, os.MkdirAll(path, mode) // fails for what is no directory
}

// remove releases the directory, and leaves nothing of it if it was made for this
// process.
func (r *runDir) remove() {
	if r.made {
		_ = os.Remove(filepath.Join(r.dir, "lock"))
	}
	r.release()
	if r.made {
		_ = os.Remove(r.dir)
	}
}

// release lets others have the directory.
func (r *runDir) release() {
	_ = os.Remove(r.pid)
	_ = r.lock.Close()
}
