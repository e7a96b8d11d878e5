// Package storagesuite runs the storage suite of k8s.io/apiserver against this
// project's server. Reads, lists and watches of the adapter go through the whole
// product (HTTP, engine, store), since that is where their rules are; writes of
// the suite go to the store directly, by keys and expected revisions, since
// storage.Interface stands below admission, validation and generated metadata.
package storagesuite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/storage"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	utilflowcontrol "k8s.io/apiserver/pkg/util/flowcontrol"

	"sagong/apiserver"
	"sagong/apiserver/resource"
	"sagong/object"
	"sagong/store"
)

const resourcePrefix = "/pods/"

var (
	scheme = runtime.NewScheme()
	codec  runtime.Codec
)

func init() {
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
	codec = serializer.NewCodecFactory(scheme).LegacyCodec(examplev1.SchemeGroupVersion)
}

func definition(namespaced bool) *object.Definition {
	return object.Kind[*examplev1.Pod]{
		Group: examplev1.SchemeGroupVersion.Group, Version: examplev1.SchemeGroupVersion.Version, Kind: "Pod",
		Resource: "pods", Namespaced: namespaced,
		New:        func() *examplev1.Pod { return &examplev1.Pod{} },
		NewList:    func() runtime.Object { return &examplev1.PodList{} },
		FieldNames: []string{"spec.nodeName"},
		Fields:     func(p *examplev1.Pod) fields.Set { return fields.Set{"spec.nodeName": p.Spec.NodeName} },
	}.Definition()
}

// adapter is a storage.Interface over a server.
type adapter struct {
	storage.APIObjectVersioner
	t      *testing.T
	url    string
	store  *store.Local
	engine *resource.Engine
	kind   *resource.Kind

	mu          sync.Mutex
	transformer value.Transformer // only asked whether what is stored is stale
}

var _ storage.Interface = (*adapter)(nil)

func start(t *testing.T) *adapter { return startOf(t, true) }

func startOf(t *testing.T, namespaced bool) *adapter {
	t.Helper()
	d := definition(namespaced)
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(d)})
	srv := apiserver.New(apiserver.Options{Engine: e, BookmarkEvery: 100 * time.Millisecond})
	hs := httptest.NewServer(srv)
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		hs.Close()
		s.Close()
	})
	return &adapter{
		t: t, url: hs.URL, store: s, engine: e, kind: e.Kind(d),
		transformer: storagetesting.NewPrefixTransformer(nil, false),
	}
}

// target splits the suite's key, which may be any path below its prefix, into
// namespace and name.
func (a *adapter) target(key string) (resource.Target, error) {
	key, err := storage.PrepareKey(resourcePrefix, key, false)
	if err != nil {
		return resource.Target{}, err
	}
	t := resource.Target{Kind: a.kind, Name: strings.TrimPrefix(key, resourcePrefix)}
	if at := strings.LastIndexByte(t.Name, '/'); at >= 0 && a.kind.Namespaced {
		t.Namespace, t.Name = t.Name[:at], t.Name[at+1:]
	}
	return t, nil
}

// at is the store's key.
func (a *adapter) at(t resource.Target) string {
	if a.kind.Namespaced {
		return resource.Prefix(a.kind.Definition) + t.Namespace + "/" + t.Name
	}
	return resource.Prefix(a.kind.Definition) + t.Name
}

func (a *adapter) Versioner() storage.Versioner { return a.APIObjectVersioner }

// bytes is the stored form of the suite's object.
func (a *adapter) bytes(obj runtime.Object) ([]byte, error) {
	if err := a.PrepareObjectForStorage(obj); err != nil {
		return nil, err
	}
	v1 := &examplev1.Pod{}
	if err := scheme.Convert(obj, v1, nil); err != nil {
		return nil, err
	}
	v1.TypeMeta = metav1.TypeMeta{}
	return a.kind.Encode(v1)
}

// fill reads the stored form into the suite's object, with the defaults that
// reading gives upstream.
func (a *adapter) fill(item resource.Item, out runtime.Object) error {
	if out == nil {
		return nil
	}
	o, err := item.Object()
	if err != nil {
		return err
	}
	return internal(o.DeepCopyObject(), out)
}

// internal converts an object of the wire's version to the suite's.
func internal(v1, out runtime.Object) error {
	scheme.Default(v1)
	v, err := conversion.EnforcePtr(out)
	if err != nil {
		return err
	}
	v.SetZero()
	return scheme.Convert(v1, out, nil)
}

func (a *adapter) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	t, err := a.target(key)
	if err != nil {
		return err
	}
	if rv, err := a.ObjectResourceVersion(obj); err == nil && rv != 0 {
		return storage.ErrResourceVersionSetOnCreate
	}
	data, err := a.bytes(obj.DeepCopyObject())
	if err != nil {
		return err
	}
	// The suite creates with a context that ends while it does.
	r := a.store.Commit(context.WithoutCancel(ctx), []store.Op{{Key: a.at(t), Value: data, TTL: time.Duration(ttl) * time.Second}})[0]
	if errors.Is(r.Err, store.ErrExists) {
		return storage.NewKeyExistsError(key, 0)
	}
	if r.Err != nil {
		return r.Err
	}
	return a.filled(r.Record, out)
}

func (a *adapter) filled(r *store.Record, out runtime.Object) error {
	if out == nil {
		return nil
	}
	o, err := a.kind.Decode(r.Value(), object.Revision(r.ModRev))
	if err != nil {
		return err
	}
	return internal(o, out)
}

func (a *adapter) Get(ctx context.Context, key string, o storage.GetOptions, out runtime.Object) error {
	t, err := a.target(key)
	if err != nil {
		return err
	}
	rv, err := resource.ParseRevision(o.ResourceVersion)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	item, err := a.engine.Get(ctx, t, rv)
	switch {
	case apierrors.IsNotFound(err) && o.IgnoreNotFound:
		return runtime.SetZeroValue(out)
	case apierrors.IsNotFound(err):
		return storage.NewKeyNotFoundError(key, 0)
	case err != nil:
		return err
	}
	return a.fill(item, out)
}

// current reads what a write is based on; no record when there is no key.
func (a *adapter) current(ctx context.Context, t resource.Target) (*store.Record, *example.Pod, error) {
	r, _, err := a.store.Get(ctx, a.at(t), 0)
	if errors.Is(err, store.ErrNotFound) {
		return nil, &example.Pod{}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	p := &example.Pod{}
	return r, p, a.filled(r, p)
}

func (a *adapter) Delete(ctx context.Context, key string, out runtime.Object, p *storage.Preconditions,
	validate storage.ValidateObjectFunc, _ runtime.Object, _ storage.DeleteOptions) error {
	t, err := a.target(key)
	if err != nil {
		return err
	}
	for {
		was, obj, err := a.current(ctx, t)
		if err != nil {
			return err
		}
		if was == nil {
			return storage.NewKeyNotFoundError(key, 0)
		}
		if err := p.Check(key, obj); err != nil {
			return err
		}
		if err := validate(ctx, obj); err != nil {
			return err
		}
		r := a.store.Commit(ctx, []store.Op{{Key: a.at(t), Expect: was.ModRev, Delete: true}})[0]
		if errors.Is(r.Err, store.ErrConflict) || errors.Is(r.Err, store.ErrNotFound) {
			continue
		}
		if r.Err != nil {
			return r.Err
		}
		return a.filled(r.Record, out)
	}
}

func (a *adapter) GuaranteedUpdate(ctx context.Context, key string, out runtime.Object, ignoreNotFound bool,
	p *storage.Preconditions, update storage.UpdateFunc, _ runtime.Object) error {
	t, err := a.target(key)
	if err != nil {
		return err
	}
	for {
		was, obj, err := a.current(ctx, t)
		if err != nil {
			return err
		}
		op := store.Op{Key: a.at(t)}
		res := storage.ResponseMeta{}
		if was != nil {
			op.Expect = was.ModRev
			res.ResourceVersion = uint64(was.ModRev)
		} else if !ignoreNotFound {
			return storage.NewKeyNotFoundError(key, 0)
		}
		if err := p.Check(key, obj); err != nil {
			return err
		}
		changed, ttl, err := update(obj, res)
		if err != nil {
			return err
		}
		if op.Value, err = a.bytes(changed.DeepCopyObject()); err != nil {
			return err
		}
		if was != nil && bytes.Equal(op.Value, was.Value()) && !a.stale(ctx) {
			return a.filled(was, out)
		}
		if ttl != nil {
			op.TTL = time.Duration(*ttl) * time.Second
		}
		r := a.store.Commit(ctx, []store.Op{op})[0]
		if errors.Is(r.Err, store.ErrConflict) || errors.Is(r.Err, store.ErrExists) || errors.Is(r.Err, store.ErrNotFound) {
			continue
		}
		if r.Err != nil {
			return r.Err
		}
		return a.filled(r.Record, out)
	}
}

// UpdatePrefixTransformer makes the suite's transformer say that what is stored
// is stale. Its other uses inject errors into reading, see suite_test.go.
func (a *adapter) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.transformer
	p := *was.(*storagetesting.PrefixTransformer)
	a.transformer = modify(&p)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.transformer = was
	}
}

func (a *adapter) stale(ctx context.Context) bool {
	a.mu.Lock()
	t := a.transformer
	a.mu.Unlock()
	_, stale, err := t.TransformFromStorage(ctx, nil, value.DefaultContext{})
	return err == nil && stale
}

// request makes the URL of a list or watch.
func (a *adapter) request(ctx context.Context, key string, o storage.ListOptions, q url.Values) (*http.Request, error) {
	key, err := storage.PrepareKey(resourcePrefix, key, o.Recursive)
	if err != nil {
		return nil, err
	}
	t, err := a.target(strings.TrimSuffix(key, "/"))
	if !strings.HasPrefix(strings.TrimSuffix(key, "/"), resourcePrefix) {
		t, err = resource.Target{Kind: a.kind}, nil // all of them
	}
	if err != nil {
		return nil, err
	}
	selector := o.Predicate.Field
	if selector == nil {
		selector = fields.Everything()
	}
	only := func(name string) {
		selector = fields.AndSelectors(fields.OneTermEqualSelector("metadata.name", name), selector)
	}
	switch {
	case !o.Recursive:
		if strings.HasSuffix(key, "/") {
			t.Namespace, t.Name = t.Name, ""
		}
		only(t.Name)
	case a.kind.Namespaced && t.Namespace == "":
		t.Namespace = t.Name
	case t.Namespace != "" || t.Name != "":
		only(t.Name + "/") // nothing lies below an object
	}
	p := "/apis/" + examplev1.SchemeGroupVersion.String()
	if t.Namespace != "" {
		p = path.Join(p, "namespaces", t.Namespace)
	}
	set := func(name, v string) {
		if v != "" {
			q.Set(name, v)
		}
	}
	set("fieldSelector", selector.String())
	set("labelSelector", o.Predicate.Label.String())
	set("resourceVersion", o.ResourceVersion)
	set("resourceVersionMatch", string(o.ResourceVersionMatch))
	set("continue", o.Predicate.Continue)
	if o.Predicate.Limit > 0 {
		q.Set("limit", strconv.FormatInt(o.Predicate.Limit, 10))
	}
	return http.NewRequestWithContext(ctx, http.MethodGet, a.url+p+"/pods?"+q.Encode(), nil)
}

// do sends a request; an answer that is an error becomes one.
func do(req *http.Request) (io.ReadCloser, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	failure := &apierrors.StatusError{}
	if err := json.NewDecoder(resp.Body).Decode(&failure.ErrStatus); err != nil {
		return nil, fmt.Errorf("cannot read the answer %s: %w", resp.Status, err)
	}
	return nil, failure
}

func (a *adapter) GetList(ctx context.Context, key string, o storage.ListOptions, out runtime.Object) error {
	req, err := a.request(ctx, key, o, url.Values{})
	if err != nil {
		return err
	}
	body, err := do(req)
	if err != nil {
		return err
	}
	defer body.Close()
	v1 := &examplev1.PodList{}
	if err := json.NewDecoder(body).Decode(v1); err != nil {
		return err
	}
	return internal(v1, out)
}

func (a *adapter) Watch(ctx context.Context, key string, o storage.ListOptions) (watch.Interface, error) {
	q := url.Values{"watch": {"true"}}
	if o.Predicate.AllowWatchBookmarks || o.ProgressNotify {
		q.Set("allowWatchBookmarks", "true")
	}
	if o.SendInitialEvents != nil {
		q.Set("sendInitialEvents", strconv.FormatBool(*o.SendInitialEvents))
		o.ResourceVersionMatch = metav1.ResourceVersionMatchNotOlderThan // which HTTP demands
	}
	ctx, cancel := context.WithCancel(ctx)
	req, err := a.request(ctx, key, o, q)
	if err != nil {
		cancel()
		return nil, err
	}
	// As deep as upstream's: what was delivered is there after Stop.
	w := &watcher{events: make(chan watch.Event, 100), stop: cancel}
	body, err := do(req)
	if err != nil {
		cancel()
		if ctx.Err() == nil {
			return nil, err
		}
		close(w.events)
		return w, nil
	}
	utilflowcontrol.WatchInitialized(ctx)
	go w.run(ctx, body)
	return w, nil
}

type watcher struct {
	events chan watch.Event
	stop   context.CancelFunc
}

func (w *watcher) ResultChan() <-chan watch.Event { return w.events }
func (w *watcher) Stop()                          { w.stop() }

func (w *watcher) run(ctx context.Context, body io.ReadCloser) {
	defer close(w.events)
	defer w.stop()
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var line struct {
			Type   watch.EventType
			Object json.RawMessage
		}
		if d.Decode(&line) != nil {
			return
		}
		ev := watch.Event{Type: line.Type}
		if line.Type == watch.Error {
			s := &metav1.Status{}
			if err := json.Unmarshal(line.Object, s); err != nil {
				return
			}
			s.TypeMeta = metav1.TypeMeta{}
			ev.Object = s
		} else {
			v1, p := &examplev1.Pod{}, &example.Pod{}
			if err := json.Unmarshal(line.Object, v1); err != nil {
				return
			}
			if line.Type == watch.Bookmark {
				utilruntime.Must(scheme.Convert(v1, p, nil)) // no defaults: it is no pod
			} else if err := internal(v1, p); err != nil {
				return
			}
			ev.Object = p
		}
		select {
		case w.events <- ev:
		case <-ctx.Done():
			return
		}
	}
}

func (a *adapter) Stats(ctx context.Context) (storage.Stats, error) {
	l, err := a.store.List(ctx, resource.Prefix(a.kind.Definition), store.ListOptions{CountOnly: true})
	return storage.Stats{ObjectCount: l.Remaining}, err
}

func (a *adapter) ReadinessCheck() error                               { return a.store.Failed() }
func (a *adapter) RequestWatchProgress(context.Context) error          { return nil }
func (a *adapter) EnableResourceSizeEstimation(storage.KeysFunc) error { return nil }
func (a *adapter) GetCurrentResourceVersion(context.Context) (uint64, error) {
	return uint64(a.store.Rev()), nil
}

// CompactRevision is 0 before the first compaction: then the oldest revision is
// that of the empty store.
func (a *adapter) CompactRevision() int64 {
	if r := a.store.CompactedRev(); r > 1 {
		return int64(r)
	}
	return 0
}

// compact is the suite's storagetesting.Compaction.
func (a *adapter) compact(ctx context.Context, t *testing.T, rv string) {
	t.Helper()
	n, err := strconv.ParseInt(rv, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.store.Compact(ctx, store.Rev(n)); err != nil {
		t.Fatal(err)
	}
	a.increase(ctx, t) // upstream notes a compaction under a key, on which the suite counts
}

// increase is the suite's storagetesting.IncreaseRVFunc.
func (a *adapter) increase(ctx context.Context, t *testing.T) int64 {
	t.Helper()
	r := a.store.Commit(ctx, []store.Op{{Key: "/registry/other/thing", Expect: store.AnyRev, Value: []byte("x")}})[0]
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return int64(r.Rev)
}

// invariants checks what lies at a key: an object without the fields that the
// store knows itself.
func (a *adapter) invariants(ctx context.Context, t *testing.T, key string) {
	t.Helper()
	target, err := a.target(key)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := a.store.Get(ctx, a.at(target), 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &examplev1.Pod{}
	if err := p.Unmarshal(r.Value()); err != nil {
		t.Fatal(err)
	}
	m, err := meta.Accessor(p)
	if err != nil {
		t.Fatal(err)
	}
	if m.GetResourceVersion() != "" || m.GetSelfLink() != "" {
		t.Errorf("stored with resourceVersion %q and selfLink %q", m.GetResourceVersion(), m.GetSelfLink())
	}
}
