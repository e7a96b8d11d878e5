package expression

import (
	_ "unsafe" // for go:linkname

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"k8s.io/apimachinery/pkg/api/resource"
	apiservercel "k8s.io/apiserver/pkg/cel"
	_ "k8s.io/apiserver/pkg/cel/library" // has quantityFunctions

	"sagong/object"
)

// quantityFunctions are the library's functions of quantities. Every environment
// of the API is made from them: of policies, webhooks, rules of custom resources
// and selectors of devices, some of which cannot be extended from outside.
//
//go:linkname quantityFunctions k8s.io/apiserver/pkg/cel/library.quantityLibraryDecls
var quantityFunctions map[string][]celgo.FunctionOpt

// The functions that turn a text into a quantity refuse what cannot be reckoned
// with: no cost limit stops quantity("1e-1000000000").
func init() {
	parse := func(arg ref.Val) (resource.Quantity, error) {
		text, _ := arg.Value().(string)
		if err := object.CheckQuantity(text); err != nil {
			return resource.Quantity{}, err
		}
		return resource.ParseQuantity(text)
	}
	quantityFunctions["quantity"] = []celgo.FunctionOpt{celgo.Overload("string_to_quantity", []*celgo.Type{celgo.StringType}, apiservercel.QuantityType, celgo.UnaryBinding(func(arg ref.Val) ref.Val {
		q, err := parse(arg)
		if err != nil {
			return types.WrapErr(err)
		}
		return apiservercel.Quantity{Quantity: &q}
	}))}
	quantityFunctions["isQuantity"] = []celgo.FunctionOpt{celgo.Overload("is_quantity_string", []*celgo.Type{celgo.StringType}, celgo.BoolType, celgo.UnaryBinding(func(arg ref.Val) ref.Val {
		_, err := parse(arg)
		return types.Bool(err == nil)
	}))}
}
