package plugins

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// term is an affinity term that was read: which pods it means, and over which
// label of nodes.
type term struct {
	key        string
	selector   labels.Selector
	named      []string // namespaces by name
	byLabels   labels.Selector
	namespaces Namespaces
}

// Namespaces returns the labels of a namespace, for terms that select
// namespaces.
type Namespaces func(name string) labels.Set

// read reads a term of a pod with the given namespace and labels.
func (f Namespaces) read(namespace string, own map[string]string, t *corev1.PodAffinityTerm) term {
	selector, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil {
		selector = labels.Nothing() // refused by validation; never reached
	}
	add := func(keys []string, op selection.Operator) {
		for _, k := range keys {
			if v, ok := own[k]; ok {
				if r, err := labels.NewRequirement(k, op, []string{v}); err == nil {
					selector = selector.Add(*r)
				}
			}
		}
	}
	add(t.MatchLabelKeys, selection.In)
	add(t.MismatchLabelKeys, selection.NotIn)
	out := term{key: t.TopologyKey, selector: selector, named: t.Namespaces, namespaces: f}
	if t.NamespaceSelector != nil {
		if out.byLabels, err = metav1.LabelSelectorAsSelector(t.NamespaceSelector); err != nil {
			out.byLabels = labels.Nothing()
		}
	} else if len(t.Namespaces) == 0 {
		out.named = []string{namespace}
	}
	return out
}

func (f Namespaces) readAll(namespace string, own map[string]string, in []corev1.PodAffinityTerm) []term {
	out := make([]term, 0, len(in))
	for i := range in {
		out = append(out, f.read(namespace, own, &in[i]))
	}
	return out
}

// matches tells whether the term means pods of a namespace with these labels.
func (t *term) matches(namespace string, l map[string]string) bool {
	if !slices.Contains(t.named, namespace) {
		if t.byLabels == nil {
			return false
		}
		if !t.byLabels.Empty() && (t.namespaces == nil || !t.byLabels.Matches(t.namespaces(namespace))) {
			return false
		}
	}
	return t.selector.Matches(labels.Set(l))
}
