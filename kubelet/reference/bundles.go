package reference

import (
	"context"
	"maps"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
)

// TrustBundles returns all ClusterTrustBundles, in no order. They are few, and
// which of them a pod means depends on labels: while a pod refers to any, all are
// followed.
func (s *Store) TrustBundles(ctx context.Context) ([]*certificatesv1.ClusterTrustBundle, error) {
	k := Key{Bundles: true}
	s.mu.Lock()
	e := s.entries[k]
	if e != nil && e.known {
		defer s.mu.Unlock()
		return slices.Collect(maps.Values(e.bundles)), nil
	}
	s.mu.Unlock()
	all, _, err := client.ListOf[*certificatesv1.ClusterTrustBundle](ctx, s.c, "", client.ListOptions{})
	if e == nil || err != nil {
		return all, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[k] == e && e.cancel == nil && s.ctx.Err() == nil {
		fctx, cancel := context.WithCancel(s.ctx)
		e.cancel = cancel
		s.wg.Go(func() { s.followBundles(fctx, e, versions(all)) })
	}
	return all, nil
}

func versions(all []*certificatesv1.ClusterTrustBundle) map[string]string {
	seen := make(map[string]string, len(all))
	for _, b := range all {
		seen[b.Name] = b.ResourceVersion
	}
	return seen
}

// followBundles keeps the entry of all bundles current until nobody refers to it.
// seen are the versions that the first reader got.
func (s *Store) followBundles(ctx context.Context, e *entry, seen map[string]string) {
	d := object.Of[*certificatesv1.ClusterTrustBundle](s.c.Scheme())
	set := func(now map[string]*certificatesv1.ClusterTrustBundle) {
		s.mu.Lock()
		e.bundles, e.known = now, true
		was := seen
		seen = versions(slices.Collect(maps.Values(now)))
		var tell []types.UID
		if !maps.Equal(was, seen) {
			tell = slices.Collect(maps.Keys(e.pods))
		}
		s.mu.Unlock()
		for _, uid := range tell {
			s.changed(uid)
		}
	}
	s.retry(ctx, e, func(working func()) error {
		list, revision, err := client.ListOf[*certificatesv1.ClusterTrustBundle](ctx, s.c, "", client.ListOptions{})
		if err != nil {
			return err
		}
		now := make(map[string]*certificatesv1.ClusterTrustBundle, len(list))
		for _, b := range list {
			now[b.Name] = b
		}
		set(now)
		w, err := s.c.Watch(ctx, d, "", client.WatchOptions{From: revision})
		if err != nil {
			return err
		}
		defer w.Close()
		working()
		for {
			events, err := w.Next(ctx)
			if err != nil {
				return err
			}
			next := maps.Clone(now)
			for _, ev := range events {
				b, ok := ev.Object.(*certificatesv1.ClusterTrustBundle)
				switch {
				case !ok:
				case ev.Type == client.Deleted:
					delete(next, b.Name)
				default:
					next[b.Name] = b
				}
			}
			now = next
			set(now)
		}
	})
}
