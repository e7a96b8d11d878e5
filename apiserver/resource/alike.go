package resource

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/object"
)

// alike lets the typed objects of one owner, or of one kind where there is none,
// share what they have in common: of the pods of a ReplicaSet the template, what
// admission added to it, the owner and the managed fields.
type alike struct {
	sharer object.Sharer

	mu    sync.Mutex
	known map[alikeKey]example

	pods podParts
}

type alikeKey struct {
	kind  *Kind
	owner types.UID
}

// example is what others are compared with: the fullest published object, and
// the last, with which the next has its times in common.
type example struct {
	obj, last object.Object
	size      int // of obj's encoded form
}

// leastShared is the encoded size from which on to share pays.
const leastShared = 1 << 10

// examples bounds how many owners are remembered; beyond it all are forgotten.
const examples = 8192

func keyOf(k *Kind, o object.Object) alikeKey {
	key := alikeKey{kind: k}
	if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
		key.owner = ref.UID
	}
	return key
}

// share makes o, which nobody sees yet and is encoded in size bytes, share with
// what is known; owned as in object.Sharer. It reports whether its like is known.
func (a *alike) share(k *Kind, o object.Object, size int, owned bool) bool {
	if size < leastShared {
		return false
	}
	if p, ok := o.(*corev1.Pod); ok {
		defer a.pods.share(p)
	}
	a.mu.Lock()
	e, ok := a.known[keyOf(k, o)]
	a.mu.Unlock()
	if !ok {
		return false
	}
	a.sharer.Share(o, e.obj, owned)
	if e.last != e.obj {
		a.sharer.Share(o, e.last, owned)
	}
	return true
}

// note takes a published object as the example of its like, as the last alone
// where there is a fuller one: a pod that runs has all that one has which waits,
// and more.
func (a *alike) note(k *Kind, o object.Object, size int) {
	if size < leastShared {
		return
	}
	key := keyOf(k, o)
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, ok := a.known[key]; ok && size < e.size-e.size/8 {
		e.last = o
		a.known[key] = e
		return
	}
	if a.known == nil || len(a.known) >= examples {
		a.known = map[alikeKey]example{}
	}
	a.known[key] = example{o, o, size}
}
