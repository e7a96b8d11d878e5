package native

import (
	"fmt"

	"sagong/runtime"
)

type filterCache struct{}

func (f *filterCache) get(s runtime.Security) ([]byte, uint32, error) {
	if s.Privileged || s.Seccomp.Type == "" || s.Seccomp.Type == runtime.SeccompUnconfined {
		return nil, 0, nil
	}
	return nil, 0, fmt.Errorf("seccomp profile %q: %w", s.Seccomp.Type, runtime.ErrUnsupported)
}
