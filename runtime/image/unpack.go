package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// Whiteouts of the OCI layer format, and what overlayfs wants in their place.
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
	overlayOpaque  = "trusted.overlay.opaque"
)

// maxID is the largest user or group id. The next number means "no change" to
// the kernel, and larger ones would wrap round to root.
const maxID = 1<<32 - 2

// unpacker writes one layer's archive into a directory of its own, which
// nobody else writes to meanwhile. It follows no symbolic link out of it.
type unpacker struct {
	root     string
	maxBytes int64
	maxFiles int64
	room     func() error // asked every so many bytes

	files, bytes, sinceRoom int64
	parents                 map[string]string // parent as named to its path on disk
	implied                 map[string]bool   // directories that exist only because something is in them
	whited                  map[string]bool   // paths with a whiteout
	dirs                    []dirTime
	buf                     []byte
}

// dirTime is a directory whose times are set last, after its content.
type dirTime struct {
	path string
	at   time.Time
}

func newUnpacker(root string, maxBytes, maxFiles int64, room func() error) *unpacker {
	return &unpacker{
		root: root, maxBytes: maxBytes, maxFiles: maxFiles, room: room,
		parents: map[string]string{}, implied: map[string]bool{}, whited: map[string]bool{},
		buf: make([]byte, 256<<10),
	}
}

// unpack writes everything r holds.
func (u *unpacker) unpack(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return malformed(err)
		}
		if u.files++; u.files > u.maxFiles {
			return fmt.Errorf("%w: a layer of more than %d files", ErrTooLarge, u.maxFiles)
		}
		if err := u.entry(ctx, h, tr); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, noSpace(err))
		}
	}
	for i := len(u.dirs) - 1; i >= 0; i-- {
		if err := setTime(u.dirs[i].path, u.dirs[i].at); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// malformed marks errors of the tar reader itself, but not those of the
// stream below it.
func malformed(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// entry writes one entry.
func (u *unpacker) entry(ctx context.Context, h *tar.Header, body io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if h.Uid < 0 || h.Gid < 0 || h.Uid > maxID || h.Gid > maxID {
		return fmt.Errorf("%w: owner %d:%d is out of range", ErrCorrupt, h.Uid, h.Gid)
	}
	name := path.Clean("/" + h.Name)[1:]
	if escapes(h.Name) {
		return fmt.Errorf("%w: its path leaves the layer", ErrCorrupt)
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: the root of a layer must be a directory", ErrCorrupt)
		}
		return u.attributes(u.root, h)
	}
	dir, base := path.Split(name)
	if base == whiteoutOpaque {
		parent, err := u.parent(dir)
		if err != nil {
			return err
		}
		return u.opaque(parent)
	}
	if strings.HasPrefix(base, whiteoutMeta) {
		return nil // bookkeeping of old tools
	}
	parent, err := u.parent(dir)
	if err != nil {
		return err
	}
	if hidden, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		if hidden == "" || hidden == "." || hidden == ".." {
			return fmt.Errorf("%w: malformed whiteout", ErrCorrupt)
		}
		return u.whiteout(filepath.Join(parent, hidden))
	}
	return u.write(ctx, filepath.Join(parent, base), h, body)
}

// escapes says whether a path climbs above where it begins.
func escapes(name string) bool {
	depth := 0
	for _, part := range strings.Split(name, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

// parent returns where a directory lies on the disk, made if it is missing,
// with the symbolic links of this layer resolved inside of it.
func (u *unpacker) parent(dir string) (string, error) {
	dir = strings.Trim(dir, "/")
	if dir == "" {
		return u.root, nil
	}
	if p, ok := u.parents[dir]; ok {
		return p, nil
	}
	p, err := securejoin.SecureJoin(u.root, dir)
	if err != nil {
		return "", err
	}
	at := u.root
	rel := strings.TrimPrefix(strings.TrimPrefix(p, u.root), "/")
	if rel != "" {
		for part := range strings.SplitSeq(rel, "/") {
			at = filepath.Join(at, part)
			err := os.Mkdir(at, 0o755)
			if err == nil {
				if err := os.Chmod(at, 0o755); err != nil {
					return "", err
				}
				u.implied[at] = true
				continue
			}
			if !errors.Is(err, os.ErrExist) {
				return "", err
			}
			if u.whited[at] {
				if err := u.mkdirOverWhiteout(at); err != nil {
					return "", err
				}
			} else if info, err := os.Lstat(at); err != nil || !info.IsDir() {
				return "", fmt.Errorf("%w: %s is not a directory", ErrCorrupt, strings.TrimPrefix(at, u.root))
			}
		}
	}
	u.parents[dir] = p
	return p, nil
}

// mkdirOverWhiteout makes a directory where this layer also hides what lies
// below: an opaque one.
func (u *unpacker) mkdirOverWhiteout(p string) error {
	if err := os.Remove(p); err != nil {
		return err
	}
	delete(u.whited, p)
	if err := os.Mkdir(p, 0o755); err != nil {
		return err
	}
	return u.opaque(p)
}

// opaque hides what lower layers have in a directory.
func (u *unpacker) opaque(dir string) error {
	if dir == u.root {
		// overlayfs does not look for the attribute on the root of a layer,
		// so what is below would shine through.
		return fmt.Errorf("%w: a layer that hides all layers below it is not supported", ErrCorrupt)
	}
	return unix.Lsetxattr(dir, overlayOpaque, []byte("y"), 0)
}

// whiteout hides what lower layers have at p, unless this layer has put
// something there, which hides it by itself.
func (u *unpacker) whiteout(p string) error {
	info, err := os.Lstat(p)
	if err == nil {
		if info.IsDir() {
			return u.opaque(p)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	u.whited[p] = true
	return unix.Mknod(p, unix.S_IFCHR, 0)
}

// write makes one file of any type.
func (u *unpacker) write(ctx context.Context, p string, h *tar.Header, body io.Reader) error {
	if h.Typeflag == tar.TypeDir {
		if err := u.mkdir(p); err != nil {
			return err
		}
		return u.attributes(p, h)
	}
	if h.Typeflag == tar.TypeLink {
		return u.link(p, h.Linkname)
	}
	perm := uint32(h.Mode & 0o7777)
	make := func() error {
		switch h.Typeflag {
		case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
			return u.file(ctx, p, h, body)
		case tar.TypeSymlink:
			return os.Symlink(h.Linkname, p)
		case tar.TypeChar, tar.TypeBlock:
			kind := uint32(unix.S_IFCHR)
			if h.Typeflag == tar.TypeBlock {
				kind = unix.S_IFBLK
			}
			if h.Devmajor < 0 || h.Devmajor > 1<<12-1 || h.Devminor < 0 || h.Devminor > 1<<20-1 {
				return fmt.Errorf("%w: device number out of range", ErrCorrupt)
			}
			return unix.Mknod(p, kind|perm, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
		case tar.TypeFifo:
			return unix.Mkfifo(p, perm)
		}
		return fmt.Errorf("%w: unknown type %q", ErrCorrupt, h.Typeflag)
	}
	err := make()
	if errors.Is(err, os.ErrExist) {
		if err = u.clear(p); err == nil {
			err = make()
		}
	}
	if err != nil || h.Typeflag == tar.TypeReg || h.Typeflag == '\x00' {
		return err // a regular file has its attributes already
	}
	return u.attributes(p, h)
}

// clear removes what an earlier entry put where another is to come.
func (u *unpacker) clear(p string) error {
	delete(u.whited, p)
	delete(u.implied, p)
	clear(u.parents)
	return os.RemoveAll(p)
}

// mkdir makes a directory, or keeps the one that is there.
func (u *unpacker) mkdir(p string) error {
	err := os.Mkdir(p, 0o755)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	if u.whited[p] {
		return u.mkdirOverWhiteout(p)
	}
	info, err := os.Lstat(p)
	if err != nil {
		return err
	}
	if info.IsDir() {
		delete(u.implied, p)
		return nil
	}
	if err := u.clear(p); err != nil {
		return err
	}
	return os.Mkdir(p, 0o755)
}

// link makes a hard link to an earlier entry of this layer.
func (u *unpacker) link(p, target string) error {
	if escapes(target) {
		return fmt.Errorf("%w: link to %q leaves the layer", ErrCorrupt, target)
	}
	dir, base := path.Split(path.Clean("/" + target))
	if base == "" {
		return fmt.Errorf("%w: hard link to the root", ErrCorrupt)
	}
	parent, err := securejoin.SecureJoin(u.root, dir)
	if err != nil {
		return err
	}
	old := filepath.Join(parent, base)
	if info, err := os.Lstat(old); err != nil {
		return fmt.Errorf("%w: hard link to %q, which the layer does not have", ErrCorrupt, target)
	} else if info.IsDir() {
		return fmt.Errorf("%w: hard link to the directory %q", ErrCorrupt, target)
	}
	if old == p {
		return nil
	}
	err = os.Link(old, p)
	if errors.Is(err, os.ErrExist) {
		if err = u.clear(p); err == nil {
			err = os.Link(old, p)
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: hard link to its own directory", ErrCorrupt)
	}
	return err
}

// file writes a regular file with its attributes.
func (u *unpacker) file(ctx context.Context, p string, h *tar.Header, body io.Reader) error {
	f, err := os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		n, err := body.Read(u.buf)
		if n > 0 {
			if err := u.count(ctx, int64(n)); err != nil {
				return err
			}
			if _, err := f.Write(u.buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return malformed(err)
		}
	}
	fd := int(f.Fd())
	if h.Uid != 0 || h.Gid != 0 {
		if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, uint32(h.Mode&0o7777)); err != nil {
		return err
	}
	if err := setXattrs(p, h); err != nil {
		return err
	}
	ts := timespecs(h.ModTime)
	return unix.UtimesNanoAt(unix.AT_FDCWD, p, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// count adds to what the layer holds and refuses what is too much.
func (u *unpacker) count(ctx context.Context, n int64) error {
	u.bytes += n
	if u.bytes > u.maxBytes {
		return fmt.Errorf("%w: a layer of more than %d bytes", ErrTooLarge, u.maxBytes)
	}
	if u.sinceRoom += n; u.sinceRoom >= 16<<20 {
		u.sinceRoom = 0
		if err := ctx.Err(); err != nil {
			return err
		}
		if u.room != nil {
			return u.room()
		}
	}
	return nil
}

// attributes sets owner, mode, extended attributes and times, in the order in
// which the kernel keeps them: a change of owner drops set-uid bits and file
// capabilities.
func (u *unpacker) attributes(p string, h *tar.Header) error {
	if err := os.Lchown(p, h.Uid, h.Gid); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Chmod(p, uint32(h.Mode&0o7777)); err != nil {
			return err
		}
	}
	if err := setXattrs(p, h); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		u.dirs = append(u.dirs, dirTime{p, h.ModTime})
		return nil
	}
	return setTime(p, h.ModTime)
}

// setXattrs sets the extended attributes of an entry, except those that steer
// overlayfs, which only this package may set.
func setXattrs(p string, h *tar.Header) error {
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if !ok || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		err := unix.Lsetxattr(p, name, []byte(v), 0)
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) && strings.HasPrefix(name, "user.") {
			continue // the filesystem, or this kind of file, has none
		}
		if err != nil {
			return fmt.Errorf("extended attribute %q: %w", name, err)
		}
	}
	return nil
}

// setTime sets both times of a file, not of what a link points to.
func setTime(p string, at time.Time) error {
	ts := timespecs(at)
	return unix.UtimesNanoAt(unix.AT_FDCWD, p, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// timespecs gives a time to the kernel; those it cannot hold become 1970.
func timespecs(at time.Time) [2]unix.Timespec {
	ts, err := unix.TimeToTimespec(at)
	if err != nil || at.Unix() < -1<<31 || at.Unix() > 1<<33 {
		ts = unix.Timespec{}
	}
	return [2]unix.Timespec{ts, ts}
}
