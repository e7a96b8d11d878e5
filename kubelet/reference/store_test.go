package reference

import (
	"context"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
)

func newStore(t *testing.T, objs ...object.Object) (*Store, *fake.Client, chan types.UID) {
	objs = append(objs, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}})
	api := fake.New(object.NewScheme(kinds.All()...), objs...)
	changed := make(chan types.UID, 100)
	ctx, cancel := context.WithCancel(context.Background())
	s := New(ctx, api, slog.New(slog.DiscardHandler), func(uid types.UID) { changed <- uid })
	t.Cleanup(func() { cancel(); s.Wait(); api.Close() })
	return s, api, changed
}

func configMap(value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cm"}, Data: map[string]string{"k": value}}
}

func expect(t *testing.T, changed chan types.UID, want types.UID) {
	t.Helper()
	select {
	case got := <-changed:
		if got != want {
			t.Errorf("%s was told, want %s", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s was not told", want)
	}
}

func TestFollowsWhatIsReferenced(t *testing.T) {
	s, api, changed := newStore(t, configMap("1"))
	key := Key{Namespace: "ns", Name: "cm"}
	s.Register("a", []Key{key})
	cm, err := s.ConfigMap(t.Context(), "ns", "cm")
	if err != nil || cm.Data["k"] != "1" {
		t.Fatalf("%v %v", cm, err)
	}
	next := cm.DeepCopy()
	next.Data = map[string]string{"k": "2"}
	if _, err := client.Update(t.Context(), api, next); err != nil {
		t.Fatal(err)
	}
	expect(t, changed, "a")
	if cm, err = s.ConfigMap(t.Context(), "ns", "cm"); err != nil || cm.Data["k"] != "2" {
		t.Errorf("after the change: %v %v", cm, err)
	}
	if err := client.Delete[*corev1.ConfigMap](t.Context(), api, "ns", "cm", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(t, changed, "a")
	if _, err = s.ConfigMap(t.Context(), "ns", "cm"); !apierrors.IsNotFound(err) {
		t.Errorf("after the delete: %v", err)
	}
	// With the last reference the watch ends.
	s.Unregister("a")
	s.Wait()
	if len(s.entries) != 0 || len(s.pods) != 0 {
		t.Errorf("left: %v %v", s.entries, s.pods)
	}
}

func TestMissingThenCreated(t *testing.T) {
	s, api, changed := newStore(t)
	s.Register("a", []Key{{Namespace: "ns", Name: "cm"}})
	if _, err := s.ConfigMap(t.Context(), "ns", "cm"); !apierrors.IsNotFound(err) {
		t.Fatalf("%v", err)
	}
	if _, err := client.Create(t.Context(), api, configMap("1")); err != nil {
		t.Fatal(err)
	}
	expect(t, changed, "a")
}

func TestImmutableIsNotWatched(t *testing.T) {
	yes := true
	cm := configMap("1")
	cm.Immutable = &yes
	s, _, _ := newStore(t, cm)
	s.Register("a", []Key{{Namespace: "ns", Name: "cm"}})
	if _, err := s.ConfigMap(t.Context(), "ns", "cm"); err != nil {
		t.Fatal(err)
	}
	s.Wait() // would not return while a watch runs
}

func TestOf(t *testing.T) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: corev1.PodSpec{
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
		InitContainers:   []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "from"}}}}}},
		Containers:       []corev1.Container{{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "env"}}}}}}},
		Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "vol"}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "proj"}}}}}}}},
	}}
	got := map[Key]bool{}
	for _, k := range Of(p) {
		got[k] = true
	}
	for _, k := range []Key{{Secret: true, Namespace: "ns", Name: "pull"}, {Secret: true, Namespace: "ns", Name: "from"}, {Secret: false, Namespace: "ns", Name: "env"}, {Secret: true, Namespace: "ns", Name: "vol"}, {Secret: false, Namespace: "ns", Name: "proj"}} {
		if !got[k] {
			t.Errorf("%+v is not found", k)
		}
	}
}
