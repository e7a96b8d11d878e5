package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// source is where blobs come from: a registry, an archive, a directory.
type source interface {
	// open returns the content of a blob from offset on. A source that
	// cannot begin there returns errNoRange.
	open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error)
}

// fileSource is a source that may have a blob as a file in the store's own
// directory, which nobody else writes to.
type fileSource interface {
	file(digest string) (path string, ok bool)
}

// flushEvery is how many bytes of a download the kernel is asked to write at a time.
const flushEvery = 4 << 20

// errNoRange says that a source can only begin at the beginning.
var errNoRange = errors.New("source has no ranges")

// blobPath is where the blob with this digest lies.
func (s *Store) blobPath(digest string) string {
	return filepath.Join(s.dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}

// hasBlob says whether a blob is there; then it is whole, for it was renamed
// into place after it was verified and synced.
func (s *Store) hasBlob(digest string) bool {
	_, err := os.Lstat(s.blobPath(digest))
	return err == nil
}

// fetch makes a blob of at most limit bytes present. size is what its
// descriptor says, or -1. read hears how many bytes arrived.
func (s *Store) fetch(ctx context.Context, from source, digest string, size, limit int64, read func(int64)) error {
	if !validDigest(digest) {
		return fmt.Errorf("cannot fetch blob %q: %w: unsupported digest", digest, ErrCorrupt)
	}
	if size > limit {
		return fmt.Errorf("cannot fetch blob %s: %w: %d bytes, at most %d are allowed", digest, ErrTooLarge, size, limit)
	}
	if s.hasBlob(digest) {
		return nil
	}
	if from == nil {
		return fmt.Errorf("cannot fetch blob %s: %w: it is lost", digest, ErrCorrupt)
	}
	_, err := s.blobs.do(ctx, digest, nil, func(ctx context.Context, _ func(Progress)) (none, error) {
		if s.hasBlob(digest) {
			return none{}, nil
		}
		select {
		case s.downloading <- none{}:
			defer func() { <-s.downloading }()
		case <-ctx.Done():
			return none{}, ctx.Err()
		}
		if fs, ok := from.(fileSource); ok {
			if path, ok := fs.file(digest); ok {
				if err := s.adopt(path, digest, size, limit, read); err != nil {
					return none{}, fmt.Errorf("cannot fetch blob %s: %w", digest, noSpace(err))
				}
				return none{}, nil
			}
		}
		if err := s.download(ctx, from, digest, size, limit, read); err != nil {
			return none{}, fmt.Errorf("cannot fetch blob %s: %w", digest, noSpace(err))
		}
		return none{}, nil
	})
	return err
}

// adopt verifies a file and gives it a second name as a blob.
func (s *Store) adopt(path, digest string, size, limit int64, read func(int64)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, limit+1))
	if err != nil {
		return err
	}
	if n > limit || size >= 0 && n != size {
		return fmt.Errorf("%w: it has %d bytes instead of %d", ErrCorrupt, n, size)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != digest {
		return fmt.Errorf("%w: its content has the digest %s", ErrCorrupt, got)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(path, s.blobPath(digest)); err != nil {
		return err
	}
	if read != nil {
		read(n)
	}
	return nil
}

// download copies a blob into a temporary file, continuing where a connection
// broke, verifies it and puts it in place.
func (s *Store) download(ctx context.Context, from source, digest string, size, limit int64, read func(int64)) error {
	f, err := os.CreateTemp(filepath.Join(s.dir, "blobs"), "tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		os.Remove(f.Name()) // gone already when all went well
	}()
	if size >= 0 {
		limit = size
	}
	w := &blobWriter{store: s, f: f, sum: sha256.New(), limit: limit, read: read}
	const attempts = 5
	for failures := 0; ; {
		before := w.n
		err := w.attempt(ctx, from, digest)
		if err == nil && size >= 0 && w.n < size {
			err = fmt.Errorf("%w: ends after %d of %d bytes", io.ErrUnexpectedEOF, w.n, size)
		}
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !retryable(err) {
			return err
		}
		if w.n > before {
			failures = 0
		}
		if failures++; failures >= attempts {
			return err
		}
		select {
		case <-time.After(time.Duration(failures*failures) * s.retryAfter):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if got := "sha256:" + hex.EncodeToString(w.sum.Sum(nil)); got != digest {
		return fmt.Errorf("%w: its content has the digest %s", ErrCorrupt, got)
	}
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), s.blobPath(digest))
}

// retryable says whether asking the same source again can help.
func retryable(err error) bool {
	for _, final := range []error{ErrNotFound, ErrUnauthorized, ErrCorrupt, ErrTooLarge, ErrNoSpace, unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// blobWriter receives a blob in one or several attempts.
type blobWriter struct {
	store    *Store
	f        *os.File
	sum      hash.Hash
	n, limit int64
	flushed  int64
	read     func(int64)
}

// attempt copies from where the last attempt ended.
func (w *blobWriter) attempt(ctx context.Context, from source, digest string) error {
	body, err := from.open(ctx, digest, w.n)
	if errors.Is(err, errNoRange) {
		if err := w.restart(); err != nil {
			return err
		}
		body, err = from.open(ctx, digest, 0)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	buf := make([]byte, 128<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if w.n+int64(n) > w.limit {
				return fmt.Errorf("%w: longer than %d bytes", ErrCorrupt, w.limit)
			}
			if _, err := w.f.Write(buf[:n]); err != nil {
				return err
			}
			w.sum.Write(buf[:n])
			w.n += int64(n)
			if w.read != nil {
				w.read(int64(n))
			}
			// Have the kernel write while the network is awaited, so that
			// the sync at the end has little left to do.
			if w.n-w.flushed >= flushEvery {
				if err := w.store.room(); err != nil {
					return err
				}
				unix.SyncFileRange(int(w.f.Fd()), w.flushed, w.n-w.flushed, unix.SYNC_FILE_RANGE_WRITE)
				w.flushed = w.n
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// restart forgets what was received.
func (w *blobWriter) restart() error {
	if w.read != nil {
		w.read(-w.n)
	}
	w.n, w.flushed = 0, 0
	w.sum.Reset()
	if err := w.f.Truncate(0); err != nil {
		return err
	}
	_, err := w.f.Seek(0, io.SeekStart)
	return err
}

// putBlob stores a small blob that is in memory.
func (s *Store) putBlob(digest string, data []byte) error {
	sum := sha256.Sum256(data)
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != digest {
		return fmt.Errorf("cannot store blob %s: %w: its content has the digest %s", digest, ErrCorrupt, got)
	}
	if s.hasBlob(digest) {
		return nil
	}
	if err := writeDurably(s.blobPath(digest), data); err != nil {
		return fmt.Errorf("cannot store blob %s: %w", digest, noSpace(err))
	}
	return nil
}

// room fails with ErrNoSpace when the disk is about to be full.
func (s *Store) room() error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; free < s.opt.ReserveBytes {
		return fmt.Errorf("%w: %d MiB left, %d MiB must stay free", ErrNoSpace, free>>20, s.opt.ReserveBytes>>20)
	}
	return nil
}

// hold keeps digests and chains from being swept until the returned function
// is called, whether they exist yet or not.
func (s *Store) hold(keys ...string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		s.held[k]++
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, k := range keys {
			if s.held[k]--; s.held[k] == 0 {
				delete(s.held, k)
			}
		}
	}
}
