package workloads

import (
	"cmp"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"sagong/controller/podstate"
)

// daemonPlan is what one handling of a DaemonSet writes.
type daemonPlan struct {
	create []string // on these nodes
	delete []*corev1.Pod
	failed []*corev1.Pod // of those deleted, by node, for events and back-off
	ended  []*corev1.Pod // of those deleted, that ran to their end
	status appsv1.DaemonSetStatus
	after  time.Duration
}

// placed is what a node has of a DaemonSet.
type placed struct {
	node       *corev1.Node
	run, stay  bool // may pods start there, may they stay
	all        []*corev1.Pod
	live       []*corev1.Pod // neither being deleted nor finished, oldest first
	new, old   *corev1.Pod   // of the live ones, the first of each template
	terminated bool          // a finished pod was found and is deleted
}

// planDaemon decides from nodes and the pods of a DaemonSet. hash is that of the
// present template. retry says whether a failed pod on a node may be replaced
// now, and if not, when.
func planDaemon(ds *appsv1.DaemonSet, nodes []*corev1.Node, pods []*corev1.Pod, hash string, retry func(node string) (bool, time.Duration), now time.Time) daemonPlan {
	var plan daemonPlan
	soon := func(d time.Duration) {
		if d > 0 && (plan.after == 0 || d < plan.after) {
			plan.after = d
		}
	}
	byNode := map[string][]*corev1.Pod{}
	for _, p := range pods {
		if p.DeletionTimestamp != nil && podstate.Finished(p) {
			continue
		}
		byNode[targetNode(p)] = append(byNode[targetNode(p)], p)
	}
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	surge := daemonSurge(ds, 1) > 0
	sample := podFrom(&ds.Spec.Template, ds.Namespace, ds.Name, nil)
	addDaemonTolerations(&sample.Spec)
	var places []*placed
	for _, n := range nodes {
		at := &placed{node: n, all: byNode[n.Name]}
		delete(byNode, n.Name)
		at.run, at.stay = fitsNode(sample, n)
		places = append(places, at)
		slices.SortFunc(at.all, olderPod)
		for _, p := range at.all {
			switch {
			case p.DeletionTimestamp != nil:
			case !at.stay:
				plan.delete = append(plan.delete, p)
			case p.Status.Phase == corev1.PodFailed:
				if ok, wait := retry(n.Name); ok {
					plan.delete, plan.failed = append(plan.delete, p), append(plan.failed, p)
				} else {
					soon(wait)
				}
			case p.Status.Phase == corev1.PodSucceeded:
				plan.delete, plan.ended = append(plan.delete, p), append(plan.ended, p)
			default:
				at.live = append(at.live, p)
			}
		}
		at.sort(&plan, hash, surge, ds.Spec.MinReadySeconds, now)
		if at.run && len(at.all) == 0 {
			plan.create = append(plan.create, n.Name)
		}
	}
	// Pods meant for a node that is gone will never be scheduled.
	for _, left := range byNode {
		for _, p := range left {
			if p.Spec.NodeName == "" && p.DeletionTimestamp == nil {
				plan.delete = append(plan.delete, p)
			}
		}
	}
	if ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType || ds.Spec.UpdateStrategy.Type == "" {
		if surge {
			plan.rollSurging(ds, places, now)
		} else {
			plan.roll(ds, places, now)
		}
	}
	plan.status = daemonStatus(ds, places, hash, now)
	for _, p := range pods {
		if wait, ok := podstate.AvailableIn(p, ds.Spec.MinReadySeconds, now); ok {
			soon(wait)
		}
	}
	return plan
}

// sort picks the pods of a node that are to stay: one, or while surging one of
// each template; the others are deleted.
func (at *placed) sort(plan *daemonPlan, hash string, surge bool, minReady int32, now time.Time) {
	for _, p := range at.live {
		isNew := p.Labels[revisionHashLabel] == hash
		switch {
		case !surge && (at.new != nil || at.old != nil), isNew && at.new != nil, !isNew && at.old != nil:
			plan.delete = append(plan.delete, p)
		case isNew:
			at.new = p
		default:
			at.old = p
		}
	}
	if surge && at.new != nil && at.old != nil && (!podstate.Ready(at.old) || podstate.Available(at.new, minReady, now)) {
		plan.delete = append(plan.delete, at.old)
		at.old = nil
	}
}

// roll deletes pods of the old template as far as availability allows: first
// those that are not available anyway.
func (plan *daemonPlan) roll(ds *appsv1.DaemonSet, places []*placed, now time.Time) {
	missing := 0
	var candidates []*corev1.Pod
	for _, at := range places {
		if !at.run {
			continue
		}
		switch {
		case at.old != nil && podstate.Available(at.old, ds.Spec.MinReadySeconds, now):
			candidates = append(candidates, at.old)
		case at.old != nil:
			plan.delete = append(plan.delete, at.old)
			missing++
		case at.new == nil || !podstate.Available(at.new, ds.Spec.MinReadySeconds, now):
			missing++
		}
	}
	room := max(0, daemonUnavailable(ds, desired(places))-missing)
	plan.delete = append(plan.delete, candidates[:min(room, len(candidates))]...)
}

// rollSurging starts pods of the new template beside old ones, as far as the
// surge allows: first where the old one is not available.
func (plan *daemonPlan) rollSurging(ds *appsv1.DaemonSet, places []*placed, now time.Time) {
	room := daemonSurge(ds, desired(places))
	var urgent, candidates []string
	for _, at := range places {
		switch {
		case !at.run || at.old == nil:
		case at.new != nil:
			if !podstate.Available(at.new, ds.Spec.MinReadySeconds, now) {
				room--
			}
		case !podstate.Available(at.old, ds.Spec.MinReadySeconds, now):
			urgent = append(urgent, at.node.Name)
		default:
			candidates = append(candidates, at.node.Name)
		}
	}
	plan.create = append(plan.create, urgent...)
	room -= len(urgent)
	plan.create = append(plan.create, candidates[:max(0, min(room, len(candidates)))]...)
}

func desired(places []*placed) (n int32) {
	for _, at := range places {
		if at.run {
			n++
		}
	}
	return n
}

func daemonStatus(ds *appsv1.DaemonSet, places []*placed, hash string, now time.Time) appsv1.DaemonSetStatus {
	s := appsv1.DaemonSetStatus{ObservedGeneration: ds.Generation, CollisionCount: ds.Status.CollisionCount, Conditions: ds.Status.Conditions}
	for _, at := range places {
		switch {
		case at.run:
			s.DesiredNumberScheduled++
			if len(at.all) == 0 {
				continue
			}
			s.CurrentNumberScheduled++
			ready, available, updated := false, false, false
			for _, p := range at.all {
				if podstate.Ready(p) {
					ready = true
					available = available || podstate.Available(p, ds.Spec.MinReadySeconds, now)
				}
				updated = updated || p.Labels[revisionHashLabel] == hash
			}
			s.NumberReady += one(ready)
			s.NumberAvailable += one(available)
			s.UpdatedNumberScheduled += one(updated)
		case len(at.all) > 0:
			s.NumberMisscheduled++
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
	return s
}

func one(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// olderPod puts running pods before pending ones, and the older first.
func olderPod(a, b *corev1.Pod) int {
	if x, y := a.Spec.NodeName == "", b.Spec.NodeName == ""; x != y {
		if x {
			return 1
		}
		return -1
	}
	return cmp.Or(a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
}

// targetNode is the node a daemon's pod is on or, until it is scheduled, the one
// its affinity names.
func targetNode(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil || p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}

// aimAt ties a pod to a node by affinity, so that the scheduler still checks
// that it fits.
func aimAt(spec *corev1.PodSpec, node string) {
	only := corev1.NodeSelectorRequirement{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{only}}},
	}
}

// addDaemonTolerations lets a daemon's pod run where others may not.
func addDaemonTolerations(spec *corev1.PodSpec) {
	add := func(key string, effect corev1.TaintEffect) {
		t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
		if !slices.Contains(spec.Tolerations, t) {
			spec.Tolerations = append(spec.Tolerations, t)
		}
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	if spec.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
}

// fitsNode says whether a pod may start on a node, and whether it may stay.
func fitsNode(p *corev1.Pod, n *corev1.Node) (run, stay bool) {
	if p.Spec.NodeName != "" && p.Spec.NodeName != n.Name {
		return false, false
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(n); !ok || err != nil {
		return false, false
	}
	run, stay = true, true
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule || slices.ContainsFunc(p.Spec.Tolerations, func(tol corev1.Toleration) bool { return toleratesTaint(&tol, t) }) {
			continue
		}
		run = false
		if t.Effect == corev1.TaintEffectNoExecute {
			stay = false
		}
	}
	return run, stay
}

func toleratesTaint(tol *corev1.Toleration, t *corev1.Taint) bool {
	if tol.Effect != "" && tol.Effect != t.Effect {
		return false
	}
	if tol.Key != "" && tol.Key != t.Key {
		return false
	}
	if tol.Operator == corev1.TolerationOpExists {
		return true
	}
	return tol.Key != "" && (tol.Operator == "" || tol.Operator == corev1.TolerationOpEqual) && tol.Value == t.Value
}

func daemonSurge(ds *appsv1.DaemonSet, desired int32) int {
	if r := ds.Spec.UpdateStrategy.RollingUpdate; r != nil && r.MaxSurge != nil {
		return int(share(r.MaxSurge, desired, true))
	}
	return 0
}

// daemonUnavailable is how many nodes may lack an available pod during an
// update: one at least when nothing else would let it proceed.
func daemonUnavailable(ds *appsv1.DaemonSet, desired int32) int {
	n := int32(1)
	if r := ds.Spec.UpdateStrategy.RollingUpdate; r != nil && r.MaxUnavailable != nil {
		n = share(r.MaxUnavailable, desired, true)
	}
	if n == 0 && daemonSurge(ds, desired) == 0 {
		n = 1
	}
	return int(n)
}
