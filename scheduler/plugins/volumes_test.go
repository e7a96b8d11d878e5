package plugins

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
	"sagong/scheduler/state"
)

// storageCluster is the rules about volumes over objects in memory.
type storageCluster struct {
	*testing.T
	c *fake.Client
	v *Volumes
	s *state.State
}

func newStorage(t *testing.T, objs ...object.Object) *storageCluster {
	t.Helper()
	c := fake.New(object.NewScheme(kinds.All()...))
	for _, o := range objs {
		if err := c.Seed(o); err != nil {
			t.Fatal(err)
		}
	}
	hub := reconcile.NewHub(c, slog.New(slog.DiscardHandler))
	v := NewVolumes(Deps{Hub: hub, Client: c, Post: func(func()) {}, Changed: func(Change) {}})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hub.Run(ctx) })
	stop, err := v.start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); cancel(); wg.Wait(); c.Close() })
	x := &storageCluster{t, c, v, state.New()}
	for _, n := range []string{"n1", "n2"} {
		x.s.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n, Labels: map[string]string{corev1.LabelHostname: n, corev1.LabelTopologyZone: "zone-" + n}}})
	}
	return x
}

// judge asks a rule about both nodes: "ok", or its reasons.
func (x *storageCluster) judge(rule PreFilter, p *corev1.Pod) string {
	x.Helper()
	c, err := NewClass(p)
	if err != nil {
		x.Fatal(err)
	}
	f, no := rule.Begin(c, x.s)
	if no != nil {
		return strings.Join(no.Reasons, ",")
	}
	var all []string
	for _, name := range []string{"n1", "n2"} {
		verdict := "ok"
		if f != nil {
			if no := f.Filter(x.s.Node(name)); no != nil {
				verdict = strings.Join(no.Reasons, ",")
			}
		}
		all = append(all, verdict)
	}
	return strings.Join(all, "; ")
}

func storedClaim(name, class, vol string, f ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	c.Spec.AccessModes, c.Spec.StorageClassName, c.Spec.VolumeName = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, &class, vol
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	if vol != "" {
		c.Annotations = map[string]string{volume.AnnBindCompleted: "yes"}
	}
	for _, f := range f {
		f(c)
	}
	return c
}

// storedVolume is one of class "disks", on a node if that is named.
func storedVolume(name, node string, f ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable}}
	v.Spec.AccessModes, v.Spec.StorageClassName = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, "disks"
	v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d.example", VolumeHandle: name}
	if node != "" {
		v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
		}}}}
	}
	for _, f := range f {
		f(v)
	}
	return v
}

func storedClass(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}
}

func podOf(name string, claims ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	for _, c := range claims {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: c, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c}}})
	}
	return p
}

func TestVolumeBindingFilters(t *testing.T) {
	wait, now := storagev1.VolumeBindingWaitForFirstConsumer, storagev1.VolumeBindingImmediate
	classes := []object.Object{storedClass("disks", volume.NotSupportedProvisioner, wait), storedClass("made", "d.example", wait), storedClass("now", "d.example", now)}
	limited := storedClass("there", "d.example", wait)
	limited.AllowedTopologies = []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: corev1.LabelTopologyZone, Values: []string{"zone-n2"}}}}}
	deleted := metav1.Now()
	for name, x := range map[string]struct {
		objs []object.Object
		pod  *corev1.Pod
		want string
	}{
		"no claims":      {nil, podOf("p"), "ok; ok"},
		"no such claim":  {nil, podOf("p", "c"), `persistentvolumeclaim "c" not found`},
		"bound anywhere": {[]object.Object{storedClaim("c", "disks", "v"), storedVolume("v", "")}, podOf("p", "c"), "ok; ok"},
		"bound on n2":    {[]object.Object{storedClaim("c", "disks", "v"), storedVolume("v", "n2")}, podOf("p", "c"), "node(s) didn't match PersistentVolume's node affinity; ok"},
		"bound to nothing": {[]object.Object{storedClaim("c", "disks", "v")}, podOf("p", "c"),
			"node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s); node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"},
		"lost": {[]object.Object{storedClaim("c", "disks", "v", func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimLost })}, podOf("p", "c"), `persistentvolumeclaim "c" bound to non-existent persistentvolume "v"`},
		"on its way out": {[]object.Object{storedClaim("c", "made", "", func(c *corev1.PersistentVolumeClaim) {
			c.DeletionTimestamp, c.Finalizers = &deleted, []string{"x/y"}
		})}, podOf("p", "c"), `persistentvolumeclaim "c" is being deleted`},
		"unbound and immediate":             {[]object.Object{storedClaim("c", "now", "")}, podOf("p", "c"), "pod has unbound immediate PersistentVolumeClaims"},
		"unbound, and another is not there": {[]object.Object{storedClaim("c", "now", "")}, podOf("p", "c", "d"), `persistentvolumeclaim "d" not found`},
		"one elsewhere, none for the other": {[]object.Object{storedClaim("c", "disks", "v"), storedVolume("v", "n2", func(v *corev1.PersistentVolume) {
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "c"}
		}), storedClaim("d", "disks", ""), storedVolume("w", "n1", func(v *corev1.PersistentVolume) {
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "other"}
		})}, podOf("p", "c", "d"), "node(s) didn't match PersistentVolume's node affinity,node(s) didn't find available persistent volumes to bind; node(s) didn't find available persistent volumes to bind"},
		"one gone, none for the other": {[]object.Object{storedClaim("c", "disks", "v"), storedClaim("d", "disks", "")}, podOf("p", "c", "d"), strings.Join(slices.Repeat([]string{
			"node(s) didn't find available persistent volumes to bind,node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
		}, 2), "; ")},
		"a disk on n1": {[]object.Object{storedClaim("c", "disks", ""), storedVolume("v", "n1")}, podOf("p", "c"), "ok; node(s) didn't find available persistent volumes to bind"},
		"one disk for two claims": {[]object.Object{storedClaim("c", "disks", ""), storedClaim("d", "disks", ""), storedVolume("v", "n1"), storedVolume("w", "n2"), storedVolume("x", "n2")}, podOf("p", "c", "d"),
			"node(s) didn't find available persistent volumes to bind; ok"},
		"a disk that is taken": {[]object.Object{storedClaim("c", "disks", ""), storedVolume("v", "n1", func(v *corev1.PersistentVolume) {
			v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "other"}
		})}, podOf("p", "c"), "node(s) didn't find available persistent volumes to bind; node(s) didn't find available persistent volumes to bind"},
		"made anywhere":    {[]object.Object{storedClaim("c", "made", "")}, podOf("p", "c"), "ok; ok"},
		"made where it is": {[]object.Object{limited, storedClaim("c", "there", "")}, podOf("p", "c"), "node(s) didn't find available persistent volumes to bind; ok"},
		"being made for n1": {[]object.Object{storedClaim("c", "made", "", func(c *corev1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{volume.AnnSelectedNode: "n1"}
		})}, podOf("p", "c"), "ok; node(s) didn't find available persistent volumes to bind"},
		"ephemeral and not there yet": {nil, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}}}},
			`waiting for ephemeral volume controller to create the persistentvolumeclaim "p-v"`},
	} {
		s := newStorage(t, append(x.objs, classes...)...)
		if got := s.judge(VolumeBinding{Volumes: s.v}, x.pod); got != x.want {
			t.Errorf("%s: %s, want %s", name, got, x.want)
		}
	}
}

func TestCapacityOfDrivers(t *testing.T) {
	yes := true
	room := func(node, size string) *storagev1.CSIStorageCapacity {
		q := resource.MustParse(size)
		return &storagev1.CSIStorageCapacity{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: node}, StorageClassName: "made", Capacity: &q,
			NodeTopology: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelHostname: node}},
		}
	}
	s := newStorage(t, storedClass("made", "d.example", storagev1.VolumeBindingWaitForFirstConsumer), storedClaim("c", "made", ""),
		&storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d.example"}, Spec: storagev1.CSIDriverSpec{StorageCapacity: &yes}}, room("n1", "100Mi"), room("n2", "10Gi"))
	if got := s.judge(VolumeBinding{Volumes: s.v}, podOf("p", "c")); got != "node(s) did not have enough free storage; ok" {
		t.Error(got)
	}
}

// What was decided for one pod binds the next, until it is taken back.
// A node with more of its storage left is better, by default.
func TestNodesAreScoredByTheirStorage(t *testing.T) {
	sized := func(size string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) {
			c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
		}
	}
	there := func(size string) func(*corev1.PersistentVolume) {
		return func(v *corev1.PersistentVolume) { v.Spec.Capacity[corev1.ResourceStorage] = resource.MustParse(size) }
	}
	room := func(class, node, size string) *storagev1.CSIStorageCapacity {
		q := resource.MustParse(size)
		return &storagev1.CSIStorageCapacity{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: class + "-" + node}, StorageClassName: class, Capacity: &q,
			NodeTopology: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelHostname: node}},
		}
	}
	later := storagev1.VolumeBindingWaitForFirstConsumer
	s := newStorage(t,
		storedClass("disks", volume.NotSupportedProvisioner, later), storedClass("made", "d.example", later), storedClass("other", "d.example", later),
		storedClass("untold", "e.example", later), &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d.example"}, Spec: storagev1.CSIDriverSpec{StorageCapacity: new(true)}},
		storedVolume("small", "n1", there("2Gi")), storedVolume("large", "n2", there("8Gi")),
		room("made", "n1", "10Gi"), room("made", "n2", "100Gi"), room("other", "n1", "10Gi"), room("other", "n2", "10Gi"),
		storedClaim("static", "disks", "", sized("1Gi")), storedClaim("a", "made", "", sized("1Gi")), storedClaim("b", "made", "", sized("4Gi")),
		storedClaim("c", "other", "", sized("10Gi")), storedClaim("u", "untold", "", sized("1Gi")),
	)
	for name, x := range map[string]struct {
		pod    *corev1.Pod
		shape  []configv1.UtilizationShapePoint
		n1, n2 int64
	}{
		"volumes that are there":            {podOf("p", "static"), nil, 50, 88},
		"space, shared by a class":          {podOf("p", "a", "b"), nil, 50, 95},
		"the mean of two classes":           {podOf("p", "b", "c"), nil, 30, 48},
		"volumes that are there come first": {podOf("p", "static", "c"), nil, 50, 88},
		"a driver that does not tell":       {podOf("p", "u"), nil, 0, 0},
		"the fullest":                       {podOf("p", "b"), []configv1.UtilizationShapePoint{{}, {Utilization: 100, Score: 10}}, 40, 4},
	} {
		shape := x.shape
		if shape == nil {
			shape = []configv1.UtilizationShapePoint{{Score: 10}, {Utilization: 100}}
		}
		c, err := NewClass(x.pod)
		if err != nil {
			t.Fatal(err)
		}
		b := VolumeBinding{Volumes: s.v, Shape: shape}
		f, no := b.Begin(c, s.s)
		if no != nil {
			t.Fatal(name, no.Reasons)
		}
		score := b.Scorer(c, s.s)
		n1, n2 := s.s.Node("n1"), s.s.Node("n2")
		if f.Filter(n1) != nil || f.Filter(n2) != nil {
			t.Errorf("%s: a node does not do", name)
		}
		if g1, g2 := score(n1), score(n2); g1 != x.n1 || g2 != x.n2 {
			t.Errorf("%s: %d and %d, want %d and %d", name, g1, g2, x.n1, x.n2)
		}
	}
	c, _ := NewClass(podOf("none"))
	b := VolumeBinding{Volumes: s.v, Shape: []configv1.UtilizationShapePoint{{Score: 10}}}
	if b.Begin(c, s.s); b.Scorer(c, s.s) != nil {
		t.Error("a pod without claims is scored")
	}
}

func TestReservedVolumes(t *testing.T) {
	s := newStorage(t, storedClass("disks", volume.NotSupportedProvisioner, storagev1.VolumeBindingWaitForFirstConsumer),
		storedClaim("c", "disks", ""), storedClaim("d", "disks", ""), storedVolume("v", "n1"))
	b := VolumeBinding{Volumes: s.v}
	first, second := podOf("p", "c"), podOf("q", "d")
	before := s.v.version.Load()
	if no := b.Reserve(nil, first, s.s.Node("n1")); no != nil {
		t.Fatal(no.Reasons)
	}
	if s.v.version.Load() == before || !b.Binds(first, "n1") {
		t.Error("a reservation that nobody hears of")
	}
	const none = "node(s) didn't find available persistent volumes to bind"
	if got := s.judge(b, second); got != none+"; "+none {
		t.Errorf("the last disk, given away: %s", got)
	}
	if got := s.judge(b, podOf("r", "c")); got != "ok; "+none {
		t.Errorf("another pod with the same claim: %s", got)
	}
	b.Unreserve(first, "n1")
	b.Unreserve(first, "n1")
	if got := s.judge(b, second); got != "ok; "+none {
		t.Errorf("the disk, given back: %s", got)
	}
}

// PreBind writes what was reserved and waits until the claims are bound.
func TestPreBind(t *testing.T) {
	wait := storagev1.VolumeBindingWaitForFirstConsumer
	s := newStorage(t, storedClass("disks", volume.NotSupportedProvisioner, wait), storedClass("made", "d.example", wait),
		storedClaim("c", "disks", ""), storedClaim("d", "made", ""), storedVolume("v", "n1"))
	b, p := VolumeBinding{Volumes: s.v}, podOf("p", "c", "d")
	if no := b.Reserve(nil, p, s.s.Node("n1")); no != nil {
		t.Fatal(no.Reasons)
	}
	done := make(chan error, 1)
	go func() { done <- b.PreBind(t.Context(), p, "n1") }()
	// This test is the controller that binds.
	bind := func(name, vol string) {
		c, err := client.Get[*corev1.PersistentVolumeClaim](t.Context(), s.c, "default", name)
		if err != nil {
			t.Fatal(err)
		}
		c = c.DeepCopy()
		c.Spec.VolumeName = vol
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, volume.AnnBindCompleted, "yes")
		if _, err := client.Update(t.Context(), s.c, c); err != nil {
			t.Fatal(err)
		}
	}
	selected := make(chan string, 1)
	stop := s.v.claims.OnChange(func(_, c *corev1.PersistentVolumeClaim) {
		if n := c.Annotations[volume.AnnSelectedNode]; n != "" && c.Spec.VolumeName == "" {
			selected <- n
		}
	})
	if n := <-selected; n != "n1" {
		t.Errorf("selected %s", n)
	}
	stop()
	v, err := client.Get[*corev1.PersistentVolume](t.Context(), s.c, "", "v")
	if err != nil || v.Spec.ClaimRef == nil || v.Spec.ClaimRef.Name != "c" {
		t.Errorf("volume %+v, %v", v.Spec.ClaimRef, err)
	}
	if _, err := client.Create(t.Context(), s.c, storedVolume("w", "n1")); err != nil {
		t.Fatal(err)
	}
	bind("c", "v")
	bind("d", "w")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(s.v.waiters) > 0 {
		t.Error("somebody still waits")
	}
}

// A provisioner that cannot make a volume says so by taking the node away.
func TestPreBindGivesUp(t *testing.T) {
	s := newStorage(t, storedClass("made", "d.example", storagev1.VolumeBindingWaitForFirstConsumer), storedClaim("d", "made", ""))
	b, p := VolumeBinding{Volumes: s.v}, podOf("p", "d")
	if no := b.Reserve(nil, p, s.s.Node("n1")); no != nil {
		t.Fatal(no.Reasons)
	}
	stop := s.v.claims.OnChange(func(_, c *corev1.PersistentVolumeClaim) {
		if c.Annotations[volume.AnnSelectedNode] != "" {
			c = c.DeepCopy()
			c.Annotations = nil
			go client.Update(context.WithoutCancel(t.Context()), s.c, c)
		}
	})
	defer stop()
	if err := b.PreBind(t.Context(), p, "n1"); fmt.Sprint(err) != `binding volumes: provisioning failed for PVC "d"` {
		t.Error(err)
	}
}

func TestVolumeZone(t *testing.T) {
	zoned := func(label, value string) *corev1.PersistentVolume {
		return storedVolume("v", "", func(v *corev1.PersistentVolume) { v.Labels = map[string]string{label: value} })
	}
	const no = "node(s) had no available volume zone"
	for want, v := range map[string]*corev1.PersistentVolume{
		"ok; " + no:       zoned(corev1.LabelTopologyZone, "zone-n1"),
		no + "; ok":       zoned(corev1.LabelFailureDomainBetaZone, "zone-n2"),
		"ok; ok":          zoned(corev1.LabelTopologyZone, "zone-n1__zone-n2"),
		no + "; " + no:    zoned(corev1.LabelTopologyRegion, "far"),
		"ok; ok" + "    ": storedVolume("v", ""),
	} {
		s := newStorage(t, storedClaim("c", "disks", "v"), v)
		if got := s.judge(VolumeZone{s.v}, podOf("p", "c")); got != strings.TrimSpace(want) {
			t.Errorf("%v: %s, want %s", v.Labels, got, want)
		}
	}
}

func TestNodeVolumeLimits(t *testing.T) {
	two := int32(2)
	s := newStorage(t, storedClaim("a", "disks", "a"), storedVolume("a", ""), storedClaim("b", "disks", "b"), storedVolume("b", ""), storedClaim("c", "made", ""),
		storedClass("made", "d.example", storagev1.VolumeBindingWaitForFirstConsumer),
		&storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "d.example", NodeID: "n1", Allocatable: &storagev1.VolumeNodeResources{Count: &two}}}}})
	l := NodeVolumeLimits{s.v}
	s.s.Place(podOf("p", "a", "b"), "n1", false)
	for _, x := range []struct {
		pod  *corev1.Pod
		want string
	}{
		{podOf("q", "a"), "ok; ok"},
		{podOf("q", "c"), "node(s) exceed max volume count; ok"},
		{podOf("q"), "ok; ok"},
	} {
		if got := s.judge(l, x.pod); got != x.want {
			t.Errorf("%v: %s, want %s", x.pod.Spec.Volumes, got, x.want)
		}
	}
}

// Volumes still attached to a node count there although no pod uses them.
func TestNodeVolumeLimitsCountAttachments(t *testing.T) {
	attached := func(volume, node string) *storagev1.VolumeAttachment {
		return &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: volume + "-" + node}, Spec: storagev1.VolumeAttachmentSpec{
			Attacher: "d.example", NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume},
		}}
	}
	driver := storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "d.example", NodeID: "n", Allocatable: &storagev1.VolumeNodeResources{Count: new(int32(2))}}}}
	s := newStorage(t, storedClaim("a", "disks", "a"), storedVolume("a", ""), storedVolume("left", ""), storedClaim("b", "disks", "b"), storedVolume("b", ""),
		&storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: driver}, &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "n2"}, Spec: driver},
		attached("a", "n1"), attached("left", "n1"), attached("gone", "n2"), attached("left", "n2"),
		&storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "inline"}, Spec: storagev1.VolumeAttachmentSpec{Attacher: "d.example", NodeName: "n2", Source: storagev1.VolumeAttachmentSource{InlineVolumeSpec: &corev1.PersistentVolumeSpec{}}}})
	s.s.Place(podOf("p", "a"), "n1", false) // attached and in use counts once
	for claim, want := range map[string]string{"a": "ok; ok", "b": "node(s) exceed max volume count; ok"} {
		if got := s.judge(NodeVolumeLimits{s.v}, podOf("q", claim)); got != want {
			t.Errorf("%s: %s, want %s", claim, got, want)
		}
	}
}

func TestDriversThatMustBeThere(t *testing.T) {
	yes := true
	s := newStorage(t, storedClaim("a", "disks", "a"), storedVolume("a", ""),
		&storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d.example"}, Spec: storagev1.CSIDriverSpec{PreventPodSchedulingIfMissing: &yes}},
		&storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "d.example", NodeID: "n1"}}}})
	if got := s.judge(NodeVolumeLimits{s.v}, podOf("p", "a")); got != "ok; d.example CSI driver is not installed on the node" {
		t.Error(got)
	}
}

func TestVolumeRestrictions(t *testing.T) {
	s := newStorage(t, storedClaim("once", "disks", "v", func(c *corev1.PersistentVolumeClaim) {
		c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	}), storedClaim("often", "disks", "w"))
	r := VolumeRestrictions{s.v}
	disk := func(name string, readOnly bool) *corev1.Pod {
		p := podOf(name)
		p.Spec.Volumes = []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{GCEPersistentDisk: &corev1.GCEPersistentDiskVolumeSource{PDName: "d", ReadOnly: readOnly}}}}
		return p
	}
	s.s.Place(podOf("p", "once", "often"), "n1", false)
	s.s.Place(disk("d", true), "n2", false)
	const once = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
	for _, x := range []struct {
		pod  *corev1.Pod
		want string
	}{
		{podOf("q", "once"), once + "; " + once},
		{podOf("q", "often"), "ok; ok"},
		{disk("q", false), "ok; node(s) had no available disk"},
		{disk("q", true), "ok; ok"},
	} {
		if got := s.judge(r, x.pod); got != x.want {
			t.Errorf("%v: %s, want %s", x.pod.Spec.Volumes, got, x.want)
		}
	}
}
