package cleanup

import (
	"maps"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
)

// graph is who owns whom, over the metadata of all stored objects. It asks for
// the nodes about which something may have to be done.
type graph struct {
	enqueue func(types.UID)

	mu    sync.Mutex
	nodes map[types.UID]*node
	// open: what happens is enqueued. Before the first snapshots of all kinds
	// are in, owners only seem to be missing.
	open bool
	// owning is which kinds were seen to own which.
	owning map[*object.Definition]map[*object.Definition]bool
}

// node is an object or, while real is false, one that others name as owner.
type node struct {
	uid        types.UID
	def        *object.Definition
	key        object.Key
	real       bool
	owners     []metav1.OwnerReference
	dependents map[*node]struct{}
	deleting   bool // has a deletion timestamp
	foreground bool // deleting, waits for the end of its dependents
	orphan     bool // deleting, to be separated from its dependents first
}

func newGraph(enqueue func(types.UID)) *graph {
	return &graph{enqueue: enqueue, nodes: map[types.UID]*node{}, owning: map[*object.Definition]map[*object.Definition]bool{}}
}

func (g *graph) ask(n *node) {
	if g.open {
		g.enqueue(n.uid)
	}
}

// start lets the graph ask, beginning with what is already due.
func (g *graph) start() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	for _, n := range g.nodes {
		if n.real && (n.foreground || n.orphan || g.unsure(n)) {
			g.ask(n)
		}
	}
}

// unsure says whether a node may have lost an owner or be due for deletion with it.
func (g *graph) unsure(n *node) bool {
	for i := range n.owners {
		owner := g.nodes[n.owners[i].UID]
		if owner == nil || !owner.real || owner.foreground || !refersTo(&n.owners[i], n, owner) {
			return true
		}
	}
	return false
}

// refersTo says whether a reference of a dependent names the owner's kind, name
// and a namespace from which it may be owned, besides its uid.
func refersTo(ref *metav1.OwnerReference, dependent, owner *node) bool {
	return ref.Name == owner.key.Name && ref.Kind == owner.def.Kind &&
		(owner.key.Namespace == "" || owner.key.Namespace == dependent.key.Namespace)
}

func (g *graph) node(uid types.UID) *node {
	n := g.nodes[uid]
	if n == nil {
		n = &node{uid: uid}
		g.nodes[uid] = n
	}
	return n
}

// observe takes in an object's present metadata.
func (g *graph) observe(d *object.Definition, o object.Object) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.node(o.GetUID())
	wasForeground, wasOrphan, known := n.foreground, n.orphan, n.real
	n.def, n.key, n.real = d, object.KeyOf(o), true
	n.deleting = o.GetDeletionTimestamp() != nil
	n.foreground, n.orphan = false, false
	if n.deleting {
		f := o.GetFinalizers()
		n.foreground = slices.Contains(f, metav1.FinalizerDeleteDependents)
		n.orphan = slices.Contains(f, metav1.FinalizerOrphanDependents)
	}
	g.setOwners(n, o.GetOwnerReferences())
	g.learn(n, known)
	if (n.foreground && !wasForeground) || (n.orphan && !wasOrphan) {
		g.ask(n)
	}
	if n.foreground && !wasForeground {
		for dep := range n.dependents {
			g.ask(dep)
		}
	}
	if len(n.owners) > 0 && !n.deleting && g.unsure(n) {
		g.ask(n)
	}
}

// learn notes the kinds that a node owns and is owned by. Dependents of a node
// that was known before were noted when they came.
func (g *graph) learn(n *node, known bool) {
	if !known {
		for dep := range n.dependents {
			g.owns(n.def, dep.def)
		}
	}
	for i := range n.owners {
		if owner := g.nodes[n.owners[i].UID]; owner.real {
			g.owns(owner.def, n.def)
		}
	}
}

func (g *graph) owns(owner, dependent *object.Definition) {
	kinds := g.owning[owner]
	if kinds == nil {
		kinds = map[*object.Definition]bool{}
		g.owning[owner] = kinds
	}
	kinds[dependent] = true
}

// ownedBy are the kinds that objects of a kind were seen to own.
func (g *graph) ownedBy(owner *object.Definition) []*object.Definition {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.owning[owner]))
}

// setOwners moves a node's edges. Owners that wait for their dependents are
// asked about, as one reference less may be what they wait for.
func (g *graph) setOwners(n *node, refs []metav1.OwnerReference) {
	if slices.EqualFunc(n.owners, refs, sameReference) {
		return
	}
	old := n.owners
	n.owners = nil
	if len(refs) > 0 {
		n.owners = refs // of an immutable object
	}
	for i := range refs {
		owner := g.node(refs[i].UID)
		if owner.dependents == nil {
			owner.dependents = map[*node]struct{}{}
		}
		owner.dependents[n] = struct{}{}
	}
	for i := range old {
		owner := g.nodes[old[i].UID]
		if owner == nil {
			continue
		}
		if !n.owned(old[i].UID) {
			g.unlink(owner, n)
		}
		if owner.foreground {
			g.ask(owner)
		}
	}
}

func (g *graph) unlink(owner, n *node) {
	delete(owner.dependents, n)
	if len(owner.dependents) == 0 {
		owner.dependents = nil
		if !owner.real {
			delete(g.nodes, owner.uid)
		}
	}
}

func sameReference(a, b metav1.OwnerReference) bool {
	return a.UID == b.UID && a.Name == b.Name && a.Kind == b.Kind && a.APIVersion == b.APIVersion && blocks(&a) == blocks(&b)
}

func blocks(r *metav1.OwnerReference) bool {
	return r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion
}

func (n *node) owned(by types.UID) bool {
	return slices.ContainsFunc(n.owners, func(r metav1.OwnerReference) bool { return r.UID == by })
}

// forget takes in that an object is gone: its dependents have lost an owner.
func (g *graph) forget(uid types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[uid]
	if n == nil {
		return
	}
	g.setOwners(n, nil)
	n.real, n.deleting, n.foreground, n.orphan = false, false, false, false
	if len(n.dependents) == 0 {
		delete(g.nodes, uid)
		return
	}
	for dep := range n.dependents {
		g.ask(dep)
	}
}

// situation is a copy of what the graph knows of a node.
type situation struct {
	node
	dependents []node // without theirs
}

// ownerState is what the graph knows of one owner of a node.
type ownerState struct {
	ref metav1.OwnerReference
	// known: the owner exists, as far as the graph has seen.
	known      bool
	foreground bool
}

// look copies a node out of the graph; ok is false when there is no such object.
func (g *graph) look(uid types.UID) (s situation, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[uid]
	if n == nil || !n.real {
		return situation{}, false
	}
	s.node = *n
	for dep := range n.dependents {
		copied := *dep // owners are replaced, never changed in place
		copied.dependents = nil
		s.dependents = append(s.dependents, copied)
	}
	s.node.dependents = nil
	return s, true
}

// owner says what the graph knows of an owner that a node refers to.
func (g *graph) owner(n *node, ref metav1.OwnerReference) ownerState {
	g.mu.Lock()
	defer g.mu.Unlock()
	owner := g.nodes[ref.UID]
	if owner == nil || !owner.real || !refersTo(&ref, n, owner) {
		return ownerState{ref: ref}
	}
	return ownerState{ref: ref, known: true, foreground: owner.foreground}
}

// kindFollower feeds the graph from one kind.
type kindFollower struct {
	g     *graph
	def   *object.Definition
	seen  map[object.Key]types.UID
	first func() // called once, after the first snapshot
}

// Replace implements reconcile.Follower.
func (f *kindFollower) Replace(l client.List) {
	fresh := make(map[object.Key]types.UID, len(l.Items))
	for _, o := range l.Items {
		fresh[object.KeyOf(o)] = o.GetUID()
		f.g.observe(f.def, o)
	}
	for k, uid := range f.seen {
		if fresh[k] != uid {
			f.g.forget(uid)
		}
	}
	f.seen = fresh
	if f.first != nil {
		f.first()
		f.first = nil
	}
}

// Apply implements reconcile.Follower.
func (f *kindFollower) Apply(events []client.Event) {
	for _, e := range events {
		switch e.Type {
		case client.Added, client.Modified:
			k, uid := object.KeyOf(e.Object), e.Object.GetUID()
			if old, ok := f.seen[k]; ok && old != uid {
				f.g.forget(old)
			}
			f.seen[k] = uid
			f.g.observe(f.def, e.Object)
		case client.Deleted:
			k := object.KeyOf(e.Object)
			if uid, ok := f.seen[k]; ok {
				delete(f.seen, k)
				f.g.forget(uid)
			}
		}
	}
}

// clear takes out everything of a kind that is no longer served.
func (f *kindFollower) clear() {
	for _, uid := range f.seen {
		f.g.forget(uid)
	}
	f.seen = nil
}
