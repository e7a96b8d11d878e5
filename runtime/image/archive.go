package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// files is an archive whose members can be opened in any order.
type files interface {
	// Open returns a member by its cleaned, slash-separated path. The error
	// wraps fs.ErrNotExist if there is none.
	Open(name string) (io.ReadCloser, error)
	Close() error
}

// directory is an archive that was unpacked by somebody else. os.Root keeps
// its links from leading out of it.
type directory struct{ root *os.Root }

func (d directory) Open(name string) (io.ReadCloser, error) {
	f, err := d.root.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(fmt.Errorf("%s is not a regular file", name), err)
	}
	return f, nil
}

func (d directory) Close() error { return d.root.Close() }

// spool holds the members of a stream in numbered files of a directory, for a
// stream can be read only once and in its own order.
type spool struct {
	dir     string
	members map[string]string // path to path on disk
	links   map[string]string // path to path
}

// spooled reads a whole archive, compressed or not, into a temporary
// directory below the store's.
func (s *Store) spooled(ctx context.Context, r io.Reader) (_ *spool, err error) {
	plain, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	dir, err := os.MkdirTemp(s.dir, "tmp-import-*")
	if err != nil {
		return nil, noSpace(err)
	}
	p := &spool{dir: dir, members: map[string]string{}, links: map[string]string{}}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	tr := tar.NewReader(&bounded{r: plain, left: maxArchive})
	buf := make([]byte, 256<<10)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			return p, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: it is not a tar archive: %w", ErrCorrupt, err)
		}
		if n >= maxMembers {
			return nil, fmt.Errorf("%w: more than %d members", ErrTooLarge, maxMembers)
		}
		name := path.Clean("/" + h.Name)[1:]
		switch h.Typeflag {
		case tar.TypeSymlink: // old archives of Docker share layers so
			p.links[name] = path.Join(path.Dir("/"+name), h.Linkname)[1:]
		case tar.TypeLink:
			p.links[name] = path.Clean("/" + h.Linkname)[1:]
		case tar.TypeReg:
			to := filepath.Join(dir, fmt.Sprint(n))
			if err := s.spoolMember(ctx, to, tr, buf); err != nil {
				return nil, fmt.Errorf("member %q: %w", h.Name, noSpace(err))
			}
			p.members[name] = to
		}
	}
}

// Bounds of an archive: more is not an image.
const (
	maxArchive = 1 << 40
	maxMembers = 100_000
)

// spoolMember copies one member, watching the disk and the caller.
func (s *Store) spoolMember(ctx context.Context, to string, r io.Reader, buf []byte) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(r, 16<<20), buf)
		if err != nil {
			return corruptStream(err)
		}
		if n == 0 {
			return f.Close()
		}
		if err := s.room(); err != nil {
			return err
		}
	}
}

func (p *spool) Open(name string) (io.ReadCloser, error) {
	file, ok := p.path(name)
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return os.Open(file)
}

// path says where a member lies on the disk.
func (p *spool) path(name string) (string, bool) {
	for range 8 {
		if file, ok := p.members[name]; ok {
			return file, true
		}
		to, ok := p.links[name]
		if !ok {
			break
		}
		name = to
	}
	return "", false
}

func (p *spool) Close() error { return os.RemoveAll(p.dir) }

// readMember reads a small member whole.
func readMember(a files, name string, limit int64) ([]byte, error) {
	f, err := a.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrTooLarge, name, limit)
	}
	return data, nil
}

// blobsIn is a source of the blobs of an archive.
type blobsIn struct {
	archive files
	paths   map[string]string // digest to member, for those not in blobs/
}

func (b blobsIn) member(digest string) string {
	if name, ok := b.paths[digest]; ok {
		return name
	}
	return "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:")
}

// file implements fileSource: what was spooled need not be copied again.
func (b blobsIn) file(digest string) (string, bool) {
	if p, ok := b.archive.(*spool); ok {
		return p.path(b.member(digest))
	}
	return "", false
}

func (b blobsIn) open(_ context.Context, digest string, offset int64) (io.ReadCloser, error) {
	if offset > 0 {
		return nil, errNoRange
	}
	name := b.member(digest)
	f, err := b.archive.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the archive lacks %s", ErrCorrupt, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return f, nil
}

// digestOf reads a member and returns its digest and size.
func digestOf(a files, name string) (digest string, size int64, err error) {
	f, err := a.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	sum := sha256.New()
	size, err = io.Copy(sum, f)
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), size, err
}
