package apiserver_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (c *cluster) table(path, options string) metav1.Table {
	c.Helper()
	code, b := c.do("GET", path+options, "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	var tab metav1.Table
	if err := json.Unmarshal([]byte(b), &tab); err != nil || code != 200 || tab.Kind != "Table" {
		c.Fatalf("%s: %d %s", path, code, b)
	}
	return tab
}

// TestTableOfScale: kubectl get --subresource=scale.
func TestTableOfScale(t *testing.T) {
	c := start(t)
	const rcs = "/api/v1/namespaces/default/replicationcontrollers"
	if code, b := c.do("POST", rcs, `{"metadata":{"name":"web"},"spec":{"replicas":3,"selector":{"a":"b"},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"a"}]}}}}`); code != 201 {
		t.Fatalf("%d %s", code, b)
	}
	tab := c.table(rcs+"/web/scale", "")
	var names []string
	for _, d := range tab.ColumnDefinitions {
		names = append(names, d.Name+" "+d.Type)
	}
	if got := strings.Join(names, ", "); got != "Name string, Desired integer, Available integer, Age string" {
		t.Errorf("columns %s", got)
	}
	if got := fmt.Sprint(tab.Rows[0].Cells[:3]); got != "[web 3 0]" || tab.ResourceVersion == "" {
		t.Errorf("%s, %q", got, tab.ResourceVersion)
	}
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(tab.Rows[0].Object.Raw, &meta); err != nil || meta.Kind != "PartialObjectMetadata" || meta.Name != "web" {
		t.Errorf("%v, %s", err, tab.Rows[0].Object.Raw)
	}
	if raw := c.table(rcs+"/web/scale", "?includeObject=Object").Rows[0].Object.Raw; !strings.Contains(string(raw), `"kind":"Scale"`) {
		t.Errorf("%s", raw)
	}
	if code, b := c.do("GET", rcs+"/web/scale?includeObject=Some", "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io"); code != 400 || !strings.Contains(b, "includeObject") {
		t.Errorf("%d %s", code, b)
	}
	if code, b := c.do("GET", rcs+"/web/scale", "", "Accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"); code != 200 || !strings.Contains(b, `"kind":"PartialObjectMetadata"`) {
		t.Errorf("%d %s", code, b)
	}
}

// TestTableInOrder: flow schemas are told in the order in which they match.
func TestTableInOrder(t *testing.T) {
	c := start(t)
	const path = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"
	for name, precedence := range map[string]int{"a": 20, "b": 10, "c": 10, "d": 5} {
		if code, b := c.do("POST", path, fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"matchingPrecedence":%d,"priorityLevelConfiguration":{"name":"x"}}}`, name, precedence)); code != 201 {
			t.Fatalf("%d %s", code, b)
		}
	}
	var names []string
	for _, r := range c.table(path, "").Rows {
		names = append(names, fmt.Sprint(r.Cells[0]))
	}
	if got := strings.Join(names, " "); got != "d b c a" {
		t.Errorf("rows %s", got)
	}
}

// TestTableOfEnded: rows of pods that ended say so.
func TestTableOfEnded(t *testing.T) {
	c := start(t)
	if code, b := c.do("POST", "/api/v1/namespaces/default/pods", `{"metadata":{"name":"a"},"spec":{"containers":[{"name":"a","image":"a"}]}}`); code != 201 {
		t.Fatalf("%d %s", code, b)
	}
	if code, b := c.do("PATCH", "/api/v1/namespaces/default/pods/a/status", `{"status":{"phase":"Succeeded"}}`, "Content-Type", "application/merge-patch+json"); code != 200 {
		t.Fatalf("%d %s", code, b)
	}
	want := metav1.TableRowCondition{Type: metav1.RowCompleted, Status: metav1.ConditionTrue, Reason: "Succeeded", Message: "The pod has completed successfully."}
	for _, path := range []string{"/api/v1/pods", "/api/v1/namespaces/default/pods/a"} {
		rows := c.table(path, "").Rows
		if len(rows) != 1 || len(rows[0].Conditions) != 1 || rows[0].Conditions[0] != want {
			t.Errorf("%s: %+v", path, rows)
		}
	}
}
