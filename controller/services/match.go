package services

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

// matcher finds the Services that select a pod and the pods that a Service
// selects, each in about the time of its result.
type matcher struct {
	services *reconcile.View[*corev1.Service]
	pods     *reconcile.View[*corev1.Pod]
	seen     podstate.Digests // the same pods
}

const (
	selectorIndex  = "service-selector" // one pair of the selector
	labelIndex     = "labels"           // every pair but generated ones
	namespaceIndex = "namespace"
)

func newMatcher(h *reconcile.Hub) matcher {
	pods := reconcile.ViewOf[*corev1.Pod](h)
	m := matcher{reconcile.ViewOf[*corev1.Service](h), pods, podstate.DigestsOf(pods)}
	m.services.Index(selectorIndex, func(s *corev1.Service) []string {
		if len(s.Spec.Selector) == 0 {
			return nil
		}
		k := sampleKey(s.Spec.Selector)
		return []string{pair(s.Namespace, k, s.Spec.Selector[k])}
	})
	m.pods.Index(labelIndex, func(p *corev1.Pod) []string {
		var all []string
		for k, v := range p.Labels {
			if !generated(k) {
				all = append(all, pair(p.Namespace, k, v))
			}
		}
		return all
	})
	m.pods.Index(namespaceIndex, func(p *corev1.Pod) []string { return []string{p.Namespace} })
	return m
}

func pair(namespace, k, v string) string { return namespace + "/" + k + "=" + v }

// generated labels are on many pods and rarely in a selector: not worth memory.
func generated(key string) bool {
	switch key {
	case "pod-template-hash", "controller-revision-hash", "pod-template-generation":
		return true
	}
	return false
}

// sampleKey picks the pair of a selector to look up by: an indexed one if any.
func sampleKey(selector map[string]string) string {
	keys := make([]string, 0, len(selector))
	for k := range selector {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !generated(k) {
			return k
		}
	}
	return keys[0]
}

// selectedBy returns the pods that a Service with a selector selects, by name.
func (m matcher) selectedBy(s *corev1.Service) []*corev1.Pod {
	k := sampleKey(s.Spec.Selector)
	var candidates []podstate.Digested
	if generated(k) {
		candidates = m.seen.By(namespaceIndex, s.Namespace)
	} else {
		candidates = m.seen.By(labelIndex, pair(s.Namespace, k, s.Spec.Selector[k]))
	}
	selector := labels.SelectorFromSet(s.Spec.Selector)
	candidates = slices.DeleteFunc(candidates, func(p podstate.Digested) bool { return !selector.Matches(labels.Set(p.Digest.Labels)) })
	pods := reconcile.Objects(candidates)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return pods
}

// selecting calls f for the Services that select a pod.
func (m matcher) selecting(p *corev1.Pod, f func(object.Key)) {
	for k, v := range p.Labels {
		for _, s := range m.services.By(selectorIndex, pair(p.Namespace, k, v)) {
			if labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels)) {
				f(object.KeyOf(s))
			}
		}
	}
}

// affected is the input that maps a pod's changes, as far as endpoints show
// them, to the Services that select it or did.
func (m matcher) affected() reconcile.Input {
	return reconcile.On(m.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
		if old != nil && new != nil && sameEndpoint(old, new) {
			return
		}
		if new != nil {
			m.selecting(new, enqueue)
		}
		if old != nil && (new == nil || !sameMap(old.Labels, new.Labels)) {
			m.selecting(old, enqueue)
		}
	})
}

// sameEndpoint says whether a change of a pod cannot show in its endpoints.
func sameEndpoint(a, b *corev1.Pod) bool {
	return a.Status.PodIP == b.Status.PodIP &&
		slices.Equal(a.Status.PodIPs, b.Status.PodIPs) &&
		a.Status.Phase == b.Status.Phase &&
		ready(a) == ready(b) &&
		a.Spec.NodeName == b.Spec.NodeName &&
		(a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		sameMap(a.Labels, b.Labels)
}

func sameMap(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}
