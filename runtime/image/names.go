package image

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Tag gives an image one more name; the name leaves the image that had it.
func (s *Store) Tag(ref, name string) error {
	r, err := ParseReference(name)
	if err != nil {
		return err
	}
	if r.Digest != "" {
		return fmt.Errorf("cannot tag image %q as %q: %w: a tag is needed, not a digest", ref, name, ErrInvalidName)
	}
	s.recording.Lock()
	defer s.recording.Unlock()
	s.mu.Lock()
	id, err := s.find(ref)
	builtin := s.builtin[id] != nil
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if builtin {
		return fmt.Errorf("cannot tag image %q: %w", ref, ErrBuiltin)
	}
	rec, err := s.readRecord(id)
	if err != nil {
		return err
	}
	return s.putRecord(rec, r)
}

// putRecord makes an image with its names known, durably: first on the image
// that gets the names and then on those that lose them; should the machine
// stop in between, the later time decides. The caller holds recording.
func (s *Store) putRecord(rec *record, refs ...Reference) error {
	id := strings.TrimPrefix(rec.ID, "sha256:")
	now := time.Now()
	lose := map[string][]string{}
	rec.Names = map[string]int64{}
	s.mu.Lock()
	if e := s.images[id]; e != nil {
		maps.Copy(rec.Names, e.names)
	}
	for _, r := range refs {
		if s.reserve[r.Domain] {
			s.mu.Unlock()
			return fmt.Errorf("cannot name an image %q: %w", r, ErrBuiltin)
		}
		name := r.String()
		rec.Names[name] = now.UnixNano()
		if old, ok := s.names[name]; ok && old != id {
			lose[old] = append(lose[old], name)
		}
	}
	s.mu.Unlock()
	if err := s.writeRecord(rec); err != nil {
		return err
	}
	s.mu.Lock()
	s.images[id] = &entry{names: rec.Names, size: rec.Size, lastUsed: now}
	delete(s.parsed, id)
	for _, r := range refs {
		s.names[r.String()] = id
	}
	s.mu.Unlock()
	for old, names := range lose {
		if err := s.dropNames(old, names...); err != nil {
			return err
		}
	}
	return nil
}

// dropNames takes names from an image, durably. The caller holds recording.
func (s *Store) dropNames(id string, names ...string) error {
	rec, err := s.readRecord(id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	e := s.images[id]
	kept := maps.Clone(e.names)
	used := e.lastUsed
	s.mu.Unlock()
	for _, n := range names {
		delete(kept, n)
	}
	rec.Names = kept
	if err := s.writeRecord(rec); err != nil {
		return err
	}
	// The time of the file is that of the image's last use.
	if err := os.Chtimes(s.recordPath(id), used, used); err != nil {
		return fmt.Errorf("cannot write image record: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[id] = &entry{names: kept, size: e.size, lastUsed: e.lastUsed}
	delete(s.parsed, id)
	for _, n := range names {
		if s.names[n] == id {
			delete(s.names, n)
		}
	}
	return nil
}

// Remove takes a name from an image; with the last tag, or when called by id,
// the image itself goes, which fails with ErrInUse while a container uses it.
// Content that no other image needs goes with it.
func (s *Store) Remove(ctx context.Context, ref string) error {
	gone, err := s.remove(ref)
	if err != nil {
		return err
	}
	if gone {
		_, err = s.Sweep(ctx)
	}
	return err
}

// remove is Remove without the sweep; it tells whether the image is gone.
func (s *Store) remove(ref string) (gone bool, err error) {
	s.recording.Lock()
	defer s.recording.Unlock()
	s.mu.Lock()
	id, err := s.find(ref)
	if err != nil {
		s.mu.Unlock()
		return false, err
	}
	if s.builtin[id] != nil {
		s.mu.Unlock()
		return false, fmt.Errorf("cannot remove image %q: %w", ref, ErrBuiltin)
	}
	if r, err := ParseReference(ref); err == nil && s.names[r.String()] == id {
		others := slices.ContainsFunc(slices.Collect(maps.Keys(s.images[id].names)), func(n string) bool {
			return n != r.String() && !strings.Contains(n, "@")
		})
		if others {
			s.mu.Unlock()
			return false, s.dropNames(id, r.String())
		}
	}
	if owner := s.owner(id); owner != "" {
		s.mu.Unlock()
		return false, fmt.Errorf("cannot remove image %q: %w by %s", ref, ErrInUse, owner)
	}
	e := s.forget(id)
	s.mu.Unlock()
	if err := s.removeRecord(id, e); err != nil {
		return false, fmt.Errorf("cannot remove image %q: %w", ref, err)
	}
	return true, nil
}

// forget takes an image out of sight. The caller holds mu.
func (s *Store) forget(id string) *entry {
	e := s.images[id]
	for n := range e.names {
		if s.names[n] == id {
			delete(s.names, n)
		}
	}
	delete(s.images, id)
	delete(s.parsed, id)
	return e
}

// removeRecord deletes the record of a forgotten image; if that fails, the
// image is known again. The caller holds recording.
func (s *Store) removeRecord(id string, e *entry) error {
	err := os.Remove(s.recordPath(id))
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return syncDir(filepath.Join(s.dir, "images"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[id] = e
	for n := range e.names {
		if _, taken := s.names[n]; !taken {
			s.names[n] = id
		}
	}
	return err
}
