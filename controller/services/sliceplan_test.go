package services

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func service(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "s", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.7", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("web")}},
		},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func webPod(i int, port int32, isReady bool) *corev1.Pod {
	name := fmt.Sprint("p", i)
	status := corev1.ConditionFalse
	if isReady {
		status = corev1.ConditionTrue
	}
	ip := fmt.Sprintf("10.244.%d.%d", i/250, i%250+1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
			{Name: "web", ContainerPort: port, Protocol: corev1.ProtocolTCP},
		}}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}},
		},
	}
}

func someNode(string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "z"}}}
}

// cluster carries plans out.
type cluster struct {
	s      *corev1.Service
	slices map[string]*discoveryv1.EndpointSlice
	made   int
}

func (c *cluster) sync(pods []*corev1.Pod) slicePlan {
	var existing []*discoveryv1.EndpointSlice
	for _, s := range c.slices {
		existing = append(existing, s)
	}
	ref := metav1.NewControllerRef(c.s, corev1.SchemeGroupVersion.WithKind("Service"))
	plan := planSlices(existing, wantedOf(c.s, pods, someNode), []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4},
		func(f discoveryv1.AddressType) *discoveryv1.EndpointSlice { return newSlice("ns", "web", f, ref) },
		func(e *discoveryv1.EndpointSlice) bool { return dressSlice(e, sliceLabels(c.s), nil) })
	for _, s := range plan.create {
		c.made++
		s.Name = fmt.Sprint("web-", c.made)
		c.slices[s.Name] = s
	}
	for _, s := range plan.update {
		c.slices[s.Name] = s
	}
	for _, s := range plan.delete {
		delete(c.slices, s.Name)
	}
	return plan
}

func (c *cluster) mustHold(t *testing.T, pods []*corev1.Pod) {
	t.Helper()
	want := map[string]bool{}
	for _, p := range pods {
		if belongs(p, true) {
			want[p.Status.PodIP] = ready(p)
		}
	}
	for _, s := range c.slices {
		if len(s.Endpoints) > maxEndpoints {
			t.Fatalf("%s has %d endpoints", s.Name, len(s.Endpoints))
		}
		if len(s.Endpoints) == 0 && len(c.slices) > 1 {
			t.Fatalf("%s is empty and not alone", s.Name)
		}
		for _, e := range s.Endpoints {
			isReady, ok := want[e.Addresses[0]]
			if !ok || isReady != *e.Conditions.Ready {
				t.Fatalf("endpoint %v is not wanted or has the wrong state", e)
			}
			delete(want, e.Addresses[0])
		}
	}
	if len(want) > 0 {
		t.Fatalf("%d endpoints are missing", len(want))
	}
	if len(c.slices) == 0 {
		t.Fatal("no slice left to say that there is nothing")
	}
}

// TestSlicesFollowPods adds, changes and removes pods at random: the slices hold
// what they should after each step, and one changed pod writes one slice.
func TestSlicesFollowPods(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c := &cluster{s: service(), slices: map[string]*discoveryv1.EndpointSlice{}}
		var pods []*corev1.Pod
		next := 0
		for range 40 {
			switch rng.IntN(4) {
			case 0, 1:
				for range rng.IntN(120) {
					pods = append(pods, webPod(next, int32(8080+rng.IntN(2)), rng.IntN(2) == 0))
					next++
				}
			case 2:
				for range rng.IntN(len(pods) + 1) {
					i := rng.IntN(len(pods))
					pods = append(pods[:i:i], pods[i+1:]...)
				}
			case 3:
				if len(pods) > 0 {
					i := rng.IntN(len(pods))
					p := pods[i].DeepCopy()
					if ready(p) {
						p.Status.Conditions[0].Status = corev1.ConditionFalse
					} else {
						p.Status.Conditions[0].Status = corev1.ConditionTrue
					}
					pods[i] = p
					plan := c.sync(pods)
					if len(plan.create) > 0 || len(plan.delete) > 0 || len(plan.update) != 1 {
						t.Fatalf("seed %d: one pod's readiness wrote %d, %d, %d slices", seed, len(plan.create), len(plan.update), len(plan.delete))
					}
				}
			}
			c.sync(pods)
			c.mustHold(t, pods)
			if again := c.sync(pods); len(again.create)+len(again.update)+len(again.delete) > 0 {
				t.Fatalf("seed %d: nothing changed, yet %d, %d, %d slices were written", seed, len(again.create), len(again.update), len(again.delete))
			}
		}
		c.sync(nil)
		c.mustHold(t, nil)
	}
}

func TestEndpointFields(t *testing.T) {
	c := &cluster{s: service(), slices: map[string]*discoveryv1.EndpointSlice{}}
	p := webPod(1, 8080, true)
	p.Spec.Hostname, p.Spec.Subdomain = "one", "web"
	now := metav1.Now()
	ending := webPod(2, 8080, true)
	ending.DeletionTimestamp = &now
	finished := webPod(3, 8080, false)
	finished.Status.Phase = corev1.PodSucceeded
	plan := c.sync([]*corev1.Pod{p, ending, finished})
	if len(plan.create) != 1 {
		t.Fatal(len(plan.create))
	}
	s := plan.create[0]
	if s.GenerateName != "web-" || s.Labels[discoveryv1.LabelServiceName] != "web" || s.Labels[discoveryv1.LabelManagedBy] != "endpointslice-controller.k8s.io" ||
		s.Labels["team"] != "a" || s.OwnerReferences[0].UID != "s" || !*s.OwnerReferences[0].Controller {
		t.Fatalf("%+v", s.ObjectMeta)
	}
	if len(s.Ports) != 1 || *s.Ports[0].Port != 8080 || *s.Ports[0].Name != "http" {
		t.Fatalf("%+v", s.Ports)
	}
	if len(s.Endpoints) != 2 {
		t.Fatalf("%d endpoints", len(s.Endpoints))
	}
	one, two := s.Endpoints[0], s.Endpoints[1]
	if *one.Hostname != "one" || *one.NodeName != "n1" || *one.Zone != "z" || one.TargetRef.Name != "p1" || !*one.Conditions.Ready || *one.Conditions.Terminating {
		t.Fatalf("%+v", one)
	}
	if *two.Conditions.Ready || !*two.Conditions.Serving || !*two.Conditions.Terminating {
		t.Fatalf("%+v", two.Conditions)
	}
	headless := service(func(s *corev1.Service) {
		s.Spec.ClusterIP = corev1.ClusterIPNone
		s.Spec.PublishNotReadyAddresses = true
	})
	if v, ok := sliceLabels(headless)[corev1.IsHeadlessService]; !ok || v != "" {
		t.Fatal("no headless label")
	}
	if e, _ := endpointOf(headless, ending, corev1.IPv4Protocol, someNode); !*e.Conditions.Ready {
		t.Fatal("not ready although not ready addresses are published")
	}
}

func TestEndpointsSubsets(t *testing.T) {
	s := service()
	pods := []*corev1.Pod{webPod(2, 8080, true), webPod(1, 8080, false), webPod(3, 9090, true)}
	ep := planEndpoints(s, pods, nil)
	if ep == nil || len(ep.Subsets) != 2 || ep.Labels["endpoints.kubernetes.io/managed-by"] != "endpoint-controller" || ep.Labels["team"] != "a" {
		t.Fatalf("%+v", ep)
	}
	first := ep.Subsets[0]
	if len(first.Addresses) != 1 || len(first.NotReadyAddresses) != 1 || first.NotReadyAddresses[0].TargetRef.Name != "p1" || first.Ports[0].Port != 8080 {
		t.Fatalf("%+v", first)
	}
	if planEndpoints(s, pods, ep) != nil {
		t.Fatal("wrote what is there")
	}
	var many []*corev1.Pod
	for i := range 1500 {
		many = append(many, webPod(i, 8080+int32(i%3), i%4 != 0))
	}
	ep = planEndpoints(s, many, ep)
	total, isReady := 0, 0
	for _, set := range ep.Subsets {
		total += len(set.Addresses) + len(set.NotReadyAddresses)
		isReady += len(set.Addresses)
	}
	if total != maxAddresses || isReady != maxAddresses || ep.Annotations[overCapacity] != "truncated" {
		t.Fatal(total, isReady, ep.Annotations)
	}
	ep = planEndpoints(s, pods, ep)
	if _, still := ep.Annotations[overCapacity]; still {
		t.Fatal("still marked as truncated")
	}
}

func TestMirror(t *testing.T) {
	ep := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "e", Annotations: map[string]string{"a": "b", corev1.LastAppliedConfigAnnotation: "{}"}},
		Subsets: []corev1.EndpointSubset{{
			Addresses:         []corev1.EndpointAddress{{IP: "192.0.2.1", Hostname: "h"}, {IP: "2001:db8::1"}},
			NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.2"}},
			Ports:             []corev1.EndpointPort{{Name: "pg", Port: 5432, Protocol: corev1.ProtocolTCP}},
		}},
	}
	wanted, families, _, _ := wantedOfEndpoints(ep)
	if len(wanted) != 2 || len(families) != 2 || len(wanted[0].endpoints) != 2 || *wanted[0].endpoints[0].Hostname != "h" || *wanted[0].endpoints[1].Conditions.Ready {
		t.Fatalf("%+v", wanted)
	}
	if a := mirrorAnnotations(ep); len(a) != 1 || a["a"] != "b" {
		t.Fatal(a)
	}
	if !mirrored(ep) {
		t.Fatal("not mirrored")
	}
	ep.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"}
	if mirrored(ep) {
		t.Fatal("mirrored in spite of the label")
	}
}

// A subset of which much is left out is one slice all the same, and what is left
// out is counted.
func TestMirrorOfTooMany(t *testing.T) {
	set := corev1.EndpointSubset{
		Addresses:         []corev1.EndpointAddress{{IP: "nowhere"}, {IP: "192.000.002.001"}},
		NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.9"}},
		Ports:             []corev1.EndpointPort{{Port: 80, Protocol: corev1.ProtocolTCP}},
	}
	for i := range 1100 {
		set.Addresses = append(set.Addresses, corev1.EndpointAddress{IP: fmt.Sprintf("198.51.%d.%d", i/250, i%250+1)})
	}
	wanted, families, invalid, skipped := wantedOfEndpoints(&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db"}, Subsets: []corev1.EndpointSubset{set}})
	if invalid != 1 || skipped != 103 || len(wanted) != 1 || len(wanted[0].endpoints) != maxAddresses || wanted[0].endpoints[0].Addresses[0] != "192.0.2.1" {
		t.Fatalf("%d invalid, %d skipped: %+v", invalid, skipped, wanted)
	}
	plan := planSlices(nil, wanted, families, func(f discoveryv1.AddressType) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{AddressType: f}
	}, func(*discoveryv1.EndpointSlice) bool { return false })
	if len(plan.create) != 1 || len(plan.create[0].Endpoints) != maxAddresses {
		t.Errorf("%d slices", len(plan.create))
	}
}

func TestHintsFollowTrafficDistribution(t *testing.T) {
	for distribution, want := range map[string]string{
		"": "", "PreferClose": "zone z", "PreferSameZone": "zone z", "PreferSameNode": "node n1 zone z",
	} {
		s := service()
		if distribution != "" {
			s.Spec.TrafficDistribution = &distribution
		}
		for _, ready := range []bool{true, false} {
			e, ok := endpointOf(s, webPod(1, 80, ready), corev1.IPv4Protocol, someNode)
			got := ""
			if h := e.Hints; h != nil {
				for _, n := range h.ForNodes {
					got += "node " + n.Name + " "
				}
				for _, z := range h.ForZones {
					got += "zone " + z.Name
				}
			}
			if !ok || ready && got != want || !ready && got != "" {
				t.Errorf("%q, ready %v: hints %q, want %q", distribution, ready, got, want)
			}
		}
	}
	c := &cluster{s: service(), slices: map[string]*discoveryv1.EndpointSlice{}}
	pods := []*corev1.Pod{webPod(1, 80, true)}
	c.sync(pods)
	c.s.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferSameNode)
	if plan := c.sync(pods); len(plan.update) != 1 || plan.update[0].Endpoints[0].Hints == nil {
		t.Errorf("a Service that now prefers its node: %+v", plan)
	}
	if plan := c.sync(pods); len(plan.update)+len(plan.create)+len(plan.delete) != 0 {
		t.Errorf("written again: %+v", plan)
	}
	c.s.Spec.TrafficDistribution = nil
	if plan := c.sync(pods); len(plan.update) != 1 || plan.update[0].Endpoints[0].Hints != nil {
		t.Errorf("a Service that prefers nothing any more: %+v", plan)
	}
}
