package expression

import (
	"strings"
	"testing"

	devicecel "k8s.io/dynamic-resource-allocation/cel"
)

// No expression gets a quantity that it takes years to compare.
func TestQuantitiesOfSelectorsAreBounded(t *testing.T) {
	for expression, want := range map[string]string{
		`quantity("1e1000000000").isLessThan(quantity("1"))`:  "unable to parse quantity's suffix",
		`quantity("1e-1000000000").isLessThan(quantity("1"))`: "unable to parse quantity's suffix",
		`!isQuantity("1e1000000000")`:                         "",
		`quantity("1Ki").isLessThan(quantity("2k"))`:          "",
	} {
		r := devicecel.GetCompiler(devicecel.Features{}).CompileCELExpression(expression, devicecel.Options{})
		if r.Error != nil {
			t.Fatalf("%s: %v", expression, r.Error)
		}
		matches, _, err := r.DeviceMatches(t.Context(), devicecel.Device{Driver: "d"})
		if want == "" && (err != nil || !matches) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, %v", expression, matches, err)
		}
	}
}
