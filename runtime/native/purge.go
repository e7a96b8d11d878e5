package native

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"sagong/lib/cgroup"
)

// Purge removes all that a runtime with these options has ever made: shims and
// containers, pinned namespaces, cgroups, directories. No runtime may be open
// on them. What cannot be removed does not keep the rest from being removed.
func Purge(opts Options) error {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	d := newDirs(opts.DataDir, opts.RunDir)
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	for _, dir := range []string{d.data, d.run} {
		if _, err := os.Stat(dir); err == nil {
			lock, err := lockDir(dir)
			if err != nil {
				return fmt.Errorf("cannot purge the runtime: %w", err)
			}
			defer lock.Close()
		}
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	keep(err)
	uids, err := subdirs(filepath.Join(d.run, "p"))
	keep(err)
	for _, uid := range uids {
		dir := d.podRun(uid)
		var shim process
		if f, err := readShimFile(dir); err == nil && f.Boot+"\n" == string(boot) {
			shim = f.process
		}
		keep(endShim(dir, shim))
		keep(unpin(filepath.Join(dir, "ns", "net")))
	}
	layout := opts.Cgroups
	if layout == nil {
		l, err := cgroup.Detect()
		keep(err)
		layout = &l
	}
	if tree, err := cgroup.Open(*layout, opts.CgroupRoot); err != nil {
		keep(err)
	} else {
		names, err := tree.List("")
		keep(err)
		for _, n := range names {
			keep(tree.Kill(n, 10*time.Second))
		}
		keep(tree.RemoveRoot())
	}
	// The directory may be a mount of its own.
	keep(emptyTree(d.run))
	keep(unpin(d.run))
	keep(removeTree(d.run))
	keep(removeTree(d.data))
	for _, dir := range []string{opts.RunDir, opts.DataDir} {
		// The parents are others' too: only when empty.
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			opts.Log.Debug("directory kept", "dir", dir, "err", err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot purge the runtime: %w", err)
	}
	return nil
}
