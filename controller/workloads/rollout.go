package workloads

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const hashLabel = appsv1.DefaultDeploymentUniqueLabelKey

// rolloutPlan is what one handling of a Deployment writes: the set to make, the
// sets to change and to delete, then the Deployment's status and annotations.
type rolloutPlan struct {
	create *appsv1.ReplicaSet
	update []*appsv1.ReplicaSet
	delete []*appsv1.ReplicaSet
	events []plannedEvent // told once update has happened
	// status is the Deployment with its new status and revision annotation.
	status *appsv1.Deployment
	// after is when the progress deadline ends, if nothing happens before.
	after time.Duration
}

type plannedEvent struct {
	about   *appsv1.ReplicaSet // the write it belongs to
	message string
}

// rollout is the state of planning: copies that change as steps are decided, so
// that later steps see the effect of earlier ones.
type rollout struct {
	d    *appsv1.Deployment // a copy; its status is what conditions are added to
	new  *appsv1.ReplicaSet // of the current template; nil when there is none
	old  []*appsv1.ReplicaSet
	now  time.Time
	plan rolloutPlan
	// changed holds the copies made of sets, by the set they stand for.
	changed map[*appsv1.ReplicaSet]bool
}

// planRollout decides the next step of a Deployment from its ReplicaSets and, for
// Recreate, whether pods of a set still run. It changes neither argument.
func planRollout(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, running func(*appsv1.ReplicaSet) bool, now time.Time) rolloutPlan {
	r := &rollout{d: d.DeepCopy(), now: now, changed: map[*appsv1.ReplicaSet]bool{}}
	sets = slices.Clone(sets)
	byAge(sets)
	for _, rs := range sets {
		if r.new == nil && sameTemplate(&rs.Spec.Template, &d.Spec.Template, hashLabel) {
			r.new = rs
		} else {
			r.old = append(r.old, rs)
		}
	}
	switch {
	case d.DeletionTimestamp != nil:
		r.finish(r.statusOnly())
		return r.plan
	case d.Spec.Paused:
		r.notePause()
		r.syncRevision(false)
		r.scale()
		r.cleanup()
		r.finish(r.statusOnly())
		return r.plan
	}
	r.notePause()
	if r.scaling() {
		r.syncRevision(false)
		r.scale()
		r.finish(r.statusOnly())
		return r.plan
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		r.recreate(running)
	} else {
		r.rolling()
	}
	r.finish(r.rolloutStatus())
	return r.plan
}

// finish drops a write of the status that would change nothing.
func (r *rollout) finish(status appsv1.DeploymentStatus) {
	r.d.Status = status
	r.plan.status = r.d
}

// change returns a copy of a set that may be changed and will be written.
func (r *rollout) change(rs *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	if r.changed[rs] {
		return rs
	}
	next := rs.DeepCopy()
	r.changed[next] = true
	if r.new == rs {
		r.new = next
	}
	for i := range r.old {
		if r.old[i] == rs {
			r.old[i] = next
		}
	}
	r.plan.update = append(r.plan.update, next)
	return next
}

// syncRevision makes the set of the current template the one with the highest
// revision, and makes it when it is missing and create is set.
func (r *rollout) syncRevision(create bool) {
	revision := maxRevision(r.old) + 1
	if r.new == nil {
		if create {
			r.createNew(revision)
		}
		return
	}
	if probe := r.new.DeepCopy(); annotateNew(r.d, probe, revision, false) || probe.Spec.MinReadySeconds != r.d.Spec.MinReadySeconds {
		next := r.change(r.new)
		annotateNew(r.d, next, revision, false)
		next.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
	}
	r.setDeploymentRevision(r.new.Annotations[revisionAnnotation])
	if hasDeadline(r.d) && deploymentCondition(&r.d.Status, appsv1.DeploymentProgressing) == nil {
		r.condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "FoundNewReplicaSet", fmt.Sprintf("Found new replica set %q", r.new.Name))
	}
}

func (r *rollout) createNew(revision int64) {
	d := r.d
	template := d.Spec.Template.DeepCopy()
	hash := templateHash(template, d.Status.CollisionCount)
	template.Labels = withLabel(template.Labels, hash)
	selector := d.Spec.Selector.DeepCopy()
	selector.MatchLabels = withLabel(selector.MatchLabels, hash)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: setName(d.Name, hash), Namespace: d.Namespace, Labels: maps.Clone(template.Labels),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: new(int32), MinReadySeconds: d.Spec.MinReadySeconds, Selector: selector, Template: *template,
		},
	}
	r.new = rs
	*rs.Spec.Replicas = r.newSize()
	annotateNew(d, rs, revision, true)
	r.changed[rs] = true
	r.plan.create = rs
	r.setDeploymentRevision(rs.Annotations[revisionAnnotation])
	if hasDeadline(d) {
		r.condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "NewReplicaSetCreated", fmt.Sprintf("Created new replica set %q", rs.Name))
	}
}

// setName joins a Deployment's name and the hash, cutting the name where the
// whole would be too long.
func setName(name, hash string) string {
	if most := 253 - len(hash) - 1; len(name) > most {
		name = name[:most]
	}
	return name + "-" + hash
}

func withLabel(l map[string]string, hash string) map[string]string {
	out := make(map[string]string, len(l)+1)
	maps.Copy(out, l)
	out[hashLabel] = hash
	return out
}

func (r *rollout) setDeploymentRevision(revision string) {
	if r.d.Annotations[revisionAnnotation] == revision {
		return
	}
	if r.d.Annotations == nil {
		r.d.Annotations = map[string]string{}
	}
	r.d.Annotations[revisionAnnotation] = revision
}

// all returns every set, the one of the current template last.
func (r *rollout) all() []*appsv1.ReplicaSet {
	all := slices.Clone(r.old)
	if r.new != nil {
		all = append(all, r.new)
	}
	return all
}

func active(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	return slices.DeleteFunc(slices.Clone(sets), func(rs *appsv1.ReplicaSet) bool { return orOne(rs.Spec.Replicas) == 0 })
}

// sized is the number of pods that sets ask for, counted and available those
// they have.
func sized(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += orOne(rs.Spec.Replicas)
	}
	return n
}

func counted(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += rs.Status.Replicas
	}
	return n
}

func available(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += rs.Status.AvailableReplicas
	}
	return n
}

// remaining is how many pods of a set are available now and will still be when
// the set has come down to its size: its status may be from before that.
func remaining(rs *appsv1.ReplicaSet) int32 {
	return min(rs.Status.AvailableReplicas, orOne(rs.Spec.Replicas))
}

// resize has a set scaled and tells of it.
func (r *rollout) resize(rs *appsv1.ReplicaSet, to int32) {
	from := orOne(rs.Spec.Replicas)
	if from == to && sizeNoted(r.d, rs) {
		return
	}
	next := r.change(rs)
	annotateSize(r.d, next)
	next.Spec.Replicas = &to
	if from == to {
		return
	}
	direction := "up"
	if to < from {
		direction = "down"
	}
	r.plan.events = append(r.plan.events, plannedEvent{next, fmt.Sprintf("Scaled %s replica set %s from %d to %d", direction, rs.Name, from, to)})
}

// observed says whether a set's status is of its present size. One of an earlier
// size says nothing about how many pods it has had since, and a rollout that
// trusted it could go below what must be available.
func observed(rs *appsv1.ReplicaSet) bool { return rs.Generation <= rs.Status.ObservedGeneration }

// newSize is how large the set of the current template may be now.
func (r *rollout) newSize() int32 {
	want, have := orOne(r.d.Spec.Replicas), orOne(r.new.Spec.Replicas)
	if r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return want
	}
	room := want + maxSurge(r.d)
	for _, rs := range r.all() {
		if rs != r.new && !observed(rs) {
			return have // how many pods it still has is not known
		}
		// Pods that an old set is yet to end count, too: the surge bounds what
		// runs and not only what is asked for.
		room -= max(orOne(rs.Spec.Replicas), rs.Status.Replicas)
	}
	if room <= 0 {
		return have
	}
	return have + min(room, want-have)
}

// rolling takes the next step of a rolling update: the new set grows as far as
// the surge allows, or else old ones shrink as far as availability allows.
func (r *rollout) rolling() {
	r.syncRevision(true)
	if r.plan.create != nil {
		return
	}
	want := orOne(r.d.Spec.Replicas)
	if have := orOne(r.new.Spec.Replicas); have != want {
		to := want
		if have < want {
			to = r.newSize()
		}
		if to != have {
			r.resize(r.new, to)
			return
		}
	}
	if r.shrinkOld() {
		return
	}
	if r.complete(r.d.Status) {
		r.cleanup()
	}
}

// shrinkOld scales old sets down: first what is not available there anyway, then
// what the available pods of all sets make up for.
func (r *rollout) shrinkOld() bool {
	old := active(r.old)
	if sized(old) == 0 || slices.ContainsFunc(r.all(), func(rs *appsv1.ReplicaSet) bool { return !observed(rs) }) {
		return false
	}
	least := orOne(r.d.Spec.Replicas) - maxUnavailable(r.d)
	unavailable := orOne(r.new.Spec.Replicas) - remaining(r.new)
	room := sized(r.all()) - least - unavailable
	if room <= 0 {
		return false
	}
	done := int32(0)
	byAge(old)
	for _, rs := range old {
		surplus := min(room-done, orOne(rs.Spec.Replicas)-remaining(rs))
		if surplus > 0 {
			r.resize(rs, orOne(rs.Spec.Replicas)-surplus)
			done += surplus
		}
	}
	old = active(r.old)
	byAge(old)
	spare := remaining(r.new) - least
	for _, rs := range old {
		spare += remaining(rs)
	}
	spare = min(spare, room-done)
	for _, rs := range old {
		if spare <= 0 {
			break
		}
		n := min(spare, orOne(rs.Spec.Replicas))
		r.resize(rs, orOne(rs.Spec.Replicas)-n)
		spare -= n
		done += n
	}
	return done > 0
}

// recreate takes the next step of a Recreate: old sets to nothing, then, once
// their pods have ended, the new one to full size.
func (r *rollout) recreate(running func(*appsv1.ReplicaSet) bool) {
	r.syncRevision(false)
	shrunk := false
	for _, rs := range active(r.old) {
		r.resize(rs, 0)
		shrunk = true
	}
	if shrunk {
		return
	}
	for _, rs := range r.old {
		if rs.Status.Replicas > 0 || running(rs) {
			return
		}
	}
	if r.new == nil {
		r.syncRevision(true)
		return
	}
	if want := orOne(r.d.Spec.Replicas); orOne(r.new.Spec.Replicas) != want {
		r.resize(r.new, want)
		return
	}
	if r.complete(r.d.Status) {
		r.cleanup()
	}
}

// cleanup deletes old sets beyond the revision history limit.
func (r *rollout) cleanup() {
	limit := r.d.Spec.RevisionHistoryLimit
	if limit == nil || *limit == math.MaxInt32 {
		return
	}
	var alive []*appsv1.ReplicaSet
	for _, rs := range r.old {
		if rs.DeletionTimestamp == nil {
			alive = append(alive, rs)
		}
	}
	surplus := len(alive) - int(*limit)
	if surplus <= 0 {
		return
	}
	slices.SortStableFunc(alive, func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(revisionOf(a), revisionOf(b)) })
	for _, rs := range alive[:surplus] {
		if rs.Status.Replicas == 0 && orOne(rs.Spec.Replicas) == 0 && rs.Generation <= rs.Status.ObservedGeneration && !r.changed[rs] {
			r.plan.delete = append(r.plan.delete, rs)
		}
	}
}

// maxSurge is by how many pods a rollout may exceed the size of d.
func maxSurge(d *appsv1.Deployment) int32 {
	if !isRolling(d) {
		return 0
	}
	surge, _ := fenceposts(d)
	return surge
}

// maxUnavailable is how many pods of d may be missing during a rollout.
func maxUnavailable(d *appsv1.Deployment) int32 {
	n := orOne(d.Spec.Replicas)
	if !isRolling(d) || n == 0 {
		return 0
	}
	_, unavailable := fenceposts(d)
	return min(unavailable, n)
}

func isRolling(d *appsv1.Deployment) bool {
	return d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType
}

// fenceposts rounds the surge up and the unavailable down, and never lets both
// be zero, as nothing could then move.
func fenceposts(d *appsv1.Deployment) (surge, unavailable int32) {
	var s, u *intstr.IntOrString
	if p := d.Spec.Strategy.RollingUpdate; p != nil {
		s, u = p.MaxSurge, p.MaxUnavailable
	}
	surge, unavailable = share(s, orOne(d.Spec.Replicas), true), share(u, orOne(d.Spec.Replicas), false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

func share(v *intstr.IntOrString, of int32, up bool) int32 {
	if v == nil {
		return 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, int(of), up)
	if err != nil {
		return 0
	}
	return int32(n)
}
