package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

const (
	dataLink = "..data"
	nextLink = "..data_tmp"
)

// writeAtomic makes dir hold exactly the files of a payload. A reader sees
// either all old files or all new ones: they lie in a directory of their own,
// named by the time, to which the link ..data points; the names that users see
// are links through ..data. Nothing is touched when nothing has changed.
func writeAtomic(dir string, files Payload, p *corev1.Pod) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make volume directory: %w", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		return fmt.Errorf("cannot make volume directory: %w", err)
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read volume: %w", err)
	}
	if old != "" && same(filepath.Join(dir, old), files) && names(dir, files) {
		return nil
	}
	fresh, err := os.MkdirTemp(dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return fmt.Errorf("cannot write volume: %w", err)
	}
	if err := fill(fresh, files, p); err != nil {
		os.RemoveAll(fresh)
		return fmt.Errorf("cannot write volume: %w", err)
	}
	next := filepath.Join(dir, nextLink)
	os.Remove(next)
	if err := os.Symlink(filepath.Base(fresh), next); err != nil {
		return fmt.Errorf("cannot write volume: %w", err)
	}
	if err := os.Rename(next, filepath.Join(dir, dataLink)); err != nil {
		return fmt.Errorf("cannot write volume: %w", err)
	}
	if err := link(dir, files); err != nil {
		return fmt.Errorf("cannot write volume: %w", err)
	}
	if err := own(p, dir, false); err != nil {
		return err
	}
	// Earlier directories, also those that a crash left, are of no more use.
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot read volume: %w", err)
	}
	for _, e := range entries {
		if n := e.Name(); e.IsDir() && strings.HasPrefix(n, "..") && n != filepath.Base(fresh) {
			os.RemoveAll(filepath.Join(dir, n))
		}
	}
	return nil
}

// fill writes the files below a directory.
func fill(dir string, files Payload, p *corev1.Pod) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for name, f := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.Data, fs.FileMode(f.Mode)); err != nil {
			return err
		}
		if err := os.Chmod(path, fs.FileMode(f.Mode)); err != nil {
			return err
		}
		if f.UID != nil {
			if err := os.Lchown(path, int(*f.UID), -1); err != nil {
				return err
			}
		}
	}
	return own(p, dir, false)
}

// tops lists the first elements of the files' paths.
func tops(files Payload) map[string]bool {
	t := map[string]bool{}
	for name := range files {
		first, _, _ := strings.Cut(name, "/")
		t[first] = true
	}
	return t
}

// link makes the names that users see, and removes those that are gone.
func link(dir string, files Payload) error {
	want := tops(files)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n := e.Name(); !strings.HasPrefix(n, "..") && !want[n] {
			if err := os.Remove(filepath.Join(dir, n)); err != nil {
				return err
			}
		}
	}
	for n := range want {
		path := filepath.Join(dir, n)
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join(dataLink, n), path); err != nil {
			return err
		}
	}
	return nil
}

// names says whether the visible names are those of the payload.
func names(dir string, files Payload) bool {
	want := tops(files)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	n := 0
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		if !want[e.Name()] {
			return false
		}
		n++
	}
	return n == len(want)
}

// same says whether a directory holds exactly the files, contents and modes.
func same(dir string, files Payload) bool {
	n := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, ok := files[rel]
		if !ok {
			return fs.ErrNotExist
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(data, f.Data) {
			return fs.ErrInvalid
		}
		n++
		return nil
	})
	return err == nil && n == len(files)
}

// fsGroup is the group that owns a pod's volumes, or nil.
func fsGroup(p *corev1.Pod) *int64 {
	if p.Spec.SecurityContext == nil {
		return nil
	}
	return p.Spec.SecurityContext.FSGroup
}

// ownVolume gives a volume with data of its own to the pod's fsGroup. As such
// may be large, the pod can ask to leave it when its root is right already.
func ownVolume(p *corev1.Pod, root string) error {
	g := fsGroup(p)
	if g == nil {
		return nil
	}
	if c := p.Spec.SecurityContext.FSGroupChangePolicy; c != nil && *c == corev1.FSGroupChangeOnRootMismatch {
		var st unix.Stat_t
		if err := unix.Stat(root, &st); err != nil {
			return fmt.Errorf("cannot look at volume: %w", err)
		}
		const want = unix.S_ISGID | 0o660
		if st.Gid == uint32(*g) && st.Mode&want == want {
			return nil
		}
	}
	return own(p, root, true)
}

// own gives everything below a path to the pod's fsGroup: readable, and
// writable when the volume is; new files in it inherit the group.
func own(p *corev1.Pod, root string, writable bool) error {
	g := fsGroup(p)
	if g == nil {
		return nil
	}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := os.Lchown(path, -1, int(*g)); err != nil {
			return err
		}
		if e.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		var sys unix.Stat_t
		if err := unix.Lstat(path, &sys); err != nil {
			return err
		}
		mode := sys.Mode & 0o7777
		if writable {
			mode |= 0o660
		} else {
			mode |= 0o440
		}
		if st.IsDir() {
			mode |= unix.S_ISGID | 0o110
		}
		return unix.Chmod(path, mode)
	})
	if err != nil {
		return fmt.Errorf("cannot give volume to group %d: %w", *g, err)
	}
	return nil
}
