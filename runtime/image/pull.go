package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Pull fetches an image from its registry, or from a mirror, and returns when
// it is unpacked and durable. What is there already is not fetched again; an
// image whose tag still means the same costs one request. Pulls of the same
// name with the same credentials share the work, which ends when ctx has ended
// for all of them. The error wraps one of the kinds of failure of this package.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	if s.reserve[r.Domain] {
		s.mu.Lock()
		id, ok := s.names[r.String()]
		s.mu.Unlock()
		if !ok {
			return nil, fmt.Errorf("cannot pull image %q: %w: %s has built-in images only", r, ErrNotFound, r.Domain)
		}
		return s.load(id)
	}
	secret, err := json.Marshal(o.Credentials)
	if err != nil {
		return nil, fmt.Errorf("cannot pull image %q: %w", r, err)
	}
	sum := sha256.Sum256(secret)
	i, err := s.pulls.do(ctx, r.String()+" "+hex.EncodeToString(sum[:]), o.Progress, func(ctx context.Context, tell func(Progress)) (*Image, error) {
		return s.pull(ctx, r, o.Credentials, tell)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot pull image %q: %w", r, err)
	}
	return i, nil
}

// pull tries each endpoint with each credential until one has the image.
func (s *Store) pull(ctx context.Context, r Reference, creds []Credential, tell func(Progress)) (*Image, error) {
	list, mirrors := s.endpoints(r)
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: no endpoint is configured for %s", ErrUnreachable, r.Domain)
	}
	var failure error
	for n, e := range list {
		tries := []*Credential{nil} // anonymous, or the endpoint's own
		// A pod's credentials are for the registry it names. They are not
		// shown to a mirror, which is somebody else.
		if n >= mirrors && len(creds) > 0 {
			tries = tries[:0]
			for i := range creds {
				tries = append(tries, &creds[i])
			}
		}
		for _, c := range tries {
			i, err := s.pullFrom(ctx, r, e, n < mirrors, c, tell)
			if err == nil {
				return i, nil
			}
			failure = worse(failure, err)
			if ctx.Err() != nil || fatal(err) {
				return nil, err
			}
			if !errors.Is(err, ErrUnauthorized) {
				break // another credential will not help
			}
		}
	}
	return nil, failure
}

// fatal says whether no other endpoint can help.
func fatal(err error) bool {
	return errors.Is(err, ErrNoSpace) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrNoPlatform)
}

// worse keeps the failure that says most: the last one, for the registry
// itself comes last, unless it merely could not be reached while an earlier
// endpoint gave a real answer.
func worse(old, err error) error {
	if old != nil && errors.Is(err, ErrUnreachable) && !errors.Is(old, ErrUnreachable) {
		return fmt.Errorf("%w (and: %v)", old, err)
	}
	return err
}

// pullFrom pulls from one endpoint.
func (s *Store) pullFrom(ctx context.Context, r Reference, e Endpoint, mirror bool, c *Credential, tell func(Progress)) (*Image, error) {
	from, done, err := dial(ctx, r, e, mirror, c)
	if err != nil {
		return nil, err
	}
	defer done()
	data, mediaType, top, err := s.manifest(ctx, from, r.identifier())
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(data, mediaType)
	if err != nil {
		return nil, err
	}
	digest := top
	for depth := 0; m.isIndex(); depth++ {
		if depth == 3 {
			return nil, fmt.Errorf("%w: indexes within indexes", ErrCorrupt)
		}
		d, err := m.choose(s.opt.OS, s.opt.Architecture, s.opt.Variant)
		if err != nil {
			return nil, err
		}
		if data, mediaType, digest, err = s.manifest(ctx, from, d.Digest); err != nil {
			return nil, err
		}
		if m, err = parseManifest(data, mediaType); err != nil {
			return nil, err
		}
	}
	names := []Reference{{Domain: r.Domain, Path: r.Path, Digest: top}}
	if r.Tag != "" {
		names = append(names, r)
	}
	return s.assemble(ctx, from, assembly{manifest: data, digest: digest, parsed: m, index: top, names: names, title: r.String(), tell: tell})
}

// manifest asks for a manifest, again if the registry had a bad moment: the
// pod would wait ten seconds for the next attempt.
func (s *Store) manifest(ctx context.Context, from *session, identifier string) (data []byte, mediaType, digest string, err error) {
	for n := time.Duration(1); ; n++ {
		data, mediaType, digest, err = from.manifest(ctx, identifier, s.opt.MaxManifestBytes)
		if err == nil || n == 3 || !errors.Is(err, ErrUnreachable) {
			return data, mediaType, digest, err
		}
		select {
		case <-time.After(n * n * s.retryAfter):
		case <-ctx.Done():
			return nil, "", "", ctx.Err()
		}
	}
}

// assembly is an image about to be stored.
type assembly struct {
	manifest []byte
	digest   string // of manifest
	parsed   *manifestFile
	index    string // the digest it was asked for by, of the index or the manifest
	names    []Reference
	title    string
	tell     func(Progress)
}

// assemble makes an image present: configuration, layers and, last of all,
// its record.
func (s *Store) assemble(ctx context.Context, from source, a assembly) (*Image, error) {
	m := a.parsed
	hold := []string{a.digest, m.Config.Digest}
	for _, l := range m.Layers {
		hold = append(hold, l.Digest)
	}
	defer s.hold(hold...)()
	if err := s.fetch(ctx, from, m.Config.Digest, m.Config.Size, s.opt.MaxManifestBytes, nil); err != nil {
		return nil, err
	}
	cfg, err := s.readConfig(m.Config.Digest)
	if err != nil {
		return nil, err
	}
	if cfg.OS != "" && cfg.OS != s.opt.OS || cfg.Architecture != "" && cfg.Architecture != s.opt.Architecture {
		return nil, fmt.Errorf("%w: it is for %s/%s, this node is %s/%s", ErrNoPlatform, cfg.OS, cfg.Architecture, s.opt.OS, s.opt.Architecture)
	}
	if len(cfg.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%w: %d layers in the manifest, %d in the configuration", ErrCorrupt, len(m.Layers), len(cfg.RootFS.DiffIDs))
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("%w: %d layers, at most %d can be mounted", ErrTooLarge, len(m.Layers), maxLayers)
	}
	rec := &record{ID: m.Config.Digest, Manifest: a.digest, Size: int64(len(a.manifest)) + m.Config.Size, Pulled: time.Now().UTC()}
	if a.index != a.digest {
		rec.Index = a.index
	}
	chains := chainIDs(cfg.RootFS.DiffIDs)
	defer s.hold(chains...)()
	p := &pulling{tell: a.tell, now: Progress{Reference: a.title, Layers: len(m.Layers)}}
	for n, l := range m.Layers {
		rec.Layers = append(rec.Layers, layerRecord{Digest: l.Digest, DiffID: cfg.RootFS.DiffIDs[n], Chain: chains[n], MediaType: l.MediaType, Size: l.Size})
		rec.Size += l.Size
		if !s.hasBlob(l.Digest) {
			p.now.Bytes += l.Size
		}
	}
	p.report()
	if err := s.ensure(ctx, &layerWork{from: from, layers: rec.Layers, read: p.read, done: p.layer}, len(rec.Layers)-1); err != nil {
		return nil, err
	}
	if err := s.putBlob(a.digest, a.manifest); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Join(s.dir, "blobs", "sha256")); err != nil {
		return nil, fmt.Errorf("cannot store image: %w", err)
	}
	if err := syncDir(filepath.Join(s.dir, "l")); err != nil {
		return nil, fmt.Errorf("cannot store image: %w", err)
	}
	s.recording.Lock()
	err = s.putRecord(rec, a.names...)
	s.recording.Unlock()
	if err != nil {
		return nil, err
	}
	return s.describe(rec, cfg, rec.Names), nil
}

// maxLayers is what Docker allows too; overlayfs takes 500.
const maxLayers = 127

// pulling counts the progress of one image.
type pulling struct {
	mu   sync.Mutex
	tell func(Progress)
	now  Progress
}

func (p *pulling) report() {
	if p.tell != nil {
		p.tell(p.now)
	}
}

// read counts bytes that arrived, or a negative number of those lost.
func (p *pulling) read(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.BytesDone += n
	p.report()
}

// layer counts a layer that is there.
func (p *pulling) layer(present bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.LayersDone++
	if present {
		p.now.LayersPresent++
	}
	p.report()
}

// complete makes the layers of a known image present: those of a built-in
// image are made on first use, and one that is missing (somebody deleted it, or
// it was found incomplete) is unpacked again from its blob.
func (s *Store) complete(ctx context.Context, id string) error {
	s.mu.Lock()
	b := s.builtin[id]
	i := s.parsed[id]
	s.mu.Unlock()
	if b != nil {
		return s.buildLayer(ctx, b)
	}
	if i != nil {
		whole := true
		for _, l := range i.lower {
			if _, err := os.Stat(filepath.Join(i.root, l)); err != nil {
				whole = false
			}
		}
		if whole {
			return nil
		}
	}
	r, err := s.readRecord(id)
	if err != nil {
		return err
	}
	hold := []string{}
	for _, l := range r.Layers {
		hold = append(hold, l.Chain, l.Digest)
	}
	defer s.hold(hold...)()
	for _, l := range r.Layers {
		if !s.hasLayer(l.Chain) && !s.hasBlob(l.Digest) {
			return fmt.Errorf("cannot use image %s: %w: layer %s is lost; pull it again", r.ID, ErrCorrupt, l.Digest)
		}
		if s.hasLayer(l.Chain) {
			if err := s.linkLayer(l.Chain); err != nil {
				return err
			}
		}
	}
	return s.ensure(ctx, &layerWork{layers: r.Layers}, len(r.Layers)-1)
}
