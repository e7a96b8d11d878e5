package volumes_test

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
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/client/fake"
	"sagong/controller/volumes"
	"sagong/kinds"
	"sagong/kinds/storage"
	"sagong/object"
	"sagong/reconcile"
)

// spoken collects the events of a test.
type spoken struct {
	mu   sync.Mutex
	said []string
}

func (s *spoken) Eventf(o object.Object, _, reason, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, o.GetName()+" "+reason+": "+fmt.Sprintf(format, args...))
}
func (s *spoken) EventForField(object.Object, string, string, string, string, ...any) {}

func (s *spoken) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.said, func(x string) bool { return strings.Contains(x, text) })
}

type cluster struct {
	*testing.T
	*spoken
	c *fake.Client
}

// inCluster runs f beside the controllers of this package, in virtual time.
func inCluster(t *testing.T, f func(*cluster)) {
	t.Helper()
	among(t, func(hub *reconcile.Hub, c *cluster) []reconcile.Controller {
		return []reconcile.Controller{
			volumes.NewBinder(hub, c), volumes.NewClaimProtection(hub), volumes.NewVolumeProtection(hub), volumes.NewAttributesClassProtection(hub), volumes.NewUnused(hub),
			volumes.NewEphemeral(hub, c, nil), volumes.NewLocal(hub, c), volumes.NewExpand(hub, c),
		}
	}, f)
}

// among runs f beside some controllers.
func among(t *testing.T, which func(*reconcile.Hub, *cluster) []reconcile.Controller, f func(*cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t, &spoken{}, fake.New(object.NewScheme(kinds.All()...))}
		log := slog.New(slog.DiscardHandler)
		hub, e := reconcile.NewHub(c.c, log), reconcile.NewEngine(c.c, log, nil)
		if err := e.Add(which(hub, c)...); err != nil {
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

func make1[T object.Object](c *cluster, o T) T {
	c.Helper()
	made, err := client.Create(c.Context(), c.c, o)
	if err != nil {
		c.Fatal(err)
	}
	synctest.Wait()
	return made
}

func read[T object.Object](c *cluster, ns, name string) T {
	c.Helper()
	o, err := client.Get[T](c.Context(), c.c, ns, name)
	if err != nil {
		c.Fatal(err)
	}
	return o
}

func change[T object.Object](c *cluster, ns, name string, f func(T)) {
	c.Helper()
	o := read[T](c, ns, name).DeepCopyObject().(T)
	f(o)
	if _, err := client.Update(c.Context(), c.c, o); err != nil {
		c.Fatal(err)
	}
	synctest.Wait()
}

func remove[T object.Object](c *cluster, ns, name string) {
	c.Helper()
	if err := client.Delete[T](c.Context(), c.c, ns, name, metav1.DeleteOptions{}); err != nil {
		c.Fatal(err)
	}
	synctest.Wait()
}

func isGone[T object.Object](c *cluster, ns, name string) bool {
	_, err := client.Get[T](c.Context(), c.c, ns, name)
	return apierrors.IsNotFound(err)
}

func claim(name, size string, f ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	none := ""
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	c.Spec.AccessModes, c.Spec.StorageClassName = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, &none
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	for _, f := range f {
		f(c)
	}
	return c
}

func vol(name, size string, f ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	v.Spec.HostPath = &corev1.HostPathVolumeSource{Path: "/tmp/x"}
	for _, f := range f {
		f(v)
	}
	return v
}

func of(class string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &class }
}

func (c *cluster) bound(name string) string {
	c.Helper()
	x := read[*corev1.PersistentVolumeClaim](c, "default", name)
	return string(x.Status.Phase) + " " + x.Spec.VolumeName
}

func (c *cluster) phase(name string) corev1.PersistentVolumePhase {
	c.Helper()
	return read[*corev1.PersistentVolume](c, "", name).Status.Phase
}

func TestStaticBinding(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	for name, x := range map[string]struct {
		volumes []*corev1.PersistentVolume
		claim   *corev1.PersistentVolumeClaim
		want    string
		event   string
	}{
		"the smallest that is large enough": {[]*corev1.PersistentVolume{vol("a", "1Gi"), vol("b", "3Gi"), vol("c", "2Gi")}, claim("c", "1500Mi"), "Bound c", ""},
		"none large enough": {[]*corev1.PersistentVolume{vol("a", "1Gi")}, claim("c", "2Gi"), "Pending ",
			"c FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"of its class": {[]*corev1.PersistentVolume{vol("a", "1Gi"), vol("b", "2Gi", func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = "slow" })}, claim("c", "1Gi", of("slow")), "Bound b", ""},
		"with its modes": {[]*corev1.PersistentVolume{vol("a", "1Gi"), vol("b", "2Gi", func(v *corev1.PersistentVolume) {
			v.Spec.AccessModes = append(v.Spec.AccessModes, corev1.ReadWriteMany)
		})}, claim("c", "1Gi", func(c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
		}), "Bound b", ""},
		"fewest modes before smallest": {[]*corev1.PersistentVolume{vol("a", "1Gi", func(v *corev1.PersistentVolume) {
			v.Spec.AccessModes = append(v.Spec.AccessModes, corev1.ReadWriteMany)
		}), vol("b", "2Gi")}, claim("c", "1Gi"), "Bound b", ""},
		"by its selector": {[]*corev1.PersistentVolume{vol("a", "1Gi"), vol("b", "2Gi", func(v *corev1.PersistentVolume) { v.Labels = map[string]string{"disk": "ssd"} })}, claim("c", "1Gi", func(c *corev1.PersistentVolumeClaim) {
			c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"disk": "ssd"}}
		}), "Bound b", ""},
		"block with block": {[]*corev1.PersistentVolume{vol("a", "1Gi"), vol("b", "2Gi", func(v *corev1.PersistentVolume) { v.Spec.VolumeMode = &block })}, claim("c", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = &block }), "Bound b", ""},
		"the one it names": {[]*corev1.PersistentVolume{vol("a", "1Gi"), vol("b", "2Gi")}, claim("c", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "b" }), "Bound b", ""},
		"the one it names is too small": {[]*corev1.PersistentVolume{vol("a", "1Gi")}, claim("c", "2Gi", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "a" }), "Pending a",
			`c VolumeMismatch: Cannot bind to requested volume "a": requested PV is too small`},
		"the one it names is not there": {nil, claim("c", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "a" }), "Pending a", ""},
		"the one kept for it": {[]*corev1.PersistentVolume{vol("a", "1Gi"), vol("b", "2Gi", func(v *corev1.PersistentVolume) {
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "c"}
		})}, claim("c", "1Gi"), "Bound b", ""},
		"not one kept for another": {[]*corev1.PersistentVolume{vol("b", "2Gi", func(v *corev1.PersistentVolume) {
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "other"}
		})}, claim("c", "1Gi"), "Pending ", "no persistent volumes available"},
		"a class that is not there": {nil, claim("c", "1Gi", of("none")), "Pending ", `c ProvisioningFailed: storageclass.storage.k8s.io "none" not found`},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				for _, v := range x.volumes {
					make1(c, v)
				}
				make1(c, x.claim)
				if got := c.bound("c"); got != x.want {
					t.Errorf("claim is %q, want %q", got, x.want)
				}
				if x.event != "" && !c.has(x.event) {
					t.Errorf("no event %q in %q", x.event, c.said)
				}
				if name, ok := strings.CutPrefix(x.want, "Bound "); ok && c.phase(name) != corev1.VolumeBound {
					t.Errorf("volume is %s", c.phase(name))
				}
			})
		})
	}
}

// A claim that came first is bound when its volume comes.
func TestVolumeThatComesLater(t *testing.T) {
	inCluster(t, func(c *cluster) {
		make1(c, claim("a", "2Gi"))
		make1(c, claim("b", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "mine" }))
		make1(c, vol("mine", "1Gi"))
		make1(c, vol("other", "2Gi"))
		if a, b := c.bound("a"), c.bound("b"); a != "Bound other" || b != "Bound mine" {
			t.Errorf("a is %q, b is %q", a, b)
		}
		got := read[*corev1.PersistentVolumeClaim](c, "default", "b")
		if q := got.Status.Capacity[corev1.ResourceStorage]; q.String() != "1Gi" || len(got.Status.AccessModes) != 1 {
			t.Errorf("status %+v", got.Status)
		}
	})
}

func TestReclaimPolicies(t *testing.T) {
	for policy, want := range map[corev1.PersistentVolumeReclaimPolicy]struct {
		phase corev1.PersistentVolumePhase
		event string
	}{
		corev1.PersistentVolumeReclaimRetain:  {corev1.VolumeReleased, ""},
		corev1.PersistentVolumeReclaimDelete:  {corev1.VolumeFailed, `v VolumeFailedDelete: error getting deleter volume plugin for volume "v": no deletable volume plugin matched`},
		corev1.PersistentVolumeReclaimRecycle: {corev1.VolumeFailed, "v VolumeFailedRecycle: No recycler plugin found for the volume!"},
	} {
		t.Run(string(policy), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				make1(c, vol("v", "1Gi", func(v *corev1.PersistentVolume) { v.Spec.PersistentVolumeReclaimPolicy = policy }))
				if got := c.phase("v"); got != corev1.VolumeAvailable {
					t.Errorf("a new volume is %s", got)
				}
				make1(c, claim("c", "1Gi"))
				remove[*corev1.PersistentVolumeClaim](c, "default", "c")
				if got := c.phase("v"); got != want.phase {
					t.Errorf("volume is %s, want %s", got, want.phase)
				}
				if want.event != "" && !c.has(want.event) {
					t.Errorf("no event %q in %q", want.event, c.said)
				}
				make1(c, claim("c", "1Gi"))
				if got := c.bound("c"); got != "Pending " {
					t.Errorf("a new claim of that name got the old one's data: %q", got)
				}
			})
		})
	}
}

func TestLostVolume(t *testing.T) {
	inCluster(t, func(c *cluster) {
		make1(c, vol("v", "1Gi"))
		make1(c, claim("c", "1Gi"))
		remove[*corev1.PersistentVolume](c, "", "v")
		if v := read[*corev1.PersistentVolume](c, "", "v"); v.DeletionTimestamp == nil {
			t.Error("a bound volume must wait for its claim")
		}
		change(c, "", "v", func(v *corev1.PersistentVolume) { v.Finalizers = nil })
		if got := c.bound("c"); got != "Lost v" || !c.has("c ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!") {
			t.Errorf("claim is %q, said %q", got, c.said)
		}
	})
}

func pod(name, node string, v ...corev1.Volume) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	p.Spec.NodeName, p.Spec.Volumes = node, v
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	return p
}

func using(c string) corev1.Volume {
	return corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c}}}
}

func TestProtection(t *testing.T) {
	inCluster(t, func(c *cluster) {
		make1(c, vol("v", "1Gi"))
		make1(c, claim("c", "1Gi"))
		make1(c, pod("p", "n1", using("c")))
		remove[*corev1.PersistentVolumeClaim](c, "default", "c")
		remove[*corev1.PersistentVolume](c, "", "v")
		if isGone[*corev1.PersistentVolumeClaim](c, "default", "c") || c.phase("v") != corev1.VolumeBound {
			t.Fatal("claim or volume went under a pod")
		}
		zero := int64(0)
		if err := client.Delete[*corev1.Pod](c.Context(), c.c, "default", "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !isGone[*corev1.PersistentVolumeClaim](c, "default", "c") || !isGone[*corev1.PersistentVolume](c, "", "v") {
			t.Error("claim or volume stayed")
		}
	})
}

// A bound claim tells since when no pod refers to it: pods that wait count, those
// that have ended do not.
func TestUnusedClaims(t *testing.T) {
	inCluster(t, func(c *cluster) {
		conditions := func() []corev1.PersistentVolumeClaimCondition {
			synctest.Wait()
			return read[*corev1.PersistentVolumeClaim](c, "default", "c").Status.Conditions
		}
		expect := func(when string, status corev1.ConditionStatus, reason, message string) {
			c.Helper()
			got := conditions()
			want := corev1.PersistentVolumeClaimCondition{Type: "Unused", Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(time.Now().Truncate(time.Second))}
			if len(got) != 1 || !got[0].LastTransitionTime.Equal(&want.LastTransitionTime) {
				c.Fatalf("%s: %+v at %s", when, got, time.Now())
			}
			if got[0].LastTransitionTime = want.LastTransitionTime; got[0] != want {
				c.Fatalf("%s: %+v", when, got)
			}
			time.Sleep(time.Minute)
		}
		used := func(when string) {
			c.Helper()
			expect(when, "False", "PodUsingPVC", "A pod is currently referencing this PVC")
		}
		idle := func(when string) {
			c.Helper()
			expect(when, "True", "NoPodsUsingPVC", "No pods are currently referencing this PVC")
		}
		make1(c, claim("c", "1Gi"))
		if got := conditions(); len(got) > 0 {
			t.Fatal("before it is bound: ", got)
		}
		make1(c, vol("v", "1Gi"))
		idle("bound")
		make1(c, pod("waits", "", using("c")))
		used("by a pod without a node")
		make1(c, pod("p", "n1", using("c")))
		remove[*corev1.Pod](c, "default", "waits")
		if got := conditions(); got[0].Status != "False" {
			t.Fatal("with a second pod: ", got)
		}
		p := read[*corev1.Pod](c, "default", "p").DeepCopy()
		p.Status.Phase = corev1.PodSucceeded
		if _, err := client.UpdateStatus(c.Context(), client.Client(c.c), p); err != nil {
			t.Fatal(err)
		}
		idle("ended")
		remove[*corev1.Pod](c, "default", "p")
		if got := conditions(); time.Since(got[0].LastTransitionTime.Time) < time.Minute {
			t.Fatal("told anew: ", got)
		}
		for _, s := range []corev1.ContainerState{{Running: &corev1.ContainerStateRunning{}}, {Terminated: &corev1.ContainerStateTerminated{}}} {
			running := pod("q", "n1", using("c"))
			running.Finalizers = []string{"example.com/hold"}
			running = make1(c, running).DeepCopy()
			used("by a pod with a node")
			running.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: s}}
			if _, err := client.UpdateStatus(c.Context(), client.Client(c.c), running); err != nil {
				t.Fatal(err)
			}
			remove[*corev1.Pod](c, "default", "q")
			if s.Running != nil {
				if got := conditions(); got[0].Status != "False" {
					t.Fatal("while it still runs: ", got)
				}
			} else {
				idle("its containers ended")
			}
			change(c, "default", "q", func(p *corev1.Pod) { p.Finalizers = nil })
			var now int64
			if err := client.Delete[*corev1.Pod](c.Context(), c.c, "default", "q", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil && !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
			if s.Running != nil {
				idle("gone")
			}
		}
	})
}

func TestEphemeralClaims(t *testing.T) {
	inCluster(t, func(c *cluster) {
		make1(c, claim("web-taken", "1Gi"))
		template := &corev1.PersistentVolumeClaimTemplate{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: claim("x", "1Gi").Spec}
		p := make1(c, pod("web", "",
			corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: template}}},
			corev1.Volume{Name: "taken", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: template}}}))
		got := read[*corev1.PersistentVolumeClaim](c, "default", "web-scratch")
		if !metav1.IsControlledBy(got, p) || got.Labels["a"] != "b" {
			t.Errorf("claim %+v", got.ObjectMeta)
		}
		if want := "web FailedBinding: ephemeral volume taken: PVC default/web-taken was not created for pod default/web (pod is not owner)"; !c.has(want) {
			t.Errorf("no event %q in %q", want, c.said)
		}
	})
}

// local makes the class, and a claim of it bound to a volume on n1.
func local(c *cluster) *corev1.PersistentVolume {
	c.Helper()
	wait, del, yes := storagev1.VolumeBindingWaitForFirstConsumer, corev1.PersistentVolumeReclaimDelete, true
	make1(c, &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "standard", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: storage.LocalDriver, VolumeBindingMode: &wait, ReclaimPolicy: &del, AllowVolumeExpansion: &yes,
	})
	make1(c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelHostname: "h1"}}})
	made := make1(c, claim("c", "100M", func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = nil }))
	if !c.has("c WaitForFirstConsumer: waiting for first consumer to be created before binding") {
		c.Errorf("said %q", c.said)
	}
	change(c, "default", "c", func(c *corev1.PersistentVolumeClaim) {
		c.Annotations = map[string]string{"volume.kubernetes.io/selected-node": "n1"}
	})
	name := "pvc-" + string(made.UID)
	if got := c.bound("c"); got != "Bound "+name {
		c.Fatalf("claim is %q, said %q", got, c.said)
	}
	return read[*corev1.PersistentVolume](c, "", name)
}

func TestLocalVolumes(t *testing.T) {
	inCluster(t, func(c *cluster) {
		v := local(c)
		if q := v.Spec.Capacity[corev1.ResourceStorage]; q.String() != "96Mi" || v.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values[0] != "h1" {
			t.Errorf("volume %+v", v.Spec)
		}
		remove[*corev1.PersistentVolumeClaim](c, "default", "c")
		v = read[*corev1.PersistentVolume](c, "", v.Name)
		if v.DeletionTimestamp == nil || !slices.Equal(v.Finalizers, []string{storage.LocalFinalizer}) {
			t.Errorf("a released volume waits for its node: %+v", v.ObjectMeta)
		}
		remove[*corev1.Node](c, "", "n1")
		if !isGone[*corev1.PersistentVolume](c, "", v.Name) {
			t.Error("a volume outlived its node")
		}
	})
}

func TestLocalVolumesRefuse(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	for want, f := range map[string]func(*corev1.PersistentVolumeClaim){
		"access mode ReadWriteMany is not supported: the volume is on one node": func(c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
		},
		"volumeMode Block is not supported":    func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = &block },
		"claim.Spec.Selector is not supported": func(c *corev1.PersistentVolumeClaim) { c.Spec.Selector = &metav1.LabelSelector{} },
		"data sources are not supported": func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "x"}
		},
		"the class needs volumeBindingMode Wait": func(*corev1.PersistentVolumeClaim) {},
	} {
		t.Run(want, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				now, del := storagev1.VolumeBindingImmediate, corev1.PersistentVolumeReclaimDelete
				make1(c, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Provisioner: storage.LocalDriver, VolumeBindingMode: &now, ReclaimPolicy: &del})
				make1(c, claim("c", "1Gi", of("s"), f))
				if got := c.bound("c"); got != "Pending " || !c.has(`c ProvisioningFailed: failed to provision volume with StorageClass "s": `) || !c.has(want) {
					t.Errorf("claim is %q, said %q", got, c.said)
				}
			})
		})
	}
}

// TestExpansion grows a claim, growing or not: what its status then says of it, and
// what it keeps of what it said before.
func TestExpansion(t *testing.T) {
	for name, x := range map[string]struct {
		asks, volume, before string
		phase                corev1.ClaimResourceStatus
		conditions           string
		wantVolume, want     string
		writes               bool
	}{
		"at first":        {"2Gi", "1Gi", "", "", "Unused", "2Gi", "Unused Resizing FileSystemResizePending", true},
		"after failures":  {"2Gi", "1Gi", "3Gi", corev1.PersistentVolumeClaimControllerResizeInfeasible, "ControllerResizeError Unused NodeResizeError", "2Gi", "Unused Resizing FileSystemResizePending", true},
		"half done":       {"2Gi", "1Gi", "2Gi", corev1.PersistentVolumeClaimControllerResizeInProgress, "Resizing", "2Gi", "Resizing FileSystemResizePending", true},
		"all but told":    {"2Gi", "2Gi", "2Gi", corev1.PersistentVolumeClaimControllerResizeInProgress, "Resizing", "2Gi", "Resizing FileSystemResizePending", true},
		"told":            {"2Gi", "2Gi", "2Gi", corev1.PersistentVolumeClaimNodeResizePending, "Resizing FileSystemResizePending NodeResizeError", "2Gi", "Resizing FileSystemResizePending NodeResizeError", false},
		"at work":         {"2Gi", "2Gi", "2Gi", corev1.PersistentVolumeClaimNodeResizeInProgress, "Resizing", "2Gi", "Resizing", false},
		"given up":        {"2Gi", "2Gi", "2Gi", corev1.PersistentVolumeClaimNodeResizeInfeasible, "NodeResizeError", "2Gi", "Resizing FileSystemResizePending", true},
		"more":            {"3Gi", "2Gi", "2Gi", corev1.PersistentVolumeClaimNodeResizePending, "Resizing FileSystemResizePending", "3Gi", "Resizing FileSystemResizePending", true},
		"less":            {"2Gi", "3Gi", "3Gi", corev1.PersistentVolumeClaimNodeResizePending, "Resizing FileSystemResizePending", "3Gi", "Resizing FileSystemResizePending", false},
		"less, half done": {"2Gi", "1Gi", "3Gi", corev1.PersistentVolumeClaimControllerResizeInProgress, "Resizing", "2Gi", "Resizing FileSystemResizePending", true},
	} {
		t.Run(name, func(t *testing.T) {
			only := func(hub *reconcile.Hub, c *cluster) []reconcile.Controller {
				return []reconcile.Controller{volumes.NewExpand(hub, c)}
			}
			among(t, only, func(c *cluster) {
				has := claim("c", x.asks, func(c *corev1.PersistentVolumeClaim) {
					c.UID, c.Spec.VolumeName = "c", "v"
					c.Status.Phase, c.Status.Capacity = corev1.ClaimBound, corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
					if x.before != "" {
						c.Status.AllocatedResources = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(x.before)}
						c.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{corev1.ResourceStorage: x.phase}
					}
					for _, s := range strings.Fields(x.conditions) {
						c.Status.Conditions = append(c.Status.Conditions, corev1.PersistentVolumeClaimCondition{Type: corev1.PersistentVolumeClaimConditionType(s), Status: corev1.ConditionTrue, Message: "before"})
					}
				})
				v := vol("v", x.volume, func(v *corev1.PersistentVolume) {
					v.Spec.HostPath, v.Spec.CSI = nil, &corev1.CSIPersistentVolumeSource{Driver: storage.LocalDriver, VolumeHandle: "v"}
					v.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: "default", Name: "c", UID: "c"}
				})
				for _, o := range []object.Object{has, v} {
					if err := c.c.Seed(o); err != nil {
						t.Fatal(err)
					}
				}
				at := read[*corev1.PersistentVolumeClaim](c, "default", "c").ResourceVersion
				synctest.Wait()
				if q := read[*corev1.PersistentVolume](c, "", "v").Spec.Capacity[corev1.ResourceStorage]; q.String() != x.wantVolume {
					t.Errorf("the volume has %s", q.String())
				}
				got := read[*corev1.PersistentVolumeClaim](c, "default", "c")
				var conditions []string
				for _, y := range got.Status.Conditions {
					conditions = append(conditions, string(y.Type))
				}
				to, phase := got.Status.AllocatedResources[corev1.ResourceStorage], got.Status.AllocatedResourceStatuses[corev1.ResourceStorage]
				if to.String() != x.wantVolume || strings.Join(conditions, " ") != x.want || (got.ResourceVersion != at) != x.writes {
					t.Errorf("%s to %s, %v", phase, to.String(), conditions)
				}
				if x.writes && (phase != corev1.PersistentVolumeClaimNodeResizePending || !c.has("c FileSystemResizeRequired: Require file system resize of volume on node")) {
					t.Errorf("%s, said %q", phase, c.said)
				}
				if grown := x.volume != x.wantVolume; grown != c.has("c Resizing: External resizer is resizing volume v") {
					t.Errorf("said %q", c.said)
				}
			})
		})
	}
}

// TestExpansionOfALocalVolume has a claim of the class standard ask for more.
func TestExpansionOfALocalVolume(t *testing.T) {
	inCluster(t, func(c *cluster) {
		v := local(c)
		change(c, "default", "c", func(c *corev1.PersistentVolumeClaim) {
			c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("1Gi")
		})
		v = read[*corev1.PersistentVolume](c, "", v.Name)
		got := read[*corev1.PersistentVolumeClaim](c, "default", "c")
		was := got.Status.Capacity[corev1.ResourceStorage]
		if q := v.Spec.Capacity[corev1.ResourceStorage]; q.String() != "1Gi" || was.String() != "96Mi" ||
			got.Status.AllocatedResourceStatuses[corev1.ResourceStorage] != corev1.PersistentVolumeClaimNodeResizePending ||
			!slices.ContainsFunc(got.Status.Conditions, func(x corev1.PersistentVolumeClaimCondition) bool {
				return x.Type == corev1.PersistentVolumeClaimFileSystemResizePending
			}) {
			t.Errorf("volume has %s, claim says %+v", q.String(), got.Status)
		}
	})
}

// TestExpansionOfWhatIsTheClaims has volumes grow only if they are their claim's, never
// shrink, and grow also when they come after the claim asked.
func TestExpansionOfWhatIsTheClaims(t *testing.T) {
	growing := func(name string) *corev1.PersistentVolumeClaim {
		return claim(name, "2Gi", func(c *corev1.PersistentVolumeClaim) {
			c.UID, c.Spec.VolumeName = types.UID(name), "v-"+name
			c.Status.Phase, c.Status.Capacity = corev1.ClaimBound, corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
		})
	}
	volume := func(name, size string, uid types.UID) *corev1.PersistentVolume {
		return vol("v-"+name, size, func(v *corev1.PersistentVolume) {
			v.Spec.HostPath, v.Spec.CSI = nil, &corev1.CSIPersistentVolumeSource{Driver: storage.LocalDriver, VolumeHandle: name}
			v.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: "default", Name: name, UID: uid}
		})
	}
	only := func(hub *reconcile.Hub, c *cluster) []reconcile.Controller {
		return []reconcile.Controller{volumes.NewExpand(hub, c)}
	}
	among(t, only, func(c *cluster) {
		for _, o := range []object.Object{
			growing("other"), volume("other", "1Gi", "another"), growing("large"), volume("large", "5Gi", "large"), growing("late"), volume("late", "1Gi", "late"),
		} {
			if err := c.c.Seed(o); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for name, want := range map[string]string{"other": "1Gi", "large": "5Gi", "late": "2Gi"} {
			if q := read[*corev1.PersistentVolume](c, "", "v-"+name).Spec.Capacity[corev1.ResourceStorage]; q.String() != want {
				t.Errorf("%s has %s", name, q.String())
			}
			asks := read[*corev1.PersistentVolumeClaim](c, "default", name).Status.AllocatedResourceStatuses
			if pending := asks[corev1.ResourceStorage] == corev1.PersistentVolumeClaimNodeResizePending; pending != (name != "other") {
				t.Errorf("%s waits for its node: %t", name, pending)
			}
		}
	})
}

func TestAttributesClassesInUseStay(t *testing.T) {
	inCluster(t, func(c *cluster) {
		gold := "gold"
		make1(c, &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: gold}, DriverName: "x.y", Parameters: map[string]string{"a": "b"}})
		make1(c, claim("c", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeAttributesClassName = &gold }))
		remove[*storagev1.VolumeAttributesClass](c, "", gold)
		if isGone[*storagev1.VolumeAttributesClass](c, "", gold) {
			t.Error("went although a claim names it")
		}
		remove[*corev1.PersistentVolumeClaim](c, "default", "c")
		if !isGone[*storagev1.VolumeAttributesClass](c, "", gold) {
			t.Error("stayed although nobody names it")
		}
	})
}
