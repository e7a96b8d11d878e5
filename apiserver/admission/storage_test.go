package admission_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/client"
	"sagong/kinds/storage"
)

func claimOf(name string, class *string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.StorageClassName = class
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	return c
}

func TestClaimsGetTheDefaultClassAndProtection(t *testing.T) {
	c := newCluster(t)
	none, fast, yes := "", "fast", true
	c.must(claimOf("before", nil))
	for _, name := range []string{"fast", "slow"} {
		c.must(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: "x.y", AllowVolumeExpansion: &yes})
	}
	std := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "std", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}}, Provisioner: "x.y"}
	c.must(std)
	c.must(claimOf("default", nil))
	c.must(claimOf("none", &none))
	c.must(claimOf("named", &fast))
	for name, want := range map[string]string{"before": "<nil>", "default": "std", "none": "", "named": "fast"} {
		got, err := client.Get[*corev1.PersistentVolumeClaim](t.Context(), c, "default", name)
		if err != nil {
			t.Fatal(err)
		}
		class := "<nil>"
		if got.Spec.StorageClassName != nil {
			class = *got.Spec.StorageClassName
		}
		if class != want {
			t.Errorf("claim %s has class %q, want %q", name, class, want)
		}
		if len(got.Finalizers) != 1 || got.Finalizers[0] != "kubernetes.io/pvc-protection" {
			t.Errorf("claim %s has finalizers %v", name, got.Finalizers)
		}
	}
}

func TestOnlyBoundClaimsOfGrowingClassesGrow(t *testing.T) {
	c := newCluster(t)
	yes, std, fast := true, "std", "fast"
	c.must(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "std"}, Provisioner: "x.y"})
	c.must(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: "x.y", AllowVolumeExpansion: &yes})
	grow := func(name string) error {
		o, err := client.Get[*corev1.PersistentVolumeClaim](t.Context(), c, "default", name)
		if err != nil {
			t.Fatal(err)
		}
		o = o.DeepCopy()
		o.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi")
		_, err = client.Update(t.Context(), c.Client, o)
		return err
	}
	for name, class := range map[string]*string{"a": &std, "b": &fast} {
		c.must(claimOf(name, class))
		if err := grow(name); err == nil {
			t.Errorf("claim %s grew before it was bound", name)
		}
		o, _ := client.Get[*corev1.PersistentVolumeClaim](t.Context(), c, "default", name)
		o = o.DeepCopy()
		o.Status.Phase = corev1.ClaimBound
		if _, err := client.UpdateStatus(t.Context(), c.Client, o); err != nil {
			t.Fatal(err)
		}
	}
	const want = `persistentvolumeclaims "a" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize`
	if err := grow("a"); err == nil || err.Error() != want {
		t.Errorf("claim of a fixed class: %v", err)
	}
	if err := grow("b"); err != nil {
		t.Errorf("claim of a growing class: %v", err)
	}
}

// A node may say how large a claim's volume is, and that a deleted volume's data
// is gone, and nothing else.
func TestNodeAndStorage(t *testing.T) {
	c := newCluster(t)
	node := as(c.engine, "system:node:n1", user.NodesGroup)
	none := ""
	c.must(claimOf("c", &none))
	claim := func() *corev1.PersistentVolumeClaim {
		o, err := client.Get[*corev1.PersistentVolumeClaim](t.Context(), c, "default", "c")
		if err != nil {
			t.Fatal(err)
		}
		return o.DeepCopy()
	}
	grown := claim()
	grown.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	if _, err := client.UpdateStatus(t.Context(), node, grown); err != nil {
		t.Errorf("telling of the capacity: %v", err)
	}
	bound := claim()
	bound.Status.Phase = corev1.ClaimBound
	if _, err := client.UpdateStatus(t.Context(), node, bound); err == nil {
		t.Error("a node bound a claim")
	}
	volume := func(name, at string) *corev1.PersistentVolume {
		v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{storage.LocalNodeLabel: at}, Finalizers: []string{storage.LocalFinalizer, "x/y"}}}
		v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
		v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
		v.Spec.HostPath = &corev1.HostPathVolumeSource{Path: "/x"}
		c.must(v)
		return v
	}
	volume("here", "n1")
	volume("there", "n2")
	try := func(name string, f func(*corev1.PersistentVolume)) error {
		o, err := client.Get[*corev1.PersistentVolume](t.Context(), c, "", name)
		if err != nil {
			t.Fatal(err)
		}
		o = o.DeepCopy()
		f(o)
		_, err = client.Update(t.Context(), node, o)
		return err
	}
	done := func(v *corev1.PersistentVolume) {
		v.Finalizers = slices.DeleteFunc(v.Finalizers, func(f string) bool { return f == storage.LocalFinalizer })
	}
	if err := try("here", done); err == nil {
		t.Error("the finalizer of a volume that stays was removed")
	}
	for _, name := range []string{"here", "there"} {
		if err := client.Delete[*corev1.PersistentVolume](t.Context(), c, "", name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := try("there", done); err == nil {
		t.Error("another node's volume was changed")
	}
	if err := try("here", func(v *corev1.PersistentVolume) { v.Finalizers = nil }); err == nil {
		t.Error("another's finalizer was removed")
	}
	if err := try("here", func(v *corev1.PersistentVolume) { done(v); v.Spec.HostPath.Path = "/etc" }); err == nil {
		t.Error("a volume was moved")
	}
	if err := try("here", done); err != nil {
		t.Errorf("telling that the data is gone: %v", err)
	}
}
