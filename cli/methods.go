//go:build fewmethods

package cli

import (
	"reflect"
	_ "unsafe" // for go:linkname

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// methodOf is what text/template asks for a method by its name. Go's own search
// would have the linker keep all methods of all types; the Makefile's overlay
// puts this variable in its place.
//
//go:linkname methodOf text/template.methodOf
var methodOf func(v reflect.Value, name string) reflect.Value

func init() {
	methodOf = func(v reflect.Value, name string) reflect.Value {
		if !v.CanInterface() {
			return reflect.Value{}
		}
		var method any
		switch x := v.Interface().(type) {
		case *cobra.Command:
			method = commandMethod(x, name)
		case *pflag.FlagSet:
			if name == "HasFlags" {
				method = x.HasFlags
			}
		case *schema.GroupVersionResource:
			if name == "String" {
				method = x.String
			}
		}
		return reflect.ValueOf(method)
	}
}

// commandMethod are the methods that kubectl's help templates call.
func commandMethod(c *cobra.Command, name string) any {
	switch name {
	case "HasAvailableSubCommands":
		return c.HasAvailableSubCommands
	case "HasExample":
		return c.HasExample
	case "HasInheritedFlags":
		return c.HasInheritedFlags
	case "HasSubCommands":
		return c.HasSubCommands
	case "InheritedFlags":
		return c.InheritedFlags
	case "LocalFlags":
		return c.LocalFlags
	case "NameAndAliases":
		return c.NameAndAliases
	case "PersistentFlags":
		return c.PersistentFlags
	case "Runnable":
		return c.Runnable
	case "UsageString":
		return c.UsageString
	case "UseLine":
		return c.UseLine
	}
	return nil
}
