package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
	"sagong/kinds/podspec"
)

func validateLimitRange(l *corev1.LimitRange) (errs field.ErrorList) {
	seen := map[corev1.LimitType]bool{}
	for i := range l.Spec.Limits {
		item, p := &l.Spec.Limits[i], specPath.Child("limits").Index(i)
		errs = append(errs, check.Rule(p.Child("type"), string(item.Type), utilvalidation.IsQualifiedName)...)
		switch item.Type {
		case corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim:
		default:
			if !strings.Contains(string(item.Type), "/") {
				errs = append(errs, field.Invalid(p.Child("type"), item.Type, "must be a standard limit type or fully qualified"))
			}
		}
		if seen[item.Type] {
			errs = append(errs, field.Duplicate(p.Child("type"), item.Type))
		}
		seen[item.Type] = true
		if item.Type == corev1.LimitTypePod {
			if len(item.Default) > 0 {
				errs = append(errs, field.Forbidden(p.Child("default"), "may not be specified when `type` is 'Pod'"))
			}
			if len(item.DefaultRequest) > 0 {
				errs = append(errs, field.Forbidden(p.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
			}
		}
		if item.Type == corev1.LimitTypePersistentVolumeClaim {
			_, least := item.Min[corev1.ResourceStorage]
			_, most := item.Max[corev1.ResourceStorage]
			if !least && !most {
				errs = append(errs, field.Required(p, "either minimum or maximum storage value is required, but neither was provided"))
			}
		}
		errs = append(errs, validateLimits(item, p)...)
	}
	return errs
}

// validateLimits demands min <= default request <= default <= max of each
// resource, as far as they are given.
func validateLimits(item *corev1.LimitRangeItem, path *field.Path) (errs field.ErrorList) {
	names := map[corev1.ResourceName]bool{}
	for _, l := range []struct {
		name string
		list corev1.ResourceList
	}{{"max", item.Max}, {"min", item.Min}, {"default", item.Default}, {"defaultRequest", item.DefaultRequest}, {"maxLimitRequestRatio", item.MaxLimitRequestRatio}} {
		for _, name := range slices.Sorted(maps.Keys(l.list)) {
			names[name] = true
			errs = append(errs, podspec.ValidateName(string(name), path.Child(l.name).Key(string(name)))...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		least, most := get(item.Min, name), get(item.Max, name)
		request, limit := get(item.DefaultRequest, name), get(item.Default, name)
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
		ratio := get(item.MaxLimitRequestRatio, name)
		if ratio == nil {
			continue
		}
		p := path.Child("maxLimitRequestRatio").Key(string(name))
		if ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
			errs = append(errs, field.Invalid(p, ratio.String(), fmt.Sprintf("ratio %s is less than 1", ratio.String())))
		}
		if least != nil && most != nil && least.AsApproximateFloat64() > 0 {
			if limit := most.AsApproximateFloat64() / least.AsApproximateFloat64(); ratio.AsApproximateFloat64() > limit {
				errs = append(errs, field.Invalid(p, ratio.String(), fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), limit)))
			}
		}
	}
	return errs
}

func get(l corev1.ResourceList, name corev1.ResourceName) *resource.Quantity {
	if q, ok := l[name]; ok {
		return &q
	}
	return nil
}
