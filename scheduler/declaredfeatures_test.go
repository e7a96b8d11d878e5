package scheduler

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/scheduler/state"
)

const restartAll = "RestartAllContainersOnContainerExits"

func restartsAll(p *corev1.Pod) {
	p.Spec.Containers[0].RestartPolicy = new(corev1.ContainerRestartPolicyNever)
	p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{
		Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
	}}
}

func declaring(features ...string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Status.DeclaredFeatures = features }
}

func TestPodsGoWhereTheirFeaturesAreDeclared(t *testing.T) {
	s := state.New()
	for _, n := range []*corev1.Node{node("none"), node("other", declaring("Another", "Yet/another")), node("has", declaring("Another", restartAll, "Yet/another"))} {
		s.SetNode(n)
	}
	where, no := placeAll(t, s, testPod("p", restartsAll, requests("1", "1Gi")), 5)
	const why = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match Pod's required features."
	if where["has"] != 4 || len(where) != 1 || no == nil || no.message() != why {
		t.Errorf("placed %v, then %+v", where, no)
	}
	// Pods that need nothing are another class, and go anywhere.
	if where, no := placeAll(t, s, testPod("q", requests("1", "1Gi")), 8); where["none"] != 4 || where["other"] != 4 || no != nil {
		t.Errorf("placed %v, then %+v", where, no)
	}
	// A node that takes its word back is left alone.
	s.SetNode(node("has"))
	if where, no := placeAll(t, s, testPod("r", restartsAll), 1); no == nil {
		t.Errorf("placed on %v", where)
	}
}

func TestPodsThatNeedNoFeatureAreNotJudgedByThem(t *testing.T) {
	s := state.New()
	s.SetNode(node("n1"))
	sched := bare(t, s)
	judges := map[bool]int{}
	for _, p := range []*corev1.Pod{testPod("p"), testPod("q", restartsAll)} {
		x := &queued{pod: p}
		x.class, x.base = sched.queue.class(p)
		pl, no := sched.planFor(sched.profiles[Name], x)
		if no != nil {
			t.Fatal(no.message())
		}
		judges[p.Name == "q"] = len(pl.judges)
	}
	if judges[true] != judges[false]+1 {
		t.Errorf("%d rules look at the nodes for a pod that needs a feature, %d for one that needs none", judges[true], judges[false])
	}
}

// A pod waits until a node declares what it needs, whatever else changes there.
func TestPodsWaitForAFeatureToBeDeclared(t *testing.T) {
	c, v, events := startWith(t, nil, space(), node("n1"), node("n2", declaring("Another")))
	create(t, c, testPod("picky", restartsAll))
	const why = "0/2 nodes are available: 2 node(s) didn't match Pod's required features. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	until(t, v, "no node declares it", says("picky", why))
	if !events.has("picky Warning FailedScheduling: " + why) {
		t.Errorf("events %q", events.list)
	}
	patch := fmt.Sprintf(`{"status":{"declaredFeatures":[%q]}}`, restartAll)
	if _, err := client.PatchOf[*corev1.Node](t.Context(), c, "", "n2", client.Patch{Type: types.MergePatchType, Data: []byte(patch), Subresource: "status"}); err != nil {
		t.Fatal(err)
	}
	until(t, v, "picky on the node that declares it", func(all []*corev1.Pod) bool { return count(all, onNode("picky", "n2")) == 1 })
}
