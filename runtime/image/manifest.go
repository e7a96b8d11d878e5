package image

import (
	"encoding/json"
	"fmt"
	"strings"
)

// descriptor points at content by digest, in a manifest or an index.
type descriptor struct {
	MediaType   string            `json:"mediaType,omitempty"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// platform is what an image of an index was built for.
type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

// manifestFile is a manifest or an index; the two differ in which fields they
// have.
type manifestFile struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	Config        *descriptor       `json:"config,omitempty"`
	Layers        []descriptor      `json:"layers,omitempty"`
	Manifests     []descriptor      `json:"manifests,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// parseManifest decodes a manifest or an index.
func parseManifest(data []byte, mediaType string) (*manifestFile, error) {
	m := new(manifestFile)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("cannot read image manifest: %w: %w", ErrCorrupt, err)
	}
	if m.SchemaVersion != 2 {
		return nil, fmt.Errorf("cannot read image manifest: %w: schema version %d is not supported, only 2 is", ErrCorrupt, m.SchemaVersion)
	}
	if m.MediaType == "" {
		m.MediaType, _, _ = strings.Cut(mediaType, ";")
	}
	switch {
	case len(m.Manifests) > 0 && (m.Config != nil || len(m.Layers) > 0):
		return nil, fmt.Errorf("cannot read image manifest: %w: it is both a manifest and an index", ErrCorrupt)
	case m.Config == nil && (len(m.Manifests) > 0 || m.MediaType == typeOCIIndex || m.MediaType == typeDockerIndex):
	case m.Config == nil || !validDigest(m.Config.Digest):
		return nil, fmt.Errorf("cannot read image manifest: %w: it has no configuration", ErrCorrupt)
	}
	for _, list := range [][]descriptor{m.Layers, m.Manifests} {
		for _, d := range list {
			if !validDigest(d.Digest) || d.Size < 0 {
				return nil, fmt.Errorf("cannot read image manifest: %w: digest %q, size %d", ErrCorrupt, d.Digest, d.Size)
			}
		}
	}
	return m, nil
}

// isIndex says whether it lists manifests rather than layers.
func (m *manifestFile) isIndex() bool { return m.Config == nil }

// choose finds the image of an index that suits this machine best.
func (m *manifestFile) choose(os, arch, variant string) (descriptor, error) {
	best, score := descriptor{}, -1
	var have []string
	var silent []descriptor // those that leave it to the image's configuration
	for _, d := range m.Manifests {
		p := d.Platform
		if p == nil {
			silent = append(silent, d)
			continue
		}
		if p.OS == "unknown" {
			continue // attestations
		}
		have = append(have, strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/"))
		if p.OS != os || p.Architecture != arch {
			continue
		}
		if n := suits(arch, variant, p.Variant); n > score {
			best, score = d, n
		}
	}
	if score < 0 && len(silent) == 1 {
		return silent[0], nil
	}
	if score < 0 {
		return best, fmt.Errorf("%w: it is for %s, this node is %s/%s", ErrNoPlatform, strings.Join(have, ", "), os, arch)
	}
	return best, nil
}

// suits rates how well an image's variant fits a machine's: higher is better,
// below zero it cannot run. A machine runs the variants below its own.
func suits(arch, mine, theirs string) int {
	level := func(v string) int {
		if len(v) == 2 && v[0] == 'v' && v[1] >= '0' && v[1] <= '9' {
			return int(v[1] - '0')
		}
		switch arch {
		case "amd64":
			return 1
		case "arm":
			return 7
		case "arm64":
			return 8
		}
		return 0
	}
	if level(theirs) > level(mine) {
		return -1
	}
	return level(theirs)
}
