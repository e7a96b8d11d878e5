package kubelet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
)

type notes []string

func (n *notes) Eventf(o object.Object, kind, reason, format string, args ...any) {
	*n = append(*n, fmt.Sprintf("%s %s %s: ", o.GetName(), kind, reason)+fmt.Sprintf(format, args...))
}

func (n *notes) EventForField(o object.Object, _, kind, reason, format string, args ...any) {
	n.Eventf(o, kind, reason, format, args...)
}

// TestClaimsHearOfTheirGrowth has a volume that cannot grow at first: its claim says so
// once, and nothing of it once it has grown.
func TestClaimsHearOfTheirGrowth(t *testing.T) {
	sizes := func(s string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(s)}
	}
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", UID: "c"}}
	c.Spec = corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeName: "v", Resources: corev1.VolumeResourceRequirements{Requests: sizes("2Gi")}}
	c.Status = corev1.PersistentVolumeClaimStatus{
		Phase: corev1.ClaimBound, Capacity: sizes("1Gi"), AllocatedResources: sizes("2Gi"),
		AllocatedResourceStatuses: map[corev1.ResourceName]corev1.ClaimResourceStatus{corev1.ResourceStorage: corev1.PersistentVolumeClaimNodeResizePending},
		Conditions: []corev1.PersistentVolumeClaimCondition{
			{Type: "Unused", Status: corev1.ConditionFalse}, {Type: corev1.PersistentVolumeClaimResizing, Status: corev1.ConditionTrue},
			{Type: corev1.PersistentVolumeClaimFileSystemResizePending, Status: corev1.ConditionTrue}, {Type: corev1.PersistentVolumeClaimControllerResizeError, Status: corev1.ConditionTrue},
		},
	}
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{Capacity: sizes("2Gi")}}
	api := fake.New(object.NewScheme(kinds.All()...), c)
	defer api.Close()
	var said notes
	s := (*persistent)(&Agent{dep: Deps{Client: api, Recorder: &said}})
	now := func() *corev1.PersistentVolumeClaim {
		c, err := client.Get[*corev1.PersistentVolumeClaim](t.Context(), api, "default", "c")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	tells := func(want string) {
		t.Helper()
		var got []string
		for _, x := range now().Status.Conditions {
			got = append(got, strings.TrimSpace(string(x.Type)+" "+x.Message))
		}
		if s := strings.Join(got, "; "); s != want {
			t.Errorf("%s, want %s", s, want)
		}
	}
	for _, cause := range []string{"no room", "no room yet"} {
		if err := s.notResized(t.Context(), now(), v, errors.New(cause)); err != nil {
			t.Fatal(err)
		}
		tells("Unused; Resizing; FileSystemResizePending; ControllerResizeError; NodeResizeError failed to expand pvc with no room")
	}
	old := now()
	if err := s.notResized(t.Context(), old, v, errors.New("again")); err != nil || now().ResourceVersion != old.ResourceVersion {
		t.Errorf("written again, %v", err)
	}
	if err := s.Resized(t.Context(), nil, c, v); err != nil { // which is an older state of it
		t.Fatal(err)
	}
	tells("Unused")
	st := now().Status
	if has, to := st.Capacity[corev1.ResourceStorage], st.AllocatedResources[corev1.ResourceStorage]; has.String() != "2Gi" || to.String() != "2Gi" || len(st.AllocatedResourceStatuses) > 0 {
		t.Errorf("%+v", st)
	}
	want := []string{
		`c Warning VolumeResizeFailed: NodeExpandVolume failed for volume "v" : no room`,
		`c Normal FileSystemResizeSuccessful: MountVolume.NodeExpandVolume succeeded for volume "v" `,
	}
	if !slices.Equal([]string{said[0], said[len(said)-1]}, want) {
		t.Errorf("said %q", said)
	}
}
