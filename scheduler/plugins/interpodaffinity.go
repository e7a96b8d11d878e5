package plugins

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"sagong/scheduler/state"
)

// InterPodAffinity puts pods near to, or away from, pods with certain labels.
type InterPodAffinity struct {
	// NamespaceLabels returns the labels of a namespace, for terms with a
	// namespaceSelector.
	NamespaceLabels func(namespace string) labels.Set
}

// Name implements Plugin.
func (InterPodAffinity) Name() string { return "InterPodAffinity" }

// Helps implements Plugin.
func (InterPodAffinity) Helps() Change { return NodeChanged | PodGone | PodPlaced | PodChanged }

type domain struct{ key, value string }

type affinityCounting struct {
	required     []term
	anti         []term
	preferred    []weighted
	requiredHits []map[string]int // per required term: pods a domain
	antiHits     []map[string]int
	preferHits   []map[string]int
	// forbidden counts the placed pods whose own anti-affinity speaks against
	// this class, a domain.
	forbidden map[domain]int
}

type term struct {
	namespaces func(string) bool
	selector   labels.Selector
	key        string
	self       bool // pods of the class match the term themselves
}

type weighted struct {
	term
	weight int64
}

// Begin implements Global.
func (f InterPodAffinity) Begin(c *Class, s *state.State) Counting {
	a := &affinityCounting{forbidden: map[domain]int{}}
	p := c.Pod
	if aff := p.Spec.Affinity; aff != nil {
		if aff.PodAffinity != nil {
			a.required = f.terms(p, aff.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, p)
			a.preferred = append(a.preferred, f.weightedTerms(p, aff.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, 1)...)
		}
		if aff.PodAntiAffinity != nil {
			a.anti = f.terms(p, aff.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, p)
			a.preferred = append(a.preferred, f.weightedTerms(p, aff.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, -1)...)
		}
	}
	for _, q := range s.AntiAffine() {
		n := s.Node(q.Node)
		if n == nil {
			continue
		}
		for _, t := range f.terms(q.Object, q.Object.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, p) {
			if v, ok := n.Object.Labels[t.key]; ok && t.self {
				a.forbidden[domain{t.key, v}]++
			}
		}
	}
	if len(a.required)+len(a.anti)+len(a.preferred)+len(a.forbidden) == 0 {
		return nil
	}
	count := func(t *term, counts func(*corev1.Pod) bool) map[string]int {
		hits := map[string]int{}
		for _, n := range s.Nodes() {
			v, ok := n.Object.Labels[t.key]
			if !ok {
				continue
			}
			for _, q := range n.Pods {
				if counts(q.Object) {
					hits[v]++
				}
			}
		}
		return hits
	}
	// A pod counts for required affinity only when it matches every term.
	all := func(q *corev1.Pod) bool {
		return !slices.ContainsFunc(a.required, func(t term) bool { return !t.matches(q) })
	}
	for i := range a.required {
		a.requiredHits = append(a.requiredHits, count(&a.required[i], all))
	}
	for i := range a.anti {
		a.antiHits = append(a.antiHits, count(&a.anti[i], a.anti[i].matches))
	}
	for i := range a.preferred {
		a.preferHits = append(a.preferHits, count(&a.preferred[i].term, a.preferred[i].matches))
	}
	return a
}

// terms reads the terms of owner; self tells whether candidate matches each.
func (f InterPodAffinity) terms(owner *corev1.Pod, in []corev1.PodAffinityTerm, candidate *corev1.Pod) []term {
	out := make([]term, 0, len(in))
	for i := range in {
		out = append(out, f.term(owner, &in[i], candidate))
	}
	return out
}

func (f InterPodAffinity) weightedTerms(p *corev1.Pod, in []corev1.WeightedPodAffinityTerm, sign int64) []weighted {
	out := make([]weighted, 0, len(in))
	for i := range in {
		out = append(out, weighted{f.term(p, &in[i].PodAffinityTerm, p), sign * int64(in[i].Weight)})
	}
	return out
}

func (f InterPodAffinity) term(owner *corev1.Pod, t *corev1.PodAffinityTerm, candidate *corev1.Pod) term {
	selector, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil {
		selector = labels.Nothing()
	}
	add := func(keys []string, op selection.Operator) {
		for _, k := range keys {
			if v, ok := owner.Labels[k]; ok {
				if r, err := labels.NewRequirement(k, op, []string{v}); err == nil {
					selector = selector.Add(*r)
				}
			}
		}
	}
	add(t.MatchLabelKeys, selection.In)
	add(t.MismatchLabelKeys, selection.NotIn)
	var byLabels labels.Selector
	if t.NamespaceSelector != nil {
		if byLabels, err = metav1.LabelSelectorAsSelector(t.NamespaceSelector); err != nil {
			byLabels = labels.Nothing()
		}
	}
	out := term{selector: selector, key: t.TopologyKey, namespaces: func(ns string) bool {
		if len(t.Namespaces) == 0 && byLabels == nil {
			return ns == owner.Namespace
		}
		if slices.Contains(t.Namespaces, ns) {
			return true
		}
		return byLabels != nil && (byLabels.Empty() || f.NamespaceLabels != nil && byLabels.Matches(f.NamespaceLabels(ns)))
	}}
	out.self = out.matches(candidate)
	return out
}

func (t *term) matches(p *corev1.Pod) bool {
	return t.namespaces(p.Namespace) && t.selector.Matches(labels.Set(p.Labels))
}

// Filter implements Counting.
func (a *affinityCounting) Filter(n *state.Node) *No {
	if len(a.required) > 0 && !a.requiredAt(n) {
		return RefuseFinally("node(s) didn't match pod affinity rules")
	}
	for i := range a.anti {
		if v, ok := n.Object.Labels[a.anti[i].key]; ok && a.antiHits[i][v] > 0 {
			return Refuse("node(s) didn't match pod anti-affinity rules")
		}
	}
	for d := range a.forbidden {
		if v, ok := n.Object.Labels[d.key]; ok && v == d.value {
			return Refuse("node(s) didn't satisfy existing pods anti-affinity rules")
		}
	}
	return nil
}

// requiredAt holds when every required term has a match in the node's domain,
// or when no pod anywhere matches and the class matches its own terms: the
// first of a group that wants to be together.
func (a *affinityCounting) requiredAt(n *state.Node) bool {
	all, any := true, false
	for i := range a.required {
		v, ok := n.Object.Labels[a.required[i].key]
		if !ok {
			return false
		}
		if a.requiredHits[i][v] == 0 {
			all = false
		}
		any = any || len(a.requiredHits[i]) > 0
	}
	if all {
		return true
	}
	return !any && !slices.ContainsFunc(a.required, func(t term) bool { return !t.self })
}

// Score implements Counting.
func (a *affinityCounting) Score(n *state.Node) int64 {
	var sum int64
	for i := range a.preferred {
		if v, ok := n.Object.Labels[a.preferred[i].key]; ok {
			sum += a.preferred[i].weight * int64(a.preferHits[i][v])
		}
	}
	return sum
}

// Weight implements Counting.
func (a *affinityCounting) Weight() int64 { return 2 }

// Placed implements Counting.
func (a *affinityCounting) Placed(n *state.Node) {
	note := func(t *term, hits map[string]int) {
		if v, ok := n.Object.Labels[t.key]; ok && t.self {
			hits[v]++
		}
	}
	if !slices.ContainsFunc(a.required, func(t term) bool { return !t.self }) {
		for i := range a.required {
			note(&a.required[i], a.requiredHits[i])
		}
	}
	for i := range a.anti {
		// A pod of the class forbids the next one too: both directions are one count.
		note(&a.anti[i], a.antiHits[i])
	}
	for i := range a.preferred {
		note(&a.preferred[i].term, a.preferHits[i])
	}
}
