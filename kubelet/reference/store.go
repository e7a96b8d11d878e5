// Package reference keeps the ConfigMaps and Secrets that the pods of a node
// refer to, and no others. It tells who refers to an object that changed, so
// that nothing is polled. An immutable object is read once and not watched.
package reference

import (
	"context"
	"log/slog"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
)

// Key names a referenced object, or all ClusterTrustBundles.
type Key struct {
	Secret          bool
	Bundles         bool
	Namespace, Name string
}

// Store follows referenced objects. All methods may be called at the same time.
type Store struct {
	ctx     context.Context
	c       client.Client
	log     *slog.Logger
	changed func(types.UID)

	mu      sync.Mutex
	entries map[Key]*entry
	pods    map[types.UID]map[Key]bool
	wg      sync.WaitGroup
}

type entry struct {
	key    Key
	pods   map[types.UID]bool
	cancel context.CancelFunc

	// value, when known, is current as far as the watch has got.
	value   object.Object
	bundles map[string]*certificatesv1.ClusterTrustBundle // by name, for Bundles
	missing bool
	known   bool
}

// New makes an empty store. changed is called, without locks held, with each
// pod that refers to an object that appeared, changed or went. Watches end with
// ctx; Wait waits for them.
func New(ctx context.Context, c client.Client, log *slog.Logger, changed func(types.UID)) *Store {
	return &Store{ctx: ctx, c: c, log: log, changed: changed, entries: map[Key]*entry{}, pods: map[types.UID]map[Key]bool{}}
}

// Wait returns when all watches have ended, after New's context has.
func (s *Store) Wait() { s.wg.Wait() }

// Register says which objects a pod refers to, and forgets those it referred
// to before and does not now.
func (s *Store) Register(uid types.UID, keys []Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := make(map[Key]bool, len(keys))
	for _, k := range keys {
		now[k] = true
		e := s.entries[k]
		if e == nil {
			e = &entry{key: k, pods: map[types.UID]bool{}}
			s.entries[k] = e
		}
		e.pods[uid] = true
	}
	for k := range s.pods[uid] {
		if !now[k] {
			s.drop(uid, k)
		}
	}
	if len(now) == 0 {
		delete(s.pods, uid)
		return
	}
	s.pods[uid] = now
}

// Unregister forgets a pod.
func (s *Store) Unregister(uid types.UID) { s.Register(uid, nil) }

// drop ends one reference. The caller holds mu.
func (s *Store) drop(uid types.UID, k Key) {
	e := s.entries[k]
	if e == nil {
		return
	}
	delete(e.pods, uid)
	if len(e.pods) == 0 {
		if e.cancel != nil {
			e.cancel()
		}
		delete(s.entries, k)
	}
}

// ConfigMap returns a ConfigMap; the error is the API's NotFound if there is
// none.
func (s *Store) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	o, err := s.get(ctx, Key{Namespace: namespace, Name: name})
	if err != nil {
		return nil, err
	}
	return o.(*corev1.ConfigMap), nil
}

// Secret returns a Secret; the error is the API's NotFound if there is none.
func (s *Store) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	o, err := s.get(ctx, Key{Secret: true, Namespace: namespace, Name: name})
	if err != nil {
		return nil, err
	}
	return o.(*corev1.Secret), nil
}

func (s *Store) definition(k Key) *object.Definition {
	if k.Secret {
		return object.Of[*corev1.Secret](s.c.Scheme())
	}
	return object.Of[*corev1.ConfigMap](s.c.Scheme())
}

func (s *Store) get(ctx context.Context, k Key) (object.Object, error) {
	d := s.definition(k)
	s.mu.Lock()
	e := s.entries[k]
	if e != nil && e.known {
		v, missing := e.value, e.missing
		s.mu.Unlock()
		if missing {
			return nil, notFound(k)
		}
		return v, nil
	}
	s.mu.Unlock()
	v, err := s.c.Get(ctx, d, k.Namespace, k.Name)
	if apierrors.IsNotFound(err) {
		err = notFound(k)
	}
	if e == nil || err != nil && !apierrors.IsNotFound(err) {
		return v, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[k] == e && e.cancel == nil && s.ctx.Err() == nil && (err != nil || !immutable(v)) {
		fctx, cancel := context.WithCancel(s.ctx)
		e.cancel = cancel
		s.wg.Go(func() { s.follow(fctx, e, v) })
	}
	if err == nil && immutable(v) {
		e.value, e.known = v, true
	}
	return v, err
}

// notFound says it in the words that users look for: configmap "x" not found.
func notFound(k Key) error {
	if k.Secret {
		return apierrors.NewNotFound(corev1.Resource("secret"), k.Name)
	}
	return apierrors.NewNotFound(corev1.Resource("configmap"), k.Name)
}

func immutable(o object.Object) bool {
	switch v := o.(type) {
	case *corev1.ConfigMap:
		return v.Immutable != nil && *v.Immutable
	case *corev1.Secret:
		return v.Immutable != nil && *v.Immutable
	}
	return false
}

// follow keeps an entry current until nobody refers to it. seen is what the
// first reader got.
func (s *Store) follow(ctx context.Context, e *entry, seen object.Object) {
	last := ""
	if seen != nil {
		last = seen.GetResourceVersion()
	}
	d := s.definition(e.key)
	selector := fields.OneTermEqualSelector("metadata.name", e.key.Name).String()
	s.retry(ctx, e, func(working func()) error {
		list, err := s.c.List(ctx, d, e.key.Namespace, client.ListOptions{FieldSelector: selector})
		if err != nil {
			return err
		}
		var now object.Object
		if len(list.Items) > 0 {
			now = list.Items[0]
		}
		last = s.set(e, now, last)
		w, err := s.c.Watch(ctx, d, e.key.Namespace, client.WatchOptions{FieldSelector: selector, From: list.Revision})
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
			for _, ev := range events {
				switch ev.Type {
				case client.Added, client.Modified:
					last = s.set(e, ev.Object, last)
				case client.Deleted:
					last = s.set(e, nil, last)
				}
			}
		}
	})
}

// retry calls f again until ctx ends, after a while unless f said that it worked.
func (s *Store) retry(ctx context.Context, e *entry, f func(working func()) error) {
	backoff := time.Duration(0)
	for ctx.Err() == nil {
		err := f(func() { backoff = 0 })
		if ctx.Err() != nil || apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
			continue
		}
		s.forget(e)
		backoff = min(max(2*backoff, 100*time.Millisecond), 10*time.Second)
		s.log.Debug("cannot follow a referenced object, trying again", "object", e.key.Namespace+"/"+e.key.Name, "err", err, "in", backoff)
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
	}
}

// forget makes readers ask the API while the watch is broken.
func (s *Store) forget(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.known = false
}

// set takes a value and tells those who refer to it when it is not the one
// they saw. It returns the version now seen.
func (s *Store) set(e *entry, o object.Object, last string) string {
	version := ""
	if o != nil {
		version = o.GetResourceVersion()
	}
	s.mu.Lock()
	e.value, e.missing, e.known = o, o == nil, true
	var tell []types.UID
	if version != last {
		for uid := range e.pods {
			tell = append(tell, uid)
		}
	}
	s.mu.Unlock()
	for _, uid := range tell {
		s.changed(uid)
	}
	return version
}
