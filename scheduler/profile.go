package scheduler

import (
	"fmt"
	"strings"

	"sagong/scheduler/configuration"
	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// profile is a set of rules that pods choose by spec.schedulerName.
type profile struct {
	name     string
	rules    []plugins.Plugin // that are asked at all, in order
	filters  map[string]bool  // by name: those that rule nodes out
	weights  map[string]int64 // by name: those that score, 0 for none
	preempts bool
	plans    planCache
	turn     uint64 // order of nodes that are equal: the one used last comes last
}

// newProfile makes the rules of a configured profile.
func newProfile(c *configuration.Profile, shared *plugins.Shared) (*profile, error) {
	all, err := shared.All(&c.Args)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", c.Name, err)
	}
	p := &profile{name: c.Name, filters: map[string]bool{}, weights: map[string]int64{}, preempts: c.Preempts}
	for _, x := range all {
		name := x.Name()
		p.filters[name], p.weights[name] = c.Filters[name], c.Weights[name]
		if _, ok := x.(plugins.NotServed); ok {
			p.filters[name] = true // whatever the profile says
		}
		if p.filters[name] || c.Weights[name] > 0 {
			p.rules = append(p.rules, x)
		}
	}
	return p, nil
}

// begin makes a plan for a class, or says why its pods fit nowhere.
func (p *profile) begin(c *plugins.Class, s *state.State) (*plan, *unfit) {
	pl := &plan{p: p, c: c, s: s, groups: map[string]*group{}, counts: map[string]int{}, ruled: make([]int, len(p.rules))}
	if p.filters["NodeAffinity"] && c.Only != nil {
		if len(c.Only) == 0 {
			return nil, &unfit{pre: "pod affinity terms conflict", helps: plugins.PodChanged, nodes: len(s.Nodes())}
		}
		pl.only = c.Only
	}
	for i, x := range p.rules {
		name := x.Name()
		if p.filters[name] {
			if f, ok := x.(plugins.Filter); ok && concerns(f, c) {
				pl.judges = append(pl.judges, judge{i, func(n *state.Node) *plugins.No { return f.Filter(c, n) }})
			}
			if f, ok := x.(plugins.PreFilter); ok {
				nf, no := f.Begin(c, s)
				if no != nil {
					return nil, &unfit{pre: strings.Join(no.Reasons, ", "), final: no.Final, helps: x.Helps(), nodes: len(s.Nodes())}
				}
				if nf != nil {
					pl.judges = append(pl.judges, judge{i, nf.Filter})
					pl.versioned = append(pl.versioned, versioned{nf, nf.Version()})
				}
			}
		}
		if w := p.weights[name]; w > 0 {
			if r, ok := x.(plugins.Relative); ok && r.Prefers(c) {
				pl.relative = append(pl.relative, relative{Relative: r, weight: w})
			}
			if a, ok := x.(plugins.Absolute); ok {
				if score := a.Scorer(c, s); score != nil {
					pl.absolute = append(pl.absolute, absolute{score, w})
				}
			}
		}
	}
	pl.counting = p.counters(c, s)
	return pl, nil
}

// concerns tells whether a filter has anything to say about a class.
func concerns(f plugins.Filter, c *plugins.Class) bool {
	s, ok := f.(plugins.Selective)
	return !ok || s.Concerns(c)
}

// counters begin to count for a class.
func (p *profile) counters(c *plugins.Class, s *state.State) (list []counter) {
	for i, x := range p.rules {
		if g, ok := x.(plugins.Global); ok {
			if counting := g.Count(c, s); counting != nil {
				list = append(list, counter{counting, i, p.filters[x.Name()], p.weights[x.Name()]})
			}
		}
	}
	return list
}

// serves tells whether the plan of a class does for one that differs in labels
// and owner alone: no rule that counts tells the two apart.
func (p *plan) serves(c *plugins.Class) bool {
	if len(p.versioned) > 0 || p.only != nil {
		return false
	}
	list := p.p.counters(c, p.s)
	if len(list) != len(p.counting) {
		return false
	}
	for i := range list {
		if list[i].rule != p.counting[i].rule || !p.counting[i].Same(list[i].Counting) {
			return false
		}
	}
	return true
}

// planCache keeps the plans of the classes placed last.
type planCache struct {
	plans map[string]*plan
	used  []string          // oldest first, with repeats
	bases map[string]string // by what labels do not decide: the class planned last
}

// cells bounds how many nodes all kept plans judge together: some 25 MB.
const cells = 400_000

func (c *planCache) get(key string) *plan { return c.plans[key] }

func (c *planCache) put(key string, base int, p *plan) {
	if c.plans == nil {
		c.plans, c.bases = map[string]*plan{}, map[string]string{}
	}
	c.plans[key] = p
	c.bases[key[:base]] = key
	if len(c.bases) > 4*len(c.plans)+64 {
		clear(c.bases)
		c.bases[key[:base]] = key
	}
	c.used = append(c.used, key)
	for limit := max(cells/max(len(p.entries), 1), 8); len(c.plans) > limit; {
		delete(c.plans, c.used[0])
		c.used = c.used[1:]
	}
	if len(c.used) > 4*len(c.plans)+64 {
		c.compact()
	}
}

// touch makes a plan the last to go.
func (c *planCache) touch(key string) {
	if k := len(c.used); k > 0 && c.used[k-1] == key {
		return
	}
	c.used = append(c.used, key)
	if len(c.used) > 4*len(c.plans)+64 {
		c.compact()
	}
}

// compact drops all but the last mention of each plan.
func (c *planCache) compact() {
	seen := make(map[string]bool, len(c.plans))
	at := len(c.used)
	for i := len(c.used) - 1; i >= 0; i-- {
		if key := c.used[i]; !seen[key] && c.plans[key] != nil {
			seen[key] = true
			at--
			c.used[at] = key
		}
	}
	c.used = append([]string(nil), c.used[at:]...)
}

func (c *planCache) drop(key string) { delete(c.plans, key) }
