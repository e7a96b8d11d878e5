package plugins

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"sagong/scheduler/state"
)

func stateNode(change ...func(*corev1.Node)) *state.Node {
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"zone": "a", "disk": "ssd"}}}
	o.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("10"),
	}
	for _, f := range change {
		f(o)
	}
	s := state.New()
	s.SetNode(o)
	return s.Nodes()[0]
}

func classOf(t *testing.T, spec corev1.PodSpec) *Class {
	t.Helper()
	c, err := NewClass(&corev1.Pod{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTolerated(t *testing.T) {
	taint := corev1.Taint{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}
	for name, x := range map[string]struct {
		toleration corev1.Toleration
		want       bool
	}{
		"equal":               {corev1.Toleration{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}, true},
		"named equal":         {corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpEqual, Value: "yes"}, true},
		"another value":       {corev1.Toleration{Key: "gpu", Value: "no"}, false},
		"no value":            {corev1.Toleration{Key: "gpu"}, false},
		"exists":              {corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpExists}, true},
		"everything":          {corev1.Toleration{Operator: corev1.TolerationOpExists}, true},
		"all of another kind": {corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}, false},
		"another key":         {corev1.Toleration{Key: "disk", Operator: corev1.TolerationOpExists}, false},
		"another effect":      {corev1.Toleration{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoExecute}, false},
		"unknown operator":    {corev1.Toleration{Key: "gpu", Operator: "Near", Value: "yes"}, false},
	} {
		if got := tolerated([]corev1.Toleration{x.toleration}, &taint); got != x.want {
			t.Errorf("%s: %v, want %v", name, got, x.want)
		}
	}
}

func TestTaintsThatFilterAndThatScore(t *testing.T) {
	n := stateNode(func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "soft", Effect: corev1.TaintEffectPreferNoSchedule}, {Key: "other", Effect: corev1.TaintEffectPreferNoSchedule}}
	})
	c := classOf(t, corev1.PodSpec{Tolerations: []corev1.Toleration{{Key: "soft", Operator: corev1.TolerationOpExists}}})
	if no := (TaintToleration{}).Filter(c, n); no != nil {
		t.Errorf("a taint that only prefers rules out: %v", no)
	}
	if got := (TaintToleration{}).Score(c, n); got != 1 {
		t.Errorf("%d taints would rather not have it, want 1", got)
	}
}

func TestHostPortsClashByAddressAndProtocol(t *testing.T) {
	port := func(ip string, n int32, proto corev1.Protocol) corev1.PodSpec {
		return corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{HostIP: ip, HostPort: n, Protocol: proto}}}}}
	}
	for name, x := range map[string]struct {
		held, wanted corev1.PodSpec
		free         bool
	}{
		"same":                  {port("", 80, ""), port("", 80, corev1.ProtocolTCP), false},
		"another port":          {port("", 80, ""), port("", 81, ""), true},
		"another protocol":      {port("", 80, ""), port("", 80, corev1.ProtocolUDP), true},
		"two addresses":         {port("127.0.0.1", 80, ""), port("192.0.2.1", 80, ""), true},
		"one address":           {port("127.0.0.1", 80, ""), port("127.0.0.1", 80, ""), false},
		"all and one":           {port("", 80, ""), port("127.0.0.1", 80, ""), false},
		"one and all":           {port("127.0.0.1", 80, ""), port("0.0.0.0", 80, ""), false},
		"no host port, nothing": {port("", 80, ""), corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}}, true},
	} {
		s := state.New()
		s.SetNode(stateNode().Object)
		s.Place(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "held"}, Spec: x.held}, "n", false)
		if no := (NodePorts{}).Filter(classOf(t, x.wanted), s.Nodes()[0]); (no == nil) != x.free {
			t.Errorf("%s: %v", name, no)
		}
		s.Remove("held")
		if no := (NodePorts{}).Filter(classOf(t, x.wanted), s.Nodes()[0]); no != nil {
			t.Errorf("%s: the port of a pod that is gone: %v", name, no)
		}
	}
}

func TestPreferredAffinityAddsWeights(t *testing.T) {
	prefer := func(weight int32, key, value string) corev1.PreferredSchedulingTerm {
		return corev1.PreferredSchedulingTerm{Weight: weight, Preference: corev1.NodeSelectorTerm{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}},
		}}
	}
	c := classOf(t, corev1.PodSpec{Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{prefer(10, "zone", "a"), prefer(5, "disk", "ssd"), prefer(80, "zone", "b")},
	}}})
	if got := (NodeAffinity{}).Score(c, stateNode()); got != 15 {
		t.Errorf("weight %d, want 15", got)
	}
}

// An image counts for less the fewer nodes have it.
func TestImageLocality(t *testing.T) {
	s := state.New()
	s.SetNode(stateNode(func(n *corev1.Node) {
		n.Status.Images = []corev1.ContainerImage{{Names: []string{"r.example:5000/big:latest"}, SizeBytes: 1000 << 20}, {Names: []string{"small:v1"}, SizeBytes: 10 << 20}}
	}).Object)
	for image, want := range map[string]int64{"r.example:5000/big": 100, "small:v1": 0, "absent": 0} {
		score := (ImageLocality{}).Scorer(classOf(t, corev1.PodSpec{Containers: []corev1.Container{{Image: image}}}), s)
		if got := score(s.Nodes()[0]); got != want {
			t.Errorf("%s: %d, want %d", image, got, want)
		}
	}
	s.SetNode(stateNode(func(n *corev1.Node) { n.Name = "other" }).Object)
	score := (ImageLocality{}).Scorer(classOf(t, corev1.PodSpec{Containers: []corev1.Container{{Image: "r.example:5000/big"}}}), s)
	if got := score(s.Node("n")); got != 48 {
		t.Errorf("on one of two nodes: %d, want 48", got)
	}
}

func fitArgs(kind configv1.ScoringStrategyType, shape ...configv1.UtilizationShapePoint) *configv1.NodeResourcesFitArgs {
	a := &configv1.NodeResourcesFitArgs{ScoringStrategy: &configv1.ScoringStrategy{
		Type: kind, Resources: []configv1.ResourceSpec{{Name: "cpu", Weight: 1}, {Name: "memory", Weight: 1}},
	}}
	if shape != nil {
		a.ScoringStrategy.RequestedToCapacityRatio = &configv1.RequestedToCapacityRatioParam{Shape: shape}
	}
	return a
}

func TestResourcesFitAndBalance(t *testing.T) {
	want := func(cpu, memory string) corev1.PodSpec {
		return corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}}}}}
	}
	n := stateNode()
	least, most := NewNodeResourcesFit(fitArgs(configv1.LeastAllocated)), NewNodeResourcesFit(fitArgs(configv1.MostAllocated))
	ratio := NewNodeResourcesFit(fitArgs(configv1.RequestedToCapacityRatio, configv1.UtilizationShapePoint{Utilization: 0, Score: 0}, configv1.UtilizationShapePoint{Utilization: 50, Score: 10}, configv1.UtilizationShapePoint{Utilization: 100, Score: 2}))
	balance := NewBalancedAllocation(&configv1.NodeResourcesBalancedAllocationArgs{Resources: fitArgs("").ScoringStrategy.Resources})
	for _, x := range []struct {
		spec                 corev1.PodSpec
		fits, never          bool
		free, full, balanced int64
		byRatio              int64
	}{
		{want("4", "8Gi"), true, false, 0, 100, 75, 20},
		{want("4001m", "8Gi"), false, true, 0, 100, 75, 20},
		{want("2", "4Gi"), true, false, 50, 50, 75, 100},
		{want("4", "0"), true, false, 50, 50, 50, 20},
		{want("1", "4Gi"), true, false, 62, 37, 68, 75},
	} {
		c := classOf(t, x.spec)
		name := x.spec.Containers[0].Resources.Requests
		if no := least.Filter(c, n); (no == nil) != x.fits || no != nil && no.Final != x.never {
			t.Errorf("%v: %v", name, no)
		}
		if got := least.Scorer(c, nil)(n); got != x.free {
			t.Errorf("%v: %d free, want %d", name, got, x.free)
		}
		if got := most.Scorer(c, nil)(n); got != x.full {
			t.Errorf("%v: %d full, want %d", name, got, x.full)
		}
		if got := ratio.Scorer(c, nil)(n); got != x.byRatio {
			t.Errorf("%v: %d by ratio, want %d", name, got, x.byRatio)
		}
		if got := balance.Scorer(c, nil)(n); got != x.balanced {
			t.Errorf("%v: balanced %d, want %d", name, got, x.balanced)
		}
	}
	if balance.Scorer(classOf(t, corev1.PodSpec{}), nil) != nil {
		t.Error("a pod that asks for nothing is scored by balance")
	}
}

func TestIgnoredResources(t *testing.T) {
	a := fitArgs(configv1.LeastAllocated)
	a.IgnoredResources, a.IgnoredResourceGroups = []string{"a.example/x"}, []string{"b.example"}
	f := NewNodeResourcesFit(a)
	for name, fits := range map[corev1.ResourceName]bool{"a.example/x": true, "a.example/y": false, "b.example/z": true, "hugepages-2Mi": false} {
		c := classOf(t, corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{name: resource.MustParse("1")}}}}})
		if no := f.Filter(c, stateNode()); (no == nil) != fits {
			t.Errorf("%s: %v", name, no)
		}
	}
}
