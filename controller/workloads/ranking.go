package workloads

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/controller/podstate"
)

// podDeletionCost is the annotation by which users say which pods go first.
const podDeletionCost = "controller.kubernetes.io/pod-deletion-cost"

// rankForDeletion sorts pods so that those to be deleted first come first, by
// upstream's order: unassigned, then pending, not ready, cheaper, more of the
// kind on one node, ready for less time, restarted more often, younger. Times
// are compared by magnitude, so that among pods of about one age chance decides.
// related are the pods that count as the same kind for the node's crowding.
func rankForDeletion(pods, related []*corev1.Pod, now time.Time) {
	onNode := map[string]int{}
	for _, p := range related {
		if podstate.Active(p) {
			onNode[p.Spec.NodeName]++
		}
	}
	ranks := make(map[*corev1.Pod]*podRank, len(pods))
	for _, p := range pods {
		ranks[p] = rankOf(p, onNode[p.Spec.NodeName])
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return compareRanks(ranks[a], ranks[b], now) })
}

type podRank struct {
	assigned, phase, ready int
	cost                   int32
	crowd                  int
	since, created         time.Time
	restarts, sidecars     int32
	uid                    string
}

func rankOf(p *corev1.Pod, crowd int) *podRank {
	r := &podRank{crowd: crowd, cost: costOf(p), created: p.CreationTimestamp.Time, uid: string(p.UID)}
	if p.Spec.NodeName != "" {
		r.assigned = 1
	}
	switch p.Status.Phase {
	case corev1.PodUnknown:
		r.phase = 1
	case corev1.PodRunning:
		r.phase = 2
	}
	if podstate.Ready(p) {
		r.ready, r.since = 1, podstate.ReadySince(p)
	}
	for i := range p.Status.ContainerStatuses {
		r.restarts = max(r.restarts, p.Status.ContainerStatuses[i].RestartCount)
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		for j := range p.Status.InitContainerStatuses {
			if s := &p.Status.InitContainerStatuses[j]; s.Name == c.Name {
				r.sidecars = max(r.sidecars, s.RestartCount)
			}
		}
	}
	return r
}

func costOf(p *corev1.Pod) int32 {
	n, err := strconv.ParseInt(p.Annotations[podDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

func compareRanks(a, b *podRank, now time.Time) int {
	if c := cmp.Or(
		cmp.Compare(a.assigned, b.assigned),
		cmp.Compare(a.phase, b.phase),
		cmp.Compare(a.ready, b.ready),
		cmp.Compare(a.cost, b.cost),
		cmp.Compare(b.crowd, a.crowd),
	); c != 0 {
		return c
	}
	if a.ready == 1 && !a.since.Equal(b.since) {
		if c := compareAges(a.since, b.since, now); c != 0 {
			return c
		}
		return cmp.Compare(a.uid, b.uid)
	}
	if c := cmp.Or(cmp.Compare(b.restarts, a.restarts), cmp.Compare(b.sidecars, a.sidecars)); c != 0 {
		return c
	}
	if !a.created.Equal(b.created) {
		if c := compareAges(a.created, b.created, now); c != 0 {
			return c
		}
	}
	return cmp.Compare(a.uid, b.uid)
}

// compareAges puts the younger first when the powers of two of the ages differ;
// an unknown time counts as youngest.
func compareAges(a, b, now time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return -1
	case b.IsZero():
		return 1
	}
	return cmp.Compare(magnitude(now.Sub(a)), magnitude(now.Sub(b)))
}

func magnitude(d time.Duration) int {
	if d <= 0 {
		return -1
	}
	return int(math.Log2(float64(d)))
}
