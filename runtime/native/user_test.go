package native

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sagong/runtime"
)

func TestResolveUser(t *testing.T) {
	files := map[string]string{
		"/etc/passwd": "# comment\nroot:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001::/home/app:/bin/sh\n1234:x:7:8::/odd:\n",
		"/etc/group":  "root:x:0:\nstaff:x:50:app,other\nmore:x:51:app\nbad:x:y:app\n",
	}
	open := func(name string) (io.ReadCloser, error) {
		if c, ok := files[name]; ok {
			return io.NopCloser(strings.NewReader(c)), nil
		}
		return nil, fs.ErrNotExist
	}
	none := func(string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }
	for _, tt := range []struct {
		spec string
		open func(string) (io.ReadCloser, error)
		want runtime.User
		err  string
	}{
		{"", open, runtime.User{Home: "/root", Name: "root"}, ""},
		{"app", open, runtime.User{UID: 1000, GID: 1001, Groups: []uint32{50, 51}, Home: "/home/app", Name: "app"}, ""},
		{"1000", open, runtime.User{UID: 1000, GID: 1001, Groups: []uint32{50, 51}, Home: "/home/app", Name: "app"}, ""},
		{"1234", open, runtime.User{UID: 1234}, ""},
		{"app:staff", open, runtime.User{UID: 1000, GID: 50, Home: "/home/app", Name: "app"}, ""},
		{"app:77", open, runtime.User{UID: 1000, GID: 77, Home: "/home/app", Name: "app"}, ""},
		{"55:66", none, runtime.User{UID: 55, GID: 66}, ""},
		{"55", none, runtime.User{UID: 55}, ""},
		{"nobody", open, runtime.User{}, `no user "nobody"`},
		{"app:nobody", open, runtime.User{}, `no group "nobody"`},
		{"app", none, runtime.User{}, `no user "app"`},
		{"-1", open, runtime.User{}, `no user "-1"`},
		{"4294967295", open, runtime.User{}, `no user`},
	} {
		u, err := resolveUser(tt.spec, tt.open)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: %v, want %q", tt.spec, err, tt.err)
			}
			continue
		}
		if err != nil || u.UID != tt.want.UID || u.GID != tt.want.GID || u.Home != tt.want.Home || u.Name != tt.want.Name || !slices.Equal(u.Groups, tt.want.Groups) {
			t.Errorf("%q: %+v, %v; want %+v", tt.spec, u, err, tt.want)
		}
	}
}

// TestResolveUserInLayers has /etc/passwd in an upper layer be a link that
// points out of the image, to a file that exists on the host.
func TestResolveUserInLayers(t *testing.T) {
	m := newMachine(t)
	top := filepath.Join(filepath.Dir(m.root), "top")
	if err := os.MkdirAll(filepath.Join(top, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../store/passwd", filepath.Join(top, "etc", "passwd")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(m.root, "store"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.root, "store", "passwd"), []byte("linked:x:9:9::/l:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	root := runtime.Rootfs{Layers: []string{m.root, top}}
	if u, err := m.rt.ResolveUser(m.ctx(), root, "linked"); err != nil || u.UID != 9 {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := m.rt.ResolveUser(m.ctx(), runtime.Rootfs{Layers: []string{m.root}}, "app:extra"); err != nil || u.UID != 1000 || u.GID != 2000 {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := m.rt.ResolveUser(m.ctx(), runtime.Rootfs{Layers: []string{"/does/not/exist"}}, "0"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzResolveUser(f *testing.F) {
	f.Add("app", "app:x:1:2::/h:\n", "g:x:3:app\n")
	f.Fuzz(func(t *testing.T, spec, passwd, group string) {
		_, _ = resolveUser(spec, func(name string) (io.ReadCloser, error) {
			if name == "/etc/passwd" {
				return io.NopCloser(strings.NewReader(passwd)), nil
			}
			return io.NopCloser(strings.NewReader(group)), nil
		})
	})
}
