package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// List implements Store.
func (s *Local) List(ctx context.Context, prefix string, opts ListOptions) (ListResult, error) {
	for {
		if err := ctx.Err(); err != nil {
			return ListResult{}, err
		}
		res, err := s.listOnce(ctx, prefix, opts)
		if err != nil {
			return ListResult{}, err
		}
		// A compaction beyond the list's revision may have cut away versions
		// while they were read.
		floor := s.floor(prefix)
		if res.Rev >= floor {
			return res, nil
		}
		if opts.Rev != 0 {
			return ListResult{}, s.revError(ErrCompacted, opts.Rev, floor)
		}
	}
}

func (s *Local) listOnce(ctx context.Context, prefix string, opts ListOptions) (ListResult, error) {
	if opts.Rev != 0 {
		if err := s.check(prefix, opts.Rev); err != nil {
			return ListResult{}, err
		}
	}
	topic := s.opts.Topic(prefix)
	byTag := opts.Tag != "" && opts.Rev == 0 && topic > 0 && s.opts.Tag != nil
	l := lister{res: ListResult{Rev: opts.Rev}, prefix: prefix, opts: opts, tag: s.opts.Tag}

	s.index.mu.Lock()
	if opts.Rev == 0 {
		l.res.Rev = Rev(s.rev.Load()) // the index is exactly at it under the lock
		if topic > 0 && s.index.keys[prefix[:topic]] == 0 {
			// Every new pod asks for kinds of which there often are none.
			s.index.mu.Unlock()
			return l.res, nil
		}
	}
	if byTag {
		items := s.index.withTagLocked(prefix[:topic], opts.Tag)
		s.index.mu.Unlock()
		slices.SortFunc(items, func(a, b *item) int { return cmp.Compare(a.key, b.key) })
		for _, it := range items {
			if strings.HasPrefix(it.key, prefix) && it.key >= opts.From && !l.add(it) {
				break
			}
		}
		return l.res, nil
	}
	tree := s.index.orderedLocked()
	s.index.mu.Unlock()
	seen := 0
	var err error
	tree.Ascend(&item{key: max(prefix, opts.From)}, func(it *item) bool {
		if !strings.HasPrefix(it.key, prefix) {
			return it.key < prefix
		}
		if seen++; seen&0xfff == 0 {
			if err = ctx.Err(); err != nil {
				return false
			}
		}
		return l.add(it)
	})
	return l.res, err
}

// lister collects the records of a list.
type lister struct {
	res    ListResult
	prefix string
	opts   ListOptions
	tag    func(*Record) string
}

// add takes the next item and reports whether more are wanted.
func (l *lister) add(it *item) bool {
	r := it.at(l.res.Rev)
	switch {
	case r == nil || r.deleted:
	case l.opts.Tag != "" && (l.tag == nil || l.tag(r) != l.opts.Tag):
	case l.opts.CountOnly:
		l.res.Remaining++
	case l.opts.Limit > 0 && len(l.res.Records) == l.opts.Limit:
		l.res.More = true
		if l.opts.Uncounted {
			return false
		}
		l.res.Remaining++
	default:
		l.res.Records = append(l.res.Records, r)
	}
	return true
}
