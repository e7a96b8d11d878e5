// Package store keeps every object of a cluster as bytes under a key: a
// multi-version index in memory, one group-committed log on disk, and watches
// that follow the commits.
//
// It knows keys, bytes and revisions and nothing of Kubernetes. The API server
// is its only caller. Two implementations share this contract and the suite in
// storetest: the one in this package, for a single server, and an etcd client
// for several.
package store

import (
	"context"
	"io"
	"sync/atomic"
	"time"
)

// Rev is a revision: every successful operation takes the next one, so
// revisions order all changes of the store. They survive restarts and deletes
// and are never given twice.
type Rev int64

// AnyRev as Op.Expect makes an operation unconditional.
const AnyRev Rev = -1

// Record is one immutable version of a key. The index, lists, results and
// watch events share it by pointer: nobody may change the fields or the bytes
// of Value.
type Record struct {
	Key       string
	CreateRev Rev   // revision of the Put that created the key
	ModRev    Rev   // revision of this version
	Expires   int64 // unix seconds at which the key is deleted, 0 for never

	deleted bool
	value   value
	older   atomic.Pointer[Record]
	memo    atomic.Pointer[any]
}

// Value returns the bytes. Those of an old version may have to be expanded: keep
// the result where it is needed twice.
func (r *Record) Value() []byte { return r.value.bytes() }

// ValueIn is Value, in buf's memory where it must be expanded: for readers of many
// records who are done with one before they come to the next.
func (r *Record) ValueIn(buf *[]byte) []byte { return r.value.in(buf) }

// Size is the length of Value.
func (r *Record) Size() int { return int(r.value.size) }

// Deleted reports whether the record is a tombstone: the version a delete
// leaves. Its Value is that of the version removed, its ModRev the revision of
// the delete.
func (r *Record) Deleted() bool { return r.deleted }

// Memo returns what SetMemo or Op.Memo attached to the record: a reader's
// decoded form of Value. The store never looks inside.
func (r *Record) Memo() any {
	if p := r.memo.Load(); p != nil {
		return *p
	}
	return nil
}

// SetMemo attaches a reader's decoded form of Value, nil to drop it. It may be
// called at any time from any goroutine; the last call wins.
func (r *Record) SetMemo(m any) {
	if m == nil {
		r.memo.Store(nil)
		return
	}
	r.memo.Store(&m)
}

// Stamper is implemented by a memo that carries its own revision. The committer
// calls Stamp once, after the operation is durable and before anybody can see
// the record, so a typed object holds its resourceVersion from the start.
type Stamper interface{ Stamp(Rev) }

// Op is one operation on one key.
type Op struct {
	Key string
	// Expect is the condition: 0 the key must not exist, AnyRev none, else the
	// key's current ModRev must be this.
	Expect Rev
	// Delete removes the key; otherwise Value is put.
	Delete bool
	Value  []byte // owned by the store from the call on
	// Memo becomes the new record's memo (for a delete: the tombstone's).
	Memo any
	// TTL deletes the key after this time, rounded up to seconds; 0 never.
	// A later Put without a TTL makes the key permanent.
	TTL time.Duration
	// Lazy acknowledges and publishes the operation before it is on disk. It
	// keeps its place in the order; a crash may lose the last instants of lazy
	// operations, never one followed by an acknowledged ordinary operation.
	Lazy bool
	// Joined ties the operation to the one before it in the slice: of a run of
	// joined operations, which are on different keys, all take place or none
	// does, and a crash leaves all or none. When a condition fails, each of them
	// has the same *OpError, which names the key that failed.
	Joined bool

	sealed []byte // Value as it goes to disk, nil for as it is
}

// Result is the outcome of one Op.
type Result struct {
	Record *Record // the new version; for a delete the tombstone; nil on error
	Prev   *Record // the version replaced or removed, nil if there was none
	Rev    Rev     // revision of the operation; on error the store's revision it was judged at
	Err    error   // *OpError for a failed condition; see also ErrStopped
}

// EventType says what an Event did.
type EventType uint8

// The two kinds of change.
const (
	Put EventType = iota
	Delete
)

func (t EventType) String() string {
	if t == Delete {
		return "DELETE"
	}
	return "PUT"
}

// Event is one committed change.
type Event struct {
	Type   EventType
	Rev    Rev
	Record *Record // the new version, or the tombstone: last value, revision of the delete
	Prev   *Record // the version before, nil if the key was created
}

// ListOptions narrow a List.
type ListOptions struct {
	Rev       Rev    // 0 for the latest
	Limit     int    // at most this many records, 0 for all
	From      string // only keys that are this full key or sort after it
	Tag       string // only records with this tag, see Options.Tag; at the latest revision it costs only the result
	CountOnly bool   // count into ListResult.Remaining, return no records
	Uncounted bool   // leave ListResult.Remaining 0: a page then costs only itself
}

// ListResult is a consistent list at one revision, in key order.
type ListResult struct {
	Records   []*Record
	Rev       Rev   // revision of the list; a Watch from it misses and repeats nothing
	More      bool  // Limit cut the list
	Remaining int64 // records after the last one returned, see CountOnly and Uncounted
}

// WatchOptions narrow a Watch. A watcher is woken only for what its narrowest
// index selects.
type WatchOptions struct {
	// Tag selects events whose Record or Prev has this tag (see Options.Tag), so
	// a key that moves between tags is seen by the watchers of both. Empty
	// selects all.
	Tag string
	// Exact makes the prefix a full key.
	Exact bool
}

// Store is the contract. All methods may be called from any goroutine.
type Store interface {
	// Get returns the version of key at rev (0: the latest) and the store's
	// revision it was read at. A missing key is ErrNotFound (still with the
	// revision).
	Get(ctx context.Context, key string, rev Rev) (*Record, Rev, error)
	// List returns the records whose key begins with prefix.
	List(ctx context.Context, prefix string, opts ListOptions) (ListResult, error)
	// Commit runs independent operations, not a transaction: each (but those
	// that Op.Joined ties together) succeeds or fails by itself and has a
	// revision of its own, in order of the slice; an operation sees those
	// before it. It returns when all that succeeded are
	// durable (Op.Lazy aside) and visible. When ctx ends first, the outcome is
	// unknown and every Err is the context's.
	Commit(ctx context.Context, ops []Op) []Result
	// Announce says that n more writes are being prepared (n < 0: fewer). The
	// store may wait a moment for them, so that more writes share a sync.
	Announce(n int)
	// Watch follows the changes after revision from (0: from now on). It fails
	// with ErrCompacted if they are no longer kept, ErrFutureRev if from has
	// not happened yet.
	Watch(ctx context.Context, prefix string, from Rev, opts WatchOptions) (Watcher, error)
	// Rev is the newest visible revision. It is never 0, not even of an empty
	// store.
	Rev() Rev
	// CompactedRev is the oldest revision at which one may list and from which
	// one may watch; where a lot changes it may be a later one, which RevError
	// names.
	CompactedRev() Rev
	// Compact forgets what was superseded up to rev.
	Compact(ctx context.Context, rev Rev) error
	// Snapshot writes all records of one revision to w, in the form that
	// Restore reads, and returns that revision.
	Snapshot(ctx context.Context, w io.Writer) (Rev, error)
	// Close ends the watchers, waits for what is being written, and releases
	// the data directory.
	Close() error
}

// Watcher delivers the events of one watch in order of revision, without gap
// or repetition. One goroutine may use it at a time; Close may be called from
// any.
type Watcher interface {
	// Next blocks until there are events and returns all there are (at most
	// some thousand at a time). The slice is valid until the next call. It
	// fails with ErrCompacted when the watcher fell behind what is kept,
	// ErrClosed after Close, or the context's error.
	Next(ctx context.Context) ([]Event, error)
	// Rev is the progress: every selected event up to and including it has been
	// returned by Next. It may be called after a Next that failed for its
	// context, and advances then too, which is what a bookmark needs.
	Rev() Rev
	// Close ends the watch.
	Close()
}
