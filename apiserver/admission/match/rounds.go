package match

import (
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/apiserver/resource"
)

// Rounds remember, for the rules of one plugin, which of them were asked about a
// write in the first round, and so must be asked again in the second because
// the object changed after their turn.
type Rounds struct {
	a      *resource.Attributes
	output runtime.Object
	// asked have had their turn since the last change, due are to be asked again.
	asked, due map[string]bool
}

// RoundsOf are those of a plugin. It is called once a round, before the first
// rule.
func RoundsOf(a *resource.Attributes, plugin string) *Rounds {
	r, ok := a.Kept[plugin].(*Rounds)
	if !ok {
		r = &Rounds{a: a, asked: map[string]bool{}, due: map[string]bool{}}
		if a.Kept == nil {
			a.Kept = map[string]any{}
		}
		a.Kept[plugin] = r
		return r
	}
	// Others may have changed the object since.
	if a.Round > 0 && !equality.Semantic.DeepEqual(r.output, a.Object) {
		r.require()
	}
	return r
}

// Due says whether a rule has its turn in this round.
func (r *Rounds) Due(id string) bool { return r.a.Round == 0 || r.due[id] }

// Done notes a rule's turn: whether it changed the object, and whether it wants
// to be asked again when others do.
func (r *Rounds) Done(id string, changed, again bool) {
	if changed {
		r.require()
		r.a.Again = true
	}
	if again {
		r.asked[id] = true
	}
}

// Patched notes that rules patched the object, if only with what was there: all
// that want to be asked again are, the last one too, as upstream does for
// policies.
func (r *Rounds) Patched() {
	r.require()
	r.a.Again = true
}

// End notes the object as the plugin's rules leave it.
func (r *Rounds) End() {
	if r.a.Round == 0 && r.a.Object != nil {
		r.output = r.a.Object.DeepCopyObject()
	}
}

func (r *Rounds) require() {
	for id := range r.asked {
		r.due[id] = true
	}
	clear(r.asked)
}
