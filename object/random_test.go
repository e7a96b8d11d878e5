package object_test

import (
	"math/rand"
	"reflect"

	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/randfill"

	"sagong/object"
)

func quantity(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.DecimalSI) }

// mutate changes some fields of an object, at any depth.
func mutate(o object.Object, f *randfill.Filler, r *rand.Rand) {
	mutateValue(reflect.ValueOf(o).Elem(), f, r, 0)
}

func mutateValue(v reflect.Value, f *randfill.Filler, r *rand.Rand, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		t := v.Type()
		if t.NumField() == 0 || !t.Field(0).IsExported() {
			return
		}
		if _, scalar := reflect.PointerTo(t).MethodByName("MarshalJSON"); scalar {
			if depth > 1 && r.Intn(4) == 0 {
				f.Fill(v.Addr().Interface())
			}
			return
		}
		for i := range t.NumField() {
			name := t.Field(i).Name
			if name == "TypeMeta" || name == "ManagedFields" || name == "Name" && depth == 1 || name == "UID" {
				continue
			}
			if r.Intn(5) == 0 && depth > 1 {
				v.Field(i).SetZero()
				if r.Intn(3) > 0 {
					f.Fill(v.Field(i).Addr().Interface())
				}
				continue
			}
			mutateValue(v.Field(i), f, r, depth+1)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			mutateValue(v.Elem(), f, r, depth+1)
		}
	case reflect.Slice:
		for i := range v.Len() {
			mutateValue(v.Index(i), f, r, depth+1)
		}
	}
}
