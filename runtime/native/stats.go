package native

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"sagong/runtime"
)

// Stats reads one container.
func (r *Runtime) Stats(_ context.Context, id string) (runtime.Stats, error) {
	c, err := r.running(id)
	if err != nil {
		return runtime.Stats{}, fmt.Errorf("cannot read statistics: %w", err)
	}
	return r.containerStats(c)
}

func (r *Runtime) containerStats(c *container) (runtime.Stats, error) {
	s, err := r.tree.Stats(cgroupOf(c.sandbox, c.spec.ID))
	if err != nil {
		return runtime.Stats{}, fmt.Errorf("cannot read statistics of container %s: %w", c.spec.ID, err)
	}
	return runtime.Stats{ID: c.spec.ID, Name: c.spec.Name, At: time.Now(), Stats: s}, nil
}

// PodStats reads a pod and its running containers.
func (r *Runtime) PodStats(_ context.Context, uid string) (runtime.PodStats, error) {
	s, err := r.sandbox(uid)
	if err != nil {
		return runtime.PodStats{}, fmt.Errorf("cannot read statistics: %w", err)
	}
	out := runtime.PodStats{UID: uid, At: time.Now()}
	if out.Pod, err = r.tree.Stats(s.spec.CgroupParent); err != nil {
		return out, fmt.Errorf("cannot read statistics of sandbox %s: %w", uid, err)
	}
	r.mu.RLock()
	var running []*container
	for _, c := range s.containers {
		if c.status.State == runtime.StateRunning {
			running = append(running, c)
		}
	}
	r.mu.RUnlock()
	for _, c := range running {
		cs, err := r.containerStats(c)
		if err != nil {
			continue // it has ended since
		}
		out.Containers = append(out.Containers, cs)
	}
	return out, nil
}

// DiskUsage counts the writable layer of a container.
func (r *Runtime) DiskUsage(ctx context.Context, id string) (runtime.DiskUsage, error) {
	c, err := r.container(id)
	if err != nil {
		return runtime.DiskUsage{}, fmt.Errorf("cannot count disk usage: %w", err)
	}
	u := runtime.DiskUsage{At: time.Now()}
	seen := map[uint64]bool{}
	err = filepath.WalkDir(filepath.Join(r.dirs.containerData(c.spec.SandboxUID, id), "upper"), func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if os.IsNotExist(err) {
				return nil // the container removes files meanwhile
			}
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if st.Nlink > 1 && !d.IsDir() {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		u.Bytes += uint64(st.Blocks) * 512
		u.Inodes++
		return nil
	})
	if err != nil {
		return u, fmt.Errorf("cannot count disk usage of container %s: %w", id, err)
	}
	return u, nil
}
