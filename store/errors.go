package store

import (
	"errors"
	"fmt"
	"syscall"
)

// The errors a caller tells apart, with errors.Is.
var (
	// ErrNotFound: there is no such key at that revision.
	ErrNotFound = errors.New("key not found")
	// ErrExists: Op.Expect was 0 and the key exists.
	ErrExists = errors.New("key exists already")
	// ErrConflict: the key's ModRev is not Op.Expect.
	ErrConflict = errors.New("key was changed by another write")
	// ErrCompacted: the revision is no longer kept (410 Gone).
	ErrCompacted = errors.New("revision has been compacted")
	// ErrFutureRev: the revision has not happened yet.
	ErrFutureRev = errors.New("revision is in the future")
	// ErrClosed: the store or the watcher is closed.
	ErrClosed = errors.New("store is closed")
	// ErrStopped: an earlier write to disk failed, so the store takes no more
	// writes until the server is restarted. Reads go on.
	ErrStopped = errors.New("store has stopped writing")
)

// OpError says which condition of an Op failed. Unwrap gives ErrNotFound,
// ErrExists or ErrConflict.
type OpError struct {
	Kind    error
	Key     string
	Expect  Rev
	Current *Record // the record found instead, nil for ErrNotFound
}

func (e *OpError) Error() string {
	if e.Current == nil || e.Kind == ErrExists {
		return fmt.Sprintf("cannot write %q: %v", e.Key, e.Kind)
	}
	return fmt.Sprintf("cannot write %q: %v: expected revision %d, found %d", e.Key, e.Kind, e.Expect, e.Current.ModRev)
}

// Unwrap returns the kind.
func (e *OpError) Unwrap() error { return e.Kind }

// RevError is a revision out of the range that is kept. Unwrap gives
// ErrCompacted or ErrFutureRev.
type RevError struct {
	Kind      error
	Rev       Rev
	Compacted Rev // oldest revision kept
	Current   Rev // newest revision
}

func (e *RevError) Error() string {
	return fmt.Sprintf("cannot read at revision %d: %v (kept are %d to %d)", e.Rev, e.Kind, e.Compacted, e.Current)
}

// Unwrap returns the kind.
func (e *RevError) Unwrap() error { return e.Kind }

// stopError says why writing has stopped and what the operator can do.
func stopError(dir string, cause error) error {
	switch {
	case errors.Is(cause, syscall.ENOSPC), errors.Is(cause, syscall.EDQUOT):
		return fmt.Errorf("%w: the disk of data directory %s is full: free space there and restart the server; reads go on: %w", ErrStopped, dir, cause)
	default:
		return fmt.Errorf("%w: cannot write to data directory %s: check its disk and restart the server, which reads back what is safe; reads go on: %w", ErrStopped, dir, cause)
	}
}
