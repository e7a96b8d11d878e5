package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// openMemory makes sure, once, that MemoryDir lies in memory.
func (m *Manager) openMemory() error {
	m.memory.Do(func() {
		dir := m.cfg.MemoryDir
		if err := os.MkdirAll(dir, 0o700); err != nil {
			m.memErr = fmt.Errorf("cannot make the directory for secrets: %w", err)
			return
		}
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			m.memErr = fmt.Errorf("cannot look at the directory for secrets: %w", err)
			return
		}
		if st.Type == unix.TMPFS_MAGIC {
			return
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0711"); err != nil {
			m.memErr = fmt.Errorf("cannot mount a memory file system for secrets: %w", err)
		}
	})
	if m.memErr == nil {
		// Processes of other users follow bind mounts, not this path.
		os.Chmod(m.cfg.MemoryDir, 0o711)
	}
	return m.memErr
}

// Purge removes what volumes of all pods left below the two directories of a
// Config, mounts included.
func Purge(cfg Config) error {
	err := errors.Join(removeTree(cfg.MemoryDir), removeTree(cfg.Dir))
	return err
}

// mountID names the mount that a path lies on.
func mountID(path string) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st); err != nil {
		return 0, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	return st.Mnt_id, nil
}

// isMountpoint says whether something is mounted on a path.
func isMountpoint(path string) (bool, error) {
	a, err := mountID(path)
	if err != nil {
		return false, err
	}
	b, err := mountID(filepath.Dir(path))
	if err != nil {
		return false, err
	}
	return a != b, nil
}

// removeTree unmounts everything at and below a path and removes it. It never
// crosses into a mount that it could not unmount: a bind mount may show a
// directory of the host.
func removeTree(root string) error {
	if root == "" {
		return nil
	}
	if _, err := os.Lstat(root); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	home, err := mountID(filepath.Dir(root))
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", root, err)
	}
	if err := remove(root, home); err != nil {
		return fmt.Errorf("cannot remove %s: %w", root, err)
	}
	return nil
}

func remove(path string, home uint64) error {
	for {
		id, err := mountID(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if id == home {
			break
		}
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := remove(filepath.Join(path, e.Name()), home); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
