package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

func validateLimitRange(l *corev1.LimitRange) (errs field.ErrorList) {
	seen := map[corev1.LimitType]bool{}
	for i := range l.Spec.Limits {
		item, p := &l.Spec.Limits[i], specPath.Child("limits").Index(i)
		bad := check.Rule(p.Child("type"), string(item.Type), check.IsQualifiedName)
		switch item.Type {
		case corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim:
		default:
			if len(bad) == 0 && !strings.Contains(string(item.Type), "/") {
				bad = append(bad, field.Invalid(p.Child("type"), item.Type, "must be a standard limit type or fully qualified"))
			}
		}
		errs = append(errs, bad...)
		if seen[item.Type] {
			errs = append(errs, field.Duplicate(p.Child("type"), item.Type))
		}
		seen[item.Type] = true
		errs = append(errs, validateLimits(item, p)...)
	}
	return errs
}

// validateLimits demands min <= default request <= default <= max of each
// resource, as far as they are given.
func validateLimits(item *corev1.LimitRangeItem, path *field.Path) (errs field.ErrorList) {
	names := map[corev1.ResourceName]bool{}
	list := func(child string, l corev1.ResourceList) {
		for _, name := range slices.Sorted(maps.Keys(l)) {
			names[name] = true
			p := path.Child(child).Key(string(name))
			if item.Type == corev1.LimitTypePod || item.Type == corev1.LimitTypeContainer {
				errs = append(errs, podspec.ValidateContainerName(string(name), p)...)
			} else {
				errs = append(errs, podspec.ValidateName(string(name), p)...)
			}
		}
	}
	list("max", item.Max)
	list("min", item.Min)
	def, request := item.Default, item.DefaultRequest
	if item.Type == corev1.LimitTypePod {
		if len(def) > 0 {
			errs = append(errs, field.Forbidden(path.Child("default"), "may not be specified when `type` is 'Pod'"))
		}
		if len(request) > 0 {
			errs = append(errs, field.Forbidden(path.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
		}
		def, request = nil, nil
	}
	list("default", def)
	list("defaultRequest", request)
	if item.Type == corev1.LimitTypePersistentVolumeClaim && get(item.Min, corev1.ResourceStorage) == nil && get(item.Max, corev1.ResourceStorage) == nil {
		errs = append(errs, field.Required(path.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
	}
	list("maxLimitRequestRatio", item.MaxLimitRequestRatio)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		least, most := get(item.Min, name), get(item.Max, name)
		request, limit := get(request, name), get(def, name)
		// In upstream's order; the fields blamed and the values shown are upstream's.
		for _, pair := range []struct {
			low       *resource.Quantity
			lowText   string
			high      *resource.Quantity
			highText  string
			at        string
			showsHigh bool
		}{
			{least, "min", most, "max", "min", false},
			{least, "min", request, "default request", "defaultRequest", true},
			{request, "default request", most, "max", "defaultRequest", false},
			{request, "default request", limit, "default limit", "defaultRequest", false},
			{least, "min", limit, "default", "default", false},
			{limit, "default", most, "max", "default", true},
		} {
			if pair.low == nil || pair.high == nil || pair.low.Cmp(*pair.high) <= 0 {
				continue
			}
			shown := pair.low
			if pair.showsHigh {
				shown = pair.high
			}
			errs = append(errs, field.Invalid(path.Child(pair.at).Key(string(name)), shown.String(),
				fmt.Sprintf("%s value %s is greater than %s value %s", pair.lowText, pair.low.String(), pair.highText, pair.high.String())))
		}
		if ratio := get(item.MaxLimitRequestRatio, name); ratio != nil {
			errs = append(errs, validateRatio(ratio, least, most, path.Child("maxLimitRequestRatio").Key(string(name)))...)
		}
		if !podspec.MayOvercommit(string(name)) && limit != nil && request != nil && limit.Cmp(*request) != 0 {
			errs = append(errs, field.Invalid(path.Child("defaultRequest").Key(string(name)), *request,
				fmt.Sprintf("default value %s must equal to defaultRequest value %s in %s", limit.String(), request.String(), name)))
		}
	}
	return errs
}

// validateRatio demands that what a resource may be limited to is at least what is
// requested of it, and within what the bounds allow; least and most may be nil.
func validateRatio(ratio, least, most *resource.Quantity, path *field.Path) (errs field.ErrorList) {
	if ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
		errs = append(errs, field.Invalid(path, *ratio, fmt.Sprintf("ratio %s is less than 1", ratio.String())))
	}
	if least == nil || most == nil {
		return errs
	}
	r, low, high := float64(ratio.Value()), least.Value(), most.Value()
	if max(ratio.Value(), low, high) < resource.MaxMilliValue {
		r, low, high = float64(ratio.MilliValue())/1000, least.MilliValue(), most.MilliValue()
	}
	if bound := float64(high) / float64(low); r > bound {
		errs = append(errs, field.Invalid(path, *ratio, fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), bound)))
	}
	return errs
}

func get(l corev1.ResourceList, name corev1.ResourceName) *resource.Quantity {
	if q, ok := l[name]; ok {
		return &q
	}
	return nil
}
