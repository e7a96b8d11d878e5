package native

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	profile "github.com/containerd/containerd/v2/contrib/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"sagong/lib/seccomp"
	"sagong/runtime"
)

// filter is a compiled profile as the kernel takes it.
type filter struct {
	code  []byte
	flags uint32
}

// filterCache compiles each profile once. The default one depends on the
// capabilities of the container, a file on its content.
type filterCache struct {
	mu      sync.Mutex
	filters map[[sha256.Size]byte]filter
}

// get is the filter of a container; none for an unconfined or privileged one.
func (f *filterCache) get(s runtime.Security) ([]byte, uint32, error) {
	if s.Privileged {
		return nil, 0, nil
	}
	var key [sha256.Size]byte
	var load func() (*specs.LinuxSeccomp, error)
	switch s.Seccomp.Type {
	case "", runtime.SeccompUnconfined:
		return nil, 0, nil
	case runtime.SeccompRuntimeDefault:
		caps, err := capabilities(s)
		if err != nil {
			return nil, 0, err
		}
		binary.NativeEndian.PutUint64(key[:], caps)
		load = func() (*specs.LinuxSeccomp, error) { return defaultProfile(caps), nil }
	case runtime.SeccompLocalhost:
		if !filepath.IsAbs(s.Seccomp.Path) {
			return nil, 0, fmt.Errorf("seccomp profile %q must be an absolute path", s.Seccomp.Path)
		}
		data, err := os.ReadFile(s.Seccomp.Path)
		if err != nil {
			return nil, 0, fmt.Errorf("cannot read seccomp profile: %w", err)
		}
		key = sha256.Sum256(data)
		load = func() (*specs.LinuxSeccomp, error) {
			p := new(specs.LinuxSeccomp)
			if err := json.Unmarshal(data, p); err != nil {
				return nil, fmt.Errorf("cannot read seccomp profile %s: %w", s.Seccomp.Path, err)
			}
			return p, nil
		}
	default:
		return nil, 0, fmt.Errorf("unknown seccomp profile type %q", s.Seccomp.Type)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.filters[key]; ok {
		return c.code, c.flags, nil
	}
	p, err := load()
	if err != nil {
		return nil, 0, err
	}
	prog, err := seccomp.Compile(p)
	if err != nil {
		return nil, 0, err
	}
	c := filter{flags: prog.Flags, code: make([]byte, 0, 8*len(prog.Insns))}
	for _, i := range prog.Insns {
		c.code = binary.NativeEndian.AppendUint16(c.code, i.Code)
		c.code = append(c.code, i.JT, i.JF)
		c.code = binary.NativeEndian.AppendUint32(c.code, i.K)
	}
	if f.filters == nil {
		f.filters = map[[sha256.Size]byte]filter{}
	}
	f.filters[key] = c
	return c.code, c.flags, nil
}

// defaultProfile is containerd's for a set of capabilities.
func defaultProfile(caps uint64) *specs.LinuxSeccomp {
	var names []string
	for i, n := range capabilityNames {
		if caps>>i&1 == 1 {
			names = append(names, "CAP_"+n)
		}
	}
	return profile.DefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: names}}})
}
