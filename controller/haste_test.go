package controller_test

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"sagong/client"
	"sagong/kinds/storage"
	"sagong/object"
	"sagong/reconcile"
)

// What is here happens faster than views follow: a thing is put to use and taken
// away in one moment, so that who hears of the second before the first, and does
// not ask, does damage that lasts.

func inDefault(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "default", Name: name}
}

// create makes an object of any kind.
func (w *world) create(o object.Object) object.Object {
	w.Helper()
	return must(w.c.Create(w.Context(), w.c.Scheme().ByObject(o), o))
}

// await lets time go by until something is so.
func (w *world) await(what string, so func() bool) {
	w.Helper()
	for range 1000 {
		if so() {
			return
		}
		w.pass(time.Second)
	}
	w.Fatalf("%s: not in a quarter of an hour", what)
}

// lone is a pod of nobody, which stays on its node whatever happens to that.
func lone(name, image string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: inDefault(name), Spec: template(name, image).Spec}
	p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	if change != nil {
		change(p)
	}
	return p
}

// haste is in two parts, between which minutes go by.
func (w *world) haste() {
	background, foreground, orphan := metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan
	// Groups that go, and groups that stay while a pod is in them.
	for i := range 3 {
		group := func(name string) *schedulingv1beta1.PodGroup {
			g := &schedulingv1beta1.PodGroup{ObjectMeta: inDefault(fmt.Sprint(name, i))}
			g.Finalizers = []string{"scheduling.k8s.io/podgroup-protection"}
			g.Spec.SchedulingPolicy.Basic = &schedulingv1beta1.BasicSchedulingPolicy{}
			return g
		}
		w.create(group("crew"))
		w.create(group("nobody"))
		w.pass(w.storm.pause(30*time.Second, "crew", i))
		w.create(lone(fmt.Sprint("rower", i), "v1", func(p *corev1.Pod) {
			p.Spec.SchedulingGroup = &corev1.PodSchedulingGroup{PodGroupName: new(fmt.Sprint("crew", i))}
		}))
		w.remove(group("crew"), background)
		w.remove(group("nobody"), background)
	}
	// Owners that go just after they came to own something, of the same kind and of
	// another, and leave it, or take it along.
	for i := range 3 {
		for _, policy := range []metav1.DeletionPropagation{background, foreground, orphan} {
			owner := w.create(&corev1.ConfigMap{ObjectMeta: inDefault(fmt.Sprint("owner", i, "-", lower(policy)))})
			w.pass(w.storm.pause(15*time.Second, "owner", i, policy))
			m := inDefault(fmt.Sprint("owned", i, "-", lower(policy)))
			m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.GetName(), UID: owner.GetUID(), BlockOwnerDeletion: new(true)}}
			w.create(&corev1.Secret{ObjectMeta: m})
			w.create(&corev1.ConfigMap{ObjectMeta: m})
			w.remove(owner, policy)
		}
	}
	// One made anew under the name of one deleted.
	again := []object.Object{
		&appsv1.ReplicaSet{ObjectMeta: inDefault("again"), Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(2)), Selector: by("again"), Template: template("again", "v1")}},
		&appsv1.StatefulSet{ObjectMeta: inDefault("again"), Spec: appsv1.StatefulSetSpec{Replicas: new(int32(2)), Selector: by("again-set"), Template: template("again-set", "v1")}},
		&appsv1.DaemonSet{ObjectMeta: inDefault("again"), Spec: appsv1.DaemonSetSpec{Selector: by("again-log"), Template: template("again-log", "v1")}},
		&corev1.Service{ObjectMeta: inDefault("again"), Spec: corev1.ServiceSpec{
			ClusterIP: "None", ClusterIPs: []string{"None"}, Selector: map[string]string{"app": "again"}, Ports: []corev1.ServicePort{{Port: 80}},
		}},
	}
	for range 2 {
		for _, o := range again {
			w.create(o.DeepCopyObject().(object.Object))
		}
		w.rest()
		w.pass(w.storm.pause(20*time.Second, "again"))
		for _, o := range again {
			w.remove(o, background)
		}
	}
	for _, o := range again {
		w.create(o)
	}
}

func lower(p metav1.DeletionPropagation) string {
	return map[metav1.DeletionPropagation]string{"Background": "background", "Foreground": "foreground", "Orphan": "orphan"}[p]
}

func by(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

// remote is the provisioner of volumes elsewhere.
const remote = "example.com/remote"

// provisioner deletes the volumes elsewhere that are released, and their data.
type provisioner struct {
	volumes *reconcile.View[*corev1.PersistentVolume]
}

func (p *provisioner) Name() string { return "provisioner" }
func (p *provisioner) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.Self(p.volumes)}
}
func (p *provisioner) Outputs() []reconcile.Output { return nil }

func (p *provisioner) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	v, ok := p.volumes.Get("", key.Name)
	if !ok || v.Annotations[volume.AnnDynamicallyProvisioned] != remote || v.Status.Phase != corev1.VolumeReleased || v.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, client.Delete[*corev1.PersistentVolume](ctx, w, "", key.Name, metav1.DeleteOptions{})
}

// storage is the life of volumes, claims and classes.
func (w *world) storage() {
	gib := corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}
	once := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	pv := func(name, class string, change func(*corev1.PersistentVolume)) {
		v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"for": name}, Finalizers: []string{"kubernetes.io/pv-protection"}}, Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: once, StorageClassName: class,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data/" + name}},
		}}
		if change != nil {
			change(v)
		}
		w.create(v)
	}
	claim := func(name, class string, change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: inDefault(name), Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: once, StorageClassName: &class, Resources: gib,
		}}
		c.Finalizers = []string{"kubernetes.io/pvc-protection"} // admission's
		if class == "manual" {
			c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"for": name}}
		}
		if change != nil {
			change(c)
		}
		w.create(c)
		return c
	}
	wait, drop := storagev1.VolumeBindingWaitForFirstConsumer, corev1.PersistentVolumeReclaimDelete
	w.create(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Provisioner: storage.LocalDriver, VolumeBindingMode: &wait, ReclaimPolicy: &drop, AllowVolumeExpansion: new(true)})
	for i := range 3 {
		used, bound, kept, gold := fmt.Sprint("used", i), fmt.Sprint("bound", i), fmt.Sprint("kept", i), fmt.Sprint("gold", i)
		pv(used, "manual", nil)
		claim(used, "manual", nil)
		claim(bound, "manual", nil)
		w.rest()
		pv(bound, "manual", nil)
		claim(kept, "local", func(c *corev1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{volume.AnnSelectedNode: "n2"}
		})
		claim(fmt.Sprint("grown", i), "local", func(c *corev1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{volume.AnnSelectedNode: "n2"}
		})
		w.growAtOnce(fmt.Sprint("grown", i))
		w.pass(w.storm.pause(20*time.Second, "class", i))
		class := w.create(&storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: gold, Finalizers: []string{"kubernetes.io/vac-protection"}}, DriverName: "d", Parameters: map[string]string{"a": "b"}})
		w.rest()
		w.await("claim "+used+" is bound and tells that nobody uses it", func() bool {
			return len(must(client.Get[*corev1.PersistentVolumeClaim](w.Context(), w.c, "default", used)).Status.Conditions) > 0
		})
		// A claim goes as a pod comes to use it, a class as a claim does.
		w.create(lone(used, "v1", func(p *corev1.Pod) {
			p.Spec.NodeName = "n2"
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: used}}}}
		}))
		w.remove(&corev1.PersistentVolumeClaim{ObjectMeta: inDefault(used)}, metav1.DeletePropagationBackground)
		claim(gold, "none", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeAttributesClassName = &gold })
		w.remove(class, metav1.DeletePropagationBackground)
	}
	// What was made for a claim by somebody who is ahead of the views, and both from
	// a backup.
	immediate := storagev1.VolumeBindingImmediate
	w.create(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "remote"}, Provisioner: remote, VolumeBindingMode: &immediate, ReclaimPolicy: &drop})
	for i := range 3 {
		made, restored := fmt.Sprint("made", i), fmt.Sprint("restored", i)
		claim(made, "remote", func(c *corev1.PersistentVolumeClaim) { // what the binder would write, unless the volume is quicker
			c.Annotations = map[string]string{volume.AnnStorageProvisioner: remote, volume.AnnBetaStorageProvisioner: remote}
		})
		uid := must(client.Get[*corev1.PersistentVolumeClaim](w.Context(), w.c, "default", made)).UID
		pv(made, "remote", func(v *corev1.PersistentVolume) {
			v.Annotations = map[string]string{volume.AnnDynamicallyProvisioned: remote}
			v.Spec.PersistentVolumeReclaimPolicy = drop
			v.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: "default", Name: made, UID: uid}
		})
		pv(restored, "manual", func(v *corev1.PersistentVolume) {
			v.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: "default", Name: restored}
		})
		claim(restored, "manual", func(c *corev1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{volume.AnnBindCompleted: "yes"}
			c.Spec.VolumeName = restored
		})
		w.pass(w.storm.pause(20*time.Second, "made", i))
	}
	w.create(lone("scratch", "v1", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
			VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: corev1.PersistentVolumeClaimSpec{AccessModes: once, StorageClassName: new("none"), Resources: gib}},
		}}}}
	}))
	delete := appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	w.create(&appsv1.StatefulSet{ObjectMeta: inDefault("store"), Spec: appsv1.StatefulSetSpec{
		Replicas: new(int32(3)), Selector: by("store"), Template: template("store", "v1"), PodManagementPolicy: appsv1.ParallelPodManagement,
		PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: delete, WhenScaled: delete},
		VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: once, StorageClassName: new("none"), Resources: gib,
		}}},
	}})
}

// storageLater is what becomes of the volumes.
func (w *world) storageLater() {
	// Claims made for a pod that never came to be stay when the set shrinks.
	for !w.has("store-1") || !w.has("store-2") {
		w.pass(time.Minute)
	}
	edit(w.cluster, "store", func(s *appsv1.StatefulSet) { *s.Spec.Replicas = 1 })
	for i := range 3 {
		bound, kept := fmt.Sprint("bound", i), fmt.Sprint("kept", i)
		if i == 0 { // the volume waits for its claim to go
			w.remove(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: bound}}, metav1.DeletePropagationBackground)
			w.rest()
		}
		if i < 2 {
			w.remove(&corev1.PersistentVolumeClaim{ObjectMeta: inDefault(bound)}, metav1.DeletePropagationBackground)
			w.remove(&corev1.PersistentVolumeClaim{ObjectMeta: inDefault(kept)}, metav1.DeletePropagationBackground)
		} else {
			edit(w.cluster, kept, func(c *corev1.PersistentVolumeClaim) {
				c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi")
			})
		}
		edit(w.cluster, fmt.Sprint("grown", i), func(c *corev1.PersistentVolumeClaim) {
			c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("3Gi")
		})
		w.rest()
	}
}

// devices is the life of claims for devices.
func (w *world) devices() {
	exactly := []resourcev1.DeviceRequest{{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "c", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1}}}
	spec := resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: exactly}}
	w.create(&resourcev1.ResourceClaimTemplate{ObjectMeta: inDefault("devices"), Spec: resourcev1.ResourceClaimTemplateSpec{Spec: spec}})
	for i := range 3 {
		for _, image := range []string{"v1", "done"} {
			w.create(lone(fmt.Sprint("device-", image, i), image, func(p *corev1.Pod) {
				p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "d", ResourceClaimTemplateName: new("devices")}}
			}))
			name := fmt.Sprint("shared-", image, i)
			c := &resourcev1.ResourceClaim{ObjectMeta: inDefault(name), Spec: spec}
			c.Finalizers = []string{resourcev1.Finalizer}
			w.create(c)
			w.pass(w.storm.pause(15*time.Second, "device", i, image))
			// What the scheduler does once it has seen the pod.
			p := w.create(lone(name, image, func(p *corev1.Pod) {
				p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "d", ResourceClaimName: &name}}
			}))
			editStatus(w.cluster, name, func(c *resourcev1.ResourceClaim) {
				c.Status.Allocation = &resourcev1.AllocationResult{}
				c.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: name, UID: p.GetUID()}}
			})
		}
	}
}

// batch is the life of Jobs that are stopped, begun again and made anew.
func (w *world) batch() {
	job := func(name, image string, change func(*batchv1.Job)) *batchv1.Job {
		j := &batchv1.Job{ObjectMeta: inDefault(name), Spec: batchv1.JobSpec{
			Completions: new(int32(3)), Parallelism: new(int32(3)), BackoffLimit: new(int32(100)), Template: template(name, image),
		}}
		j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
		if change != nil {
			change(j)
		}
		w.create(j)
		return j
	}
	job("paused", "done", func(j *batchv1.Job) { j.Spec.Suspend = new(true) })
	job("halted", "v1", nil)
	j := job("anew", "v1", nil)
	w.rest()
	w.pass(w.storm.pause(20*time.Second, "jobs"))
	w.await("the job is suspended", func() bool {
		return len(must(client.Get[*batchv1.Job](w.Context(), w.c, "default", "paused")).Status.Conditions) > 0
	})
	edit(w.cluster, "paused", func(j *batchv1.Job) { j.Spec.Suspend = new(false) })
	edit(w.cluster, "halted", func(j *batchv1.Job) { j.Spec.Suspend = new(true) })
	w.remove(j, metav1.DeletePropagationBackground)
	job("anew", "v1", nil)
}

// nodesComeAndGo is about pods that are on a node before anyone hears of it, and
// on one whose taint passes.
func (w *world) nodesComeAndGo() {
	for i := range 2 {
		n := fmt.Sprint("z", i)
		w.create(lone("early-"+n, "v1", func(p *corev1.Pod) { p.Spec.NodeName = n }))
		w.create(node(n))
		w.rest()
	}
	for name, seconds := range map[string]int64{"patient": 600, "hasty": 5} {
		w.create(lone(name, "v1", func(p *corev1.Pod) {
			p.Spec.NodeName = "z0"
			p.Spec.Tolerations = []corev1.Toleration{{Key: "maintenance", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}}
		}))
	}
	taint := func(taints ...corev1.Taint) {
		w.update(func() error {
			n := must(client.Get[*corev1.Node](w.Context(), w.c, "", "z0")).DeepCopy()
			n.Spec.Taints = taints
			_, err := client.Update(w.Context(), client.Client(w.c), n)
			return err
		})
	}
	w.rest()
	taint(corev1.Taint{Key: "maintenance", Effect: corev1.TaintEffectNoExecute})
	w.pass(5 * time.Minute)
	// A process that dies forgets since when the taint is there, and some seeds let
	// none live for five seconds in all that time.
	for w.has("hasty") {
		w.pass(time.Minute)
	}
	taint()
	w.remove(node("z1"), metav1.DeletePropagationBackground)
}

// has says whether a pod is there, going or not.
func (w *world) has(pod string) bool {
	_, err := client.Get[*corev1.Pod](w.Context(), w.c, "default", pod)
	return err == nil
}
