package image

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// configFile is an image's configuration blob, as OCI and Docker write it.
type configFile struct {
	Created      *time.Time `json:"created,omitempty"`
	Architecture string     `json:"architecture"`
	OS           string     `json:"os"`
	Variant      string     `json:"variant,omitempty"`
	Config       struct {
		User         string              `json:"User,omitempty"`
		ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
		Env          []string            `json:"Env,omitempty"`
		Entrypoint   []string            `json:"Entrypoint,omitempty"`
		Cmd          []string            `json:"Cmd,omitempty"`
		Volumes      map[string]struct{} `json:"Volumes,omitempty"`
		WorkingDir   string              `json:"WorkingDir,omitempty"`
		Labels       map[string]string   `json:"Labels,omitempty"`
		StopSignal   string              `json:"StopSignal,omitempty"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// parseConfig decodes and checks a configuration blob.
func parseConfig(data []byte) (*configFile, error) {
	c := new(configFile)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("cannot read image configuration: %w: %w", ErrCorrupt, err)
	}
	if c.RootFS.Type != "layers" && (c.RootFS.Type != "" || len(c.RootFS.DiffIDs) > 0) {
		return nil, fmt.Errorf("cannot read image configuration: %w: root filesystem type %q", ErrCorrupt, c.RootFS.Type)
	}
	for _, d := range c.RootFS.DiffIDs {
		if !validDigest(d) {
			return nil, fmt.Errorf("cannot read image configuration: %w: layer digest %q", ErrCorrupt, d)
		}
	}
	return c, nil
}

// validDigest says whether d is a sha256 digest, the only kind the store keeps.
func validDigest(d string) bool {
	hex, ok := strings.CutPrefix(d, "sha256:")
	return ok && len(hex) == 64 && isHex(hex)
}

// readConfig reads the configuration with this digest from the blobs.
func (s *Store) readConfig(digest string) (*configFile, error) {
	data, err := os.ReadFile(s.blobPath(digest))
	if err != nil {
		return nil, fmt.Errorf("cannot read image configuration: %w", err)
	}
	return parseConfig(data)
}

// image fills in what the configuration says.
func (c *configFile) image() *Image {
	i := &Image{Architecture: c.Architecture, OS: c.OS, Config: Config{
		Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd, Env: c.Config.Env,
		WorkingDir: c.Config.WorkingDir, User: c.Config.User, StopSignal: c.Config.StopSignal,
		Volumes:      slices.Sorted(maps.Keys(c.Config.Volumes)),
		ExposedPorts: slices.Sorted(maps.Keys(c.Config.ExposedPorts)),
		Labels:       c.Config.Labels,
	}}
	if c.Created != nil {
		i.Created = *c.Created
	}
	return i
}

// file is the inverse of image, for images made on this node.
func (i *Image) file(diffIDs []string) *configFile {
	c := &configFile{Architecture: i.Architecture, OS: i.OS}
	if !i.Created.IsZero() {
		c.Created = &i.Created
	}
	c.Config.Entrypoint, c.Config.Cmd, c.Config.Env = i.Config.Entrypoint, i.Config.Cmd, i.Config.Env
	c.Config.WorkingDir, c.Config.User, c.Config.StopSignal = i.Config.WorkingDir, i.Config.User, i.Config.StopSignal
	c.Config.Labels = i.Config.Labels
	c.Config.Volumes, c.Config.ExposedPorts = set(i.Config.Volumes), set(i.Config.ExposedPorts)
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", diffIDs
	return c
}

// set makes the form in which JSON configurations write sets.
func set(list []string) map[string]struct{} {
	if len(list) == 0 {
		return nil
	}
	m := make(map[string]struct{}, len(list))
	for _, v := range list {
		m[v] = struct{}{}
	}
	return m
}
