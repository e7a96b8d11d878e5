package apiserver

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// beatEvery is how long the renewal of a node's lease may wait for others. A
// node that does not renew for 40 s is lost.
const beatEvery = 4 * time.Second

// beat holds requests that nobody waits for until some can be served together. A
// processor that wakes for each finds its caches cold, and takes four times as
// long for it (docs/decisions/node-leases.md).
type beat struct {
	mu   sync.Mutex
	next chan struct{} // closed at the next beat; nil when nobody waits for it
}

// wait returns at the next beat, or when ctx ends.
func (b *beat) wait(ctx context.Context) {
	b.mu.Lock()
	if b.next == nil {
		next := make(chan struct{})
		b.next = next
		time.AfterFunc(beatEvery, func() {
			b.mu.Lock()
			b.next = nil
			b.mu.Unlock()
			close(next)
		})
	}
	next := b.next
	b.mu.Unlock()
	select {
	case <-next:
	case <-ctx.Done():
	}
}

// renewsNode says whether the request is a node's sign of life.
func (q *request) renewsNode() bool {
	i := &q.info
	return i.Verb == "update" && i.Resource && i.Plural == "leases" && i.Namespace == corev1.NamespaceNodeLease
}
