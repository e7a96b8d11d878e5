package nodes

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func node(ready corev1.ConditionStatus, posted time.Time) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", CreationTimestamp: metav1.NewTime(start)}}
	if ready != "" {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: "KubeletReady", LastHeartbeatTime: metav1.NewTime(posted)}}
	}
	return n
}

func lease(at time.Time) *coordinationv1.Lease {
	t := metav1.NewMicroTime(at)
	return &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &t}}
}

func TestHeartbeat(t *testing.T) {
	// A node's clock may be off by hours: only that it moves counts.
	theirs := start.Add(-5 * time.Hour)
	h := heartbeat{}.beat(node(corev1.ConditionTrue, theirs), lease(theirs), start)
	if got := h.silentIn(start); got != grace {
		t.Fatal(got)
	}
	at := start.Add(30 * time.Second)
	h = h.beat(node(corev1.ConditionTrue, theirs), lease(theirs), at)
	if got := h.silentIn(at); got != grace-30*time.Second {
		t.Fatal("nothing new counted as a sign of life:", got)
	}
	h = h.beat(node(corev1.ConditionTrue, theirs), lease(theirs.Add(time.Second)), at)
	if got := h.silentIn(at); got != grace {
		t.Fatal("a renewed lease did not count:", got)
	}
	at = at.Add(grace)
	if got := h.silentIn(at); got != 0 {
		t.Fatal(got)
	}
	n := node(corev1.ConditionTrue, theirs)
	conditions, changed := unknownConditions(n, at)
	if !changed || len(conditions) != 4 || conditions[0].Message != "Kubelet stopped posting node status." || conditions[0].Reason != "NodeStatusUnknown" ||
		conditions[1].Reason != "NodeStatusNeverUpdated" {
		t.Fatalf("%+v", conditions)
	}
	n.Status.Conditions = conditions
	if _, changed := unknownConditions(n, at); changed {
		t.Fatal("changed again")
	}
	h = h.beat(n, lease(theirs.Add(time.Second)), at)
	if h.silentIn(at) != 0 {
		t.Fatal("our own verdict counted as a sign of life")
	}
	h = h.beat(node(corev1.ConditionTrue, theirs.Add(time.Hour)), nil, at)
	if h.silentIn(at) != grace {
		t.Fatal("a new status did not count")
	}
	fresh := heartbeat{}.beat(node("", start), nil, start.Add(10*time.Second))
	if got := fresh.silentIn(start.Add(10 * time.Second)); got != 50*time.Second {
		t.Fatal("a new node has a minute from its creation:", got)
	}
}

func TestTaintsFollowConditions(t *testing.T) {
	n := node(corev1.ConditionUnknown, start)
	n.Spec.Unschedulable = true
	n.Spec.Taints = []corev1.Taint{
		{Key: "mine", Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule},
	}
	n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue})
	show := func(ts []corev1.Taint) (s string) {
		for _, t := range ts {
			s += fmt.Sprintf("%s:%s ", t.Key, t.Effect)
		}
		return s
	}
	got, changed := planTaints(n, n.Status.Conditions, false, start)
	want := "mine:NoExecute node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/disk-pressure:NoSchedule node.kubernetes.io/unschedulable:NoSchedule "
	if !changed || show(got) != want {
		t.Fatal(show(got))
	}
	got, _ = planTaints(n, n.Status.Conditions, true, start)
	if got[2].Key != corev1.TaintNodeUnreachable || got[2].Effect != corev1.TaintEffectNoExecute || !got[2].TimeAdded.Time.Equal(start) {
		t.Fatal(show(got))
	}
	n.Spec.Taints = got
	if again, changed := planTaints(n, n.Status.Conditions, false, start.Add(time.Hour)); changed {
		t.Fatal("changed again to", show(again))
	}
	back := node(corev1.ConditionTrue, start)
	back.Spec.Taints = got
	if got, _ := planTaints(back, back.Status.Conditions, true, start); show(got) != "mine:NoExecute " {
		t.Fatal(show(got))
	}
}

func TestZonesPaceEviction(t *testing.T) {
	z := newZones()
	add := func(i int, ready corev1.ConditionStatus) bool {
		return z.set(fmt.Sprint("n", i), node(ready, start))
	}
	zone := zoneOf(node("", start))
	add(0, corev1.ConditionFalse)
	if ok, _ := z.allow(zone, start); ok || !z.isDark() {
		t.Fatal("evicts although no node at all is ready")
	}
	if !add(1, corev1.ConditionTrue) || z.isDark() {
		t.Fatal("did not notice the first ready node")
	}
	if ok, _ := z.allow(zone, start); !ok {
		t.Fatal("does not evict")
	}
	if ok, wait := z.allow(zone, start.Add(time.Second)); ok || wait != 9*time.Second {
		t.Fatal(ok, wait)
	}
	for i := 2; i < 6; i++ {
		add(i, corev1.ConditionUnknown)
	}
	if ok, _ := z.allow(zone, start.Add(time.Hour)); ok {
		t.Fatal("evicts in a small zone that is mostly unready")
	}
	// Five are unready and one is ready: of ten nodes they are half.
	for i, turned := range []bool{false, false, false, true, false} {
		if got := add(10+i, corev1.ConditionTrue); got != turned {
			t.Fatalf("%d more ready: decided anew: %t", i+1, got)
		}
	}
	for _, name := range []string{"n1", "n10", "n11", "n12", "n13"} {
		z.set(name, nil)
	}
	if !z.set("n14", nil) || !z.isDark() {
		t.Fatal("not dark")
	}
}

func TestLeavesIn(t *testing.T) {
	seconds := func(n int64) *int64 { return &n }
	taint := func(key string, age time.Duration) corev1.Taint {
		at := metav1.NewTime(start.Add(-age))
		return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &at}
	}
	exists := func(key string, s *int64) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: s}
	}
	for name, c := range map[string]struct {
		taints []corev1.Taint
		tols   []corev1.Toleration
		wait   time.Duration
		leaves bool
	}{
		"none":                   {nil, nil, 0, false},
		"not tolerated":          {[]corev1.Taint{taint("a", 0)}, nil, 0, true},
		"tolerated":              {[]corev1.Taint{taint("a", 0)}, []corev1.Toleration{exists("a", nil)}, 0, false},
		"everything":             {[]corev1.Taint{taint("a", 0)}, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, 0, false},
		"for a time":             {[]corev1.Taint{taint("a", 100*time.Second)}, []corev1.Toleration{exists("a", seconds(300))}, 200 * time.Second, true},
		"over":                   {[]corev1.Taint{taint("a", 400*time.Second)}, []corev1.Toleration{exists("a", seconds(300))}, 0, true},
		"the sooner of two":      {[]corev1.Taint{taint("a", 0), taint("b", 0)}, []corev1.Toleration{exists("a", seconds(300)), exists("b", seconds(20))}, 20 * time.Second, true},
		"one not tolerated":      {[]corev1.Taint{taint("a", 0), taint("b", 0)}, []corev1.Toleration{exists("a", nil)}, 0, true},
		"the first that matches": {[]corev1.Taint{taint("a", 0)}, []corev1.Toleration{exists("a", seconds(300)), exists("a", seconds(20))}, 300 * time.Second, true},
		"the first, for good":    {[]corev1.Taint{taint("a", 0)}, []corev1.Toleration{{Operator: corev1.TolerationOpExists}, exists("a", seconds(20))}, 0, false},
		"not at all":             {[]corev1.Taint{taint("a", 0)}, []corev1.Toleration{exists("a", seconds(-5))}, 0, true},
		"a number greater":       {[]corev1.Taint{{Key: "a", Value: "7", Effect: corev1.TaintEffectNoExecute, TimeAdded: &metav1.Time{Time: start}}}, []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpGt, Value: "5"}}, 0, false},
		"other value":            {[]corev1.Taint{taint("a", 0)}, []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpEqual, Value: "x"}}, 0, true},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: c.tols}}
		p.CreationTimestamp = metav1.NewTime(start.Add(-1000 * time.Second))
		wait, leaves := leavesIn(p, c.taints, func(t corev1.Taint) time.Time { return t.TimeAdded.Time }, start)
		if wait != c.wait || leaves != c.leaves {
			t.Errorf("%s: %s, %v", name, wait, leaves)
		}
		p.CreationTimestamp = metav1.NewTime(start)
		if name == "over" {
			if wait, leaves := leavesIn(p, c.taints, func(t corev1.Taint) time.Time { return t.TimeAdded.Time }, start); wait != 300*time.Second || !leaves {
				t.Errorf("a pod that came after the taint leaves in %s", wait)
			}
		}
	}
}

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		cluster string
		bits    int
		first   string
		last    string
		count   int
	}{
		{"10.244.0.0/16", 24, "10.244.0.0/24", "10.244.255.0/24", 256},
		{"10.244.0.0/22", 24, "10.244.0.0/24", "10.244.3.0/24", 4},
		{"fd00:1::/56", 64, "fd00:1::/64", "fd00:1:0:ff::/64", 256},
		{"fd00:1::/112", 116, "fd00:1::/116", "fd00:1::f000/116", 16},
	} {
		r, err := newRanges(netip.MustParsePrefix(c.cluster), c.bits)
		if err != nil {
			t.Fatal(err)
		}
		var last netip.Prefix
		for i := range c.count {
			p, ok := r.allot(fmt.Sprint("n", i))
			if !ok || (i == 0 && p.String() != c.first) || !r.cluster.Overlaps(p) {
				t.Fatal(c.cluster, i, p, ok)
			}
			last = p
		}
		if last.String() != c.last {
			t.Fatal(last)
		}
		if _, ok := r.allot("more"); ok {
			t.Fatal("more ranges than there are")
		}
		if p, ok := r.allot("n0"); !ok || p.String() != c.first {
			t.Fatal("a node got a second range")
		}
		r.release("n0")
		if p, ok := r.allot("more"); !ok || p.String() != c.first {
			t.Fatal("a released range is lost")
		}
		if by := r.take("x", last); by == "" {
			t.Fatal("an overlap was not noticed")
		}
	}
	if _, err := newRanges(netip.MustParsePrefix("10.0.0.0/24"), 16); err == nil {
		t.Fatal("parts larger than the whole")
	}
}
