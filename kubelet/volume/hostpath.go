package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// hostPath is a path of the node, used as it is and never removed. With a type
// it must be of that type; the two OrCreate types make what is missing.
type hostPath struct{}

func (hostPath) Handles(v *corev1.Volume) bool { return v.HostPath != nil }

func (hostPath) Live() bool { return false }

func (hostPath) Mount(_ context.Context, r *Request) (string, error) {
	return hostPathAt(r.Volume.HostPath)
}

func hostPathAt(s *corev1.HostPathVolumeSource) (string, error) {
	path := s.Path
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("hostPath %q is not absolute", path)
	}
	want := corev1.HostPathUnset
	if s.Type != nil {
		want = *s.Type
	}
	switch want {
	case corev1.HostPathUnset:
		// The runtime makes a missing directory, as container runtimes do.
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return "", fmt.Errorf("cannot make hostPath: %w", err)
			}
		}
		return path, nil
	case corev1.HostPathDirectoryOrCreate:
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return "", fmt.Errorf("cannot make hostPath: %w", err)
			}
		}
		return path, check(path, "directory", fs.FileMode.IsDir)
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			if st, serr := os.Stat(path); serr == nil && st.IsDir() {
				return "", fmt.Errorf("hostPath type check failed: %s is not a file", path)
			}
			return "", fmt.Errorf("cannot make hostPath: %w", err)
		}
		f.Close()
		return path, check(path, "file", fs.FileMode.IsRegular)
	case corev1.HostPathDirectory:
		return path, check(path, "directory", fs.FileMode.IsDir)
	case corev1.HostPathFile:
		return path, check(path, "file", fs.FileMode.IsRegular)
	case corev1.HostPathSocket:
		return path, check(path, "socket file", func(m fs.FileMode) bool { return m.Type() == fs.ModeSocket })
	case corev1.HostPathCharDev:
		return path, check(path, "character device", func(m fs.FileMode) bool { return m&fs.ModeCharDevice != 0 })
	case corev1.HostPathBlockDev:
		return path, check(path, "block device", func(m fs.FileMode) bool { return m.Type() == fs.ModeDevice })
	}
	return "", fmt.Errorf("%s is an invalid volume type", want)
}

func check(path, what string, is func(fs.FileMode) bool) error {
	st, err := os.Stat(path)
	if err != nil || !is(st.Mode()) {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", path, what)
	}
	return nil
}
