package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type fakeObjects struct {
	maps    map[string]*corev1.ConfigMap
	secrets map[string]*corev1.Secret
	now     time.Time
	issued  int
	refuse  bool
}

func (f *fakeObjects) ConfigMap(ctx context.Context, ns, name string) (*corev1.ConfigMap, error) {
	if m := f.maps[name]; m != nil {
		return m, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("configmaps"), name)
}

func (f *fakeObjects) Secret(ctx context.Context, ns, name string) (*corev1.Secret, error) {
	if m := f.secrets[name]; m != nil {
		return m, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
}

func (f *fakeObjects) Token(ctx context.Context, ns, account string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	if f.refuse {
		return nil, errors.New("no token today")
	}
	f.issued++
	r.Status = authenticationv1.TokenRequestStatus{Token: fmt.Sprintf("%s-%s-%d", account, strings.Join(r.Spec.Audiences, ","), f.issued),
		ExpirationTimestamp: metav1.NewTime(f.now.Add(time.Duration(*r.Spec.ExpirationSeconds) * time.Second))}
	return r, nil
}

func newManager(t *testing.T) (*Manager, *fakeObjects) {
	f := &fakeObjects{maps: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{}, now: time.Unix(1e9, 0)}
	dir := t.TempDir()
	m := NewManager(Config{Dir: filepath.Join(dir, "pods"), MemoryDir: filepath.Join(dir, "memory"), Now: func() time.Time { return f.now }}, f, f)
	if os.Geteuid() == 0 {
		t.Cleanup(func() {
			if err := Purge(m.cfg); err != nil {
				t.Error(err)
			}
		})
	}
	return m, f
}

func podWith(v ...corev1.VolumeSource) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Labels: map[string]string{"b": "2", "a": "1"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	for i, s := range v {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: fmt.Sprintf("v%d", i), VolumeSource: s})
	}
	return p
}

// show lists the visible files of a volume with modes and contents.
func show(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	root, err := filepath.EvalSymlinks(filepath.Join(dir, "..data"))
	if err != nil {
		t.Fatal(err)
	}
	filepath.Walk(root, func(path string, st os.FileInfo, err error) error {
		if err == nil && !st.IsDir() {
			rel, _ := filepath.Rel(root, path)
			data, err := os.ReadFile(filepath.Join(dir, rel)) // by the name that users see
			if err != nil {
				t.Error(err)
			}
			out = append(out, fmt.Sprintf("%s %o %s", rel, st.Mode().Perm(), data))
		}
		return nil
	})
	sort.Strings(out)
	return strings.Join(out, "; ")
}

func TestConfigMapVolume(t *testing.T) {
	m, f := newManager(t)
	f.maps["cm"] = &corev1.ConfigMap{Data: map[string]string{"k": "v", "l": "w"}, BinaryData: map[string][]byte{"b": {'x'}}}
	mode, yes := int32(0o400), true
	ref := corev1.LocalObjectReference{Name: "cm"}
	for _, x := range []struct {
		s    corev1.ConfigMapVolumeSource
		want string
	}{
		{corev1.ConfigMapVolumeSource{LocalObjectReference: ref}, "b 644 x; k 644 v; l 644 w"},
		{corev1.ConfigMapVolumeSource{LocalObjectReference: ref, DefaultMode: &mode, Items: []corev1.KeyToPath{{Key: "k", Path: "dir/file"}}}, "dir/file 400 v"},
		{corev1.ConfigMapVolumeSource{LocalObjectReference: ref, Items: []corev1.KeyToPath{{Key: "k", Path: "f", Mode: &mode}, {Key: "none", Path: "g"}}, Optional: &yes}, "f 400 v"},
		{corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: &yes}, ""},
	} {
		paths, err := m.Mount(t.Context(), podWith(corev1.VolumeSource{ConfigMap: &x.s}))
		if err != nil {
			t.Fatal(err)
		}
		if got := show(t, paths["v0"]); got != x.want {
			t.Errorf("%q, want %q", got, x.want)
		}
	}
	for _, x := range []struct {
		s    corev1.ConfigMapVolumeSource
		want string
	}{
		{corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}}, `MountVolume.SetUp failed for volume "v0" : configmaps "none" not found`},
		{corev1.ConfigMapVolumeSource{LocalObjectReference: ref, Items: []corev1.KeyToPath{{Key: "none", Path: "f"}}}, `MountVolume.SetUp failed for volume "v0" : references non-existent config key: none`},
		{corev1.ConfigMapVolumeSource{LocalObjectReference: ref, Items: []corev1.KeyToPath{{Key: "k", Path: "../f"}}}, `MountVolume.SetUp failed for volume "v0" : invalid path "../f" in a volume`},
		{corev1.ConfigMapVolumeSource{LocalObjectReference: ref, Items: []corev1.KeyToPath{{Key: "k", Path: "..data/f"}}}, `MountVolume.SetUp failed for volume "v0" : invalid path "..data/f" in a volume`},
	} {
		if _, err := m.Mount(t.Context(), podWith(corev1.VolumeSource{ConfigMap: &x.s})); err == nil || err.Error() != x.want {
			t.Errorf("%v, want %s", err, x.want)
		}
	}
}

// A change is seen whole, through names that stay, and old files go.
func TestLiveUpdate(t *testing.T) {
	m, f := newManager(t)
	f.maps["cm"] = &corev1.ConfigMap{Data: map[string]string{"k": "1", "old": "x"}}
	p := podWith(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}})
	paths, err := m.Mount(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := os.Readlink(filepath.Join(paths["v0"], "..data"))
	if _, err := m.Refresh(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.Readlink(filepath.Join(paths["v0"], "..data")); again != first {
		t.Error("an unchanged volume was written again")
	}
	f.maps["cm"] = &corev1.ConfigMap{Data: map[string]string{"k": "2", "new": "y"}}
	if _, err := m.Refresh(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if got := show(t, paths["v0"]); got != "k 644 2; new 644 y" {
		t.Errorf("after the change: %q", got)
	}
	entries, _ := os.ReadDir(paths["v0"])
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..2") {
			names = append(names, e.Name())
		}
	}
	if got := strings.Join(names, " "); got != "..data k new" || len(entries) != 4 {
		t.Errorf("directory holds %v", entries)
	}
}

// A crash at any step of a write leaves a volume that the next write repairs.
func TestWriteAfterCrash(t *testing.T) {
	for _, leave := range []func(dir string){
		func(dir string) { os.Mkdir(filepath.Join(dir, "..2020_junk"), 0o755) },
		func(dir string) { os.Symlink("..nowhere", filepath.Join(dir, "..data_tmp")) },
		func(dir string) { os.Remove(filepath.Join(dir, "k")) },
		func(dir string) {
			old, _ := os.Readlink(filepath.Join(dir, "..data"))
			os.RemoveAll(filepath.Join(dir, old))
		},
	} {
		dir := filepath.Join(t.TempDir(), "v")
		if err := writeAtomic(dir, Payload{"k": {Data: []byte("1"), Mode: 0o644}}, podWith()); err != nil {
			t.Fatal(err)
		}
		leave(dir)
		if err := writeAtomic(dir, Payload{"k": {Data: []byte("2"), Mode: 0o644}}, podWith()); err != nil {
			t.Fatal(err)
		}
		if got := show(t, dir); got != "k 644 2" {
			t.Errorf("got %q", got)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 3 {
			t.Errorf("left: %v", entries)
		}
	}
}

func TestProjectedAndTokens(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a memory file system")
	}
	m, f := newManager(t)
	f.secrets["s"] = &corev1.Secret{Data: map[string][]byte{"pw": []byte("x")}}
	seconds := int64(1000)
	p := podWith(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}},
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: "aud", ExpirationSeconds: &seconds}},
	}}})
	paths, err := m.Mount(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if got := show(t, paths["v0"]); got != "labels 644 a=\"1\"\nb=\"2\"; pw 644 x; token 644 default-aud-1" {
		t.Errorf("got %q", got)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(paths["v0"], &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Errorf("secrets lie on a disk: %v", err)
	}
	if next := m.NextRefresh("u"); !next.Equal(f.now.Add(800 * time.Second)) {
		t.Errorf("renewal is at %v", next)
	}
	f.now = f.now.Add(799 * time.Second)
	m.Refresh(t.Context(), p)
	if f.issued != 1 {
		t.Error("renewed too early")
	}
	f.now = f.now.Add(time.Second)
	f.refuse = true
	if _, err := m.Refresh(t.Context(), p); err != nil {
		t.Errorf("a token that is still valid must do: %v", err)
	}
	f.refuse = false
	f.now = f.now.Add(retryToken)
	if _, err := m.Refresh(t.Context(), p); err != nil || !strings.Contains(show(t, paths["v0"]), "default-aud-2") {
		t.Errorf("not renewed: %v", err)
	}
	if err := m.Unmount(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	if left, _ := m.Pods(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestFSGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	m, f := newManager(t)
	f.maps["cm"] = &corev1.ConfigMap{Data: map[string]string{"k": "1"}}
	group, mode := int64(4321), int32(0o400)
	p := podWith(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, DefaultMode: &mode}})
	p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
	paths, err := m.Mount(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{paths["v0"]: "4321 2777", filepath.Join(paths["v1"], "k"): "4321 440"} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d %o", st.Gid, st.Mode&0o7777); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

func TestHostPathTypes(t *testing.T) {
	m, _ := newManager(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o644)
	for _, x := range []struct {
		path string
		typ  corev1.HostPathType
		ok   bool
	}{
		{dir, "Directory", true}, {file, "Directory", false}, {file, "File", true}, {dir, "File", false},
		{filepath.Join(dir, "a/b"), "DirectoryOrCreate", true}, {filepath.Join(dir, "new"), "FileOrCreate", true}, {filepath.Join(dir, "none"), "File", false},
		{"/dev/null", "CharDevice", true}, {file, "CharDevice", false}, {file, "Socket", false}, {file, "BlockDevice", false}, {file, "", true}, {"rel", "", false}, {dir, "Odd", false},
	} {
		_, err := m.Mount(t.Context(), podWith(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: x.path, Type: &x.typ}}))
		if (err == nil) != x.ok {
			t.Errorf("%s as %q: %v", x.path, x.typ, err)
		}
	}
}

func TestUnsupportedTypesAreRefused(t *testing.T) {
	m, _ := newManager(t)
	for _, s := range []corev1.VolumeSource{
		{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}, {CSI: &corev1.CSIVolumeSource{}},
		{Image: &corev1.ImageVolumeSource{}}, {Ephemeral: &corev1.EphemeralVolumeSource{}},
	} {
		if _, err := m.Mount(t.Context(), podWith(s)); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// No subPath leads out of its volume, whatever links lie in it.
func TestSubPathStaysInside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	m, _ := newManager(t)
	outside := t.TempDir()
	os.WriteFile(filepath.Join(outside, "secret"), []byte("no"), 0o644)
	p := podWith(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	paths, err := m.Mount(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	vol := paths["v0"]
	os.Symlink(outside, filepath.Join(vol, "abs"))
	os.Symlink("../../../../../../../../..", filepath.Join(vol, "up"))
	os.Symlink("real", filepath.Join(vol, "inside"))
	os.Mkdir(filepath.Join(vol, "real"), 0o755)
	os.WriteFile(filepath.Join(vol, "real/f"), []byte("yes"), 0o644)
	for i, sub := range []string{"abs", "abs/secret", "up", "up/etc", "../x", "/etc", "real/../../x", "abs/new", "up/tmp/new"} {
		if path, err := m.SubPath(p, "v0", vol, "c", i, sub); err == nil {
			t.Errorf("subPath %q was allowed: %s", sub, path)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 1 {
		t.Errorf("something was made outside: %v", entries)
	}
	for i, sub := range []string{"inside/f", "real/f"} {
		path, err := m.SubPath(p, "v0", vol, "c", 20+i, sub)
		if err != nil {
			t.Fatal(err)
		}
		if data, _ := os.ReadFile(path); string(data) != "yes" {
			t.Errorf("%s shows %q", sub, data)
		}
	}
	path, err := m.SubPath(p, "v0", vol, "c", 30, "made/deep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(filepath.Join(vol, "made/deep/f")); string(data) != "x" {
		t.Error("a subPath that was made does not show the volume")
	}
	// A restart pins anew; a tear-down leaves the host's files alone.
	hp := podWith(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: outside}})
	for range 2 {
		if _, err := m.SubPath(hp, "v0", outside, "c", 40, "secret"); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Unmount(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(filepath.Join(outside, "secret")); string(data) != "no" {
		t.Error("the tear-down removed a file of the host")
	}
}

func FuzzCleanPath(f *testing.F) {
	for _, s := range []string{"a", "a/b", "..", "../a", "/a", "a/../..", "..data", ".", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := cleanPath(s); err == nil && (!filepath.IsLocal(p) || strings.HasPrefix(p, "..")) {
			t.Errorf("%q became %q", s, p)
		}
	})
}
