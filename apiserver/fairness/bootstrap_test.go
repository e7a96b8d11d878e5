package fairness_test

import (
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap"

	"sagong/apiserver/fairness"
)

// What every cluster begins with is what upstream's own list says.
func TestBootstrap(t *testing.T) {
	schemas := map[string]*flowcontrolv1.FlowSchema{}
	for _, f := range fairness.BootstrapFlowSchemas() {
		schemas[f.Name] = f
	}
	want := append(bootstrap.MandatoryFlowSchemas[:len(bootstrap.MandatoryFlowSchemas):len(bootstrap.MandatoryFlowSchemas)], bootstrap.SuggestedFlowSchemas...)
	for _, f := range want {
		have := schemas[f.Name]
		if have == nil || !equality.Semantic.DeepEqual(have.Spec, f.Spec) || !equality.Semantic.DeepEqual(have.Annotations, f.Annotations) {
			t.Errorf("flow schema %s: %+v, want %+v", f.Name, have, f)
		}
	}
	if len(schemas) != len(want) {
		t.Errorf("%d flow schemas, want %d", len(schemas), len(want))
	}
	levels := map[string]*flowcontrolv1.PriorityLevelConfiguration{}
	for _, p := range fairness.BootstrapPriorityLevels() {
		levels[p.Name] = p
	}
	all := append(bootstrap.MandatoryPriorityLevelConfigurations[:len(bootstrap.MandatoryPriorityLevelConfigurations):len(bootstrap.MandatoryPriorityLevelConfigurations)], bootstrap.SuggestedPriorityLevelConfigurations...)
	for _, p := range all {
		have := levels[p.Name]
		if have == nil || !equality.Semantic.DeepEqual(have.Spec, p.Spec) || !equality.Semantic.DeepEqual(have.Annotations, p.Annotations) {
			t.Errorf("priority level %s: %+v, want %+v", p.Name, have, p)
		}
	}
	if len(levels) != len(all) {
		t.Errorf("%d priority levels, want %d", len(levels), len(all))
	}
}
