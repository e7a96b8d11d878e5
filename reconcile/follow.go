package reconcile

import (
	"context"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/client"
	"sagong/object"
)

// Follower is told about every object of a kind: first all there are, then
// every change. Calls come one after another.
type Follower interface {
	// Replace gives a whole snapshot; what it lacks is gone.
	Replace(client.List)
	// Apply gives changes in order.
	Apply([]client.Event)
}

// Follow keeps a follower current until ctx ends: a list, a watch from its
// revision, from where it broke off when a watch ends, and a list again only
// when that revision is no longer to be had. It returns ctx's error.
func Follow(ctx context.Context, c client.Client, def *object.Definition, namespace string, o client.ListOptions, log *slog.Logger, f Follower) error {
	var (
		from    object.Revision // 0: list first
		failing time.Duration
	)
	for ctx.Err() == nil {
		err := followOnce(ctx, c, def, namespace, o, f, &from, func() { failing = 0 })
		if ctx.Err() != nil {
			break
		}
		if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
			from = 0
			if failing == 0 {
				failing = time.Millisecond
				continue
			}
		}
		if failing = min(max(2*failing, 20*time.Millisecond), 5*time.Second); failing > time.Second {
			log.Warn("cannot follow the API, trying again", "kind", def.Kind, "err", err, "in", failing)
		}
		wait := time.NewTimer(failing)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
	return ctx.Err()
}

func followOnce(ctx context.Context, c client.Client, def *object.Definition, namespace string, o client.ListOptions, f Follower, from *object.Revision, progress func()) error {
	if *from == 0 {
		list, err := c.List(ctx, def, namespace, o)
		if err != nil {
			return err
		}
		f.Replace(list)
		*from = list.Revision
	}
	w, err := c.Watch(ctx, def, namespace, client.WatchOptions{
		LabelSelector: o.LabelSelector, FieldSelector: o.FieldSelector, From: *from,
	})
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		events, err := w.Next(ctx)
		if err != nil {
			return err
		}
		f.Apply(events)
		for _, e := range events {
			*from = max(*from, e.Revision)
		}
		progress()
	}
}
