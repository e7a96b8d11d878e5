package controller_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

// keeper renews the leases of nodes, as their agents do.
type keeper struct {
	nodes *reconcile.View[*corev1.Node]
	quiet func(node string) bool
}

func (k *keeper) Name() string                { return "keeper" }
func (k *keeper) Inputs() []reconcile.Input   { return []reconcile.Input{reconcile.Self(k.nodes)} }
func (k *keeper) Outputs() []reconcile.Output { return nil }

func (k *keeper) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	if k.quiet(key.Name) {
		return reconcile.Result{}, nil
	}
	now := metav1.NowMicro()
	lease, err := client.Get[*coordinationv1.Lease](ctx, w, "kube-node-lease", key.Name)
	if apierrors.IsNotFound(err) {
		_, err = client.Create(ctx, w, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-node-lease", Name: key.Name},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &key.Name, RenewTime: &now},
		})
	} else if err == nil {
		next := lease.DeepCopy()
		next.Spec.RenewTime = &now
		_, err = client.Update(ctx, w, next)
	}
	return reconcile.Result{After: 10 * time.Second}, err
}

// keep has a keeper renew the leases of the cluster's nodes until stop.
func (c *cluster) keep(k *keeper) (stop func()) {
	k.nodes = reconcile.ViewOf[*corev1.Node](c.hub)
	e := reconcile.NewEngine(c.c, quiet, nil)
	if err := e.Add(k); err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Run(ctx) }()
	return func() { cancel(); <-done }
}

// TestSilentNode has one of two nodes fall silent, in virtual time: its state
// becomes unknown, its pods unready and, once they no longer tolerate it, they
// are replaced on the other; when the node is deleted its pods go with it.
func TestSilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := make(chan struct{})
		k := &keeper{quiet: func(node string) bool {
			select {
			case <-silent:
				return node == "n1"
			default:
				return false
			}
		}}
		c := start(t)
		defer c.keep(k)()

		ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}
		if err := c.c.Seed(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{ready}}}); err != nil {
			t.Fatal(err)
		}
		d := web(2, "v1")
		seconds := int64(300)
		for _, key := range []string{corev1.TaintNodeUnreachable, corev1.TaintNodeNotReady} {
			d.Spec.Template.Spec.Tolerations = append(d.Spec.Template.Spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds})
		}
		must(client.Create(t.Context(), c.c, d))
		synctest.Wait()
		if !c.complete(2, "v1")() {
			t.Fatalf("%+v", c.deployment().Status)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		node := func() *corev1.Node { return must(client.Get[*corev1.Node](t.Context(), c.c, "", "n1")) }
		if n := node(); len(n.Spec.Taints) > 0 || n.Status.Conditions[0].Status != corev1.ConditionTrue {
			t.Fatalf("a live node was marked: %+v", n)
		}
		before := list[*corev1.Pod](c, "default")

		close(silent)
		time.Sleep(51 * time.Second) // the rest of a lease period, and the grace
		synctest.Wait()
		n := node()
		if len(n.Status.Conditions) != 4 || n.Status.Conditions[0].Status != corev1.ConditionUnknown || n.Status.Conditions[0].Message != "Kubelet stopped posting node status." {
			t.Fatalf("%+v", n.Status.Conditions)
		}
		for _, effect := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
			if !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeUnreachable && t.Effect == effect }) {
				t.Fatalf("no %s taint: %+v", effect, n.Spec.Taints)
			}
		}
		for _, p := range list[*corev1.Pod](c, "default") {
			if slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			}) {
				t.Fatalf("%s is still ready", p.Name)
			}
		}
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if now := list[*corev1.Pod](c, "default"); len(now) != 2 || now[0].UID != before[0].UID || now[0].DeletionTimestamp != nil {
			t.Fatal("evicted before the time they tolerate")
		}
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		for _, p := range list[*corev1.Pod](c, "default") {
			if slices.ContainsFunc(before, func(o *corev1.Pod) bool { return o.UID == p.UID }) {
				t.Fatal("not evicted")
			}
		}

		// The pods are on n2 now, and lost with it after the quarantine.
		lost := list[*corev1.Pod](c, "default")
		if err := client.Delete[*corev1.Node](t.Context(), c.c, "", "n2", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(39 * time.Second)
		synctest.Wait()
		for _, p := range lost {
			if _, err := client.Get[*corev1.Pod](t.Context(), c.c, "default", p.Name); err != nil {
				t.Fatal("given up before the quarantine was over")
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for _, p := range lost {
			if _, err := client.Get[*corev1.Pod](t.Context(), c.c, "default", p.Name); !apierrors.IsNotFound(err) {
				t.Fatalf("%s is still there: %v", p.Name, err)
			}
		}
	})
}

// TestNodesAreToldTheirTTL has a node annotated for the size of the cluster, and
// again when it changes after the size did.
func TestNodesAreToldTheirTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		ttl := func() string {
			synctest.Wait()
			return must(client.Get[*corev1.Node](t.Context(), c.c, "", "n1")).Annotations[corev1.ObjectTTLAnnotationKey]
		}
		if got := ttl(); got != "0" {
			t.Fatalf("alone: %q", got)
		}
		for i := range 100 {
			must(client.Create(t.Context(), c.c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("more-", i)}}))
		}
		if got := ttl(); got != "0" {
			t.Fatalf("before it changes: %q", got)
		}
		edit(c, "n1", func(n *corev1.Node) { n.Annotations[corev1.ObjectTTLAnnotationKey] = "soon" })
		if got := ttl(); got != "15" {
			t.Fatalf("among 101: %q", got)
		}
	})
}

// TestNodeIsNotSilentUnheard has the controllers see renewals late, for longer than
// a node may be silent.
func TestNodeIsNotSilentUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := startBlinded(t)
		var deaf sync.Map
		defer c.keep(&keeper{quiet: func(node string) bool { _, ok := deaf.Load(node); return ok }})()
		settle(time.Minute)
		ready := func() corev1.ConditionStatus {
			return must(client.Get[*corev1.Node](t.Context(), c.c, "", "n1")).Status.Conditions[0].Status
		}
		show := b.hold("Lease")
		settle(3 * time.Minute)
		if got := ready(); got != corev1.ConditionTrue {
			t.Fatalf("a node that renews its lease is %s", got)
		}
		deaf.Store("n1", true)
		settle(2 * time.Minute)
		if got := ready(); got != corev1.ConditionUnknown {
			t.Errorf("a node that does not renew its lease is %s", got)
		}
		show()
		synctest.Wait()
	})
}

// TestNodesKeepOldLabels has the labels that were stable later followed by those of
// before.
func TestNodesKeepOldLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		for name, labels := range map[string]map[string]string{
			"new":   {corev1.LabelOSStable: "linux", corev1.LabelArchStable: "arm64"},
			"other": {corev1.LabelOSStable: "linux", "beta.kubernetes.io/os": "windows"},
			"old":   {"beta.kubernetes.io/os": "linux"},
		} {
			must(client.Create(t.Context(), c.c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}))
		}
		synctest.Wait()
		for name, want := range map[string]string{
			"new":   "map[beta.kubernetes.io/arch:arm64 beta.kubernetes.io/os:linux kubernetes.io/arch:arm64 kubernetes.io/os:linux]",
			"other": "map[beta.kubernetes.io/os:linux kubernetes.io/os:linux]",
			"old":   "map[beta.kubernetes.io/os:linux]",
		} {
			if got := fmt.Sprint(must(client.Get[*corev1.Node](t.Context(), c.c, "", name)).Labels); got != want {
				t.Errorf("%s: %s", name, got)
			}
		}
	})
}

// tainted makes a pod on n1 that tolerates a taint there for so many seconds.
func (c *cluster) tainted(name string, seconds int64) {
	p := lone(name, "broken", func(p *corev1.Pod) {
		p.Spec.NodeName = "n1"
		p.Spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}}
	})
	if err := c.c.Seed(p); err != nil {
		c.Fatal(err)
	}
	synctest.Wait()
}

// TestTaintEvictionIsCancelled is about pods whose eviction is ahead: it does not
// come, comes sooner, or comes to a pod that has finished; what is told of it.
func TestTaintEvictionIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		defer c.keep(&keeper{quiet: func(string) bool { return false }})()
		taint := func(taints ...corev1.Taint) {
			edit(c, "n1", func(n *corev1.Node) { n.Spec.Taints = taints })
			synctest.Wait()
		}
		there := func(name string) bool {
			p, err := client.Get[*corev1.Pod](t.Context(), c.c, "default", name)
			return err == nil && p.DeletionTimestamp == nil
		}
		const cancelled, marked = "Cancelling deletion of Pod default/", "Marking for deletion Pod default/"
		at := metav1.Now()
		k := corev1.Taint{Key: "k", Effect: corev1.TaintEffectNoExecute, TimeAdded: &at}
		c.tainted("stays", 60)
		taint(k)
		taint()
		if !c.told("TaintManagerEviction", cancelled+"stays") {
			t.Error("nothing is told of the taint that went")
		}
		settle(2 * time.Minute)
		if !there("stays") {
			t.Fatal("evicted although the taint had gone")
		}

		at = metav1.Now()
		taint(k)
		c.tainted("sooner", 600)
		c.tainted("leaves", 600)
		c.tainted("done", 60)
		editStatus(c, "done", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		edit(c, "sooner", func(p *corev1.Pod) { p.Spec.Tolerations[0].TolerationSeconds = new(int64(90)) })
		if err := client.Delete[*corev1.Pod](t.Context(), c.c, "default", "leaves", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		settle(61 * time.Second)
		if !c.told("TaintManagerEviction", cancelled+"leaves") {
			t.Error("nothing is told of the pod that went by itself")
		}
		if there("stays") || there("done") || !there("sooner") {
			t.Errorf("after a minute: %t %t %t", there("stays"), there("done"), there("sooner"))
		}
		settle(30 * time.Second)
		if there("sooner") {
			t.Error("a pod that is to tolerate its taint for less time stays")
		}
		for _, name := range []string{"sooner", "done", "stays"} {
			if !c.told("TaintManagerEviction", marked+name) || name != "stays" && c.told("TaintManagerEviction", cancelled+name) {
				t.Errorf("what is told of %s", name)
			}
		}
	})
}

// TestPodsOfLostNodes is about pods on nodes out of service, or that are no more.
func TestPodsOfLostNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		for _, name := range []string{"n2", "n3"} {
			must(client.Create(t.Context(), c.c, &corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
			}))
		}
		for name, node := range map[string]string{"stuck": "n2", "other": "n2", "done": "n3", "runs": "n3"} {
			if err := c.c.Seed(lone(name, "broken", func(p *corev1.Pod) {
				p.Spec.NodeName, p.Finalizers, p.Status.Phase = node, []string{"test/keep"}, corev1.PodRunning
				if name == "done" {
					p.Status.Phase = corev1.PodSucceeded
				}
			})); err != nil {
				t.Fatal(err)
			}
		}
		state := func(name string) string {
			synctest.Wait()
			p := must(client.Get[*corev1.Pod](t.Context(), c.c, "default", name))
			text := fmt.Sprint(p.Status.Phase, " ", p.DeletionTimestamp != nil)
			if x := podstate.Condition(p, corev1.DisruptionTarget); x != nil {
				text += fmt.Sprintf(" %s %s: %s", x.Status, x.Reason, x.Message)
			}
			return text
		}
		expect := func(when string, want map[string]string) {
			t.Helper()
			for name, want := range want {
				if got := state(name); got != want {
					t.Errorf("%s, %s: %s", when, name, got)
				}
			}
		}
		if err := client.Delete[*corev1.Pod](t.Context(), c.c, "default", "stuck", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		edit(c, "n2", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoSchedule}}
		})
		expect("out of service, and ready", map[string]string{"stuck": "Running true", "other": "Running false"})
		editStatus(c, "n2", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse })
		expect("out of service", map[string]string{"stuck": "Failed true", "other": "Running false"})
		if err := client.Delete[*corev1.Node](t.Context(), c.c, "", "n3", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		settle(41 * time.Second)
		const lost = " true True DeletionByPodGC: PodGC: node no longer exists"
		expect("gone", map[string]string{"done": "Succeeded" + lost, "runs": "Failed" + lost})
	})
}
