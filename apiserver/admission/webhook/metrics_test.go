package webhook_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// counts are the counters and the numbers of observations.
func counts(t *testing.T, r prometheus.Gatherer) []string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, f := range families {
		for _, m := range f.Metric {
			n := m.GetCounter().GetValue()
			if f.GetType() == dto.MetricType_HISTOGRAM {
				n = float64(m.GetHistogram().GetSampleCount())
			}
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
			out[fmt.Sprintf("%s %s %v", strings.TrimPrefix(f.GetName(), "apiserver_admission_"), strings.Join(labels, ","), n)] = true
		}
	}
	return slices.Sorted(maps.Keys(out))
}

// The names and labels are what Kubernetes 1.37 counted of the same requests.
func TestMetrics(t *testing.T) {
	h := newHouse(t)
	h.on("/v", deny("no"))
	conditions := func(text string) func(*admissionregistrationv1.MutatingWebhook) {
		return func(w *admissionregistrationv1.MutatingWebhook) {
			w.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "c", Expression: text}}
		}
	}
	create := rule([]string{"configmaps"}, "CREATE")
	h.registerValidating("v", h.validating("/out", create, conditions("object.metadata.name == 'other'")), h.validating("/v", create, conditions("object.metadata.name == 'c'")))
	if _, err := h.try(configMap("c")); err == nil {
		t.Fatal("not denied")
	}
	got := counts(t, h.counted)
	want := []string{
		"match_condition_evaluation_seconds webhook,out.example.com,CREATE,validating 1",
		"match_condition_exclusions_total webhook,out.example.com,CREATE,validate 1",
		"webhook_admission_duration_seconds v.example.com,CREATE,true,validating 1",
		"webhook_rejection_count no_error,v.example.com,CREATE,400,validating 1",
		"webhook_request_total 400,v.example.com,CREATE,true,validating 1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	h = newHouse(t)
	h.on("/m", patchWith(`[{"value":"x","op":"replace","path":"/nothere/x"}]`))
	h.registerMutating("m", h.mutating("/m", create))
	if _, err := h.try(configMap("c")); err == nil {
		t.Fatal("patched")
	}
	got = counts(t, h.counted)
	want = []string{
		"webhook_admission_duration_seconds m.example.com,CREATE,true,admit 1",
		"webhook_rejection_count apiserver_internal_error,m.example.com,CREATE,0,admit 1",
		"webhook_request_total 0,m.example.com,CREATE,true,admit 1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What is written down of patches has upstream's order of fields, and an empty
// patch is none.
func TestAnnotationsOfPatches(t *testing.T) {
	h := newHouse(t)
	create := rule([]string{"configmaps"}, "CREATE")
	h.on("/b", patchWith(`[]`))
	h.on("/a", patchWith(`[{"value":{"k":"<v>"},"path":"/data","op":"add"}]`))
	h.registerMutating("m", h.mutating("/a", create), h.mutating("/b", create))
	h.create(configMap("c"))
	want := map[string]string{
		"patch.webhook.admission.k8s.io/round_0_index_0":    `{"configuration":"m","webhook":"a.example.com","patch":[{"op":"add","path":"/data","value":{"k":"\u003cv\u003e"}}],"patchType":"JSONPatch"}`,
		"mutation.webhook.admission.k8s.io/round_0_index_0": `{"configuration":"m","webhook":"a.example.com","mutated":true}`,
		"mutation.webhook.admission.k8s.io/round_0_index_1": `{"configuration":"m","webhook":"b.example.com","mutated":false}`,
	}
	if !maps.Equal(h.notes, want) {
		t.Errorf("%v\nwant %v", h.notes, want)
	}
}
