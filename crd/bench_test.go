package crd

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"sagong/apiserver/resource"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// BenchmarkLoad puts a hundred definitions into service, as a start does.
func BenchmarkLoad(b *testing.B) {
	var all []*apiextensionsv1.CustomResourceDefinition
	for i := range 100 {
		d := &apiextensionsv1.CustomResourceDefinition{}
		if err := json.Unmarshal([]byte(strings.ReplaceAll(fuzzed, "oo", fmt.Sprintf("oo%d", i))), d); err != nil {
			b.Fatal(err)
		}
		d.Status.AcceptedNames = d.Spec.Names
		d.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}}
		all = append(all, d)
	}
	b.ReportAllocs()
	for b.Loop() {
		s := store.OpenMemory(store.Options{Tag: resource.Tag})
		g := NewRegistry(Options{Engine: resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...)})})
		for _, d := range all {
			g.follow(nil, d)
		}
		if len(g.kinds) != len(all) {
			b.Fatal(len(g.kinds))
		}
		s.Close()
	}
}
