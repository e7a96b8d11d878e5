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

	"golang.org/x/sys/unix"
)

// clearUnfinished removes what a crash has left: everything that was not yet
// renamed into place, and layers that were written without a sync before the
// machine went down.
func (s *Store) clearUnfinished() error {
	for _, d := range []string{"blobs", "blobs/sha256", "images", "layers", "l", "."} {
		list, err := os.ReadDir(filepath.Join(s.dir, d))
		if err != nil {
			return fmt.Errorf("cannot open image store: %w", err)
		}
		for _, f := range list {
			p := filepath.Join(s.dir, d, f.Name())
			if strings.HasPrefix(f.Name(), "tmp-") {
				s.opt.Log.Info("unfinished work removed", "path", p)
				if err := os.RemoveAll(p); err != nil {
					return fmt.Errorf("cannot open image store: %w", err)
				}
				continue
			}
			if d == "l" {
				if _, err := os.Stat(p); errors.Is(err, os.ErrNotExist) {
					os.Remove(p) // its layer did not come to be, or went
				}
			}
			if d != "layers" {
				continue
			}
			if info, err := s.readLayerInfo(f.Name()); err != nil || info.Boot != "" && info.Boot != bootID() {
				s.opt.Log.Info("incomplete layer removed", "layer", f.Name())
				if err := s.dropLayer(f.Name()); err != nil {
					return fmt.Errorf("cannot open image store: %w", err)
				}
			}
		}
	}
	return nil
}

// bootID names this boot of the machine.
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}

// dropLayer removes a layer at once from sight and then from the disk.
func (s *Store) dropLayer(chain string) error {
	doomed, err := s.hideLayer(chain)
	if err != nil {
		return err
	}
	return os.RemoveAll(doomed)
}

// hideLayer takes a layer out of sight and returns where it is now.
func (s *Store) hideLayer(chain string) (string, error) {
	doomed := filepath.Join(s.dir, "layers", "tmp-gone-"+chain)
	if err := os.Rename(s.layerPath(chain), doomed); err != nil {
		return "", err
	}
	if len(chain) >= 16 {
		link := filepath.Join(s.dir, "l", shortName(chain))
		if old, err := os.Readlink(link); err == nil && strings.Contains(old, chain) {
			os.Remove(link)
		}
	}
	return doomed, nil
}

// Sweep removes blobs and layers that no image needs, neither work in flight
// nor a pin, and returns the bytes it freed.
func (s *Store) Sweep(ctx context.Context) (freed int64, err error) {
	s.recording.Lock()
	doomed, err := s.unreferenced()
	s.recording.Unlock()
	for _, d := range doomed {
		if ctx.Err() != nil {
			err = errors.Join(err, ctx.Err())
			break // what is hidden already goes when the store is next opened
		}
		if e := os.RemoveAll(d.path); e != nil {
			err = errors.Join(err, e)
			continue
		}
		freed += d.bytes
	}
	if err != nil {
		return freed, fmt.Errorf("cannot remove unused image content: %w", err)
	}
	return freed, nil
}

// doomedPath is something to delete that nobody can find any more.
type doomedPath struct {
	path  string
	bytes int64
}

// unreferenced takes out of sight what nobody needs. The caller holds
// recording, so that no record changes.
func (s *Store) unreferenced() ([]doomedPath, error) {
	need := map[string]bool{}
	s.mu.Lock()
	ids := slices.Collect(maps.Keys(s.images))
	s.mu.Unlock()
	for _, id := range ids {
		r, err := s.readRecord(id)
		if err != nil {
			return nil, err // better keep too much than too little
		}
		need[r.ID], need[r.Manifest] = true, true
		for _, l := range r.Layers {
			need[l.Digest], need[l.Chain] = true, true
		}
	}
	// From here on nobody can begin to need anything. What follows is renames.
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.held {
		need[k] = true
	}
	for _, b := range s.builtin {
		need[b.chain] = true
	}
	keepLayers := false
	for owner, p := range s.pins {
		need[p.chain] = true
		if s.images[p.id] == nil && p.chain == "" {
			s.opt.Log.Warn("a container uses an image without a record, so no layers are removed", "owner", owner, "image", p.id)
			keepLayers = true
		}
	}
	var doomed []doomedPath
	blobs, err := os.ReadDir(filepath.Join(s.dir, "blobs", "sha256"))
	if err != nil {
		return nil, err
	}
	for _, f := range blobs {
		if need["sha256:"+f.Name()] || strings.HasPrefix(f.Name(), "tmp-") {
			continue
		}
		from, to := s.blobPath(f.Name()), filepath.Join(s.dir, "blobs", "tmp-gone-"+f.Name())
		var st unix.Stat_t
		if err := unix.Lstat(from, &st); err != nil {
			return doomed, err
		}
		if err := os.Rename(from, to); err != nil {
			return doomed, err
		}
		doomed = append(doomed, doomedPath{to, st.Blocks * 512})
	}
	if keepLayers {
		return doomed, nil
	}
	layers, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return doomed, err
	}
	for _, f := range layers {
		if need[f.Name()] || strings.HasPrefix(f.Name(), "tmp-") {
			continue
		}
		info, _ := s.readLayerInfo(f.Name())
		to, err := s.hideLayer(f.Name())
		if err != nil {
			return doomed, err
		}
		doomed = append(doomed, doomedPath{to, info.Bytes})
	}
	return doomed, nil
}

// Collect removes images that no container uses, the longest unused first,
// until at least free bytes are freed or none is left. Images used within
// minAge stay. It returns the bytes freed and the ids of what was removed.
func (s *Store) Collect(ctx context.Context, free int64, minAge time.Duration) (freed int64, removed []string, err error) {
	if freed, err = s.Sweep(ctx); err != nil {
		return freed, nil, err
	}
	type candidate struct {
		id string
		at time.Time
	}
	var list []candidate
	limit := time.Now().Add(-minAge)
	s.mu.Lock()
	for id, e := range s.images {
		if s.owner(id) == "" && !e.lastUsed.After(limit) {
			list = append(list, candidate{id, e.lastUsed})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b candidate) int { return a.at.Compare(b.at) })
	for _, c := range list {
		if freed >= free || ctx.Err() != nil {
			break
		}
		gone, err := s.removeUnused(c.id, limit)
		if err != nil {
			return freed, removed, fmt.Errorf("cannot remove image sha256:%s: %w", c.id, err)
		}
		if !gone {
			continue // used meanwhile
		}
		removed = append(removed, "sha256:"+c.id)
		n, err := s.Sweep(ctx)
		freed += n
		if err != nil {
			return freed, removed, err
		}
	}
	return freed, removed, ctx.Err()
}

// removeUnused removes an image unless it is in use, or was after the limit.
func (s *Store) removeUnused(id string, limit time.Time) (bool, error) {
	s.recording.Lock()
	defer s.recording.Unlock()
	s.mu.Lock()
	e := s.images[id]
	if e == nil || s.owner(id) != "" || e.lastUsed.After(limit) {
		s.mu.Unlock()
		return false, nil
	}
	s.forget(id)
	s.mu.Unlock()
	return true, s.removeRecord(id, e)
}

// Usage measures what the store holds.
func (s *Store) Usage() (Usage, error) {
	var u Usage
	s.mu.Lock()
	u.Images = len(s.images) + len(s.builtin)
	s.mu.Unlock()
	var st unix.Stat_t
	blobs, err := os.ReadDir(filepath.Join(s.dir, "blobs", "sha256"))
	if err != nil {
		return u, fmt.Errorf("cannot measure image store: %w", err)
	}
	for _, f := range blobs {
		if unix.Lstat(s.blobPath(f.Name()), &st) == nil {
			u.Bytes += st.Blocks * 512
			u.Inodes++
		}
	}
	layers, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return u, fmt.Errorf("cannot measure image store: %w", err)
	}
	for _, f := range layers {
		if info, err := s.readLayerInfo(f.Name()); err == nil {
			u.Bytes += info.Bytes
			u.Inodes += info.Inodes
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return u, fmt.Errorf("cannot measure image store: %w", err)
	}
	u.DiskTotal, u.DiskAvailable = int64(fs.Blocks)*fs.Bsize, int64(fs.Bavail)*fs.Bsize
	return u, nil
}
