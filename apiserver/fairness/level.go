package fairness

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/types"
)

// level is a priority level: some of the server's seats, and the requests that
// wait for one.
type level struct {
	name   string
	uid    types.UID
	exempt bool
	gone   bool // its configuration is deleted

	shares, lendable int // as configured; lendable in percent
	nominal          int // seats that are its own
	keeps            int // of them, those it never lends
	borrows          int // more than nominal, in percent of it; -1 is without limit
	queues           bool
	perFlow, inAll   int // how many may wait

	used, inQueue int
	served        int // grants so far, the clock of flows
	flows         map[string]*flow
}

// flow is one tenant of a level, while it has requests there.
type flow struct {
	key     string
	used    int
	last    int // when it was served last, in grants of the level
	waiting []*waiter
}

type waiter struct{ granted chan struct{} }

func (l *level) configure(p *flowcontrolv1.PriorityLevelConfiguration) {
	l.uid = p.UID
	l.exempt = p.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt
	l.shares, l.lendable, l.borrows = 0, 0, -1
	l.queues = false
	if e := p.Spec.Exempt; l.exempt && e != nil {
		l.shares, l.lendable = value(e.NominalConcurrencyShares, 0), value(e.LendablePercent, 0)
	}
	limited := p.Spec.Limited
	if l.exempt || limited == nil {
		return
	}
	l.shares, l.lendable = value(limited.NominalConcurrencyShares, 30), value(limited.LendablePercent, 0)
	if b := limited.BorrowingLimitPercent; b != nil {
		l.borrows = int(*b)
	}
	if q := limited.LimitResponse.Queuing; q != nil && limited.LimitResponse.Type == flowcontrolv1.LimitResponseTypeQueue {
		// A flow may use as many of the queues as its hand has. Here each flow has
		// a queue of its own, so that none waits behind another's requests.
		l.queues = true
		l.perFlow = int(q.HandSize) * int(q.QueueLengthLimit)
		l.inAll = int(q.Queues) * int(q.QueueLengthLimit)
	}
}

func value(p *int32, otherwise int) int {
	if p == nil {
		return otherwise
	}
	return int(*p)
}

func (l *level) flow(key string) *flow {
	f := l.flows[key]
	if f == nil {
		f = &flow{key: key, last: l.served}
		l.flows[key] = f
	}
	return f
}

// tidy forgets a flow that has nothing under way.
func (l *level) tidy(f *flow) {
	if f.used == 0 && len(f.waiting) == 0 && l.flows[f.key] == f {
		delete(l.flows, f.key)
	}
}

func (l *level) waiting() bool { return l.inQueue > 0 }

// full says why no further request of a flow may wait; "" when one may.
func (l *level) full(f *flow) string {
	switch {
	case !l.queues:
		return "concurrency-limit"
	case len(f.waiting) >= l.perFlow, l.inQueue >= l.inAll:
		return "queue-full"
	}
	return ""
}

func (l *level) take(f *flow) {
	l.used++
	f.used++
	l.served++
	f.last = l.served
}

// need orders levels that wait: the one with the least of its own goes first.
func (l *level) need() float64 { return float64(l.used) / float64(max(l.nominal, 1)) }

// grant lets the first request of the flow go on that has the fewest under way,
// and of those the one that was served longest ago.
func (l *level) grant() {
	var next *flow
	for _, f := range l.flows {
		if len(f.waiting) > 0 && (next == nil || f.used < next.used || f.used == next.used && f.last < next.last) {
			next = f
		}
	}
	w := next.waiting[0]
	next.waiting = next.waiting[1:]
	l.inQueue--
	l.take(next)
	close(w.granted)
}
