package workloads

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

// Who owns a claim decides when it goes:
// https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#persistentvolumeclaim-retention
func TestOwnersOfClaims(t *testing.T) {
	f := fake.New(object.NewScheme(kinds.All()...))
	defer f.Close()
	c := NewStatefulSet(reconcile.NewHub(f, nil), nil, nil).(*statefulSetController)
	const keep, drop = appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "s-1", UID: "pod"}}
	yes := true
	user := metav1.OwnerReference{Kind: "X", Name: "x", UID: "user"}
	other := metav1.OwnerReference{Kind: "Y", Name: "y", UID: "other", Controller: &yes}
	for _, x := range []struct {
		scaled, deleted appsv1.PersistentVolumeClaimRetentionPolicyType
		condemned       bool
		have            []metav1.OwnerReference
		want            []string
	}{
		{keep, keep, false, nil, nil},
		{keep, keep, true, []metav1.OwnerReference{{UID: "set"}, {UID: "pod"}, user}, []string{"user"}},
		{keep, drop, false, nil, []string{"set"}},
		{keep, drop, true, []metav1.OwnerReference{{UID: "set"}}, []string{"set"}},
		{drop, keep, false, []metav1.OwnerReference{{UID: "pod"}}, nil},
		{drop, keep, true, nil, []string{"pod"}},
		{drop, drop, false, []metav1.OwnerReference{{UID: "pod"}, user}, []string{"user", "set"}},
		{drop, drop, true, []metav1.OwnerReference{{UID: "set"}}, []string{"pod"}},
		{drop, drop, true, []metav1.OwnerReference{other}, []string{"other"}},
	} {
		set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "s", UID: "set"}}
		set.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenScaled: x.scaled, WhenDeleted: x.deleted}
		var got []string
		for _, r := range c.claimOwners(set, pod, x.condemned, x.have) {
			got = append(got, string(r.UID))
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("scaled %s, deleted %s, condemned %v: %v, want %v", x.scaled, x.deleted, x.condemned, got, x.want)
		}
	}
}
