package storage

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// resizing are the types of conditions that tell of a claim's expansion.
var resizing = []corev1.PersistentVolumeClaimConditionType{
	corev1.PersistentVolumeClaimFileSystemResizePending, corev1.PersistentVolumeClaimResizing,
	corev1.PersistentVolumeClaimControllerResizeError, corev1.PersistentVolumeClaimNodeResizeError,
}

// MergeResizeConditions returns the conditions of a claim with those that now tell
// of its expansion: each takes the place of one of its type unless that has its
// status already. The others that tell of the expansion stay or go as keep says;
// conditions of other types stay. have is not changed.
func MergeResizeConditions(have []corev1.PersistentVolumeClaimCondition, keep bool, now ...corev1.PersistentVolumeClaimCondition) []corev1.PersistentVolumeClaimCondition {
	var merged []corev1.PersistentVolumeClaimCondition
	now = slices.Clone(now)
	for _, c := range have {
		at := slices.IndexFunc(now, func(n corev1.PersistentVolumeClaimCondition) bool { return n.Type == c.Type })
		switch {
		case at >= 0:
			if now[at].Status != c.Status {
				c = now[at]
			}
			now = slices.Delete(now, at, at+1)
		case !keep && slices.Contains(resizing, c.Type):
			continue
		}
		merged = append(merged, c)
	}
	return append(merged, now...)
}
