// Package check holds the checks of single values which the validation of many
// kinds shares, with the error types and texts that clients know from upstream.
package check

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/field"
)

// Rule reports each text that rule has against value.
func Rule(path *field.Path, value string, rule func(string) []string) (errs field.ErrorList) {
	for _, msg := range rule(value) {
		errs = append(errs, field.Invalid(path, value, msg))
	}
	return errs
}

// Name is Rule for the rules of object names, which also serve prefixes.
func Name(path *field.Path, value string, rule func(string, bool) []string) field.ErrorList {
	return Rule(path, value, func(s string) []string { return rule(s, false) })
}

// Required reports a text that is missing.
func Required(path *field.Path, value, detail string) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, detail)}
	}
	return nil
}

// RequiredName reports a name that is missing or breaks its rule.
func RequiredName(path *field.Path, value string, rule func(string) []string) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return Rule(path, value, rule)
}

// OneOf reports a value that is not among the allowed, which the error lists
// in order.
func OneOf[T ~string](path *field.Path, value T, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, sorted(allowed))}
}

// RequiredOneOf is OneOf for a value that must be there.
func RequiredOneOf[T ~string](path *field.Path, value T, allowed ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return OneOf(path, value, allowed...)
}

// Listed is OneOf where upstream lists the allowed in an order of its own: as
// they are given.
func Listed[T ~string](path *field.Path, value T, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, allowed)}
}

// RequiredListed is Listed for a value that must be there.
func RequiredListed[T ~string](path *field.Path, value T, allowed ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return Listed(path, value, allowed...)
}

func sorted[T ~string](all []T) []T {
	all = slices.Clone(all)
	slices.Sort(all)
	return all
}

// Nonnegative reports a number below zero.
func Nonnegative[N ~int32 | ~int64 | ~int](path *field.Path, n N) field.ErrorList {
	if n >= 0 {
		return nil
	}
	return validation.ValidateNonnegativeField(int64(n), path.Upstream())
}

// NonnegativePtr is Nonnegative for a number that may be unset.
func NonnegativePtr[N ~int32 | ~int64 | ~int](path *field.Path, n *N) field.ErrorList {
	if n == nil {
		return nil
	}
	return Nonnegative(path, *n)
}

// Quantity reports a quantity below zero.
func Quantity(path *field.Path, q resource.Quantity) field.ErrorList {
	if q.Sign() < 0 {
		return field.ErrorList{field.Invalid(path, q.String(), validation.IsNegativeErrorMsg)}
	}
	return nil
}

// Port reports what is no port number.
func Port(path *field.Path, n int32) (errs field.ErrorList) {
	for _, msg := range utilvalidation.IsValidPortNum(int(n)) {
		errs = append(errs, field.Invalid(path, n, msg))
	}
	return errs
}

// PortOrName reports what is neither a port number nor a port's name.
func PortOrName(path *field.Path, p intstr.IntOrString) field.ErrorList {
	if p.Type == intstr.Int {
		return Port(path, p.IntVal)
	}
	return Rule(path, p.StrVal, utilvalidation.IsValidPortName)
}

// RelativePath reports a path that is absolute or climbs out of where it starts.
func RelativePath(path *field.Path, p string) (errs field.ErrorList) {
	if strings.HasPrefix(p, "/") {
		errs = append(errs, field.Invalid(path, p, "must be a relative path"))
	}
	return append(errs, NoBacksteps(path, p)...)
}

// NoBacksteps reports a path with a ".." in it.
func NoBacksteps(path *field.Path, p string) field.ErrorList {
	if slices.Contains(strings.Split(p, "/"), "..") {
		return field.ErrorList{field.Invalid(path, p, "must not contain '..'")}
	}
	return nil
}

// OwnPath is RelativePath for a name in a volume's directory, where names that
// begin with ".." are the writer's own.
func OwnPath(path *field.Path, p string) field.ErrorList {
	errs := RelativePath(path, p)
	if strings.HasPrefix(p, "..") && !strings.HasPrefix(p, "../") {
		errs = append(errs, field.Invalid(path, p, "must not start with '..'"))
	}
	return errs
}

// Immutable reports a value that has changed and may not.
func Immutable(path *field.Path, now, was any) field.ErrorList {
	return validation.ValidateImmutableField(now, was, path.Upstream())
}

// Declared reports a value that has changed and may not, as upstream does where that
// is declared beside the type: the value is not shown.
func Declared(path *field.Path, same bool) field.ErrorList {
	if same {
		return nil
	}
	return field.ErrorList{field.Invalid(path, nil, validation.FieldImmutableErrorMsg)}
}

// Percent reports a text that is no percentage.
func Percent(path *field.Path, v intstr.IntOrString) field.ErrorList {
	if v.Type != intstr.String {
		return nil
	}
	var errs field.ErrorList
	for _, msg := range utilvalidation.IsValidPercent(v.StrVal) {
		errs = append(errs, field.Invalid(path, v, msg))
	}
	return errs
}

// PositiveIntOrPercent reports what is neither a percentage nor a number of at
// least zero.
func PositiveIntOrPercent(path *field.Path, v intstr.IntOrString) field.ErrorList {
	if v.Type == intstr.String {
		return Percent(path, v)
	}
	return Nonnegative(path, v.IntVal)
}

// AtMost100Percent reports a percentage above a hundred.
func AtMost100Percent(path *field.Path, v intstr.IntOrString) field.ErrorList {
	if n, ok := PercentOf(v); ok && n > 100 {
		return field.ErrorList{field.Invalid(path, v, "must not be greater than 100%")}
	}
	return nil
}

// PercentOf returns the number of a percentage; ok is false for anything else.
func PercentOf(v intstr.IntOrString) (n int, ok bool) {
	if v.Type != intstr.String || len(utilvalidation.IsValidPercent(v.StrVal)) != 0 {
		return 0, false
	}
	for _, c := range strings.TrimSuffix(v.StrVal, "%") {
		if n = n*10 + int(c-'0'); n > 1<<30 {
			return 1 << 30, true
		}
	}
	return n, true
}

// Zero says whether a number or percentage is nothing.
func Zero(v intstr.IntOrString) bool {
	if v.Type == intstr.Int {
		return v.IntVal == 0
	}
	n, ok := PercentOf(v)
	return ok && n == 0
}
