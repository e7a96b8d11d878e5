package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/kinds/storage"
)

// shelf is a Storage of one claim and one volume.
type shelf struct {
	claim   *corev1.PersistentVolumeClaim
	volume  *corev1.PersistentVolume
	resized int
	no      error
}

func (s *shelf) Claim(context.Context, string, string) (*corev1.PersistentVolumeClaim, error) {
	if s.claim == nil {
		return nil, errors.New("not found")
	}
	return s.claim, nil
}

func (s *shelf) Volume(context.Context, string) (*corev1.PersistentVolume, error) {
	if s.volume == nil {
		return nil, errors.New("not found")
	}
	return s.volume, nil
}

func (s *shelf) Fits(*corev1.PersistentVolume) error { return s.no }

func (s *shelf) Resized(context.Context, *corev1.Pod, *corev1.PersistentVolumeClaim, *corev1.PersistentVolume) error {
	s.resized++
	return nil
}

// bound is a claim and its volume of a source.
func bound(source corev1.PersistentVolumeSource) *shelf {
	s := &shelf{claim: &corev1.PersistentVolumeClaim{}, volume: &corev1.PersistentVolume{}}
	s.claim.Namespace, s.claim.Name, s.claim.UID = "ns", "c", "u"
	s.claim.Spec.VolumeName, s.claim.Status.Phase = "pv", corev1.ClaimBound
	s.claim.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("16Mi")}
	s.volume.Name = "pv"
	s.volume.Spec.PersistentVolumeSource = source
	s.volume.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: "c", UID: "u"}
	s.volume.Spec.Capacity = s.claim.Status.Capacity
	return s
}

func claimManager(t *testing.T, s *shelf) *Manager {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{Dir: filepath.Join(dir, "pods"), MemoryDir: filepath.Join(dir, "memory"), DiskDir: filepath.Join(dir, "volumes"), Storage: s}
	m := NewManager(cfg, nil, nil)
	t.Cleanup(func() { Purge(cfg) })
	return m
}

func claimPod(uid string) *corev1.Pod {
	p := podWith(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}})
	p.Namespace = "ns"
	if uid != "" {
		p.UID = types.UID(uid)
	}
	return p
}

func TestClaimsOfDirectories(t *testing.T) {
	dir := t.TempDir()
	for name, source := range map[string]corev1.PersistentVolumeSource{
		"hostPath": {HostPath: &corev1.HostPathVolumeSource{Path: dir}},
		"local":    {Local: &corev1.LocalVolumeSource{Path: dir}},
	} {
		m := claimManager(t, bound(source))
		paths, err := m.Mount(t.Context(), claimPod(""))
		if err != nil || paths["v0"] != dir {
			t.Errorf("%s: %v, %v", name, paths, err)
		}
		if err := m.Unmount(t.Context(), claimPod("").UID); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("%s: the directory went with the pod: %v", name, err)
		}
	}
}

func TestClaimsThatCannotBeMounted(t *testing.T) {
	host := corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/tmp"}}
	block, now := corev1.PersistentVolumeBlock, metav1.Now()
	for want, f := range map[string]func(*shelf){
		"error processing PVC ns/c: failed to fetch PVC from API server: not found":                                                   func(s *shelf) { s.claim = nil },
		"error processing PVC ns/c: PVC is not bound":                                                                                 func(s *shelf) { s.claim.Status.Phase = corev1.ClaimPending },
		"error processing PVC ns/c: can't start pod because PVC is being deleted":                                                     func(s *shelf) { s.claim.DeletionTimestamp = &now },
		`error processing PVC ns/c: failed to fetch PV "pv" from API server: not found`:                                               func(s *shelf) { s.volume = nil },
		"error processing PVC ns/c: found PV object pv but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim": func(s *shelf) { s.volume.Spec.ClaimRef = nil },
		"error processing PVC ns/c: found PV object pv but its pv.Spec.ClaimRef.UID other does not point to claim.UID u":              func(s *shelf) { s.volume.Spec.ClaimRef.UID = "other" },
		"volume pv has volumeMode Block: block volumes are not supported by this node":                                                func(s *shelf) { s.volume.Spec.VolumeMode = &block },
		`MountVolume.NodeAffinity check failed for volume "pv" : no matching NodeSelectorTerms`:                                       func(s *shelf) { s.no = errors.New("no matching NodeSelectorTerms") },
		`path "/nowhere/at/all" does not exist`: func(s *shelf) {
			s.volume.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/nowhere/at/all"}}
		},
		"driver name x.y not found in the list of registered CSI drivers": func(s *shelf) {
			s.volume.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "x.y", VolumeHandle: "h"}}
		},
		"volume type is not supported by this node: the source of persistent volume pv": func(s *shelf) {
			s.volume.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{RBD: &corev1.RBDPersistentVolumeSource{}}
		},
		`invalid volume handle "../x"`: func(s *shelf) {
			s.volume.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: storage.LocalDriver, VolumeHandle: "../x"}}
		},
	} {
		s := bound(host)
		f(s)
		_, err := claimManager(t, s).Mount(t.Context(), claimPod(""))
		if got := fmt.Sprint(err); got != `MountVolume.SetUp failed for volume "v0" : `+want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestClaimForOnePod(t *testing.T) {
	s := bound(corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: t.TempDir()}})
	s.volume.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	m := claimManager(t, s)
	for range 2 {
		if _, err := m.Mount(t.Context(), claimPod("first")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Mount(t.Context(), claimPod("second")); err == nil || !strings.Contains(err.Error(), "volume uses the ReadWriteOncePod access mode and is already in use by another pod") {
		t.Errorf("a second pod: %v", err)
	}
	if err := m.Unmount(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Mount(t.Context(), claimPod("second")); err != nil {
		t.Errorf("after the first is gone: %v", err)
	}
}

// A volume of the built-in driver is made on the first mount, keeps its data
// from pod to pod, shares it between pods, grows between mounts, and goes.
func TestLocalDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip(err)
	}
	s := bound(corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: storage.LocalDriver, VolumeHandle: "pvc-1"}})
	s.volume.Spec.MountOptions = []string{"noatime", "nodev"}
	m := claimManager(t, s)
	group := int64(4321)
	mount := func(uid string) string {
		t.Helper()
		p := claimPod(uid)
		p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
		paths, err := m.Mount(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		return paths["v0"]
	}
	dir := mount("a")
	os.WriteFile(filepath.Join(dir, "f"), []byte("kept"), 0o600)
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Gid != 4321 {
		t.Errorf("group %d, %v", st.Gid, err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Flags&unix.ST_NOATIME == 0 || int64(fs.Blocks)*fs.Bsize > 24<<20 {
		t.Errorf("file system %+v, %v", fs, err)
	}
	kept := func(dir string) {
		t.Helper()
		if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != "kept" {
			t.Errorf("%q, %v", b, err)
		}
	}
	kept(mount("b"))
	if err := m.Unmount(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	kept(mount("b"))
	s.volume.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("160Mi")}
	if err := m.Unmount(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	dir = mount("c")
	kept(dir)
	if err := unix.Statfs(dir, &fs); err != nil || int64(fs.Blocks)*fs.Bsize < 160<<20 || s.resized != 1 {
		t.Errorf("after growth: %+v, %v, said %d times", fs, err, s.resized)
	}
	if err := m.Unmount(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	if err := m.Disk.Remove(t.Context(), "pvc-1"); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(m.cfg.DiskDir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestMountOptions(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "0 ",
		"ro,noexec":               fmt.Sprint(unix.MS_RDONLY|unix.MS_NOEXEC, " "),
		"ro,rw":                   "0 ",
		"nfsvers=4.1,hard,nosuid": fmt.Sprint(unix.MS_NOSUID, " nfsvers=4.1,hard"),
		"bad option":              "error",
	} {
		flags, data, err := mountOptions([]string{in})
		got := fmt.Sprint(flags, " ", data)
		if err != nil {
			got = "error"
		}
		if in == "" {
			flags, data, err = mountOptions(nil)
			got = fmt.Sprint(flags, " ", data)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// The kernel is asked for the newest version that the server has.
func TestNFS(t *testing.T) {
	s := &shelf{}
	m := claimManager(t, s)
	var asked []string
	fail := map[string]error{"4.2": unix.EPROTONOSUPPORT}
	m.mountCall = func(source, _, fstype string, flags uintptr, data string) error {
		asked = append(asked, fmt.Sprint(source, " ", fstype, " ", flags, " ", data))
		for v, err := range fail {
			if strings.Contains(data, "vers="+v) {
				return err
			}
		}
		return nil
	}
	p := podWith(corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "127.0.0.1", Path: "/srv", ReadOnly: true}})
	if _, err := m.Mount(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(asked, "; "); got != "127.0.0.1:/srv nfs4 1 vers=4.2,addr=127.0.0.1; 127.0.0.1:/srv nfs4 1 vers=4.1,addr=127.0.0.1" {
		t.Errorf("asked %s", got)
	}
	fail["4.2"] = unix.ENODEV
	if _, err := m.Mount(t.Context(), p); err == nil || !strings.Contains(err.Error(), "the kernel of this node has no NFS") {
		t.Errorf("a kernel without NFS: %v", err)
	}
}

// BenchmarkLocalDisk makes, mounts and unmounts volumes of 1 GiB.
func BenchmarkLocalDisk(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root to mount")
	}
	l := &LocalDisk{Dir: b.TempDir()}
	b.Cleanup(func() { removeTree(l.Dir) })
	for i := 0; b.Loop(); i++ {
		target := filepath.Join(l.Dir, fmt.Sprint("target", i))
		os.Mkdir(target, 0o755)
		if _, err := l.Mount(b.Context(), fmt.Sprint("v", i), 1<<30, target, 0, ""); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := removeTree(target); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
