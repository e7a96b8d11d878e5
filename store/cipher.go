package store

import (
	"context"
	"fmt"
)

// Cipher seals the values of some keys for the disk. Its methods may be called
// from any goroutine.
type Cipher interface {
	// Covers reports whether values of key are sealed. It is called for every
	// write and must be quick. Keys that differ only after their last slash are
	// covered together.
	Covers(key string) bool
	// Seal returns what is stored instead of value. The result must not open
	// under another key of the store.
	Seal(key string, value []byte) ([]byte, error)
	// Open returns the value again, of whichever key of the cipher it was sealed
	// with, and whether Seal would now do it otherwise. It is called for every
	// key that is read from disk, sealed or not.
	Open(key string, stored []byte) (value []byte, stale bool, err error)
}

func (s *Local) covers(key string) bool { return s.opts.Cipher != nil && s.opts.Cipher.Covers(key) }

// seal returns a value as it goes to disk.
func (s *Local) seal(key string, value []byte) ([]byte, error) {
	if !s.covers(key) {
		return value, nil
	}
	sealed, err := s.opts.Cipher.Seal(key, value)
	if err != nil {
		return nil, fmt.Errorf("cannot encrypt %s: %w", key, err)
	}
	return sealed, nil
}

// unseal is the reverse of seal, whatever was covered when it was written.
func (s *Local) unseal(key string, stored []byte) (value []byte, stale bool, err error) {
	if s.opts.Cipher == nil {
		return stored, false, nil
	}
	value, stale, err = s.opts.Cipher.Open(key, stored)
	if err != nil {
		return nil, false, fmt.Errorf("cannot decrypt %s: %w", key, err)
	}
	return value, stale, nil
}

// sealAll seals what goes to disk of ops, on the goroutine of who writes. queued
// must be called once the operations are in the committer's queue: Rewrite waits
// for it. It is nil when nothing was sealed.
func (s *Local) sealAll(ops []Op) (queued func(), err error) {
	if s.opts.Cipher == nil || s.disk == nil {
		return nil, nil
	}
	for i := range ops {
		op := &ops[i]
		op.sealed = nil
		if op.Delete || !s.opts.Cipher.Covers(op.Key) {
			continue
		}
		if queued == nil {
			s.sealing.RLock()
			queued = s.sealing.RUnlock
		}
		if op.sealed, err = s.seal(op.Key, op.Value); err != nil {
			queued()
			return nil, err
		}
	}
	return queued, nil
}

// Stale reports whether the disk held, when the store was opened, values that
// its cipher would seal otherwise now: in clear, or with an older key.
func (s *Local) Stale() bool { return s.stale }

// Rewrite makes the data directory hold no value but as Options.Cipher seals it
// now: it writes everything anew, twice, so that what the store could fall back
// to is new as well, and removes all files of before. Writes go on meanwhile. A
// crash at any moment leaves either the files of before or the new ones.
func (s *Local) Rewrite(ctx context.Context) error {
	if s.disk == nil {
		return nil
	}
	// Whatever was sealed before is in the queue before what is asked for here.
	s.sealing.Lock()
	s.sealing.Unlock()
	for range 2 {
		done := make(chan error, 1)
		if err := s.c.do(ctx, func() { s.c.wanted = append(s.c.wanted, done) }); err != nil {
			return fmt.Errorf("cannot rewrite the store: %w", err)
		}
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("cannot rewrite the store: %w", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// rewrite begins the snapshot that somebody wants, after which no older file of
// the log is needed.
func (c *committer) rewrite() {
	c.flush(true)
	if c.failed == nil && c.snapshot == nil {
		// An entry of its own: the snapshot's name must differ from the last one's.
		c.batch.Start(c.header(c.next))
		if err := c.s.disk.Cut(&c.batch); err != nil {
			c.fail(err)
		}
		c.batch.Reset()
		c.skip = false
	}
	if c.failed != nil {
		c.refuseWanted(c.failed)
		return
	}
	c.served, c.wanted = c.wanted, nil
	c.beginSnapshot()
}

func (c *committer) refuseWanted(err error) {
	for _, done := range c.wanted {
		done <- err
	}
	c.wanted = nil
}
