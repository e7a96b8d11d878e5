package devices_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/controller/devices"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

type cluster struct {
	*testing.T
	c *fake.Client

	mu   sync.Mutex
	said []string
}

func (c *cluster) Eventf(o object.Object, _, reason, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, o.GetName()+" "+reason+": "+fmt.Sprintf(format, args...))
}

func (c *cluster) EventForField(object.Object, string, string, string, string, ...any) {}

func (c *cluster) heard(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.said, func(s string) bool { return strings.Contains(s, text) })
}

// inCluster runs f beside the controllers of this package, in virtual time.
func inCluster(t *testing.T, f func(*cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{T: t, c: fake.New(object.NewScheme(kinds.All()...))}
		log := slog.New(slog.DiscardHandler)
		hub, e := reconcile.NewHub(c.c, log), reconcile.NewEngine(c.c, log, nil)
		var left devices.Evictions
		if err := e.Add(devices.NewPodClaims(hub, c), devices.NewClaim(hub), devices.NewTaintEviction(hub, c, &left), devices.NewTaintRules(hub, &left)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = hub.Run(ctx) })
		wg.Go(func() { _ = e.Run(ctx) })
		defer func() { cancel(); wg.Wait(); c.c.Close() }()
		f(c)
	})
}

func add[T object.Object](c *cluster, o T) T {
	c.Helper()
	made, err := client.Create(c.Context(), c.c, o)
	if err != nil {
		c.Fatal(err)
	}
	synctest.Wait()
	return made
}

func read[T object.Object](c *cluster, name string) T {
	c.Helper()
	o, err := client.Get[T](c.Context(), c.c, namespaceOf[T](), name)
	if err != nil {
		c.Fatal(err)
	}
	return o
}

func namespaceOf[T object.Object]() string {
	var none T
	switch any(none).(type) {
	case *resourcev1.ResourceSlice, *resourcev1.DeviceTaintRule:
		return ""
	}
	return "default"
}

// write changes an object, or with status its status.
func write[T object.Object](c *cluster, name string, status bool, f func(T)) {
	c.Helper()
	o := read[T](c, name).DeepCopyObject().(T)
	f(o)
	save := client.Update[T]
	if status {
		save = client.UpdateStatus[T]
	}
	if _, err := save(c.Context(), c.c, o); err != nil {
		c.Fatal(err)
	}
	synctest.Wait()
}

func remove[T object.Object](c *cluster, name string) {
	c.Helper()
	if err := client.Delete[T](c.Context(), c.c, namespaceOf[T](), name, metav1.DeleteOptions{}); err != nil {
		c.Fatal(err)
	}
	synctest.Wait()
}

func isGone[T object.Object](c *cluster, name string) bool {
	_, err := client.Get[T](c.Context(), c.c, namespaceOf[T](), name)
	return apierrors.IsNotFound(err)
}

func claims(c *cluster) []*resourcev1.ResourceClaim {
	c.Helper()
	list, _, err := client.ListOf[*resourcev1.ResourceClaim](c.Context(), c.c, "default", client.ListOptions{})
	if err != nil {
		c.Fatal(err)
	}
	return list
}

var gpuRequest = resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{
	{Name: "gpu", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu"}},
}}}

func template(name string) *resourcev1.ResourceClaimTemplate {
	return &resourcev1.ResourceClaimTemplate{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: resourcev1.ResourceClaimTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}}, Spec: gpuRequest,
		},
	}
}

func pod(name string, claims ...corev1.PodResourceClaim) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}, ResourceClaims: claims},
	}
}

func from(name, template string) corev1.PodResourceClaim {
	return corev1.PodResourceClaim{Name: name, ResourceClaimTemplateName: &template}
}

func the(name, claim string) corev1.PodResourceClaim {
	return corev1.PodResourceClaim{Name: name, ResourceClaimName: &claim}
}

// allocate does to a claim what the scheduler does for pods.
func allocate(c *cluster, name string, pods ...*corev1.Pod) {
	c.Helper()
	write(c, name, false, func(x *resourcev1.ResourceClaim) { x.Finalizers = []string{resourcev1.Finalizer} })
	write(c, name, true, func(x *resourcev1.ResourceClaim) {
		x.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{
			Results: []resourcev1.DeviceRequestAllocationResult{{Request: "gpu", Driver: "gpu.example.com", Pool: "n", Device: "gpu-0"}},
		}}
		for _, p := range pods {
			x.Status.ReservedFor = append(x.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: p.Name, UID: p.UID})
		}
	})
}

func TestClaimsAreMadeFromTemplates(t *testing.T) {
	inCluster(t, func(c *cluster) {
		add(c, pod("p", from("first", "gpu"), from("second", "gpu"), the("third", "shared")))
		if len(claims(c)) != 0 || !c.heard(`p FailedResourceClaimCreation: PodResourceClaim first: resource claim template "gpu": resourceclaimtemplate.resource.k8s.io "gpu" not found`) {
			t.Fatalf("without a template: %d claims, events %q", len(claims(c)), c.said)
		}
		add(c, template("gpu"))
		p, all := read[*corev1.Pod](c, "p"), claims(c)
		if len(all) != 2 || len(p.Status.ResourceClaimStatuses) != 2 {
			t.Fatalf("%d claims; the pod knows %v", len(all), p.Status.ResourceClaimStatuses)
		}
		for i, s := range p.Status.ResourceClaimStatuses {
			x := read[*resourcev1.ResourceClaim](c, *s.ResourceClaimName)
			if want := "p-" + p.Spec.ResourceClaims[i].Name + "-"; s.Name != p.Spec.ResourceClaims[i].Name || !strings.HasPrefix(x.Name, want) || len(x.Name) != len(want)+5 {
				t.Errorf("claim %d is %s of %s", i, x.Name, s.Name)
			}
			if x.Annotations[resourcev1.PodResourceClaimAnnotation] != s.Name || x.Annotations["c"] != "d" || x.Labels["a"] != "b" || !metav1.IsControlledBy(x, p) {
				t.Errorf("claim %s: %+v", x.Name, x.ObjectMeta)
			}
		}
		// One that is deleted is made again.
		remove[*resourcev1.ResourceClaim](c, *p.Status.ResourceClaimStatuses[0].ResourceClaimName)
		again := read[*corev1.Pod](c, "p").Status.ResourceClaimStatuses
		if len(claims(c)) != 2 || *again[0].ResourceClaimName == *p.Status.ResourceClaimStatuses[0].ResourceClaimName || *again[1].ResourceClaimName != *p.Status.ResourceClaimStatuses[1].ResourceClaimName {
			t.Errorf("after one was deleted: %d claims, the pod knows %v", len(claims(c)), again)
		}
	})
}

func TestLongNamesAreCutAlike(t *testing.T) {
	inCluster(t, func(c *cluster) {
		add(c, template("gpu"))
		add(c, pod(strings.Repeat("p", 60), from(strings.Repeat("c", 60), "gpu")))
		name := claims(c)[0].Name
		if want := strings.Repeat("p", 28) + "-" + strings.Repeat("c", 28); !strings.HasPrefix(name, want) || len(name) != len(want)+5 {
			t.Errorf("the claim is %s", name)
		}
	})
}

func TestDevicesAreGivenBack(t *testing.T) {
	inCluster(t, func(c *cluster) {
		add(c, &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shared"}, Spec: gpuRequest})
		p, q := add(c, pod("p", the("x", "shared"))), add(c, pod("q", the("x", "shared")))
		allocate(c, "shared", p, q)
		if x := read[*resourcev1.ResourceClaim](c, "shared"); len(x.Status.ReservedFor) != 2 || x.Status.Allocation == nil {
			t.Fatalf("in use: %+v", x.Status)
		}
		remove[*corev1.Pod](c, "p")
		if x := read[*resourcev1.ResourceClaim](c, "shared"); len(x.Status.ReservedFor) != 1 || x.Status.ReservedFor[0].Name != "q" || x.Status.Allocation == nil {
			t.Fatalf("with one user left: %+v", x.Status)
		}
		write(c, "q", true, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		if x := read[*resourcev1.ResourceClaim](c, "shared"); len(x.Status.ReservedFor) != 0 || x.Status.Allocation != nil || len(x.Finalizers) != 0 {
			t.Errorf("without users: %+v %v", x.Status, x.Finalizers)
		}
	})
}

func TestReservationsOfUnknownPodsEnd(t *testing.T) {
	inCluster(t, func(c *cluster) {
		add(c, &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shared"}, Spec: gpuRequest})
		p := add(c, pod("p", the("x", "shared")))
		other := p.DeepCopy()
		other.UID = "another"
		allocate(c, "shared", other)
		if x := read[*resourcev1.ResourceClaim](c, "shared"); len(x.Status.ReservedFor) != 0 || x.Status.Allocation != nil {
			t.Errorf("reserved for a pod that was replaced: %+v", x.Status)
		}
	})
}

func TestClaimInUseOutlivesItsDeletion(t *testing.T) {
	inCluster(t, func(c *cluster) {
		add(c, &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shared"}, Spec: gpuRequest})
		p := add(c, pod("p", the("x", "shared")))
		allocate(c, "shared", p)
		remove[*resourcev1.ResourceClaim](c, "shared")
		if isGone[*resourcev1.ResourceClaim](c, "shared") {
			t.Fatal("gone while in use")
		}
		remove[*corev1.Pod](c, "p")
		if !isGone[*resourcev1.ResourceClaim](c, "shared") {
			t.Errorf("left: %+v", read[*resourcev1.ResourceClaim](c, "shared"))
		}
	})
}

func TestUnusedAllocationGoesWithItsClaim(t *testing.T) {
	inCluster(t, func(c *cluster) {
		add(c, &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "idle"}, Spec: gpuRequest})
		allocate(c, "idle")
		if x := read[*resourcev1.ResourceClaim](c, "idle"); x.Status.Allocation == nil {
			t.Fatal("what was never reserved was given back")
		}
		remove[*resourcev1.ResourceClaim](c, "idle")
		if !isGone[*resourcev1.ResourceClaim](c, "idle") {
			t.Errorf("left: %+v", read[*resourcev1.ResourceClaim](c, "idle"))
		}
	})
}

func TestClaimsOfFinishedPodsGo(t *testing.T) {
	inCluster(t, func(c *cluster) {
		add(c, template("gpu"))
		p := add(c, pod("p", from("gpu", "gpu")))
		name := claims(c)[0].Name
		allocate(c, name, p)
		write(c, "p", true, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
		if !isGone[*resourcev1.ResourceClaim](c, name) || isGone[*corev1.Pod](c, "p") {
			t.Errorf("left: %v", claims(c))
		}
	})
}

func TestPodsWithANodeReserveTheirClaims(t *testing.T) {
	inCluster(t, func(c *cluster) {
		add(c, &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shared"}, Spec: gpuRequest})
		p := pod("p", the("x", "shared"))
		p.Spec.NodeName = "n"
		p = add(c, p)
		user := add(c, pod("q", the("x", "shared")))
		allocate(c, "shared", user)
		x := read[*resourcev1.ResourceClaim](c, "shared")
		if !slices.ContainsFunc(x.Status.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == p.UID }) {
			t.Errorf("reserved for %+v", x.Status.ReservedFor)
		}
	})
}

// onDevice is a pod on a node with a claim of its own that has a device.
func onDevice(c *cluster, name string, tolerations ...resourcev1.DeviceToleration) *corev1.Pod {
	c.Helper()
	add(c, &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: gpuRequest})
	p := pod(name, the("x", name))
	p.Spec.NodeName = "n"
	p = add(c, p)
	write(c, name, false, func(x *resourcev1.ResourceClaim) { x.Finalizers = []string{resourcev1.Finalizer} })
	write(c, name, true, func(x *resourcev1.ResourceClaim) {
		x.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{
			Results: []resourcev1.DeviceRequestAllocationResult{{Request: "gpu", Driver: "gpu.example.com", Pool: "n", Device: "gpu-" + name, Tolerations: tolerations}},
		}}
		x.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: p.Name, UID: p.UID}}
	})
	return p
}

func leaving(c *cluster, name string) bool {
	return isGone[*corev1.Pod](c, name) || read[*corev1.Pod](c, name).DeletionTimestamp != nil
}

func TestTaintedDevicesAreLeft(t *testing.T) {
	inCluster(t, func(c *cluster) {
		onDevice(c, "a")
		onDevice(c, "b", resourcev1.DeviceToleration{Operator: resourcev1.DeviceTolerationOpExists, Effect: resourcev1.DeviceTaintEffectNoExecute, TolerationSeconds: new(int64(1))},
			resourcev1.DeviceToleration{Key: "broken", Operator: resourcev1.DeviceTolerationOpExists, Effect: resourcev1.DeviceTaintEffectNoExecute}) // for ever settles it
		onDevice(c, "c", resourcev1.DeviceToleration{Operator: resourcev1.DeviceTolerationOpExists, Effect: resourcev1.DeviceTaintEffectNoExecute, TolerationSeconds: new(int64(60))})
		onDevice(c, "d")
		offer := func(effect resourcev1.DeviceTaintEffect) *resourcev1.ResourceSlice {
			s := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: resourcev1.ResourceSliceSpec{
				Driver: "gpu.example.com", NodeName: new("n"), Pool: resourcev1.ResourcePool{Name: "n", ResourceSliceCount: 1},
			}}
			for _, name := range []string{"a", "b", "c"} {
				s.Spec.Devices = append(s.Spec.Devices, resourcev1.Device{Name: "gpu-" + name, Taints: []resourcev1.DeviceTaint{{Key: "broken", Effect: effect}}})
			}
			return s
		}
		add(c, offer(resourcev1.DeviceTaintEffectNoSchedule))
		for _, name := range []string{"a", "b", "c", "d"} {
			if leaving(c, name) {
				t.Errorf("%s leaves for a taint that keeps only others away", name)
			}
		}
		write(c, "s", false, func(s *resourcev1.ResourceSlice) { s.Spec = offer(resourcev1.DeviceTaintEffectNoExecute).Spec })
		if !leaving(c, "a") || leaving(c, "b") || leaving(c, "c") || leaving(c, "d") {
			t.Errorf("at once: a %v, b %v, c %v, d %v", leaving(c, "a"), leaving(c, "b"), leaving(c, "c"), leaving(c, "d"))
		}
		if !c.heard("a DeviceTaintManagerEviction: Marking for deletion") {
			t.Errorf("events %q", c.said)
		}
		time.Sleep(61 * time.Second) // virtual
		synctest.Wait()
		if leaving(c, "b") || !leaving(c, "c") {
			t.Errorf("a minute later: b %v, c %v", leaving(c, "b"), leaving(c, "c"))
		}
		add(c, &resourcev1.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: resourcev1.DeviceTaintRuleSpec{
			DeviceSelector: &resourcev1.DeviceTaintSelector{Device: new("gpu-d")}, Taint: resourcev1.DeviceTaint{Key: "drained", Effect: resourcev1.DeviceTaintEffectNoExecute},
		}})
		if !leaving(c, "d") || leaving(c, "b") {
			t.Errorf("by a rule: d %v, b %v", leaving(c, "d"), leaving(c, "b"))
		}
		// The claim of a pod that is gone has nothing any more.
		if x := read[*resourcev1.ResourceClaim](c, "a"); isGone[*corev1.Pod](c, "a") && x.Status.Allocation != nil {
			t.Errorf("claim of a pod that left: %+v", x.Status)
		}
	})
}

// A rule says how far its evictions are, and one without effect what it would do.
func TestConditionsOfTaintRules(t *testing.T) {
	inCluster(t, func(c *cluster) {
		says := func(status metav1.ConditionStatus, reason, message string) {
			t.Helper()
			r := read[*resourcev1.DeviceTaintRule](c, "r")
			if len(r.Status.Conditions) != 1 {
				t.Fatalf("conditions %+v", r.Status.Conditions)
			}
			x := r.Status.Conditions[0]
			if x.Type != "EvictionInProgress" || x.Status != status || x.Reason != reason || x.Message != message || x.ObservedGeneration != r.Generation {
				t.Errorf("%s %s %q, want %s %s %q", x.Status, x.Reason, x.Message, status, reason, message)
			}
		}
		onDevice(c, "a", resourcev1.DeviceToleration{Operator: resourcev1.DeviceTolerationOpExists, Effect: resourcev1.DeviceTaintEffectNoExecute, TolerationSeconds: new(int64(60))})
		onDevice(c, "b")
		add(c, &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: resourcev1.ResourceSliceSpec{
			Driver: "gpu.example.com", NodeName: new("n"), Pool: resourcev1.ResourcePool{Name: "n", ResourceSliceCount: 1}, Devices: []resourcev1.Device{{Name: "gpu-a"}},
		}})
		rule := &resourcev1.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: resourcev1.DeviceTaintRuleSpec{
			DeviceSelector: &resourcev1.DeviceTaintSelector{Driver: new("gpu.example.com")}, Taint: resourcev1.DeviceTaint{Key: "x", Effect: resourcev1.DeviceTaintEffectNone},
		}}
		add(c, rule)
		says("False", "NoEffect", "1 published device selected. 2 allocated devices selected. 2 pods would be evicted in 1 namespace if the effect was NoExecute. This information will not be updated again. Recreate the DeviceTaintRule to trigger an update.")
		write(c, "r", false, func(r *resourcev1.DeviceTaintRule) { r.Spec.Taint.Effect = resourcev1.DeviceTaintEffectNoSchedule })
		says("False", "OtherEffect", "Eviction only happens for the NoExecute effect.")
		now := metav1.Now()
		write(c, "r", false, func(r *resourcev1.DeviceTaintRule) {
			r.Spec.Taint.Effect, r.Spec.Taint.TimeAdded = resourcev1.DeviceTaintEffectNoExecute, &now
		})
		time.Sleep(11 * time.Second)
		synctest.Wait()
		says("True", "PodsPendingEviction", "1 pod needs to be evicted in 1 namespace. 1 pod evicted since starting the controller.")
		time.Sleep(61 * time.Second)
		synctest.Wait()
		says("False", "Completed", "2 pods evicted since starting the controller.")
		remove[*resourcev1.DeviceTaintRule](c, "r")
		rule.ResourceVersion, rule.Spec.Taint.Effect = "", resourcev1.DeviceTaintEffectNoExecute
		add(c, rule)
		says("False", "NotStarted", "")
	})
}
