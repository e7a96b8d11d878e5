package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// SubPath pins a path inside a volume for one mount of one container, and
// returns a host path that shows it. The path is resolved below the volume by
// the kernel, so no link, not even one that a container swaps in meanwhile,
// can lead out of it; a directory is made when nothing is there.
func (m *Manager) SubPath(p *corev1.Pod, volumeName, volumePath, container string, index int, sub string) (string, error) {
	if filepath.IsAbs(sub) || !filepath.IsLocal(sub) {
		return "", fmt.Errorf("subPath %q must stay inside the volume", sub)
	}
	root, err := unix.Open(volumePath, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("cannot open volume %q: %w", volumeName, err)
	}
	defer unix.Close(root)
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return "", fmt.Errorf("cannot open volume %q: %w", volumeName, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", fmt.Errorf("cannot use subPath %q: volume %q is not a directory", sub, volumeName)
	}
	fd, err := openBelow(root, sub)
	if errors.Is(err, fs.ErrNotExist) {
		// The new directory gets the volume's own permissions, as upstream does.
		if err := makeBelow(root, sub, st.Mode&0o7777); err != nil {
			return "", fmt.Errorf("cannot make subPath %q: %w", sub, err)
		}
		fd, err = openBelow(root, sub)
	}
	if err != nil {
		return "", fmt.Errorf("cannot open subPath %q inside volume %q: %w", sub, volumeName, err)
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return "", fmt.Errorf("cannot open subPath %q: %w", sub, err)
	}
	target := filepath.Join(m.PodDir(p.UID), "volume-subpaths", volumeName, container, strconv.Itoa(index))
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return "", fmt.Errorf("cannot pin subPath: %w", err)
	}
	if _, err := os.Lstat(target); err == nil {
		// A restarted container gets what the path means now.
		if err := removeTree(target); err != nil {
			return "", err
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(target, 0o750)
	} else {
		err = os.WriteFile(target, nil, 0o640)
	}
	if err != nil {
		return "", fmt.Errorf("cannot pin subPath: %w", err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", fmt.Errorf("cannot pin subPath %q: %w", sub, err)
	}
	return target, nil
}

// openBelow opens a path so that it cannot leave the directory at root.
func openBelow(root int, sub string) (int, error) {
	for {
		fd, err := unix.Openat2(root, sub, &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err == unix.EAGAIN || err == unix.EINTR {
			continue // a rename raced with the look-up
		}
		return fd, err
	}
}

// makeBelow makes the missing directories of a path without leaving root.
func makeBelow(root int, sub string, mode uint32) error {
	made := ""
	for _, part := range splitPath(sub) {
		parent := made
		if parent == "" {
			parent = "."
		}
		made = filepath.Join(made, part)
		fd, err := openBelow(root, made)
		if err == nil {
			unix.Close(fd)
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		dir, err := openBelow(root, parent)
		if err != nil {
			return err
		}
		err = unix.Mkdirat(dir, part, 0o750)
		if err == nil {
			err = unix.Fchmodat(dir, part, mode, 0)
		}
		unix.Close(dir)
		if err != nil && err != unix.EEXIST {
			return err
		}
	}
	return nil
}

func splitPath(p string) []string {
	var parts []string
	for p = filepath.Clean(p); p != "." && p != "/"; {
		dir, base := filepath.Split(p)
		parts = append([]string{base}, parts...)
		p = filepath.Clean(dir)
	}
	return parts
}
