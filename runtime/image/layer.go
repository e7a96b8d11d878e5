package image

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// layerInfo is what layers/<chain>/done holds.
type layerInfo struct {
	DiffID string `json:"diffID,omitempty"`
	Bytes  int64  `json:"bytes"` // allocated on disk
	Inodes int64  `json:"inodes"`
	// Boot, if set, is the boot of the machine in which the layer was written
	// without a sync: in any other it is not trusted.
	Boot string `json:"boot,omitempty"`
}

// chainIDs names each layer by itself and all layers below it.
func chainIDs(diffIDs []string) []string {
	ids := make([]string, len(diffIDs))
	for n, d := range diffIDs {
		if n == 0 {
			ids[n] = strings.TrimPrefix(d, "sha256:")
			continue
		}
		sum := sha256.Sum256([]byte("sha256:" + ids[n-1] + " " + d))
		ids[n] = hex.EncodeToString(sum[:])
	}
	return ids
}

// shortName is the name below l/ of the layer with this chain id. 64 bits
// keep two layers of one node apart; linkLayer refuses the impossible.
func shortName(chain string) string { return chain[:16] }

func (s *Store) layerPath(chain string) string { return filepath.Join(s.dir, "layers", chain) }

// hasLayer says whether a layer is there, whole.
func (s *Store) hasLayer(chain string) bool {
	_, err := os.Lstat(filepath.Join(s.layerPath(chain), "done"))
	return err == nil
}

// layerWork is what making an image's layers present needs.
type layerWork struct {
	from   source // nil: only what is here already
	layers []layerRecord
	read   func(int64)        // bytes that arrived
	done   func(present bool) // a layer is there
}

// ensure makes layer n and all below it present. Layers are fetched and
// unpacked side by side; each is put in place after the one below it.
func (s *Store) ensure(ctx context.Context, w *layerWork, n int) error {
	if n < 0 {
		return nil
	}
	l := w.layers[n]
	if s.hasLayer(l.Chain) && (w.from == nil || s.hasBlob(l.Digest)) {
		if err := s.ensure(ctx, w, n-1); err != nil {
			return err
		}
		if w.done != nil {
			w.done(true)
		}
		return nil
	}
	_, err := s.layers.do(ctx, l.Chain, nil, func(ctx context.Context, _ func(Progress)) (none, error) {
		g, gctx := errgroup.WithContext(ctx)
		g.Go(func() error { return s.ensure(gctx, w, n-1) })
		var tmp *unpacked
		g.Go(func() (err error) {
			if err = s.fetch(gctx, w.from, l.Digest, l.Size, maxBlob, w.read); err != nil || s.hasLayer(l.Chain) {
				return err
			}
			tmp, err = s.unpackBlob(gctx, l)
			return err
		})
		err := g.Wait()
		if tmp != nil {
			defer os.RemoveAll(tmp.dir)
		}
		if err != nil || tmp == nil {
			return none{}, err
		}
		return none{}, s.commitLayer(tmp, l, w.layers[:n])
	})
	if err == nil && w.done != nil {
		w.done(false)
	}
	return err
}

// maxBlob bounds a compressed layer whose descriptor states no size.
const maxBlob = 1 << 40

// unpacked is a layer that is not yet in its place.
type unpacked struct {
	dir     string
	implied []string // directories, relative, whose attributes no entry gave
}

// unpackBlob unpacks a verified blob into a temporary directory and checks the
// digest of the archive inside.
func (s *Store) unpackBlob(ctx context.Context, l layerRecord) (_ *unpacked, err error) {
	select {
	case s.unpacking <- none{}:
		defer func() { <-s.unpacking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := s.room(); err != nil {
		return nil, fmt.Errorf("cannot unpack layer %s: %w", l.Digest, err)
	}
	blob, err := os.Open(s.blobPath(l.Digest))
	if err != nil {
		return nil, fmt.Errorf("cannot unpack layer: %w", err)
	}
	defer blob.Close()
	dir, err := os.MkdirTemp(filepath.Join(s.dir, "layers"), "tmp-*")
	if err != nil {
		return nil, fmt.Errorf("cannot unpack layer %s: %w", l.Digest, noSpace(err))
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
			err = fmt.Errorf("cannot unpack layer %s: %w", l.Digest, err)
		}
	}()
	root := filepath.Join(dir, "fs")
	if err := os.Mkdir(root, 0o755); err != nil {
		return nil, noSpace(err)
	}
	if err := os.Chmod(root, 0o755); err != nil {
		return nil, err
	}
	plain, err := decompress(blob)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	sum := sha256.New()
	// The archive's own headers and padding count as well, so that a stream
	// without end is noticed even if it holds no file.
	stream := &bounded{r: io.TeeReader(plain, sum), left: s.opt.MaxLayerBytes + s.opt.MaxLayerBytes/8 + 1<<20}
	u := newUnpacker(root, s.opt.MaxLayerBytes, s.opt.MaxLayerFiles, s.room)
	if err := u.unpack(ctx, stream); err != nil {
		return nil, corruptStream(err)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, stream, u.buf); err != nil {
		return nil, corruptStream(err)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != l.DiffID {
		return nil, fmt.Errorf("%w: unpacked it has the digest %s, the configuration says %s", ErrCorrupt, got, l.DiffID)
	}
	t := &unpacked{dir: dir}
	for p := range u.implied {
		t.implied = append(t.implied, strings.TrimPrefix(p, root+"/"))
	}
	return t, nil
}

// corruptStream marks what decompressors report with ErrCorrupt.
func corruptStream(err error) error {
	for _, e := range []error{gzip.ErrChecksum, gzip.ErrHeader, io.ErrUnexpectedEOF, zstd.ErrMagicMismatch, zstd.ErrCRCMismatch,
		zstd.ErrReservedBlockType, zstd.ErrUnknownDictionary, zstd.ErrBlockTooSmall} {
		if errors.Is(err, e) && !errors.Is(err, ErrCorrupt) {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return err
}

// bounded is a reader that fails with ErrTooLarge rather than give more.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: its archive does not end", ErrTooLarge)
	}
	return n, err
}

// decompress looks at the first bytes, for media types are often wrong.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	head, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, corruptStream(err)
		}
		return z, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(head) == 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], []byte{0x2a, 0x4d, 0x18}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(256<<20))
		if err != nil {
			return nil, corruptStream(err)
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return nil, fmt.Errorf("%w: bzip2 is not supported; gzip, zstd and none are", ErrCorrupt)
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X'}):
		return nil, fmt.Errorf("%w: xz is not supported; gzip, zstd and none are", ErrCorrupt)
	}
	return io.NopCloser(br), nil
}

// commitLayer puts an unpacked layer in its place. Those below it are there.
func (s *Store) commitLayer(t *unpacked, l layerRecord, below []layerRecord) error {
	fail := func(err error) error { return fmt.Errorf("cannot store layer %s: %w", l.Digest, noSpace(err)) }
	if err := s.inheritAttributes(t, below); err != nil {
		return fail(err)
	}
	info := layerInfo{DiffID: l.DiffID}
	if err := info.measure(filepath.Join(t.dir, "fs")); err != nil {
		return fail(err)
	}
	if err := info.write(t.dir); err != nil {
		return fail(err)
	}
	if err := s.syncs.sync(s.dir); err != nil {
		return fail(err)
	}
	return s.placeLayer(t.dir, l.Chain)
}

// placeLayer renames a complete directory to layers/<chain>.
func (s *Store) placeLayer(dir, chain string) error {
	if err := s.linkLayer(chain); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return fmt.Errorf("cannot store layer: %w", err)
	}
	if err := os.Rename(dir, s.layerPath(chain)); err != nil {
		return fmt.Errorf("cannot store layer: %w", err)
	}
	if err := syncDir(filepath.Join(s.dir, "layers")); err != nil {
		return fmt.Errorf("cannot store layer: %w", err)
	}
	return nil
}

// linkLayer makes the short name of a layer.
func (s *Store) linkLayer(chain string) error {
	link := filepath.Join(s.dir, "l", shortName(chain))
	target := filepath.Join("..", "layers", chain, "fs")
	err := os.Symlink(target, link)
	if errors.Is(err, os.ErrExist) {
		if old, e := os.Readlink(link); e == nil && old == target {
			return nil
		}
		return fmt.Errorf("cannot store layer %s: %s means another layer", chain, link)
	}
	if err != nil {
		return fmt.Errorf("cannot store layer %s: %w", chain, noSpace(err))
	}
	return nil
}

// inheritAttributes gives directories that the archive only implies (it has a
// file in them, but no entry for them) the attributes they have in the layers
// below: overlayfs shows those of the topmost layer, and /tmp must not lose
// its mode because a layer put a file there.
func (s *Store) inheritAttributes(t *unpacked, below []layerRecord) error {
	for _, rel := range t.implied {
		to := filepath.Join(t.dir, "fs", rel)
		for n := len(below) - 1; n >= 0; n-- {
			root := filepath.Join(s.layerPath(below[n].Chain), "fs")
			from, st, hidden := lookLower(root, rel)
			if hidden {
				break
			}
			if from == "" {
				continue
			}
			if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
				return err
			}
			if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
				return err
			}
			ts := [2]unix.Timespec{st.Atim, st.Mtim}
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, ts[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// lookLower finds a directory in one layer as overlayfs would: nothing, the
// directory, or something that hides whatever is in the layers below.
func lookLower(root, rel string) (dir string, st unix.Stat_t, hidden bool) {
	at := root
	for part := range strings.SplitSeq(rel, "/") {
		at = filepath.Join(at, part)
		if err := unix.Lstat(at, &st); err != nil {
			return "", st, hidden // below an opaque directory nothing shines through
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return "", st, true // a whiteout, or a file
		}
		var v [1]byte
		if n, err := unix.Lgetxattr(at, overlayOpaque, v[:]); err == nil && n == 1 && v[0] == 'y' {
			hidden = true
		}
	}
	return at, st, false
}

// measure counts what a tree occupies.
func (i *layerInfo) measure(root string) error {
	return filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Nlink <= 1 {
			i.Bytes += st.Blocks * 512
		} else {
			i.Bytes += st.Blocks * 512 / int64(st.Nlink)
		}
		i.Inodes++
		return nil
	})
}

// write puts the file done into a layer's directory that has no name yet.
func (i *layerInfo) write(dir string) error {
	data, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "done"), data, 0o600)
}

// readLayerInfo reads what is known of a layer.
func (s *Store) readLayerInfo(chain string) (layerInfo, error) {
	var i layerInfo
	data, err := os.ReadFile(filepath.Join(s.layerPath(chain), "done"))
	if err == nil {
		err = json.Unmarshal(data, &i)
	}
	if err != nil {
		return i, fmt.Errorf("cannot read layer %s: %w", chain, err)
	}
	return i, nil
}
