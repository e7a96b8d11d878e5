package scheduler

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

// change edits an object of a cluster, again when the scheduler was faster.
func change[T object.Object](namespace, name string, f func(T)) func(*testing.T, client.Client) {
	return changeBy(client.Update[T], namespace, name, f)
}

// changeStatus is change of an object's status.
func changeStatus[T object.Object](namespace, name string, f func(T)) func(*testing.T, client.Client) {
	return changeBy(client.UpdateStatus[T], namespace, name, f)
}

func changeBy[T object.Object](update func(context.Context, client.Client, T) (T, error), namespace, name string, f func(T)) func(*testing.T, client.Client) {
	return func(t *testing.T, c client.Client) {
		t.Helper()
		for {
			o, err := client.Get[T](t.Context(), c, namespace, name)
			if err != nil {
				t.Fatal(err)
			}
			o = o.DeepCopyObject().(T)
			f(o)
			if _, err := update(t.Context(), c, o); err == nil {
				return
			} else if !apierrors.IsConflict(err) {
				t.Fatal(err)
			}
		}
	}
}

func appear[T object.Object](o T) func(*testing.T, client.Client) {
	return func(t *testing.T, c client.Client) { t.Helper(); create(t, c, o) }
}

func disappear[T object.Object](namespace, name string) func(*testing.T, client.Client) {
	return func(t *testing.T, c client.Client) {
		t.Helper()
		if err := client.Delete[T](t.Context(), c, namespace, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
			t.Fatal(err)
		}
	}
}

func labelled(key, value string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[key] = value }
}

func claimed(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}})
	}
}

func cpuOf(s string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(s)}
}

// resized is a running pod on n1 that was told to take less, its node not having
// heard of it yet.
func resized(asked string) *corev1.Pod {
	return held("big", "n1", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = cpuOf(asked)
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", AllocatedResources: cpuOf("4"), Resources: &corev1.ResourceRequirements{Requests: cpuOf("4")}}}
	})
}

func ofWholePod(spec, allocated, actual string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Resources = &corev1.ResourceRequirements{Requests: cpuOf(spec)}
		p.Status.AllocatedResources, p.Status.Resources = cpuOf(allocated), &corev1.ResourceRequirements{Requests: cpuOf(actual)}
	}
}

// A pod that could not be bound says why, and is expected on no node any more.
func TestABindingThatFails(t *testing.T) {
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "disks"}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer)}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", UID: "c"}}
	claim.Spec.AccessModes, claim.Spec.StorageClassName = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, new("disks")
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	disk := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v", UID: "v"}, Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable}}
	disk.Spec.AccessModes, disk.Spec.StorageClassName = claim.Spec.AccessModes, "disks"
	disk.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	disk.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d.example", VolumeHandle: "v"}
	c, v, events := startAs(t, Config{Now: func() time.Time { return epoch }}, kinds.All(), space(), node("n1"), class, claim, disk)
	create(t, c, testPod("p", claimed("c")))
	until(t, v, "it is expected on its node", func(all []*corev1.Pod) bool { return len(all) == 1 && all[0].Status.NominatedNodeName == "n1" })
	// The volume is asked for meanwhile: wait for that, lest it be overwritten.
	volumes := reconcile.NewHub(c, slog.New(slog.DiscardHandler))
	view := reconcile.ViewOf[*corev1.PersistentVolume](volumes)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = volumes.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	asked := make(chan struct{})
	var once sync.Once
	defer view.OnChange(func(_, o *corev1.PersistentVolume) {
		if o != nil && o.Spec.ClaimRef != nil {
			once.Do(func() { close(asked) })
		}
	})()
	<-asked
	change("", "v", func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "other", UID: "o"}
	})(t, c)
	const why = `running PreBind plugin "VolumeBinding": binding volumes: volume "v" was bound to another claim`
	until(t, v, why, func(all []*corev1.Pod) bool {
		x := conditionOf(all[0], corev1.PodScheduled)
		return x != nil && x.Message == why && x.Reason == corev1.PodReasonSchedulerError && all[0].Status.NominatedNodeName == ""
	})
	if !events.has("p Warning FailedScheduling: " + why) {
		t.Errorf("events %q", events.list)
	}
}

// Whatever may let a pod fit that waits has it tried again. Time stands still:
// neither patience nor chance helps.
func TestEveryChangeThatHelpsWakes(t *testing.T) {
	later, immediate := storagev1.VolumeBindingWaitForFirstConsumer, storagev1.VolumeBindingImmediate
	class := func(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
		return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}
	}
	const none = "kubernetes.io/no-provisioner"
	claim := func(class *string, f ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", UID: "c"}}
		c.Spec.AccessModes, c.Spec.StorageClassName = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, class
		c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
		c.Status.Phase = corev1.ClaimPending
		for _, f := range f {
			f(c)
		}
		return c
	}
	isBound := func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName, c.Annotations = "v", map[string]string{"pv.kubernetes.io/bind-completed": "yes"}
		c.Status.Phase = corev1.ClaimBound
	}
	pv := func(f ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
		v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v", UID: "v"}, Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable}}
		v.Spec.AccessModes, v.Spec.StorageClassName = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, "disks"
		v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
		v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d.example", VolumeHandle: "v"}
		for _, f := range f {
			f(v)
		}
		return v
	}
	forClaim := func(name string) func(*corev1.PersistentVolume) {
		return func(v *corev1.PersistentVolume) {
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: name}
		}
	}
	near := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "leader"}},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "x"}},
		}}}}
	}
	spread := func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}},
		}}
	}
	full := held("full", "n1", requests("4", "1Gi"))
	limits := func(n int32) *storagev1.CSINode {
		return &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{
			Name: "d.example", NodeID: "n1", Allocatable: &storagev1.VolumeNodeResources{Count: &n},
		}}}}
	}
	for name, x := range map[string]struct {
		objs   []object.Object
		pod    *corev1.Pod
		change func(*testing.T, client.Client)
	}{
		"a node appears":       {nil, testPod("p"), appear(node("n1"))},
		"a node is uncordoned": {[]object.Object{node("n1", cordoned)}, testPod("p"), change("", "n1", func(n *corev1.Node) { n.Spec.Unschedulable = false })},
		"a taint goes":         {[]object.Object{node("n1", tainted)}, testPod("p"), change("", "n1", func(n *corev1.Node) { n.Spec.Taints = nil })},
		"a toleration comes": {[]object.Object{node("n1", tainted)}, testPod("p"), change("default", "p", func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists}}
		})},
		"a label comes": {[]object.Object{node("n1")}, testPod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }),
			change("", "n1", labelled("disk", "ssd"))},
		"a node grows": {[]object.Object{node("n1")}, testPod("p", requests("5", "1Gi")),
			changeStatus("", "n1", func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("8") })},
		"a pod is gone": {[]object.Object{node("n1"), full}, testPod("p", requests("1", "1Gi")), disappear[*corev1.Pod]("default", "full")},
		"a pod has ended": {[]object.Object{node("n1"), full}, testPod("p", requests("1", "1Gi")),
			changeStatus("default", "full", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })},
		"a host port is free": {[]object.Object{node("n1"), held("web", "n1", hostPort(80))}, testPod("p", hostPort(80)), disappear[*corev1.Pod]("default", "web")},
		"a pod on a node that is gone is gone": {[]object.Object{node("n1", labelled("zone", "a")), held("q", "n1"), node("n2", labelled("zone", "b"), cordoned)}, testPod("p", spread),
			disappear[*corev1.Node]("", "n2")},

		"a resize takes effect": {[]object.Object{node("n1"), resized("1")}, testPod("p", requests("2", "1Gi")), changeStatus("default", "big", func(p *corev1.Pod) {
			s := &p.Status.ContainerStatuses[0]
			s.AllocatedResources, s.Resources.Requests = cpuOf("1"), cpuOf("1")
		})},
		"a resize that was allocated takes effect": {[]object.Object{node("n1"), func() *corev1.Pod {
			p := resized("1")
			p.Status.ContainerStatuses[0].AllocatedResources = cpuOf("1")
			return p
		}()}, testPod("p", requests("2", "1Gi")), changeStatus("default", "big", func(p *corev1.Pod) { p.Status.ContainerStatuses[0].Resources.Requests = cpuOf("1") })},
		"a resize is found infeasible": {[]object.Object{node("n1"), held("big", "n1", requests("4", "1Gi"), func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", AllocatedResources: cpuOf("1"), Resources: &corev1.ResourceRequirements{Requests: cpuOf("1")}}}
		})}, testPod("p", requests("2", "1Gi")), changeStatus("default", "big", func(p *corev1.Pod) {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonInfeasible})
		})},
		"a resize of a whole pod takes effect": {[]object.Object{node("n1"), held("big", "n1", ofWholePod("1", "4", "4"))}, testPod("p", requests("2", "1Gi")),
			changeStatus("default", "big", ofWholePod("1", "1", "1"))},

		"a leader comes": {[]object.Object{node("n1")}, testPod("p", near), appear(held("q", "n1", func(p *corev1.Pod) { p.Labels["app"] = "leader" }))},
		"a pod becomes a leader": {[]object.Object{node("n1"), held("q", "n1")}, testPod("p", near),
			change("default", "q", func(p *corev1.Pod) { p.Labels["app"] = "leader" })},
		"a namespace is labelled": {[]object.Object{node("n1"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other"}},
			held("q", "n1", func(p *corev1.Pod) { p.Namespace, p.Labels["app"] = "other", "leader" })}, testPod("p", near),
			change("", "other", func(n *corev1.Namespace) { n.Labels = map[string]string{"team": "x"} })},
		"a pod that is spread is on its way out": {[]object.Object{node("n1", labelled("zone", "a")), node("n2", labelled("zone", "b"), cordoned),
			held("q", "n1", func(p *corev1.Pod) { p.Finalizers = []string{"example.com/keep"} })}, testPod("p", spread), disappear[*corev1.Pod]("default", "q")},

		"a claim appears": {[]object.Object{node("n1"), class("made", "d.example", later), pv(forClaim("c"))}, testPod("p", claimed("c")),
			appear(claim(new("disks"), isBound))},
		"a claim is bound": {[]object.Object{node("n1"), class("now", "d.example", immediate), claim(new("now")), pv(forClaim("c"))}, testPod("p", claimed("c")),
			change("default", "c", isBound)},
		"a lost claim is found": {[]object.Object{node("n1"), claim(new("disks"), isBound, func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimLost }), pv(forClaim("c"))},
			testPod("p", claimed("c")), changeStatus("default", "c", func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimBound })},
		"a claim gets a class": {[]object.Object{node("n1"), class("disks", none, later), claim(nil), pv()}, testPod("p", claimed("c")),
			change("default", "c", func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = new("disks") })},
		"a claim's class appears": {[]object.Object{node("n1"), claim(new("disks")), pv()}, testPod("p", claimed("c")), appear(class("disks", none, later))},
		"a volume appears": {[]object.Object{node("n1"), class("disks", none, later), claim(new("disks"))}, testPod("p", claimed("c")), func(t *testing.T, c client.Client) {
			create(t, c, pv())
			changeStatus("", "v", func(v *corev1.PersistentVolume) { v.Status.Phase = corev1.VolumeAvailable })(t, c)
		}},
		"a volume grows": {[]object.Object{node("n1"), class("disks", none, later), claim(new("disks")), pv(func(v *corev1.PersistentVolume) {
			v.Spec.Capacity[corev1.ResourceStorage] = resource.MustParse("1Mi")
		})}, testPod("p", claimed("c")), change("", "v", func(v *corev1.PersistentVolume) { v.Spec.Capacity[corev1.ResourceStorage] = resource.MustParse("1Gi") })},
		"a volume changes its class": {[]object.Object{node("n1"), class("disks", none, later), claim(new("disks")), pv(func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = "other" })},
			testPod("p", claimed("c")), change("", "v", func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = "disks" })},
		"a volume changes its modes": {[]object.Object{node("n1"), class("disks", none, later), claim(new("disks")), pv(func(v *corev1.PersistentVolume) {
			v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany}
		})}, testPod("p", claimed("c")), change("", "v", func(v *corev1.PersistentVolume) {
			v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
		})},
		"a volume is given up by one claim for another": {[]object.Object{node("n1"), class("disks", none, later), claim(new("disks")), pv(forClaim("other"))}, testPod("p", claimed("c")),
			change("", "v", forClaim("c"))},
		"a driver tells of space": {[]object.Object{node("n1"), class("made", "d.example", later), claim(new("made"), isBound), pv(forClaim("c"), func(v *corev1.PersistentVolume) {
			v.Labels = map[string]string{corev1.LabelTopologyZone: "b"}
		}), node("n2", cordoned)}, testPod("p", claimed("c"), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"zone": "a"} }), change("", "n1", labelled("zone", "a"))},
		"a driver may have more volumes": {[]object.Object{node("n1"), claim(new("disks"), isBound), pv(forClaim("c")), limits(0)}, testPod("p", claimed("c")), change("", "n1", func(n *storagev1.CSINode) {
			n.Spec.Drivers[0].Allocatable.Count = new(int32(1))
		})},
		"a volume is detached": {[]object.Object{node("n1"), claim(new("disks"), isBound), pv(forClaim("c")), pv(func(v *corev1.PersistentVolume) {
			v.Name, v.UID, v.Spec.CSI.VolumeHandle = "w", "w", "w"
		}), limits(1), &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: storagev1.VolumeAttachmentSpec{
			Attacher: "d.example", NodeName: "n1", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new("w")},
		}}}, testPod("p", claimed("c")), disappear[*storagev1.VolumeAttachment]("", "a")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, v, _ := startAs(t, Config{Now: func() time.Time { return epoch }}, kinds.All(), append(x.objs, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"team": "x"}}})...)
			create(t, c, x.pod)
			until(t, v, "it waits", func(all []*corev1.Pod) bool {
				return count(all, func(p *corev1.Pod) bool { return p.Name == "p" && conditionOf(p, corev1.PodScheduled) != nil }) == 1
			})
			x.change(t, c)
			until(t, v, "it has a node", func(all []*corev1.Pod) bool {
				return count(all, func(p *corev1.Pod) bool {
					return p.Name == "p" && p.Spec.NodeName != "" || p.Name == "p" && p.Status.NominatedNodeName != ""
				}) == 1
			})
		})
	}
}
