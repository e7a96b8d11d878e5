package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pin is what an owner uses.
type pin struct {
	id    string
	chain string // of a built-in image, which a later version of the binary does not know
}

// String is the form on disk: the id, then ":" and the chain if there is one.
func (p pin) String() string {
	if p.chain != "" {
		return p.id + ":" + p.chain
	}
	return p.id
}

// Use pins an image for an owner, such as a container's id, and makes sure
// that its layers are on the disk. Until Release, neither image nor layers are
// removed, across restarts of the process too if RunDir is set. An owner has
// one image at a time; using another replaces it.
func (s *Store) Use(ctx context.Context, ref, owner string) (*Image, error) {
	if owner == "" || strings.ContainsAny(owner, "/\x00") || strings.HasPrefix(owner, ".") {
		return nil, fmt.Errorf("cannot use image %q: invalid owner %q", ref, owner)
	}
	s.mu.Lock()
	id, err := s.find(ref)
	if err == nil {
		err = s.setPin(owner, id)
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	i, err := s.load(id)
	if err == nil {
		err = s.complete(ctx, id)
	}
	if err != nil {
		return nil, errors.Join(err, s.Release(owner))
	}
	return i, nil
}

// Release ends what Use began. Releasing twice does nothing.
func (s *Store) Release(owner string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.pins[owner]
	if !ok {
		return nil
	}
	if s.opt.RunDir != "" {
		if err := os.Remove(filepath.Join(s.pinDir(), owner)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot release image: %w", err)
		}
	}
	delete(s.pins, owner)
	s.touch(p.id)
	return nil
}

// Pins returns every owner with the id of its image, so that a restarted
// runtime can release those whose containers are gone.
func (s *Store) Pins() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	pins := make(map[string]string, len(s.pins))
	for o, p := range s.pins {
		pins[o] = "sha256:" + p.id
	}
	return pins
}

func (s *Store) pinDir() string { return filepath.Join(s.opt.RunDir, "pins") }

// setPin records a pin. A symbolic link is one atomic system call and needs no
// sync: after a power failure there are no containers either. The caller
// holds mu.
func (s *Store) setPin(owner, id string) error {
	s.touch(id)
	p := pin{id: id}
	if b := s.builtin[id]; b != nil {
		p.chain = b.chain
	}
	if s.pins[owner] == p {
		return nil
	}
	if s.opt.RunDir != "" {
		path := filepath.Join(s.pinDir(), owner)
		err := os.Symlink(p.String(), path)
		if errors.Is(err, os.ErrExist) {
			if err = os.Remove(path); err == nil {
				err = os.Symlink(p.String(), path)
			}
		}
		if err != nil {
			return fmt.Errorf("cannot pin image: %w", noSpace(err))
		}
	}
	s.pins[owner] = p
	return nil
}

// loadPins reads the pins of the process before this one.
func (s *Store) loadPins() error {
	if s.opt.RunDir == "" {
		return nil
	}
	if err := os.MkdirAll(s.pinDir(), 0o700); err != nil {
		return fmt.Errorf("cannot open image store: %w", err)
	}
	list, err := os.ReadDir(s.pinDir())
	if err != nil {
		return fmt.Errorf("cannot open image store: %w", err)
	}
	for _, f := range list {
		if link, err := os.Readlink(filepath.Join(s.pinDir(), f.Name())); err == nil {
			id, chain, _ := strings.Cut(link, ":")
			s.pins[f.Name()] = pin{id, chain}
		}
	}
	return nil
}

// owner returns one of those who use the image, or "". The caller holds mu.
func (s *Store) owner(id string) string {
	for o, p := range s.pins {
		if p.id == id {
			return o
		}
	}
	return ""
}

// touch records that the image is used now; the record file's time keeps it
// across restarts. The caller holds mu.
func (s *Store) touch(id string) {
	e := s.images[id]
	if e == nil {
		return
	}
	now := time.Now()
	if now.Sub(e.lastUsed) > time.Second {
		var ts [2]unix.Timespec
		ts[0] = unix.NsecToTimespec(now.UnixNano())
		ts[1] = ts[0]
		unix.UtimesNanoAt(unix.AT_FDCWD, s.recordPath(id), ts[:], 0)
	}
	e.lastUsed = now
}

// LastUsed returns when a container last began or ceased to use each image,
// or when it was pulled if none did, by id. Built-in images are left out.
func (s *Store) LastUsed() map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := make(map[string]time.Time, len(s.images))
	for id, e := range s.images {
		m["sha256:"+id] = e.lastUsed
	}
	return m
}

// InUse returns the ids of the images that containers use.
func (s *Store) InUse() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := map[string]bool{}
	for _, p := range s.pins {
		m["sha256:"+p.id] = true
	}
	return m
}
