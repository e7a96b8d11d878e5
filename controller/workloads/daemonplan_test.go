package workloads

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// daemons simulates the pods of a DaemonSet on nodes.
type daemons struct {
	ds    *appsv1.DaemonSet
	nodes []*corev1.Node
	pods  []*corev1.Pod
	made  int
}

func newDaemons(nodes int, surge, unavailable string) *daemons {
	s, u := intstr.Parse(surge), intstr.Parse(unavailable)
	d := &daemons{ds: &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "log", UID: "ds"},
		Spec: appsv1.DaemonSetSpec{
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "log"}}},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{
				MaxSurge: &s, MaxUnavailable: &u,
			}},
		},
	}}
	for i := range nodes {
		d.nodes = append(d.nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%02d", i)}})
	}
	return d
}

func (d *daemons) plan(hash string) daemonPlan {
	plan := planDaemon(d.ds, d.nodes, d.pods, hash, func(string) (bool, time.Duration) { return true, 0 }, start)
	for _, n := range plan.create {
		d.made++
		p := podFrom(&d.ds.Spec.Template, "ns", "log", nil)
		p.Name, p.UID = fmt.Sprint("p", d.made), types.UID(fmt.Sprint("p", d.made))
		p.CreationTimestamp = metav1.NewTime(start.Add(time.Duration(d.made) * time.Second))
		p.Labels[revisionHashLabel] = hash
		aimAt(&p.Spec, n)
		d.pods = append(d.pods, p)
	}
	for _, p := range plan.delete {
		i := slices.Index(d.pods, p)
		c := p.DeepCopy()
		now := metav1.NewTime(start)
		c.DeletionTimestamp = &now
		d.pods[i] = c
	}
	return plan
}

func (d *daemons) act(rng *rand.Rand) {
	if len(d.pods) == 0 {
		return
	}
	i := rng.IntN(len(d.pods))
	p := d.pods[i].DeepCopy()
	switch {
	case p.DeletionTimestamp != nil:
		d.pods = slices.Delete(d.pods, i, i+1)
		return
	case p.Spec.NodeName == "":
		p.Spec.NodeName = targetNode(p)
	default:
		p.Status.Phase = corev1.PodRunning
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	d.pods[i] = p
}

func (d *daemons) ready() (nodes, most int) {
	on := map[string]int{}
	live := map[string]int{}
	for _, p := range d.pods {
		if p.DeletionTimestamp != nil {
			continue
		}
		live[targetNode(p)]++
		if len(p.Status.Conditions) > 0 {
			on[p.Spec.NodeName]++
		}
	}
	for _, n := range live {
		most = max(most, n)
	}
	return len(on), most
}

func TestDaemonRolloutKeepsItsBounds(t *testing.T) {
	for seed := range uint64(16) {
		rng := rand.New(rand.NewPCG(seed, 4))
		nodes := 1 + rng.IntN(8)
		surge, unavailable := "0", []string{"1", "2", "30%"}[rng.IntN(3)]
		if seed%2 == 1 {
			surge, unavailable = []string{"1", "50%"}[rng.IntN(2)], "0"
		}
		d := newDaemons(nodes, surge, unavailable)
		settle := func(hash string) {
			for range 800 {
				d.plan(hash)
				d.act(rng)
			}
		}
		settle("v1")
		if n, _ := d.ready(); n != nodes {
			t.Fatalf("seed %d: %d nodes of %d ready at the start", seed, n, nodes)
		}
		least := nodes
		if surge == "0" {
			least -= daemonUnavailable(d.ds, int32(nodes))
		}
		for i := range 1200 {
			if rng.IntN(2) == 0 {
				d.plan("v2")
			} else {
				d.act(rng)
			}
			n, most := d.ready()
			if n < least {
				t.Fatalf("seed %d step %d: %d nodes served, must be %d", seed, i, n, least)
			}
			if surge == "0" && most > 1 || most > 2 {
				t.Fatalf("seed %d step %d: %d pods on a node", seed, i, most)
			}
		}
		settle("v2")
		s := d.plan("v2").status
		if n := int32(nodes); s.DesiredNumberScheduled != n || s.NumberAvailable != n || s.UpdatedNumberScheduled != n || s.NumberUnavailable != 0 || len(d.pods) != nodes {
			t.Fatalf("seed %d: %+v, %d pods", seed, s, len(d.pods))
		}
	}
}

func TestDaemonFollowsTaintsAndLabels(t *testing.T) {
	d := newDaemons(3, "0", "1")
	d.ds.Spec.Template.Spec.NodeSelector = map[string]string{"disk": "ssd"}
	d.nodes[0].Labels = map[string]string{"disk": "ssd"}
	d.nodes[1].Labels = map[string]string{"disk": "ssd"}
	d.nodes[0].Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}
	d.nodes[1].Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}
	if p := d.plan("h"); !slices.Equal(p.create, []string{"n00"}) || p.status.DesiredNumberScheduled != 1 {
		t.Fatalf("%v %+v", p.create, p.status)
	}
	d.nodes[0] = d.nodes[0].DeepCopy()
	d.nodes[0].Spec.Taints[0].Key = "other"
	if p := d.plan("h"); len(p.create)+len(p.delete) != 0 || p.status.NumberMisscheduled != 1 {
		t.Fatal("a NoSchedule taint ended a running pod")
	}
	d.nodes[0].Spec.Taints[0].Effect = corev1.TaintEffectNoExecute
	if p := d.plan("h"); len(p.delete) != 1 {
		t.Fatal("a NoExecute taint did not end the pod")
	}
}
