package store

import (
	"context"
	"fmt"
	"io"
	"iter"

	"sagong/store/wal"
)

// onDisk gives the records in the form of the log; each is good until the next.
// What is packed stays so, unless it has to be sealed.
func (s *Local) onDisk(records []*Record) iter.Seq[wal.Record] {
	return func(yield func(wal.Record) bool) {
		var buf []byte
		for i, r := range records {
			records[i] = nil // let go of it as soon as it is written
			d := wal.Record{Key: r.Key, Create: int64(r.CreateRev), Mod: int64(r.ModRev), Expires: r.Expires}
			if s.covers(r.Key) {
				d.Value, d.Err = s.seal(r.Key, r.value.in(&buf))
			} else if d.Value, d.Base = r.value.form(); d.Base == nil {
				d.Value = r.Value()
			}
			if !yield(d) {
				return
			}
		}
	}
}

// beginSnapshot writes a snapshot of the state after the last Append beside the
// commits. The committer calls it with everything written and published.
func (c *committer) beginSnapshot() {
	s := c.s
	rev, release := s.pin()
	state := wal.State{Rev: int64(rev), Compacted: s.compacted.Load(), Index: s.disk.Mark()}
	done := make(chan error, 1)
	c.snapshot = done
	s.wait.Go(func() {
		list, err := s.List(context.Background(), "", ListOptions{Rev: rev})
		release()
		if err == nil {
			err = s.disk.Snapshot(state, s.onDisk(list.Records))
		}
		done <- err
	})
}

func (c *committer) snapshotDone(err error) {
	c.snapshot = nil
	for _, done := range c.served {
		done <- err
	}
	c.served = nil
	if err != nil {
		// The log has everything; the next growth tries again.
		c.s.log.Error("cannot write a snapshot of the store, the log grows on", "error", err)
	}
}

// Snapshot implements Store.
func (s *Local) Snapshot(ctx context.Context, w io.Writer) (Rev, error) {
	rev, release := s.pin()
	list, err := s.List(ctx, "", ListOptions{Rev: rev})
	release()
	if err != nil {
		return 0, err
	}
	state := wal.State{Rev: int64(rev), Compacted: s.compacted.Load()}
	if err := wal.WriteSnapshot(ctxWriter{ctx, w}, state, s.onDisk(list.Records)); err != nil {
		return 0, fmt.Errorf("cannot write a backup: %w", err)
	}
	return rev, nil
}

// ctxWriter fails once its context has ended.
type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c ctxWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}
