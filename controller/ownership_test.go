package controller_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
)

// TestOwnershipFollowsTheModel builds random graphs of owners and deletes from
// them with every policy. After each deletion the cluster must come to what a
// few lines say should be left.
func TestOwnershipFollowsTheModel(t *testing.T) {
	c := start(t)
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 11))
		prefix := fmt.Sprintf("s%d-", seed)
		owners := map[string][]string{} // by name
		made := map[string]*corev1.ConfigMap{}
		var names []string
		for i := range 30 {
			name := fmt.Sprint(prefix, i)
			m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
			owners[name] = nil
			for range rng.IntN(3) {
				if len(names) == 0 {
					break
				}
				owner := names[rng.IntN(len(names))]
				if slices.Contains(owners[name], owner) {
					continue
				}
				block := rng.IntN(2) == 0
				m.OwnerReferences = append(m.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: owner, UID: made[owner].UID, BlockOwnerDeletion: &block})
				owners[name] = append(owners[name], owner)
			}
			made[name] = must(client.Create(t.Context(), c.c, m))
			names = append(names, name)
		}
		for range 12 {
			left := slices.Sorted(maps.Keys(owners))
			if len(left) == 0 {
				break
			}
			victim := left[rng.IntN(len(left))]
			policy := []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan}[rng.IntN(3)]
			delete(owners, victim)
			if policy == metav1.DeletePropagationOrphan {
				for n := range owners {
					owners[n] = slices.DeleteFunc(owners[n], func(o string) bool { return o == victim })
				}
			}
			for again := true; again; {
				again = false
				for n, os := range owners {
					alive := slices.DeleteFunc(slices.Clone(os), func(o string) bool { _, ok := owners[o]; return !ok })
					if len(os) > 0 && len(alive) == 0 {
						delete(owners, n)
						again = true
					}
				}
			}
			for n, os := range owners {
				owners[n] = slices.DeleteFunc(os, func(o string) bool { _, ok := owners[o]; return !ok })
			}
			if err := client.Delete[*corev1.ConfigMap](t.Context(), c.c, "default", victim, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
				t.Fatal(err)
			}
			c.eventually(fmt.Sprintf("seed %d: the state after %s of %s", seed, policy, victim), func() bool {
				have := map[string][]string{}
				for _, m := range list[*corev1.ConfigMap](c, "default") {
					if !strings.HasPrefix(m.Name, prefix) {
						continue
					}
					have[m.Name] = nil
					for _, r := range m.OwnerReferences {
						have[m.Name] = append(have[m.Name], r.Name)
					}
				}
				return maps.EqualFunc(have, owners, slices.Equal)
			})
		}
	}
}
