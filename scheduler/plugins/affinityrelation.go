package plugins

import (
	corev1 "k8s.io/api/core/v1"

	"sagong/scheduler/state"
)

// relation is what a cohort of placed pods means to the class.
type relation struct {
	near    bool
	away    []bool
	hostile []int // tallies of hostile, one entry a term
	liking  []liking
}

type liking struct {
	tally  int
	weight int64
}

// relate works out what a cohort means to the class, once.
func (a *affinityCounting) relate(x *state.Cohort) *relation {
	r := a.cohorts[x]
	if r != nil {
		return r
	}
	r = &relation{near: len(a.required) > 0}
	for i := range a.required {
		r.near = r.near && a.required[i].matches(x.Namespace, x.Labels)
	}
	for i := range a.anti {
		r.away = append(r.away, a.anti[i].matches(x.Namespace, x.Labels))
	}
	like := func(key string, weight int64) {
		if weight != 0 {
			i, fresh := a.liking.index(a.s, key)
			a.stale = a.stale || fresh
			r.liking = append(r.liking, liking{i, weight})
		}
	}
	for i := range a.soft {
		if a.soft[i].matches(x.Namespace, x.Labels) {
			like(a.soft[i].key, a.soft[i].weight)
		}
	}
	if x.Affinity != nil {
		a.relateBack(x, r, like)
	}
	if len(a.cohorts) > 4096 {
		clear(a.cohorts) // most are gone by now
	}
	a.cohorts[x] = r
	return r
}

// relateBack reads what the cohort's own affinity says of the class.
func (a *affinityCounting) relateBack(x *state.Cohort, r *relation, like func(string, int64)) {
	p := a.c.Pod
	means := func(t *corev1.PodAffinityTerm) bool {
		read := a.f.namespaces.read(x.Namespace, x.Labels, t)
		return read.matches(p.Namespace, p.Labels)
	}
	near, away := x.Affinity.PodAffinity, x.Affinity.PodAntiAffinity
	for i := range away.RequiredDuringSchedulingIgnoredDuringExecution {
		if t := &away.RequiredDuringSchedulingIgnoredDuringExecution[i]; means(t) {
			k, fresh := a.hostile.index(a.s, t.TopologyKey)
			a.stale = a.stale || fresh
			r.hostile = append(r.hostile, k)
		}
	}
	if a.f.ignoreSoft && len(a.soft) == 0 {
		return
	}
	if a.f.hardWeight > 0 {
		for i := range near.RequiredDuringSchedulingIgnoredDuringExecution {
			if t := &near.RequiredDuringSchedulingIgnoredDuringExecution[i]; means(t) {
				like(t.TopologyKey, a.f.hardWeight)
			}
		}
	}
	for i := range near.PreferredDuringSchedulingIgnoredDuringExecution {
		if t := &near.PreferredDuringSchedulingIgnoredDuringExecution[i]; means(&t.PodAffinityTerm) {
			like(t.PodAffinityTerm.TopologyKey, int64(t.Weight))
		}
	}
	for i := range away.PreferredDuringSchedulingIgnoredDuringExecution {
		if t := &away.PreferredDuringSchedulingIgnoredDuringExecution[i]; means(&t.PodAffinityTerm) {
			like(t.PodAffinityTerm.TopologyKey, -int64(t.Weight))
		}
	}
}
