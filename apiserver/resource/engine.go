// Package resource carries out the verbs of the API on any kind: create, get,
// list, watch, update, patch, apply, delete, and the subresources. It knows
// nothing of HTTP: the HTTP server and the in-process client are two ways in,
// and both meet the same defaulting, admission, validation and bookkeeping.
package resource

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/object"
	"sagong/store"
)

// Options say what an Engine is made of. Store and Scheme are needed.
type Options struct {
	Store  store.Store
	Scheme *object.Scheme
	// Admission changes and checks writes; nil admits all.
	Admission Admission
	// Log receives what no caller is told; nil discards it.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// JSONCache bounds the encoded JSON that is kept, in bytes; 0 means 64 MiB.
	JSONCache int64
	// Fields computes managed fields; nil leaves objects without.
	Fields *object.FieldManagers
}

// Engine carries out the API's verbs over a store. All methods may be called
// at the same time.
type Engine struct {
	store     store.Store
	scheme    *object.Scheme
	admission Admission
	log       *slog.Logger
	now       func() time.Time
	json      *jsonCache
	retired   retired
	keeping   [16]sync.Mutex // by revision
	frames    frames
	interner  object.Interner
	alike     alike
	fields    *object.FieldManagers
	parts     map[string]part // subresources that are a part of the object

	mu       sync.RWMutex
	kinds    map[*object.Definition]*Kind
	handlers map[string]Handler
	sources  map[*object.Definition]Source
}

// New makes an engine.
func New(o Options) *Engine {
	boundCopies()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.JSONCache == 0 {
		o.JSONCache = 64 << 20
	}
	e := &Engine{
		store: o.Store, scheme: o.Scheme, admission: o.Admission, log: o.Log, now: o.Now,
		json: newJSONCache(o.JSONCache), fields: o.Fields, parts: parts(),
		kinds: map[*object.Definition]*Kind{}, handlers: map[string]Handler{}, sources: map[*object.Definition]Source{},
	}
	e.handleBuiltin()
	return e
}

// Scheme holds the kinds the engine serves.
func (e *Engine) Scheme() *object.Scheme { return e.scheme }

// Store is where the objects are.
func (e *Engine) Store() store.Store { return e.store }

// Kind is what the engine prepares once for a kind.
type Kind struct {
	*object.Definition
	*object.Codec
	prefix     string // of the store's keys
	isPods     bool
	shared     sharing
	aging      aging
	long       sync.Mutex // of those who decode long lists
	alias      bool       // another kind's objects in another version: records keep nothing for it
	companions Companions // nil for none
}

// Kind prepares a definition for use.
func (e *Engine) Kind(d *object.Definition) *Kind {
	e.mu.RLock()
	k := e.kinds[d]
	e.mu.RUnlock()
	if k != nil {
		return k
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if k := e.kinds[d]; k != nil {
		return k
	}
	k = &Kind{Definition: d, Codec: object.NewCodec(d), prefix: Prefix(d), alias: d.Dynamic != nil && d.Dynamic.Alias,
		isPods: d.Group == "" && d.Resource == "pods"}
	if d.Gone() {
		k.alias = true // a successor has the records
	} else {
		e.kinds[d] = k
	}
	return k
}

// Forget drops what was prepared for a kind that is no longer served, in all its
// versions. Its Life must have ended.
func (e *Engine) Forget(d *object.Definition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range d.Versions() {
		if k := e.kinds[v]; k != nil && e.fields != nil {
			e.fields.Forget(k.Codec)
		}
		delete(e.kinds, v)
	}
}

// Prefix is the beginning of the store's keys of a kind.
func Prefix(d *object.Definition) string {
	if d.Group == "" {
		return "/registry/" + d.Resource + "/"
	}
	return "/registry/" + d.Resource + "." + d.Group + "/"
}

func (k *Kind) key(namespace, name string) string {
	if k.Namespaced {
		return k.prefix + namespace + "/" + name
	}
	return k.prefix + name
}

func (k *Kind) listPrefix(namespace string) string {
	if k.Namespaced && namespace != "" {
		return k.prefix + namespace + "/"
	}
	return k.prefix
}

// Caller is on whose behalf the engine acts.
type Caller struct {
	User user.Info
	// Agent is the User-Agent, from which field managers take their name.
	Agent string
	// Warn receives texts for Warning headers; nil drops them.
	Warn func(text string)
	// Annotate receives annotations for the audit record; nil drops them.
	Annotate func(key, value string)
}

func (c Caller) annotate(key, value string) {
	if c.Annotate != nil {
		c.Annotate(key, value)
	}
}

func (c Caller) warn(texts ...string) {
	if c.Warn != nil {
		for _, t := range texts {
			c.Warn(t)
		}
	}
}

// manager is the field manager of a write: the one named, or the user agent up
// to the first slash.
func (c Caller) manager(named string) string {
	if named != "" {
		return named
	}
	m, _, _ := strings.Cut(c.Agent, "/")
	m = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, m)
	if len(m) > 128 {
		m = m[:128]
	}
	return m
}

// Target is what a request is about.
type Target struct {
	*Kind
	Version     *object.Version // nil means the storage version
	Namespace   string
	Name        string
	Subresource string

	generated bool // the name comes from generateName
}

// WireVersion is the version the request is in.
func (t Target) WireVersion() *object.Version {
	if t.Version != nil {
		return t.Version
	}
	return t.Codec.Storage()
}

// gr is the resource as error texts name it: of the group that was asked.
func (t Target) gr() schema.GroupResource {
	gr := t.Definition.GR()
	if t.Version != nil {
		gr.Group = t.Version.Group
	}
	return gr
}

func (t Target) gk() schema.GroupKind { return t.Definition.GVK().GroupKind() }

// Path is where the store keeps it, below what is common to all.
func (t Target) Path() string { return strings.TrimPrefix(t.key(), "/registry") }

func (t Target) key() string { return t.Kind.key(t.Namespace, t.Name) }

func dryRun(values []string) bool { return len(values) > 0 }

// contextError turns the end of a context into the API's timeout.
func contextError(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return apierrors.NewTimeoutError("request did not complete within the allotted time", 0)
}
