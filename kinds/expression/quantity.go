package expression

import (
	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/version"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"sagong/object"
)

// boundedQuantities puts functions that refuse what cannot be reckoned with in
// the places of those that turn a text into a quantity: no cost limit stops
// quantity("1e-1000000000").
func boundedQuantities() environment.VersionedOptions {
	parse := func(arg ref.Val) (resource.Quantity, error) {
		text, _ := arg.Value().(string)
		if err := object.CheckQuantity(text); err != nil {
			return resource.Quantity{}, err
		}
		return resource.ParseQuantity(text)
	}
	return environment.VersionedOptions{IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: []celgo.EnvOption{
		celgo.Function("quantity", celgo.Overload("string_to_quantity", []*celgo.Type{celgo.StringType}, apiservercel.QuantityType, celgo.UnaryBinding(func(arg ref.Val) ref.Val {
			q, err := parse(arg)
			if err != nil {
				return types.WrapErr(err)
			}
			return apiservercel.Quantity{Quantity: &q}
		}))),
		celgo.Function("isQuantity", celgo.Overload("is_quantity_string", []*celgo.Type{celgo.StringType}, celgo.BoolType, celgo.UnaryBinding(func(arg ref.Val) ref.Val {
			_, err := parse(arg)
			return types.Bool(err == nil)
		}))),
	}}
}
