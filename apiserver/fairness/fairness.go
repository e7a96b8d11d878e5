// Package fairness shares the server among those who ask: API priority and
// fairness by FlowSchema and PriorityLevelConfiguration, as Kubernetes defines
// them (flowcontrol.apiserver.k8s.io/v1).
//
// A request has a seat of its priority level while it is under way, and while it
// computes it also has a turn. Seats bound what is in memory; turns are what
// keeps one tenant's flood from another's waiting time: there are few, flows get
// them one after another, and a request gives its own back before it waits for
// the disk, a webhook or a slow reader.
package fairness

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxWait is how long a request may wait for a seat: a quarter of what it may
// take at all, as upstream has it.
const maxWait = 15 * time.Second

// Controller decides which requests go on, wait, or are sent away.
type Controller struct {
	mu      sync.Mutex
	seats   int // of all levels
	schemas []*schema
	levels  map[string]*level
	turns   turns
	metrics Metrics
}

// Metrics are told what becomes of requests. All may be called at once.
type Metrics interface {
	// Dispatched is called with the time a request waited for its seat.
	Dispatched(level, schema string, waited time.Duration)
	// Rejected gives the reason: "queue-full", "concurrency-limit", "time-out" or
	// "cancelled".
	Rejected(level, schema, reason string)
}

type noMetrics struct{}

func (noMetrics) Dispatched(string, string, time.Duration) {}
func (noMetrics) Rejected(string, string, string)          {}

// New makes a controller with seats for requests under way and turns for those
// that compute, which knows the configuration that every cluster begins with.
// metrics may be nil.
func New(seats, turns int, metrics Metrics) *Controller {
	if metrics == nil {
		metrics = noMetrics{}
	}
	c := &Controller{seats: seats, levels: map[string]*level{}, metrics: metrics}
	c.turns.free, c.turns.all = turns, turns
	c.Set(BootstrapFlowSchemas(), BootstrapPriorityLevels())
	return c
}

// Set puts a configuration in place of the last. What upstream calls mandatory
// is always there. Requests under way keep their seats.
func (c *Controller) Set(schemas []*flowcontrolv1.FlowSchema, levels []*flowcontrolv1.PriorityLevelConfiguration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := map[string]bool{}
	shares := 0
	for _, p := range withMandatory(levels, mandatoryLevels(), (*flowcontrolv1.PriorityLevelConfiguration).GetName) {
		l := c.levels[p.Name]
		if l == nil {
			l = &level{name: p.Name, flows: map[string]*flow{}}
			c.levels[p.Name] = l
		}
		l.configure(p)
		shares += l.shares
		known[p.Name] = true
	}
	for name, l := range c.levels {
		if !known[name] {
			l.gone, l.nominal, l.keeps = true, 0, 0 // goes with the last request in it
			if l.used == 0 && len(l.flows) == 0 {
				delete(c.levels, name)
			}
			continue
		}
		l.gone = false
		l.nominal = int(math.Ceil(float64(c.seats) * float64(l.shares) / float64(max(shares, 1))))
		l.keeps = l.nominal - l.nominal*l.lendable/100
	}
	c.schemas = c.schemas[:0:0]
	for _, f := range withMandatory(schemas, mandatorySchemas(), (*flowcontrolv1.FlowSchema).GetName) {
		if l := c.levels[f.Spec.PriorityLevelConfiguration.Name]; l != nil && known[l.name] {
			c.schemas = append(c.schemas, newSchema(f, l))
		}
	}
	slices.SortFunc(c.schemas, func(a, b *schema) int {
		return cmp.Or(cmp.Compare(a.precedence, b.precedence), cmp.Compare(a.name, b.name))
	})
	c.dispatch()
}

// withMandatory puts the mandatory objects in the place of those named so, or adds them.
func withMandatory[T any](have, mandatory []T, name func(T) string) []T {
	out := slices.DeleteFunc(slices.Clone(have), func(o T) bool {
		return slices.ContainsFunc(mandatory, func(m T) bool {
			return name(m) == name(o) && name(m) == flowcontrolv1.PriorityLevelConfigurationNameExempt
		})
	})
	for _, m := range mandatory {
		if !slices.ContainsFunc(out, func(o T) bool { return name(o) == name(m) }) {
			out = append(out, m)
		}
	}
	return out
}

// Ticket is a request that may go on.
type Ticket struct {
	c     *Controller
	level *level
	flow  *flow // nil at exempt levels, which are not bounded
	turn  *turnFlow
	key   string // of the flow's turns

	// Schema and Level are the UIDs of what classified the request.
	Schema, Level types.UID
}

// Rejected is the error of a request that must come again later.
type Rejected struct {
	Schema, Level types.UID
	Reason        string // as in Metrics
}

func (r *Rejected) Error() string { return "too many requests, please try again later: " + r.Reason }

// Enter waits until a request may go on. The error is a *Rejected or ctx's.
func (c *Controller) Enter(ctx context.Context, r *Request) (*Ticket, error) {
	begin := time.Now()
	c.mu.Lock()
	s, flowName := c.classify(r)
	t := &Ticket{c: c, level: s.level, Schema: s.uid, Level: s.level.uid}
	reject := func(reason string) error {
		c.metrics.Rejected(t.level.name, s.name, reason)
		return &Rejected{Schema: t.Schema, Level: t.Level, Reason: reason}
	}
	if s.level.exempt {
		c.mu.Unlock()
		c.metrics.Dispatched(t.level.name, s.name, 0)
		return t, nil
	}
	key := s.name + "\x00" + flowName
	f := s.level.flow(key)
	t.flow = f
	if len(f.waiting) == 0 && c.mayTake(s.level) && !s.level.waiting() {
		s.level.take(f)
		c.mu.Unlock()
	} else if reason := s.level.full(f); reason != "" {
		s.level.tidy(f)
		c.mu.Unlock()
		return nil, reject(reason)
	} else {
		w := &waiter{granted: make(chan struct{})}
		f.waiting = append(f.waiting, w)
		s.level.inQueue++
		c.mu.Unlock()
		limit := time.NewTimer(maxWait)
		defer limit.Stop()
		reason := ""
		select {
		case <-w.granted:
		case <-limit.C:
			reason = "time-out"
		case <-ctx.Done():
			reason = "cancelled"
		}
		if reason != "" && c.withdraw(s.level, f, w) {
			return nil, reject(reason)
		}
	}
	c.metrics.Dispatched(t.level.name, s.name, time.Since(begin))
	var ok bool
	t.key = s.level.name + "\x00" + key
	if t.turn, ok = c.turns.take(ctx, t.key); !ok {
		t.Leave()
		return nil, reject("cancelled")
	}
	return t, nil
}

// Yield gives the turn back: what follows is mostly waiting.
func (t *Ticket) Yield() {
	if t != nil && t.turn != nil {
		t.c.turns.giveBack(t.turn)
		t.turn = nil
	}
}

// Resume waits for a turn again after Yield, or for the end of ctx.
func (t *Ticket) Resume(ctx context.Context) {
	if t != nil && t.flow != nil && t.turn == nil {
		t.turn, _ = t.c.turns.take(ctx, t.key)
	}
}

// Leave gives the seat back. It may be called twice, by the request's own
// goroutine.
func (t *Ticket) Leave() {
	if t == nil || t.flow == nil {
		return
	}
	t.Yield()
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.level.used--
	t.flow.used--
	t.level.tidy(t.flow)
	t.flow = nil
	t.c.dispatch()
	if t.level.gone && t.level.used == 0 && len(t.level.flows) == 0 {
		delete(t.c.levels, t.level.name)
	}
}

// withdraw takes a waiter out of its queue; false when it was granted meanwhile.
func (c *Controller) withdraw(l *level, f *flow, w *waiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(f.waiting, w)
	if i < 0 {
		return false
	}
	f.waiting = slices.Delete(f.waiting, i, i+1)
	l.inQueue--
	l.tidy(f)
	return true
}

// mayTake says whether a level may have one more seat: of those it never lends,
// or of what no level uses or keeps for itself. Upstream moves such borrowed
// seats every ten seconds; here they are lent for one request.
func (c *Controller) mayTake(l *level) bool {
	if l.used < l.keeps {
		return true
	}
	if l.borrows >= 0 && l.used >= l.nominal+l.nominal*l.borrows/100 {
		return false
	}
	taken := 0
	for _, other := range c.levels {
		taken += max(other.used, other.keeps)
	}
	return taken < c.seats
}

// dispatch gives free seats to those who wait.
func (c *Controller) dispatch() {
	for {
		var neediest *level
		for _, l := range c.levels {
			if l.waiting() && c.mayTake(l) && (neediest == nil || l.need() < neediest.need()) {
				neediest = l
			}
		}
		if neediest == nil {
			return
		}
		neediest.grant()
	}
}
