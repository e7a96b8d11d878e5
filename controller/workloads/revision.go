package workloads

import (
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// The annotations by which a Deployment and its ReplicaSets tell kubectl (and
// the next handling) about revisions and about the size they were scaled for.
const (
	revisionAnnotation  = "deployment.kubernetes.io/revision"
	historyAnnotation   = "deployment.kubernetes.io/revision-history"
	desiredAnnotation   = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation       = "deployment.kubernetes.io/max-replicas"
	rollbackAnnotation  = "deprecated.deployment.rollback.to"
	maxHistoryCharacter = 2000
)

func revisionOf(rs *appsv1.ReplicaSet) int64 {
	return intAnnotation(rs.Annotations, revisionAnnotation)
}

func intAnnotation(a map[string]string, key string) int64 {
	n, err := strconv.ParseInt(a[key], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func maxRevision(sets []*appsv1.ReplicaSet) (most int64) {
	for _, rs := range sets {
		most = max(most, revisionOf(rs))
	}
	return most
}

// ownAnnotation says whether an annotation of a Deployment is not to be copied
// to its ReplicaSets.
func ownAnnotation(key string) bool {
	switch key {
	case corev1.LastAppliedConfigAnnotation, revisionAnnotation, historyAnnotation, desiredAnnotation, maxAnnotation, rollbackAnnotation:
		return true
	}
	return false
}

// annotateNew gives the set of the current template the Deployment's
// annotations and a revision, and says whether that changed any. fresh sets get
// their size annotations too; others have them from their last scaling.
func annotateNew(d *appsv1.Deployment, rs *appsv1.ReplicaSet, revision int64, fresh bool) bool {
	changed := false
	set := func(k, v string) {
		if old, ok := rs.Annotations[k]; ok && old == v {
			return
		}
		if rs.Annotations == nil {
			rs.Annotations = map[string]string{}
		}
		rs.Annotations[k] = v
		changed = true
	}
	for k, v := range d.Annotations {
		if !ownAnnotation(k) {
			set(k, v)
		}
	}
	old, had := rs.Annotations[revisionAnnotation]
	if was := revisionOf(rs); was < revision {
		set(revisionAnnotation, strconv.FormatInt(revision, 10))
		if had {
			set(historyAnnotation, appendHistory(rs.Annotations[historyAnnotation], old))
		}
	}
	if fresh {
		changed = annotateSize(d, rs) || changed
	}
	return changed
}

// appendHistory adds a revision to the list of those a set once was, dropping
// the oldest when it grows too long.
func appendHistory(history, revision string) string {
	if history == "" {
		return revision
	}
	all := append(strings.Split(history, ","), revision)
	for len(all) > 1 && len(strings.Join(all, ",")) > maxHistoryCharacter {
		all = all[1:]
	}
	return strings.Join(all, ",")
}

// annotateSize notes for which size of the Deployment a set was scaled, and says
// whether that was news.
func annotateSize(d *appsv1.Deployment, rs *appsv1.ReplicaSet) bool {
	if sizeNoted(d, rs) {
		return false
	}
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	desired, most := sizeOf(d)
	rs.Annotations[desiredAnnotation], rs.Annotations[maxAnnotation] = desired, most
	return true
}

func sizeNoted(d *appsv1.Deployment, rs *appsv1.ReplicaSet) bool {
	desired, most := sizeOf(d)
	return rs.Annotations[desiredAnnotation] == desired && rs.Annotations[maxAnnotation] == most
}

func sizeOf(d *appsv1.Deployment) (desired, most string) {
	n := orOne(d.Spec.Replicas)
	return strconv.Itoa(int(n)), strconv.Itoa(int(n + maxSurge(d)))
}

// byAge sorts the oldest first, by name among equals.
func byAge(sets []*appsv1.ReplicaSet) {
	slices.SortFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		if c := a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
}
