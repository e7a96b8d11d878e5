package fairness

import "strings"

// Level is how a priority level stands at a moment.
type Level struct {
	Name    string
	Nominal int // seats that are its own
	// Executing and Waiting are the requests under way and those that wait for a
	// seat, by flow schema; schemas without any are left out.
	Executing, Waiting map[string]int
}

// Levels shows all levels. Requests at exempt ones are not counted.
func (c *Controller) Levels() (all []Level) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.levels {
		out := Level{Name: l.name, Nominal: l.nominal, Executing: map[string]int{}, Waiting: map[string]int{}}
		for _, f := range l.flows {
			schema, _, _ := strings.Cut(f.key, "\x00")
			out.Executing[schema] += f.used
			out.Waiting[schema] += len(f.waiting)
		}
		all = append(all, out)
	}
	return all
}
