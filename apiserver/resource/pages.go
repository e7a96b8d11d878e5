package resource

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/object"
	"sagong/store"
)

// pageSize is how many objects a reader of Pages holds at a time.
const pageSize = 500

// Pages is a list at one revision that is read part by part: thousands of watches
// may begin with all there is, to clients of any speed, and hold little of it.
type Pages struct {
	// Revision of all parts.
	Revision object.Revision

	e      *Engine
	t      Target
	sel    object.Selector
	prefix string
	items  []Item
	from   string // empty: there are no more
}

// Pages begins a list of all that the selector shows, not older than a revision.
func (e *Engine) Pages(ctx context.Context, t Target, sel object.Selector, notOlder object.Revision) (*Pages, error) {
	p := &Pages{e: e, t: t, sel: sel, prefix: t.listPrefix(t.Namespace)}
	_, one := sel.Exact("metadata.name")
	_, node := sel.Exact("spec.nodeName")
	if one || node || e.source(t.Definition) != nil {
		l, err := e.List(ctx, t, ListOptions{Selector: sel, Revision: notOlder, HasRevision: notOlder > 0})
		p.Revision, p.items = l.Revision, l.Items
		return p, err
	}
	if now := object.Revision(e.store.Rev()); notOlder > now {
		return nil, tooLarge(notOlder, now)
	}
	return p, p.read(ctx, store.ListOptions{})
}

func (p *Pages) read(ctx context.Context, o store.ListOptions) error {
	o.Limit, o.Uncounted = pageSize, true
	res, err := p.e.store.List(ctx, p.prefix, o)
	if err != nil {
		return watchError(ctx, err)
	}
	p.Revision, p.from, p.items = object.Revision(res.Rev), "", p.items[:0]
	for _, r := range res.Records {
		p.items = append(p.items, p.e.item(p.t.Kind, r))
	}
	all := p.items
	if err := Convert(all); err != nil {
		return apierrors.NewInternalError(err)
	}
	p.items = all[:0]
	for _, it := range all {
		ok, err := it.matches(p.sel)
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		if ok {
			p.items = append(p.items, it)
		}
	}
	if n := len(res.Records); res.More && n > 0 {
		p.from = res.Records[n-1].Key + "\x00"
	}
	return nil
}

// Next returns the next part, which is valid until it is called again, and nil
// at the end. The error of a reader so slow that the revision is no longer known
// is the API's.
func (p *Pages) Next(ctx context.Context) ([]Item, error) {
	for {
		if len(p.items) > 0 {
			items := p.items
			p.items = items[:0]
			return items, nil
		}
		if p.from == "" {
			return nil, nil
		}
		if err := p.read(ctx, store.ListOptions{Rev: store.Rev(p.Revision), From: p.from}); err != nil {
			return nil, err
		}
	}
}
