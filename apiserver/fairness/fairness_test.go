package fairness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apiserver/pkg/authentication/user"
)

func tenant(name string) *Request {
	return &Request{
		User: &user.DefaultInfo{Name: name, Groups: []string{user.AllAuthenticated}},
		Verb: "create", Resource: true, Plural: "pods", Namespace: name,
	}
}

func TestClassification(t *testing.T) {
	c := New(600, 4, nil)
	who := func(name string, groups ...string) user.Info {
		return &user.DefaultInfo{Name: name, Groups: append(groups, user.AllAuthenticated)}
	}
	pods := func(u user.Info) *Request {
		return &Request{User: u, Verb: "list", Resource: true, Plural: "pods", Namespace: "n"}
	}
	leases := func(u user.Info, namespace string) *Request {
		return &Request{User: u, Verb: "update", Resource: true, Group: "coordination.k8s.io", Plural: "leases", Namespace: namespace}
	}
	for _, test := range []struct {
		r            *Request
		schema, flow string
	}{
		{pods(who("admin", user.SystemPrivilegedGroup)), "exempt", ""},
		{pods(who("system:node:a", user.NodesGroup)), "system-nodes", "system:node:a"},
		{leases(who("system:node:a", user.NodesGroup), "kube-node-lease"), "system-node-high", "system:node:a"},
		{&Request{User: who("system:node:a", user.NodesGroup), Verb: "patch", Resource: true, Plural: "nodes/status"}, "system-node-high", "system:node:a"},
		{leases(who("system:kube-scheduler"), "kube-system"), "system-leader-election", "system:kube-scheduler"},
		{pods(who("system:kube-scheduler")), "kube-scheduler", "n"},
		{leases(who("system:serviceaccount:kube-system:x", "system:serviceaccounts"), "other"), "system-leader-election", "system:serviceaccount:kube-system:x"},
		{pods(who("system:serviceaccount:kube-system:x", "system:serviceaccounts")), "kube-system-service-accounts", "n"},
		{pods(who("system:serviceaccount:n:x", "system:serviceaccounts")), "service-accounts", "system:serviceaccount:n:x"},
		{pods(who("jane")), "global-default", "jane"},
		{&Request{User: who("jane"), Verb: "get", Path: "/healthz"}, "probes", ""},
		{&Request{User: who("jane"), Verb: "get", Path: "/livez/ping"}, "probes", ""},
		{&Request{User: who("jane"), Verb: "get", Path: "/livezz"}, "global-default", "jane"},
		{&Request{User: who("jane"), Verb: "get", Path: "/metrics"}, "global-default", "jane"},
		{&Request{User: &user.DefaultInfo{Name: "ghost"}, Verb: "get", Path: "/version"}, "catch-all", "ghost"},
	} {
		if s, flow := c.classify(test.r); s.name != test.schema || flow != test.flow {
			t.Errorf("%s %s%s by %s: %s, %q; want %s, %q", test.r.Verb, test.r.Path, test.r.Plural, test.r.User.GetName(), s.name, flow, test.schema, test.flow)
		}
	}
}

// With one turn, a tenant that comes while another has twenty requests waiting is
// the next but one.
func TestFloodDoesNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(600, 1, nil)
		first, err := c.Enter(t.Context(), tenant("flood"))
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		ask := func(name string) {
			all.Go(func() {
				ticket, err := c.Enter(t.Context(), tenant(name))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				time.Sleep(time.Millisecond)
				ticket.Leave()
			})
		}
		for range 20 {
			ask("flood")
		}
		synctest.Wait()
		ask("quiet")
		synctest.Wait()
		first.Leave()
		all.Wait()
		if i := slices.Index(order, "quiet"); i > 1 {
			t.Errorf("served as number %d: %v", i, order)
		}
		if len(c.turns.flows) != 0 || c.turns.free != 1 {
			t.Errorf("left: %v, %d free", c.turns.flows, c.turns.free)
		}
	})
}

// A flow alone may have all turns, and a quarter of them while others ask: those
// that come find some free.
func TestShareOfTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(600, 8, nil)
		enter := func(name string) (got []*Ticket, wait func() []*Ticket) {
			var mu sync.Mutex
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() {
					ticket, err := c.Enter(t.Context(), tenant(name))
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					got = append(got, ticket)
				})
			}
			synctest.Wait()
			return slices.Clone(got), func() []*Ticket { all.Wait(); return got }
		}
		leave := func(all []*Ticket) {
			for _, ticket := range all {
				ticket.Leave()
			}
		}
		first, rest := enter("flood")
		if len(first) != 8 {
			t.Errorf("alone: %d at a time", len(first))
		}
		leave(first)
		leave(rest())

		quiet, err := c.Enter(t.Context(), tenant("quiet"))
		if err != nil {
			t.Fatal(err)
		}
		quiet.Leave()
		first, rest = enter("flood")
		if len(first) != 2 || c.turns.free != 6 {
			t.Errorf("beside another: %d at a time, %d free", len(first), c.turns.free)
		}
		leave(first)
		leave(rest())
		if len(c.turns.flows) != 0 || len(c.turns.ring) != 0 || c.turns.free != 8 {
			t.Errorf("left: %v, %v, %d free", c.turns.flows, c.turns.ring, c.turns.free)
		}
	})
}

// A flood pauses between turns while others ask, and only then; a flow of which few
// requests wait does not.
func TestFloodPauses(t *testing.T) {
	for _, tt := range []struct {
		requests  int
		contested bool
		want      time.Duration
	}{
		{20, false, 20 * time.Millisecond},
		{backlog, true, backlog * time.Millisecond},
		// The last backlog of them follow each other at once.
		{20, true, (20 + (20-backlog)*pause) * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := New(600, 1, nil)
			if tt.contested {
				quiet, err := c.Enter(t.Context(), tenant("quiet"))
				if err != nil {
					t.Fatal(err)
				}
				quiet.Leave()
			}
			begin := time.Now()
			var all sync.WaitGroup
			for range tt.requests {
				all.Go(func() {
					ticket, err := c.Enter(t.Context(), tenant("flood"))
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Millisecond)
					ticket.Leave()
				})
			}
			all.Wait()
			if took := time.Since(begin); took != tt.want {
				t.Errorf("%d requests, contested %t: %v, want %v", tt.requests, tt.contested, took, tt.want)
			}
			if len(c.turns.flows) != 0 || len(c.turns.ring) != 0 || c.turns.free != 1 {
				t.Errorf("left: %v, %v, %d free", c.turns.flows, c.turns.ring, c.turns.free)
			}
		})
	}
}

// One that waits for something and keeps its turn holds nobody up for long.
func TestTurnThatIsNotGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(600, 1, nil)
		stuck, err := c.Enter(t.Context(), tenant("stuck"))
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		other, err := c.Enter(t.Context(), tenant("other"))
		if err != nil || time.Since(begin) != longestTurn {
			t.Errorf("entered after %v: %v", time.Since(begin), err)
		}
		other.Leave()
		stuck.Leave()
		if len(c.turns.flows) != 0 || len(c.turns.ring) != 0 || c.turns.free != 1 {
			t.Errorf("left: %v, %v, %d free", c.turns.flows, c.turns.ring, c.turns.free)
		}
	})
}

// Yield lets the next compute while this one keeps its seat.
func TestYield(t *testing.T) {
	c := New(600, 1, nil)
	a, err := c.Enter(t.Context(), tenant("a"))
	if err != nil {
		t.Fatal(err)
	}
	a.Yield()
	b, err := c.Enter(t.Context(), tenant("a"))
	if err != nil {
		t.Fatal(err)
	}
	a.Yield()
	b.Leave()
	a.Leave()
	a.Leave()
	for name, l := range c.levels {
		if l.used != 0 || len(l.flows) != 0 {
			t.Errorf("%s: %d seats, %d flows", name, l.used, len(l.flows))
		}
	}
}

func limited(name string, shares, lendable int32, borrow *int32, response flowcontrolv1.LimitResponse) *flowcontrolv1.PriorityLevelConfiguration {
	p := queuing(name, shares, lendable, 1)
	p.Spec.Limited.BorrowingLimitPercent = borrow
	p.Spec.Limited.LimitResponse = response
	return p
}

// Levels have what is theirs, lend what they may, and send away what may not wait.
func TestSeats(t *testing.T) {
	queue := flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeQueue, Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 1, HandSize: 1, QueueLengthLimit: 2}}
	reject := flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}
	for _, test := range []struct {
		name   string
		levels []*flowcontrolv1.PriorityLevelConfiguration
		others int // seats that others have
		want   int // seats to be had
	}{
		{"all is its own", []*flowcontrolv1.PriorityLevelConfiguration{limited("l", 95, 0, nil, reject)}, 0, 95},
		{"nothing is lent", []*flowcontrolv1.PriorityLevelConfiguration{limited("l", 45, 0, nil, reject), limited("o", 50, 0, nil, reject)}, 0, 45},
		{"half is lent", []*flowcontrolv1.PriorityLevelConfiguration{limited("l", 45, 0, nil, reject), limited("o", 50, 50, nil, reject)}, 0, 70},
		{"what is in use is not lent", []*flowcontrolv1.PriorityLevelConfiguration{limited("l", 45, 0, nil, reject), limited("o", 50, 50, nil, reject)}, 40, 55},
		{"no borrowing", []*flowcontrolv1.PriorityLevelConfiguration{limited("l", 45, 0, new(int32(0)), reject), limited("o", 50, 100, nil, reject)}, 0, 45},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := New(100, 1000, nil)
			c.Set([]*flowcontrolv1.FlowSchema{
				schemaOf("l", "l", 10, byUser, all(users("tenant"))), schemaOf("o", "o", 10, byUser, all(users("other"))),
			}, test.levels)
			for range test.others {
				if _, err := c.Enter(t.Context(), tenant("other")); err != nil {
					t.Fatal(err)
				}
			}
			n := 0
			for ; ; n++ {
				_, err := c.Enter(t.Context(), tenant("tenant"))
				var rejected *Rejected
				if errors.As(err, &rejected) && rejected.Reason == "concurrency-limit" {
					break
				}
				if err != nil || n > 200 {
					t.Fatal(n, err)
				}
			}
			if n != test.want {
				t.Errorf("%d seats, want %d", n, test.want)
			}
		})
	}
	t.Run("queue", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := New(6, 100, nil)
			c.Set([]*flowcontrolv1.FlowSchema{schemaOf("l", "l", 10, byUser, all(users("tenant")))}, []*flowcontrolv1.PriorityLevelConfiguration{limited("l", 1, 0, new(int32(0)), queue)})
			first, err := c.Enter(t.Context(), tenant("tenant"))
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan error, 10)
			gone, leave := context.WithCancel(t.Context())
			for i := range 3 {
				ctx := t.Context()
				if i == 0 {
					ctx = gone
				}
				go func() {
					ticket, err := c.Enter(ctx, tenant("tenant"))
					got <- err
					ticket.Leave()
				}()
				synctest.Wait()
			}
			expect := func(reason string) {
				t.Helper()
				var rejected *Rejected
				if err := <-got; reason == "" && err != nil || reason != "" && (!errors.As(err, &rejected) || rejected.Reason != reason) {
					t.Errorf("%v, want %q", err, reason)
				}
			}
			expect("queue-full")
			leave()
			expect("cancelled")
			first.Leave()
			expect("")
			second, err := c.Enter(t.Context(), tenant("tenant"))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				_, err := c.Enter(t.Context(), tenant("tenant"))
				got <- err
			}()
			time.Sleep(maxWait + time.Second)
			expect("time-out")
			second.Leave()
		})
	})
}

// A configuration that changes all the time loses no seat and keeps nobody waiting.
func TestReconfiguration(t *testing.T) {
	c := New(20, 2, nil)
	var all_ sync.WaitGroup
	for i := range 8 {
		all_.Go(func() {
			for n := range 200 {
				if i == 0 {
					c.Set([]*flowcontrolv1.FlowSchema{schemaOf("x", fmt.Sprint("l", n%3), 10, byUser, all(users("t1", "t2")))},
						[]*flowcontrolv1.PriorityLevelConfiguration{queuing(fmt.Sprint("l", n%3), int32(n%7), 50, 4), queuing("global-default", 20, 50, 4)})
					continue
				}
				ticket, err := c.Enter(t.Context(), tenant(fmt.Sprint("t", i)))
				var rejected *Rejected
				if err != nil && !errors.As(err, &rejected) {
					t.Error(err)
				}
				ticket.Leave()
			}
		})
	}
	all_.Wait()
	c.Set(BootstrapFlowSchemas(), BootstrapPriorityLevels())
	for name, l := range c.levels {
		if l.used != 0 || len(l.flows) != 0 || l.inQueue != 0 {
			t.Errorf("%s: %d seats, %d flows, %d wait", name, l.used, len(l.flows), l.inQueue)
		}
	}
	if c.turns.free != 2 || len(c.turns.flows) != 0 {
		t.Error(c.turns.free, c.turns.flows)
	}
}
