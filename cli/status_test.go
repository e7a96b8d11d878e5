package cli

import (
	"fmt"
	"testing"
)

func TestIncompleteViews(t *testing.T) {
	got := incompleteViews(`# HELP sagong_views_incomplete Kinds
# TYPE sagong_views_incomplete gauge
sagong_views_incomplete{group="",resource="pods"} 1
sagong_views_incomplete{group="apps",resource="replicasets"} 1
sagong_views{group="",resource="nodes"} 1
`)
	if fmt.Sprint(got) != "[pods replicasets.apps]" {
		t.Errorf("found %q", got)
	}
}
