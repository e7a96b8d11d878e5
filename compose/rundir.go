package compose

import (
	"errors"
	"fmt"
	"io"
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
	pid  string
}

// claimRunDir makes the directories of a process, takes the run directory for
// it alone and names the process there.
func claimRunDir(c config.Config) (*runDir, error) {
	if err := os.MkdirAll(c.RunDir, 0o755); err != nil {
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
	r := &runDir{lock: lock, pid: PIDFile(c)}
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

// release lets others have the directory.
func (r *runDir) release() {
	_ = os.Remove(r.pid)
	_ = r.lock.Close()
}
