package resource

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
	"sagong/store"
)

// Get reads one object. atLeast is a revision the answer must not be older
// than; 0 for none.
func (e *Engine) Get(ctx context.Context, t Target, atLeast object.Revision) (Item, error) {
	if s := e.source(t.Definition); s != nil {
		return e.getFrom(ctx, s, t)
	}
	rec, now, err := e.store.Get(ctx, t.key(), 0)
	if errors.Is(err, store.ErrNotFound) {
		return Item{}, apierrors.NewNotFound(t.gr(), t.Name)
	}
	if err != nil {
		return Item{}, storeError(ctx, err)
	}
	if atLeast > object.Revision(now) {
		return Item{}, tooLarge(atLeast, object.Revision(now))
	}
	return e.item(t.Kind, rec), nil
}

// Exists says whether there is an object, without reading it.
func (e *Engine) Exists(ctx context.Context, d *object.Definition, namespace, name string) (bool, error) {
	_, _, err := e.store.Get(ctx, e.Kind(d).key(namespace, name), 0)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, storeError(ctx, err)
}

// read is Get with the record and the typed object, for writes.
func (e *Engine) read(ctx context.Context, t Target) (*store.Record, object.Object, error) {
	it, err := e.Get(ctx, t, 0)
	if err != nil {
		return nil, nil, err
	}
	o, err := it.Object()
	if err != nil {
		return nil, nil, apierrors.NewInternalError(err)
	}
	return it.rec, o, nil
}

// ListOptions narrow a list.
type ListOptions struct {
	Selector object.Selector
	Limit    int64
	Continue string
	// Revision and Match are resourceVersion and resourceVersionMatch.
	Revision object.Revision
	// HasRevision tells "0" from nothing.
	HasRevision bool
	Match       metav1.ResourceVersionMatch
}

// List is a consistent list.
type List struct {
	Items     []Item
	Revision  object.Revision
	Continue  string
	Remaining *int64
}

// List reads the objects of t's namespace, or of all.
func (e *Engine) List(ctx context.Context, t Target, o ListOptions) (List, error) {
	if s := e.source(t.Definition); s != nil {
		return e.listFrom(ctx, s, t, o)
	}
	prefix := t.listPrefix(t.Namespace)
	opts := store.ListOptions{}
	switch {
	case o.Continue != "":
		if o.HasRevision && o.Revision != 0 {
			return List{}, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		rev, from, err := parseContinue(o.Continue, prefix)
		if err != nil {
			return List{}, apierrors.NewBadRequest(fmt.Sprintf("invalid continue token: %v", err))
		}
		opts.From = from
		if rev > 0 {
			opts.Rev = store.Rev(rev)
		}
	case o.HasRevision && o.Match == metav1.ResourceVersionMatchExact:
		opts.Rev = store.Rev(o.Revision)
	case o.Revision > 0 && o.Match == "" && o.Limit > 0:
		// Upstream's rule of old: with a limit and no match, exactly this one.
		opts.Rev = store.Rev(o.Revision)
	case o.Revision > 0:
		if now := object.Revision(e.store.Rev()); o.Revision > now {
			return List{}, tooLarge(o.Revision, now)
		}
	}
	if name, ok := o.Selector.Exact("metadata.name"); ok && (t.Namespace != "" || !t.Namespaced) && o.Continue == "" && opts.Rev == 0 {
		return e.listOne(ctx, t, name, o)
	}
	if o.Selector.Empty() {
		opts.Limit = int(o.Limit)
	}
	if t.Resource == "pods" && t.Group == "" && opts.Rev == 0 {
		// A node's agent lists its own pods: at the cost of these, not of all.
		opts.Tag, _ = o.Selector.Exact("spec.nodeName")
	}
	res, err := e.store.List(ctx, prefix, opts)
	if err != nil {
		return List{}, e.listError(ctx, err, o, opts, prefix)
	}
	all := make([]Item, len(res.Records))
	for n, r := range res.Records {
		all[n] = e.item(t.Kind, r)
	}
	out := List{Revision: object.Revision(res.Rev), Items: all[:0]}
	for n, r := range res.Records {
		if !o.Selector.Empty() {
			if err := ConvertNext(all, n); err != nil {
				return List{}, apierrors.NewInternalError(err)
			}
		}
		it := all[n]
		ok, err := it.matches(o.Selector)
		if err != nil {
			return List{}, apierrors.NewInternalError(err)
		}
		if !ok {
			continue
		}
		out.Items = append(out.Items, it)
		if o.Limit > 0 && int64(len(out.Items)) == o.Limit && n+1 < len(res.Records) {
			// Upstream gives no remaining count beside a selector.
			out.Continue = makeContinue(out.Revision, r.Key+"\x00", prefix)
			return out, nil
		}
	}
	if res.More && len(res.Records) > 0 {
		out.Continue = makeContinue(out.Revision, res.Records[len(res.Records)-1].Key+"\x00", prefix)
		out.Remaining = &res.Remaining
	}
	return out, nil
}

func (e *Engine) listOne(ctx context.Context, t Target, name string, o ListOptions) (List, error) {
	rec, rev, err := e.store.Get(ctx, t.Kind.key(t.Namespace, name), 0)
	out := List{Revision: object.Revision(rev)}
	if errors.Is(err, store.ErrNotFound) {
		return out, nil
	}
	if err != nil {
		return List{}, storeError(ctx, err)
	}
	it := e.item(t.Kind, rec)
	ok, err := it.matches(o.Selector)
	if err != nil {
		return List{}, apierrors.NewInternalError(err)
	}
	if ok {
		out.Items = []Item{it}
	}
	return out, nil
}

// listError explains an expired continue token with one that goes on from the
// same key in the present, as upstream does.
func (e *Engine) listError(ctx context.Context, err error, o ListOptions, opts store.ListOptions, prefix string) error {
	if !errors.Is(err, store.ErrCompacted) {
		return storeError(ctx, err)
	}
	if o.Continue == "" {
		return apierrors.NewResourceExpired("The resourceVersion for the provided list is too old.")
	}
	s := apierrors.NewResourceExpired("The provided continue parameter is too old " +
		"to display a consistent list result. You can start a new list without " +
		"the continue parameter, or use the continue token in this response to " +
		"retrieve the remainder of the results. Continuing with the provided " +
		"token results in an inconsistent list - objects that were created, " +
		"modified, or deleted between the time the first chunk was returned " +
		"and now may show up in the list.")
	s.ErrStatus.ListMeta.Continue = makeContinue(-1, opts.From, prefix)
	return s
}

// continueToken has the shape of upstream's, which clients treat as opaque.
type continueToken struct {
	APIVersion string `json:"v"`
	Revision   int64  `json:"rv"`
	Start      string `json:"start"`
}

// makeContinue makes the token of a list that goes on with from, a full key.
func makeContinue(r object.Revision, from, prefix string) string {
	b, err := json.Marshal(continueToken{"meta.k8s.io/v1", int64(r), strings.TrimPrefix(from, prefix)})
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseContinue(token, prefix string) (object.Revision, string, error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return 0, "", fmt.Errorf("continue key is not valid: %w", err)
	}
	var t continueToken
	if err := json.Unmarshal(b, &t); err != nil {
		return 0, "", fmt.Errorf("continue key is not valid: %w", err)
	}
	if t.APIVersion != "meta.k8s.io/v1" {
		return 0, "", fmt.Errorf("continue key is not valid: server does not recognize this encoded version %s", t.APIVersion)
	}
	if t.Revision == 0 {
		return 0, "", fmt.Errorf("continue key is not valid: incorrect encoded start resourceVersion (version %s)", t.APIVersion)
	}
	if t.Start == "" {
		return 0, "", fmt.Errorf("continue key is not valid: encoded start key empty (version %s)", t.APIVersion)
	}
	// What is joined to the prefix stays below it.
	start := "/" + strings.TrimPrefix(t.Start, "/")
	if path.Clean(start) != start {
		return 0, "", fmt.Errorf("continue key is not valid: %s", t.Start)
	}
	return object.Revision(t.Revision), prefix + start[1:], nil
}

// tooLarge is the error for a revision that has not happened yet; clients wait
// a second and retry.
func tooLarge(asked, now object.Revision) error {
	s := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", asked, now), 1)
	s.ErrStatus.Details.Causes = append(s.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version",
	})
	s.ErrStatus.Code = http.StatusGatewayTimeout
	return s
}

// ParseRevision reads a resourceVersion.
func ParseRevision(s string) (object.Revision, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("invalid resource version %q: %w", s, err)
	}
	return object.Revision(n), nil
}
