package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"testing"
)

func TestStartError(t *testing.T) {
	err := fmt.Errorf("cannot start container x: %w", &StartError{Step: `exec: "foo"`, NotFound: true, Err: fs.ErrNotExist})
	if err.Error() != `cannot start container x: exec: "foo": file does not exist` || !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	var se *StartError
	if !errors.As(err, &se) || !se.NotFound {
		t.Errorf("%+v", se)
	}
}

// The lists are handed out as copies, and hold clean paths, none twice.
func TestDefaultPaths(t *testing.T) {
	for _, f := range []func() []string{DefaultMaskedPaths, DefaultReadonlyPaths} {
		f()[0] = "changed"
		l := f()
		if slices.Contains(l, "changed") {
			t.Error("a shared list")
		}
		slices.Sort(l)
		if len(slices.Compact(slices.Clone(l))) != len(l) || slices.ContainsFunc(l, func(p string) bool { return path.Clean(p) != p || !path.IsAbs(p) }) {
			t.Errorf("%v", l)
		}
	}
}
