package image

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// record is what images/<hex>.json holds: everything the store must remember
// of an image besides its blobs.
type record struct {
	ID       string           `json:"id"`              // sha256:<hex> of the configuration
	Manifest string           `json:"manifest"`        // digest of the platform's manifest blob
	Index    string           `json:"index,omitempty"` // digest of the index it was chosen from
	Names    map[string]int64 `json:"names"`           // normalised name to the time it was given, ns
	Layers   []layerRecord    `json:"layers"`          // lowest first
	Size     int64            `json:"size"`            // compressed layers, configuration, manifest
	Pulled   time.Time        `json:"pulled"`
}

// layerRecord is one layer of an image.
type layerRecord struct {
	Digest    string `json:"digest"` // of the blob, as transferred
	DiffID    string `json:"diffID"` // of the tar archive inside
	Chain     string `json:"chain"`  // of this layer and all below it: hex of layers/<chain>
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"` // of the blob
}

// entry is the part of a record that stays in memory.
type entry struct {
	names    map[string]int64
	size     int64
	lastUsed time.Time
}

func (s *Store) recordPath(id string) string { return filepath.Join(s.dir, "images", id+".json") }

// readRecord reads the record of an image by the hex digits of its id.
func (s *Store) readRecord(id string) (*record, error) {
	data, err := os.ReadFile(s.recordPath(id))
	if err != nil {
		return nil, fmt.Errorf("cannot read image record: %w", err)
	}
	r := new(record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("cannot read image record %s: %w: %w", id, ErrCorrupt, err)
	}
	if strings.TrimPrefix(r.ID, "sha256:") != id {
		return nil, fmt.Errorf("cannot read image record %s: %w: it is of %s", id, ErrCorrupt, r.ID)
	}
	return r, nil
}

// writeRecord makes a record durable.
func (s *Store) writeRecord(r *record) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("cannot write image record: %w", err)
	}
	if err := writeDurably(s.recordPath(strings.TrimPrefix(r.ID, "sha256:")), data); err != nil {
		return fmt.Errorf("cannot write image record: %w", noSpace(err))
	}
	return nil
}

// loadRecords fills the index from the disk. A record that cannot be read is
// set aside: the image is then absent and pulled again.
func (s *Store) loadRecords() error {
	files, err := os.ReadDir(filepath.Join(s.dir, "images"))
	if err != nil {
		return fmt.Errorf("cannot open image store: %w", err)
	}
	given := map[string]int64{}
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		r, err := s.readRecord(id)
		if err != nil {
			s.opt.Log.Warn("image record set aside", "image", id, "err", err)
			os.Rename(s.recordPath(id), s.recordPath(id)+".bad")
			continue
		}
		e := &entry{names: r.Names, size: r.Size, lastUsed: r.Pulled}
		if e.names == nil {
			e.names = map[string]int64{}
		}
		if info, err := f.Info(); err == nil {
			e.lastUsed = info.ModTime()
		}
		s.images[id] = e
		// A crash between two records can leave a name on both the old and
		// the new image: the later wins.
		for name, at := range e.names {
			if at >= given[name] {
				if old, ok := s.names[name]; ok {
					delete(s.images[old].names, name)
				}
				given[name], s.names[name] = at, id
			} else {
				delete(e.names, name)
			}
		}
	}
	return nil
}
