package volume

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sagong/kinds/storage"
	"sagong/lib/ext4"
	"sagong/lib/loop"
)

// LocalDisk keeps the volumes of the built-in driver: each a sparse file with a
// file system of its own, so that its size is a limit that no process gets past.
// A volume takes of the disk what was written to it. See
// docs/decisions/local-volumes.md.
//
// Nothing is kept in memory: DIR/<handle>/image is the volume, DIR/<handle>/loop
// the number of the device that last carried it. All methods may be called at
// the same time.
type LocalDisk struct {
	// Dir is where the volumes are, on the node's disk.
	Dir string

	mu    sync.Mutex
	locks map[string]*volumeLock
}

type volumeLock struct {
	sync.Mutex
	users int
}

// Tidy removes what a process left that was killed.
func (l *LocalDisk) Tidy() error {
	left, err := filepath.Glob(filepath.Join(l.Dir, "mount-*"))
	for _, dir := range left {
		err = errors.Join(err, removeTree(dir))
	}
	return err
}

// lock keeps others from a volume until the function returned is called.
func (l *LocalDisk) lock(handle string) (unlock func()) {
	l.mu.Lock()
	if l.locks == nil {
		l.locks = map[string]*volumeLock{}
	}
	k := l.locks[handle]
	if k == nil {
		k = &volumeLock{}
		l.locks[handle] = k
	}
	k.users++
	l.mu.Unlock()
	k.Lock()
	return func() {
		k.Unlock()
		l.mu.Lock()
		if k.users--; k.users == 0 {
			delete(l.locks, handle)
		}
		l.mu.Unlock()
	}
}

func (l *LocalDisk) path(handle, name string) (string, error) {
	if !storage.LocalHandle(handle) {
		return "", fmt.Errorf("invalid volume handle %q", handle)
	}
	return filepath.Join(l.Dir, handle, name), nil
}

// Mount shows a volume of size bytes at target, an empty directory. A volume
// that is not there is made, and a smaller one enlarged unless it is in use;
// sized says that it surely has that size now. For one that is to be enlarged it
// waits a moment, as the pod that uses it may be the one that this one replaces.
func (l *LocalDisk) Mount(ctx context.Context, handle string, size int64, target string, flags uintptr, options string) (sized bool, err error) {
	image, err := l.path(handle, "image")
	if err != nil {
		return false, err
	}
	defer l.lock(handle)()
	if err := create(image, size); err != nil {
		return false, fmt.Errorf("cannot make volume %s: %w", handle, err)
	}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("cannot open volume %s: %w", handle, err)
	}
	defer f.Close()
	d, err := l.attached(handle, f)
	if err != nil {
		return false, err
	}
	if d != nil {
		if have, err := ext4.Size(f); err == nil && have+growth < ext4.ImageSize(size) {
			d.Close()
			if d, err = l.detached(ctx, handle, f); err != nil {
				return false, err
			}
		}
	}
	if d == nil {
		if err := l.growOffline(handle, f, ext4.ImageSize(size)); err != nil {
			return false, fmt.Errorf("cannot enlarge volume %s: %w", handle, err)
		}
		if d, err = l.attach(handle, f); err != nil {
			return false, fmt.Errorf("cannot provide volume %s: %w", handle, err)
		}
		sized = true
	}
	defer d.Close()
	if options != "" {
		options = "," + options
	}
	// Space that is freed in the volume is given back to the disk.
	if err := unix.Mount(d.Path(), target, "ext4", flags, "discard"+options); err != nil {
		return false, fmt.Errorf("cannot mount volume %s: %w", handle, err)
	}
	return sized, nil
}

// detached waits until no device carries a volume, for three seconds at most,
// and returns the one that still does.
func (l *LocalDisk) detached(ctx context.Context, handle string, f *os.File) (*loop.Device, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for {
		d, err := l.attached(handle, f)
		if d == nil || err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return d, nil
		default:
			d.Close() // or it would be held by this
		}
		select {
		case <-ctx.Done():
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// create makes the file of a volume unless it is there.
func create(image string, size int64) error {
	if _, err := os.Stat(image); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(image), 0o700); err != nil {
		return err
	}
	fresh := image + ".new"
	f, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	total := ext4.ImageSize(size)
	if err := f.Truncate(total); err != nil {
		return err
	}
	var id [16]byte
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0F|0x40, id[8]&0x3F|0x80
	if err := ext4.Format(f, total, id, time.Now()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(fresh, image); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(image))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// attached is the device that carries a volume, or nil.
func (l *LocalDisk) attached(handle string, f *os.File) (*loop.Device, error) {
	b, err := os.ReadFile(filepath.Join(l.Dir, handle, "loop"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read device of volume %s: %w", handle, err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, nil // written half: then it was never used
	}
	return loop.Open(n, f)
}

func (l *LocalDisk) attach(handle string, f *os.File) (*loop.Device, error) {
	return loop.Attach(f, func(n int) error {
		return os.WriteFile(filepath.Join(l.Dir, handle, "loop"), strconv.AppendInt(nil, int64(n), 10), 0o600)
	})
}

// ErrInUse says that something cannot be done while pods use a volume.
var ErrInUse = errors.New("the volume is in use")

// Remove deletes a volume; one that is not there is no error. One that is in use
// is given a moment to be let go.
func (l *LocalDisk) Remove(ctx context.Context, handle string) error {
	image, err := l.path(handle, "image")
	if err != nil {
		return err
	}
	defer l.lock(handle)()
	if f, err := os.OpenFile(image, os.O_RDWR, 0); err == nil {
		d, err := l.detached(ctx, handle, f)
		f.Close()
		if err != nil {
			return err
		}
		if d != nil {
			d.Close()
			return fmt.Errorf("cannot remove volume %s: %w", handle, ErrInUse)
		}
	}
	if err := os.RemoveAll(filepath.Dir(image)); err != nil {
		return fmt.Errorf("cannot remove volume %s: %w", handle, err)
	}
	return nil
}
