package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Store is the images of one node. All methods may be called at the same time
// from many goroutines.
type Store struct {
	dir  string
	opt  Options
	lock *os.File

	// recording serialises changes of records. It is held across disk writes;
	// mu, which guards what is in memory, is not, so that containers start
	// while an image is being recorded. recording is taken before mu.
	recording sync.Mutex

	mu      sync.Mutex
	images  map[string]*entry        // by the hex digits of the id
	names   map[string]string        // normalised name to id
	pins    map[string]pin           // by owner
	held    map[string]int           // digests and chains that work in flight needs
	parsed  map[string]*Image        // a few images ready to hand out
	builtin map[string]*builtinImage // by id
	reserve map[string]bool          // domains that belong to built-in images

	pulls  flight[string, *Image]
	blobs  flight[string, none]
	layers flight[string, none]
	syncs  syncer

	downloading, unpacking chan struct{} // semaphores

	retryAfter time.Duration // before the first attempt to go on with a download
}

// keepParsed bounds how many images are kept ready in memory.
const keepParsed = 64

// Open opens the store, and clears away what a crash has left unfinished. It
// fails if another process has it open.
func Open(o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir: o.Dir, opt: o,
		images: map[string]*entry{}, names: map[string]string{}, pins: map[string]pin{},
		held: map[string]int{}, parsed: map[string]*Image{},
		builtin: map[string]*builtinImage{}, reserve: map[string]bool{},
		downloading: make(chan struct{}, o.Downloads), unpacking: make(chan struct{}, o.Unpacks),
		retryAfter: 100 * time.Millisecond,
	}
	for _, d := range []string{"blobs/sha256", "images", "layers", "l"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o711); err != nil {
			return nil, fmt.Errorf("cannot open image store: %w", err)
		}
	}
	if s.lock, err = os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("cannot open image store: %w", err)
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		s.lock.Close()
		return nil, fmt.Errorf("cannot open image store %s: another process has it open: %w", s.dir, err)
	}
	if err := errors.Join(s.clearUnfinished(), s.loadRecords(), s.loadPins(), s.addBuiltins()); err != nil {
		s.lock.Close()
		return nil, err
	}
	return s, nil
}

// Close lets another process open the store. Work in flight must have ended.
func (s *Store) Close() error {
	return s.lock.Close()
}

// Get finds an image by name, by name and digest, or by id, without touching
// a registry. The error wraps ErrNotFound or ErrInvalidName.
func (s *Store) Get(ref string) (*Image, error) {
	s.mu.Lock()
	id, err := s.find(ref)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return s.load(id)
}

// find resolves what a user calls an image to the hex digits of its id. The
// caller holds mu.
func (s *Store) find(ref string) (string, error) {
	if id, ok := asID(ref); ok {
		if s.images[id] != nil || s.builtin[id] != nil {
			return id, nil
		}
		return "", fmt.Errorf("cannot find image %q: %w", ref, ErrNotFound)
	}
	r, err := ParseReference(ref)
	if err == nil {
		if id, ok := s.names[r.String()]; ok {
			return id, nil
		}
	}
	// People shorten ids: accept what can mean one image only.
	if short := strings.TrimPrefix(ref, "sha256:"); len(short) >= 6 && isHex(short) {
		var hit []string
		for id := range s.images {
			if strings.HasPrefix(id, short) {
				hit = append(hit, id)
			}
		}
		for id := range s.builtin {
			if strings.HasPrefix(id, short) {
				hit = append(hit, id)
			}
		}
		if len(hit) == 1 {
			return hit[0], nil
		}
		if len(hit) > 1 {
			return "", fmt.Errorf("cannot find image %q: %w: %d ids begin so", ref, ErrNotFound, len(hit))
		}
	}
	if err != nil {
		return "", err
	}
	return "", fmt.Errorf("cannot find image %q: %w", r, ErrNotFound)
}

// load returns the image with this id, from memory or from its record.
func (s *Store) load(id string) (*Image, error) {
	s.mu.Lock()
	if b := s.builtin[id]; b != nil {
		s.mu.Unlock()
		return b.image, nil
	}
	if i := s.parsed[id]; i != nil {
		s.mu.Unlock()
		return i, nil
	}
	e := s.images[id]
	if e == nil {
		s.mu.Unlock()
		return nil, fmt.Errorf("cannot find image sha256:%s: %w", id, ErrNotFound)
	}
	s.mu.Unlock()
	r, err := s.readRecord(id)
	var cfg *configFile
	if err == nil {
		cfg, err = s.readConfig(r.ID)
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.images[id] == nil { // removed meanwhile
			return nil, fmt.Errorf("cannot find image sha256:%s: %w", id, ErrNotFound)
		}
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.describe(r, cfg, e.names)
	if s.images[id] == e {
		if len(s.parsed) >= keepParsed {
			clear(s.parsed)
		}
		s.parsed[id] = i
	}
	return i, nil
}

// describe makes what callers see of an image.
func (s *Store) describe(r *record, cfg *configFile, names map[string]int64) *Image {
	i := cfg.image()
	i.ID, i.Size, i.root = r.ID, r.Size, filepath.Join(s.dir, "l")
	for _, l := range slices.Backward(r.Layers) {
		i.lower = append(i.lower, shortName(l.Chain))
	}
	for name := range names {
		if strings.Contains(name, "@") {
			i.RepoDigests = append(i.RepoDigests, name)
		} else {
			i.RepoTags = append(i.RepoTags, name)
		}
	}
	slices.Sort(i.RepoDigests)
	slices.Sort(i.RepoTags)
	return i
}

// List returns all images, built-in ones too, sorted by id.
func (s *Store) List() ([]*Image, error) {
	s.mu.Lock()
	ids := make([]string, 0, len(s.images)+len(s.builtin))
	for id := range s.images {
		ids = append(ids, id)
	}
	for id := range s.builtin {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	slices.Sort(ids)
	list := make([]*Image, 0, len(ids))
	for _, id := range ids {
		i, err := s.load(id)
		if errors.Is(err, ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, nil
}
