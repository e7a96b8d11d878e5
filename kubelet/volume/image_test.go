package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// album is a store of one image.
type album struct {
	layers []string
	pinned map[string]bool
}

func (a *album) ImageLayers(_ context.Context, _ *corev1.Pod, _, _ string, _ corev1.PullPolicy, owner string) ([]string, error) {
	a.pinned[owner] = true
	return a.layers, nil
}

func (a *album) Release(owner string) error {
	delete(a.pinned, owner)
	return nil
}

func TestImageVolume(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	top, base := t.TempDir(), t.TempDir()
	os.WriteFile(filepath.Join(top, "both"), []byte("top"), 0o644)
	os.WriteFile(filepath.Join(base, "both"), []byte("base"), 0o644)
	os.WriteFile(filepath.Join(base, "below"), []byte("base"), 0o644)
	for name, x := range map[string]struct {
		layers []string
		want   string
	}{
		"nothing":    {nil, ""},
		"one layer":  {[]string{base}, "below=base both=base "},
		"two layers": {[]string{top, base}, "below=base both=top "},
	} {
		m, _ := newManager(t)
		a := &album{x.layers, map[string]bool{}}
		m.Images = a
		p := podWith(corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "i"}})
		for range 2 {
			paths, err := m.Mount(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			entries, _ := os.ReadDir(paths["v0"])
			for _, e := range entries {
				b, _ := os.ReadFile(filepath.Join(paths["v0"], e.Name()))
				got += e.Name() + "=" + string(b) + " "
			}
			if got != x.want {
				t.Errorf("%s: %q, want %q", name, got, x.want)
			}
			if err := os.WriteFile(filepath.Join(paths["v0"], "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
				t.Errorf("%s: written to: %v", name, err)
			}
			var st unix.Statfs_t
			if err := unix.Statfs(paths["v0"], &st); err != nil || st.Flags&unix.ST_NOEXEC == 0 {
				t.Errorf("%s: programs run: %v", name, err)
			}
		}
		if uid, ok := ImageOwnerPod(ImageOwner(p.UID, "v0")); !ok || uid != p.UID || !a.pinned[ImageOwner(p.UID, "v0")] {
			t.Errorf("%s: pinned by %v", name, a.pinned)
		}
		if err := m.Unmount(t.Context(), p.UID); err != nil || len(a.pinned) > 0 {
			t.Errorf("%s: %v, still pinned by %v", name, err, a.pinned)
		}
	}
	if b, err := os.ReadFile(filepath.Join(base, "below")); err != nil || string(b) != "base" {
		t.Error("a tear-down reached into the image")
	}
}
