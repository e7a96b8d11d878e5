package wal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"sagong/lib/disk"
)

// Restore writes a snapshot as the start of a new data directory, skip
// revisions ahead, and returns the revision the store will begin with. The
// directory must have no store in it.
func Restore(dir string, backup io.Reader, skip int64) (_ int64, err error) {
	fsys := disk.OS{}
	if skip < 0 {
		return 0, fmt.Errorf("skip is %d, revisions cannot go back", skip)
	}
	snaps := filepath.Join(dir, snapDir)
	if err := fsys.MkdirAll(snaps); err != nil {
		return 0, err
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockFile))
	if errors.Is(err, disk.ErrLocked) {
		return 0, ErrBusy
	}
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	if segs, err := segments(filepath.Join(dir, logDir)); err != nil || len(segs) > 0 {
		return 0, errors.Join(errors.New("the directory has a store already"), err)
	}
	if names, err := fsys.ReadDir(snaps); err != nil || len(names) > 0 {
		return 0, errors.Join(errors.New("the directory has a snapshot already"), err)
	}
	// The name holds the revision, which only the backup knows: write it under a
	// temporary name first, whole and proved, then under its own.
	tmp := filepath.Join(snaps, "backup.tmp")
	if err := disk.WriteFile(fsys, tmp, func(w io.Writer) error {
		_, err := io.Copy(w, backup)
		return err
	}); err != nil {
		return 0, err
	}
	defer os.Remove(tmp)
	none := func(Record) error { return nil }
	read := func(each func(Record) error) (State, error) {
		f, err := os.Open(tmp)
		if err != nil {
			return State{}, err
		}
		defer f.Close()
		return ReadSnapshot(bufio.NewReader(f), func(State) error { return nil }, each)
	}
	st, err := read(none)
	if err != nil {
		return 0, err
	}
	st.Rev += skip
	st.Compacted, st.Index = st.Rev, 0
	var rerr error
	records := iter.Seq[Record](func(yield func(Record) bool) {
		stop := errors.New("stop")
		if _, err := read(func(r Record) error {
			if !yield(r) {
				return stop
			}
			return nil
		}); err != nil && err != stop {
			rerr = err
		}
	})
	file := snapFile{rev: st.Rev}
	if err := disk.WriteFile(fsys, filepath.Join(snaps, file.fileName()), func(w io.Writer) error {
		return errors.Join(WriteSnapshot(w, st, records), rerr)
	}); err != nil {
		return 0, err
	}
	return st.Rev, nil
}
