package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree describes a tree, one line a file.
func tree(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %o %d:%d", strings.TrimPrefix(p, root+"/"), st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", data)
			if st.Nlink > 1 {
				line += fmt.Sprintf(" links=%d", st.Nlink)
			}
		case unix.S_IFLNK:
			to, _ := os.Readlink(p)
			line += " -> " + to
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" dev=%d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		case unix.S_IFDIR:
			var v [1]byte
			if n, err := unix.Lgetxattr(p, overlayOpaque, v[:]); err == nil && n == 1 && v[0] == 'y' {
				line += " opaque"
			}
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func device(name string, kind byte, major, minor int64) file {
	return file{tar.Header{Typeflag: kind, Name: name, Mode: 0o600, Devmajor: major, Devminor: minor}, ""}
}

func owned(f file, uid, gid int, mode int64) file {
	f.Uid, f.Gid, f.Mode = uid, gid, mode
	return f
}

func TestUnpack(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []file
		want []string
		err  error
	}{
		{"files", []file{dir("d", 0o750), owned(reg("d/f", "x"), 5, 6, 0o640), symlink("l", "/d/f"), hardlink("h", "d/f")}, []string{
			"d 40750 0:0", `d/f 100640 5:6 "x" links=2`, `h 100640 5:6 "x" links=2`, "l 120777 0:0 -> /d/f"}, nil},
		{"special bits", []file{owned(reg("su", ""), 1, 2, 0o4755), owned(reg("sg", ""), 0, 3, 0o2755), owned(dir("t", 0), 0, 0, 0o1777)}, []string{
			`sg 102755 0:3 ""`, `su 104755 1:2 ""`, "t 41777 0:0"}, nil},
		{"devices", []file{device("null", tar.TypeChar, 1, 3), device("sda", tar.TypeBlock, 8, 0), device("pipe", tar.TypeFifo, 0, 0)}, []string{
			"null 20600 0:0 dev=1,3", "pipe 10600 0:0", "sda 60600 0:0 dev=8,0"}, nil},
		{"missing parents", []file{reg("a/b/c", "x")}, []string{"a 40755 0:0", "a/b 40755 0:0", `a/b/c 100644 0:0 "x"`}, nil},
		{"names with dots and slashes", []file{reg("./a//b/../c", "x"), reg("/abs", "y")}, []string{"a 40755 0:0", `a/c 100644 0:0 "x"`, `abs 100644 0:0 "y"`}, nil},
		{"parent given late keeps its attributes", []file{reg("a/b", "x"), owned(dir("a", 0), 9, 9, 0o700)}, []string{"a 40700 9:9", `a/b 100644 0:0 "x"`}, nil},

		{"whiteout", []file{reg("d/.wh.gone", "")}, []string{"d 40755 0:0", "d/gone 20000 0:0 dev=0,0"}, nil},
		{"opaque", []file{dir("d", 0o755), reg("d/.wh..wh..opq", ""), reg("d/new", "x")}, []string{"d 40755 0:0 opaque", `d/new 100644 0:0 "x"`}, nil},
		{"whiteout, then a directory of that name", []file{reg(".wh.d", ""), dir("d", 0o700), reg("d/f", "x")}, []string{"d 40700 0:0 opaque", `d/f 100644 0:0 "x"`}, nil},
		{"whiteout, then something in it", []file{reg(".wh.d", ""), reg("d/f", "x")}, []string{"d 40755 0:0 opaque", `d/f 100644 0:0 "x"`}, nil},
		{"a directory, then its whiteout", []file{dir("d", 0o700), reg(".wh.d", "")}, []string{"d 40700 0:0 opaque"}, nil},
		{"whiteout, then a file", []file{reg(".wh.f", ""), reg("f", "x")}, []string{`f 100644 0:0 "x"`}, nil},
		{"a file, then its whiteout", []file{reg("f", "x"), reg(".wh.f", "")}, []string{`f 100644 0:0 "x"`}, nil},
		{"bookkeeping of old tools", []file{reg(".wh..wh.plnk", ""), dir(".wh..wh.aufs", 0o700)}, nil, nil},
		{"malformed whiteout", []file{reg(".wh.", "")}, nil, ErrCorrupt},
		{"whiteout of the parent", []file{reg("d/.wh...", "")}, nil, ErrCorrupt},
		{"everything hidden", []file{reg(".wh..wh..opq", "")}, nil, ErrCorrupt},

		{"replaced", []file{reg("a", "1"), reg("a", "2"), dir("b", 0o755), reg("b/c", ""), reg("b", "3"), reg("e", ""), dir("e", 0o700)}, []string{
			`a 100644 0:0 "2"`, `b 100644 0:0 "3"`, "e 40700 0:0"}, nil},
		{"directory twice", []file{dir("d", 0o700), reg("d/f", ""), dir("d", 0o711)}, []string{"d 40711 0:0", `d/f 100644 0:0 ""`}, nil},
		{"through a link inside", []file{dir("usr", 0o755), dir("usr/lib", 0o755), symlink("lib", "usr/lib"), reg("lib/x", "1")}, []string{
			"lib 120777 0:0 -> usr/lib", "usr 40755 0:0", "usr/lib 40755 0:0", `usr/lib/x 100644 0:0 "1"`}, nil},
		{"through an absolute link", []file{symlink("tmp", "/var/tmp"), reg("tmp/x", "1")}, []string{
			"tmp 120777 0:0 -> /var/tmp", "var 40755 0:0", "var/tmp 40755 0:0", `var/tmp/x 100644 0:0 "1"`}, nil},
		{"through a link that climbs", []file{symlink("l", "../../../../etc"), reg("l/x", "1")}, []string{
			"etc 40755 0:0", `etc/x 100644 0:0 "1"`, "l 120777 0:0 -> ../../../../etc"}, nil},
		{"a link replaced by a file", []file{symlink("l", "/etc/passwd"), reg("l", "mine")}, []string{`l 100644 0:0 "mine"`}, nil},
		{"hard link to a link", []file{symlink("l", "/etc/passwd"), hardlink("h", "l")}, []string{"h 120777 0:0 -> /etc/passwd", "l 120777 0:0 -> /etc/passwd"}, nil},

		{"climbs", []file{reg("../x", "1")}, nil, ErrCorrupt},
		{"climbs within", []file{reg("a/../../x", "1")}, nil, ErrCorrupt},
		{"hard link climbs", []file{hardlink("h", "../../etc/passwd")}, nil, ErrCorrupt},
		{"hard link outside", []file{hardlink("h", "/etc/passwd")}, nil, ErrCorrupt},
		{"hard link through a link", []file{symlink("e", "/etc"), hardlink("h", "e/passwd")}, nil, ErrCorrupt},
		{"hard link to a directory", []file{dir("d", 0o755), hardlink("h", "d")}, nil, ErrCorrupt},
		{"hard link to nothing", []file{hardlink("h", "nothing")}, nil, ErrCorrupt},
		{"below a file", []file{reg("f", ""), reg("f/x", "")}, nil, ErrCorrupt},
		{"root as a file", []file{reg(".", "")}, nil, ErrCorrupt},
		{"owner that wraps to root", []file{owned(reg("f", ""), 1<<32, 0, 0o4755)}, nil, ErrCorrupt},
		{"no owner", []file{owned(reg("f", ""), -1, 0, 0o4755)}, nil, ErrCorrupt},
		{"unknown type", []file{{tar.Header{Typeflag: 'Q', Name: "q"}, ""}}, nil, ErrCorrupt},
		{"too many files", []file{reg("1", ""), reg("2", ""), reg("3", ""), reg("4", ""), reg("5", ""), reg("6", ""), reg("7", ""), reg("8", ""), reg("9", "")}, nil, ErrTooLarge},
		{"too many bytes", []file{reg("1", strings.Repeat("x", 5000)), reg("2", strings.Repeat("x", 5001))}, nil, ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "fs")
			if err := os.Mkdir(root, 0o755); err != nil {
				t.Fatal(err)
			}
			err := newUnpacker(root, 10_000, 8, nil).unpack(context.Background(), bytes.NewReader(archive(t, c.in...)))
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error is %v, want %v", err, c.err)
			}
			if outside, _ := os.ReadDir(filepath.Dir(root)); len(outside) != 1 {
				t.Errorf("something was written outside: %v", outside)
			}
			if err == nil {
				if got := tree(t, root); !slices.Equal(got, c.want) {
					t.Errorf("tree is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
				}
			}
		})
	}
}

func TestUnpackKeepsTimesAndXattrs(t *testing.T) {
	root := t.TempDir()
	at := time.Unix(1500000000, 0)
	f := reg("d/f", "x")
	f.ModTime = at
	f.Format = tar.FormatPAX
	// A file capability, as setcap writes it.
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	f.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.trusted.test": "v"}
	d := dir("d", 0o755)
	d.ModTime = at
	if err := newUnpacker(root, 1<<20, 100, nil).unpack(context.Background(), bytes.NewReader(archive(t, d, f, owned(reg("d/later", ""), 0, 0, 0o600)))); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"d", "d/f"} {
		if info, err := os.Stat(filepath.Join(root, p)); err != nil || !info.ModTime().Equal(at) {
			t.Errorf("%s has the time %v", p, info.ModTime())
		}
	}
	v := make([]byte, 100)
	if n, err := unix.Lgetxattr(filepath.Join(root, "d/f"), "security.capability", v); err != nil || string(v[:n]) != capability {
		t.Errorf("capability is %q, %v", v[:max(n, 0)], err)
	}
	if n, err := unix.Lgetxattr(filepath.Join(root, "d/f"), "trusted.test", v); err != nil || string(v[:n]) != "v" {
		t.Errorf("trusted.test is %q, %v", v[:max(n, 0)], err)
	}
	if _, err := unix.Lgetxattr(filepath.Join(root, "d/f"), overlayOpaque, v); err == nil {
		t.Error("an archive may not steer overlayfs")
	}
}

// The layers as overlayfs shows them.
func TestOverlay(t *testing.T) {
	s := open(t, t.TempDir())
	images, err := s.Import(context.Background(), bytes.NewReader(saved(t, "app:1",
		archive(t, dir("d", 0o755), reg("d/a", "old"), reg("d/b", "b"), dir("o", 0o700), reg("o/x", "x"), dir("tmp", 0o1777), reg("gone", "")),
		archive(t, reg("d/.wh.a", ""), reg("o/.wh..wh..opq", ""), reg("o/y", "y"), reg(".wh.gone", ""), reg("tmp/f", "f"), reg("d/b", "new")),
		archive(t, reg("d/a", "again")),
	)), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(t.TempDir(), "m")
	for _, d := range []string{at, at + "u", at + "w"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("overlay", at, "overlay", 0, "lowerdir="+strings.Join(images[0].LowerDirs(), ":")+",upperdir="+at+"u,workdir="+at+"w"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	want := []string{"d 40755 0:0", `d/a 100644 0:0 "again"`, `d/b 100644 0:0 "new"`, "o 40700 0:0", `o/y 100644 0:0 "y"`, "tmp 41777 0:0", `tmp/f 100644 0:0 "f"`}
	if got := tree(t, at); !slices.Equal(got, want) {
		t.Errorf("tree is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, dir("d", 0o755), reg("d/f", "x"), symlink("l", "/"), hardlink("h", "d/f"), reg("l/etc/x", ""), reg("d/.wh.f", ""), reg("d/.wh..wh..opq", "")))
	f.Add(archive(f, reg("../x", ""), symlink("a", "../.."), reg("a/b/c", "y")))
	f.Add(archive(f, device("n", tar.TypeChar, 0, 0), reg(".wh.n", ""), dir("n", 0o700)))
	f.Fuzz(func(t *testing.T, data []byte) {
		outer := t.TempDir()
		root := filepath.Join(outer, "in", "fs")
		if err := os.MkdirAll(root, 0o755); err != nil {
			t.Fatal(err)
		}
		u := newUnpacker(root, 1<<20, 1000, nil)
		err := u.unpack(context.Background(), bytes.NewReader(data))
		for _, d := range []string{outer, filepath.Join(outer, "in")} {
			if inside, _ := os.ReadDir(d); len(inside) != 1 {
				t.Fatalf("something was written outside, in %s: %v (%v)", d, inside, err)
			}
		}
	})
}
