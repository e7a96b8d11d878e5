package scheduler

import (
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/scheduler/state"
)

// budgets is the disruption budgets by namespace, for telling which victims
// would break one.
type budgets struct {
	of      map[string]map[string]*budget
	version uint64
}

type budget struct {
	selector  labels.Selector
	allowed   int32
	disrupted map[string]metav1.Time // pods whose eviction is counted already
}

func (b *budgets) set(o *policyv1.PodDisruptionBudget) {
	selector, err := metav1.LabelSelectorAsSelector(o.Spec.Selector)
	if err != nil || selector.Empty() {
		// One that selects nothing, or everything, protects no pod from
		// pre-emption.
		b.remove(o)
		return
	}
	if b.of == nil {
		b.of = map[string]map[string]*budget{}
	}
	if b.of[o.Namespace] == nil {
		b.of[o.Namespace] = map[string]*budget{}
	}
	b.of[o.Namespace][o.Name] = &budget{selector, o.Status.DisruptionsAllowed, o.Status.DisruptedPods}
	b.version++
}

func (b *budgets) remove(o *policyv1.PodDisruptionBudget) {
	if delete(b.of[o.Namespace], o.Name); len(b.of[o.Namespace]) == 0 {
		delete(b.of, o.Namespace)
	}
	b.version++
}

// split parts pods, the most important first, into those whose end breaks a
// budget when all before them end too, and the rest. Order is kept.
func (b *budgets) split(pods []*state.Pod) (breaking, rest []*state.Pod) {
	if len(b.of) == 0 {
		return nil, pods
	}
	left := map[*budget]int32{}
	for _, p := range pods {
		if b.breaks(p, left) {
			breaking = append(breaking, p)
		} else {
			rest = append(rest, p)
		}
	}
	return breaking, rest
}

func (b *budgets) breaks(p *state.Pod, left map[*budget]int32) bool {
	if len(p.Labels()) == 0 {
		return false
	}
	broken := false
	for _, x := range b.of[p.Namespace()] {
		if !x.selector.Matches(labels.Set(p.Labels())) {
			continue
		}
		if len(x.disrupted) > 0 {
			if _, counted := x.disrupted[p.Object().Name]; counted {
				continue
			}
		}
		if _, known := left[x]; !known {
			left[x] = x.allowed
		}
		left[x]--
		broken = broken || left[x] < 0
	}
	return broken
}
