package scheduler

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// loss is what pre-emption on a node costs, in the order it is compared by.
type loss struct {
	broken  int
	highest int32
	sum     int64
	count   int
	started time.Time
	victims []string
}

func (l *loss) compare(o *loss) int {
	return cmp.Or(cmp.Compare(l.broken, o.broken), cmp.Compare(l.highest, o.highest), cmp.Compare(l.sum, o.sum), cmp.Compare(l.count, o.count), o.started.Compare(l.started))
}

// cost takes all pods of lower priority off a node and spares, one by one, those
// that need not go; nil when even their end makes no room, or there are none.
func (c *cluster) cost(p *corev1.Pod, n *corev1.Node) *loss {
	var lower []*corev1.Pod
	for _, q := range c.on(n.Name) {
		if *q.Spec.Priority < *p.Spec.Priority {
			lower = append(lower, q)
		}
	}
	defer func() {
		for _, q := range lower {
			c.pods[q.Name] = q
		}
	}()
	for _, q := range lower {
		delete(c.pods, q.Name)
	}
	if len(lower) == 0 || !c.may(p, n) {
		return nil
	}
	slices.SortFunc(lower, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(*b.Spec.Priority, *a.Spec.Priority), a.Status.StartTime.Time.Compare(b.Status.StartTime.Time), cmp.Compare(a.UID, b.UID))
	})
	left := map[string]int32{}
	for _, b := range c.budgets {
		left[b.Name] = b.Status.DisruptionsAllowed
	}
	var breaking, rest []*corev1.Pod
	for _, q := range lower {
		breaks := false
		for _, b := range c.budgets {
			if b.Namespace == q.Namespace && labels.SelectorFromSet(b.Spec.Selector.MatchLabels).Matches(labels.Set(q.Labels)) {
				left[b.Name]--
				breaks = breaks || left[b.Name] < 0
			}
		}
		if breaks {
			breaking = append(breaking, q)
		} else {
			rest = append(rest, q)
		}
	}
	l := &loss{highest: -1 << 31}
	for i, q := range append(slices.Clone(breaking), rest...) {
		c.pods[q.Name] = q
		if c.may(p, n) {
			continue
		}
		delete(c.pods, q.Name)
		if i < len(breaking) {
			l.broken++
		}
		l.count++
		l.sum += int64(*q.Spec.Priority) + 1<<31
		l.victims = append(l.victims, q.Name)
		switch at := q.Status.StartTime.Time; {
		case *q.Spec.Priority > l.highest:
			l.highest, l.started = *q.Spec.Priority, at
		case *q.Spec.Priority == l.highest && at.Before(l.started):
			l.started = at
		}
	}
	slices.Sort(l.victims)
	if l.count == 0 {
		return nil
	}
	return l
}
