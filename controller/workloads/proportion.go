package workloads

import (
	"cmp"
	"math"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
)

// scaling says whether the Deployment's size changed since its sets were scaled.
func (r *rollout) scaling() bool {
	for _, rs := range active(r.all()) {
		if noted, ok := rs.Annotations[desiredAnnotation]; ok && noted != "" &&
			intAnnotation(rs.Annotations, desiredAnnotation) != int64(orOne(r.d.Spec.Replicas)) {
			return true
		}
	}
	return false
}

// scale fits the sets to the Deployment's size. In the middle of a rollout each
// grows or shrinks by its share, so that a bad version does not get all of it.
func (r *rollout) scale() {
	want := orOne(r.d.Spec.Replicas)
	if only := r.activeOrLatest(); only != nil {
		r.resize(only, want)
		return
	}
	if r.saturated() {
		for _, rs := range active(r.old) {
			r.resize(rs, 0)
		}
		return
	}
	if !isRolling(r.d) {
		return
	}
	sets := active(r.all())
	allowed := int32(0)
	if want > 0 {
		allowed = want + maxSurge(r.d)
	}
	change := allowed - sized(sets)
	slices.SortStableFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		age := a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time)
		if change > 0 {
			age = -age // what grows most is the newest among equals, else the oldest
		}
		return cmp.Or(cmp.Compare(orOne(b.Spec.Replicas), orOne(a.Spec.Replicas)), age, cmp.Compare(a.Name, b.Name))
	})
	sizes, given := make([]int32, len(sets)), int32(0)
	for i, rs := range sets {
		part := int32(0)
		if change != given {
			part = r.fraction(rs)
			if change > 0 {
				part = min(part, change-given)
			} else {
				part = max(part, change-given)
			}
		}
		if change == 0 {
			part = 0
		}
		sizes[i] = orOne(rs.Spec.Replicas) + part
		given += part
	}
	for i, rs := range sets {
		if i == 0 && change != 0 {
			sizes[0] = max(0, sizes[0]+change-given)
		}
		r.resize(rs, sizes[i])
	}
}

// activeOrLatest is the set that all of a change of size goes to: the only one
// with pods or, when none has any, the newest. Nil when several have pods.
func (r *rollout) activeOrLatest() *appsv1.ReplicaSet {
	switch sets := active(r.all()); len(sets) {
	case 0:
		if r.new != nil || len(r.old) == 0 {
			return r.new
		}
		old := slices.Clone(r.old)
		byAge(old)
		return old[len(old)-1]
	case 1:
		return sets[0]
	}
	return nil
}

// saturated says whether the new set has all pods that d asks for, available.
func (r *rollout) saturated() bool {
	want := orOne(r.d.Spec.Replicas)
	return r.new != nil && orOne(r.new.Spec.Replicas) == want && r.new.Status.AvailableReplicas == want &&
		intAnnotation(r.new.Annotations, desiredAnnotation) == int64(want)
}

// fraction is a set's share of a change of size.
func (r *rollout) fraction(rs *appsv1.ReplicaSet) int32 {
	size := orOne(rs.Spec.Replicas)
	if orOne(r.d.Spec.Replicas) == 0 {
		return -size
	}
	before := intAnnotation(rs.Annotations, maxAnnotation)
	if before == 0 {
		before = int64(r.d.Status.Replicas)
	}
	if before == 0 {
		return 0
	}
	most := int64(orOne(r.d.Spec.Replicas) + maxSurge(r.d))
	return int32(math.Round(float64(int64(size)*most)/float64(before))) - size
}
