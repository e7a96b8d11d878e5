package config

import "testing"

func TestFeatures(t *testing.T) {
	const api = "scheduling.k8s.io/v1beta1=true"
	for _, x := range []struct {
		gates, apis []string
		on          bool
		err         string
	}{
		{},
		{gates: []string{"GenericWorkload=true"}, apis: []string{api}, on: true},
		{gates: []string{"GenericWorkload=true", "DynamicResourceAllocation=true"}, apis: []string{"scheduling.k8s.io/v1beta1"}, on: true},
		{gates: []string{"GenericWorkload=false"}, apis: []string{api}},
		{gates: []string{"StorageCapacityScoring=true", "NodeDeclaredFeatures=true"}},
		{gates: []string{"StorageCapacityScoring=false"}, err: "--feature-gates: StorageCapacityScoring cannot be switched off in this version"},
		{apis: []string{api}},
		{gates: []string{"GenericWorkload=true"}, err: "--feature-gates: GenericWorkload needs --runtime-config=scheduling.k8s.io/v1beta1=true: pods could name groups that nobody can make"},
		{gates: []string{"Foo=true"}, err: "--feature-gates: unrecognized feature gate: Foo"},
		{gates: []string{"GenericWorkload"}, err: "--feature-gates: missing bool value for GenericWorkload"},
		{gates: []string{"GenericWorkload=yes"}, err: "--feature-gates: invalid value of GenericWorkload=yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax"},
		{gates: []string{"DynamicResourceAllocation=false"}, err: "--feature-gates: cannot set feature gate DynamicResourceAllocation to false, feature is locked to true"},
		{apis: []string{"apps/v1=false"}, err: "--runtime-config: apps/v1 cannot be switched in this version; scheduling.k8s.io/v1beta1 can"},
	} {
		c := Config{FeatureGates: x.gates, RuntimeConfig: x.apis}
		f, err := c.Features()
		if text := ""; err != nil {
			if text = err.Error(); text != x.err {
				t.Errorf("%v %v: %s", x.gates, x.apis, text)
			}
		} else if x.err != "" || f.Workloads != x.on {
			t.Errorf("%v %v: %+v, no error", x.gates, x.apis, f)
		}
	}
}
