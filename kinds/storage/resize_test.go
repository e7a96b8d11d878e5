package storage

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestMergeResizeConditions(t *testing.T) {
	read := func(s string) (all []corev1.PersistentVolumeClaimCondition) {
		for _, f := range strings.Fields(s) {
			x := strings.Split(f, ":")
			all = append(all, corev1.PersistentVolumeClaimCondition{Type: corev1.PersistentVolumeClaimConditionType(x[0]), Status: corev1.ConditionStatus(x[1]), Message: x[2]})
		}
		return all
	}
	for _, x := range []struct {
		have string
		keep bool
		now  string
		want string
	}{
		{"", false, "Resizing:True:new", "Resizing:True:new"},
		{"Unused:True:a ModifyingVolume:True:b", false, "Resizing:True:new", "Unused:True:a ModifyingVolume:True:b Resizing:True:new"},
		{"Resizing:True:old Unused:True:a", false, "Resizing:True:new", "Resizing:True:old Unused:True:a"},
		{"Resizing:False:old Unused:True:a", false, "Resizing:True:new", "Resizing:True:new Unused:True:a"},
		{"NodeResizeError:True:a ControllerResizeError:True:b FileSystemResizePending:True:c", false, "Resizing:True:new", "Resizing:True:new"},
		{"Resizing:True:old", true, "FileSystemResizePending:True:new", "Resizing:True:old FileSystemResizePending:True:new"},
		{"NodeResizeError:True:a Resizing:True:b FileSystemResizePending:True:c ControllerResizeError:True:d Unused:False:e", false, "", "Unused:False:e"},
	} {
		var got []string
		for _, c := range MergeResizeConditions(read(x.have), x.keep, read(x.now)...) {
			got = append(got, string(c.Type)+":"+string(c.Status)+":"+c.Message)
		}
		if s := strings.Join(got, " "); s != x.want {
			t.Errorf("%q and %q, keep %t: %q, want %q", x.have, x.now, x.keep, s, x.want)
		}
	}
}
