package resource

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

func validateSlice(s *resourcev1.ResourceSlice) field.ErrorList {
	return validateSliceSpec(create, &s.Spec, nil)
}

func validateSliceUpdate(s, old *resourcev1.ResourceSlice) field.ErrorList {
	return validateSliceSpec(update, &s.Spec, &old.Spec)
}

func validateSliceSpec(op operation.Operation, s, old *resourcev1.ResourceSliceSpec) field.ErrorList {
	errs := podspec.ValidateDriverName(s.Driver, specPath.Child("driver"))
	p := specPath.Child("pool")
	errs = append(errs, validatePoolName(s.Pool.Name, p.Child("name"))...)
	if n := s.Pool.ResourceSliceCount; n <= 0 {
		errs = append(errs, field.Invalid(p.Child("resourceSliceCount"), n, "must be greater than zero"))
	}
	if n := s.Pool.Generation; n < 0 {
		errs = append(errs, field.Invalid(p.Child("generation"), n, "must be greater than or equal to zero"))
	}
	if old != nil {
		errs = append(errs, check.Immutable(p.Child("name"), s.Pool.Name, old.Pool.Name)...)
		errs = append(errs, check.Immutable(specPath.Child("driver"), s.Driver, old.Driver)...)
		errs = append(errs, check.Immutable(specPath.Child("nodeName"), s.NodeName, old.NodeName)...)
	}
	const choice = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	set, more := whereabouts(s.NodeName, s.NodeSelector, s.AllNodes, "must be either unset or set to a non-empty string", true, specPath)
	errs = append(errs, more...)
	perDevice := s.PerDeviceNodeSelection != nil && *s.PerDeviceNodeSelection
	if perDevice {
		set = append(set, "`perDeviceNodeSelection`")
	} else if s.PerDeviceNodeSelection != nil {
		errs = append(errs, field.Invalid(specPath.Child("perDeviceNodeSelection"), false, "must be either unset or set to true"))
	}
	switch {
	case len(set) == 0:
		errs = append(errs, field.Required(specPath, choice))
	case len(set) > 1:
		errs = append(errs, field.Invalid(specPath, "{"+strings.Join(set, ", ")+"}", choice+", but multiple fields are set"))
	}
	if s.SharedCounters != nil && s.Devices != nil {
		errs = append(errs, field.Invalid(specPath, "", "only one of `sharedCounters` or `devices` is allowed"))
	}
	most := resourcev1.ResourceSliceMaxDevices
	if slices.ContainsFunc(s.Devices, func(d resourcev1.Device) bool { return len(d.Taints)+len(d.ConsumesCounters) > 0 }) {
		most = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
	}
	p = specPath.Child("devices")
	if n := len(s.Devices); n > most {
		errs = append(errs, field.TooMany(p, n, most))
	}
	names := map[string]bool{}
	errs = append(errs, each(s.Devices, most, p, func(d *resourcev1.Device, p *field.Path) field.ErrorList {
		return validateDevice(d, deviceOf(old, d.Name), perDevice, p)
	})...)
	errs = append(errs, each(s.Devices, most, p, func(d *resourcev1.Device, p *field.Path) (errs field.ErrorList) {
		if names[d.Name] {
			errs = field.ErrorList{field.Duplicate(p, d.Name)}
		}
		names[d.Name] = true
		return errs
	})...)
	errs = append(errs, each(s.SharedCounters, resourcev1.ResourceSliceMaxCounterSets, specPath.Child("sharedCounters"), func(c *resourcev1.CounterSet, p *field.Path) field.ErrorList {
		return fewCounters(c.Counters, resourcev1.ResourceSliceMaxCountersPerCounterSet, p)
	})...)
	return append(errs, enforced(resourcev1.Validate_ResourceSliceSpec(context.Background(), op, specPath.Upstream(), s, old))...)
}

func fewCounters(m map[string]resourcev1.Counter, most int, p *field.Path) field.ErrorList {
	if len(m) > most {
		return field.ErrorList{field.TooMany(p.Child("counters"), len(m), most)}
	}
	return nil
}

// whereabouts tells which of the fields that say where devices are is set; single
// wants one term of the selector.
func whereabouts(node *string, selector *corev1.NodeSelector, all *bool, empty string, single bool, p *field.Path) (set []string, errs field.ErrorList) {
	switch {
	case node != nil && *node != "":
		set = append(set, "`nodeName`")
		errs = append(errs, check.Name(p.Child("nodeName"), *node, validation.NameIsDNSSubdomain)...)
	case node != nil:
		errs = append(errs, field.Invalid(p.Child("nodeName"), "", empty))
	}
	if selector != nil {
		set = append(set, "`nodeSelector`")
		errs = append(errs, podspec.ValidateNodeSelector(selector, p.Child("nodeSelector"))...)
		if single && len(selector.NodeSelectorTerms) != 1 {
			errs = append(errs, field.Invalid(p.Child("nodeSelector", "nodeSelectorTerms"), selector.NodeSelectorTerms, "must have exactly one node selector term"))
		}
	}
	switch {
	case all != nil && *all:
		set = append(set, "`allNodes`")
	case all != nil:
		errs = append(errs, field.Invalid(p.Child("allNodes"), false, "must be either unset or set to true"))
	}
	return set, errs
}

func deviceOf(s *resourcev1.ResourceSliceSpec, name string) *resourcev1.Device {
	if s != nil {
		for i := range s.Devices {
			if s.Devices[i].Name == name {
				return &s.Devices[i]
			}
		}
	}
	return nil
}

func validateDevice(d, old *resourcev1.Device, ownNodes bool, p *field.Path) field.ErrorList {
	errs := check.Rule(p.Child("name"), d.Name, utilvalidation.IsDNS1123Label)
	if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(p, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d", resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice)))
	}
	for _, name := range slices.Sorted(maps.Keys(d.Attributes)) {
		p := p.Child("attributes").Key(shortened(string(name)))
		errs = append(errs, validateQualifiedName(string(name), p)...)
		errs = append(errs, validateAttribute(d.Attributes[name], p)...)
	}
	shared := d.AllowMultipleAllocations != nil && *d.AllowMultipleAllocations
	for _, name := range slices.Sorted(maps.Keys(d.Capacity)) {
		p := p.Child("capacity").Key(shortened(string(name)))
		errs = append(errs, validateQualifiedName(string(name), p)...)
		c := d.Capacity[name]
		switch {
		case c.RequestPolicy != nil && shared:
			errs = append(errs, validatePolicy(c.Value, c.RequestPolicy, p.Child("requestPolicy"))...)
		case c.RequestPolicy != nil:
			errs = append(errs, field.Forbidden(p.Child("requestPolicy"), "allowMultipleAllocations must be true"))
		}
	}
	if old == nil || !equality.Semantic.DeepEqual(old.Taints, d.Taints) {
		at := p.Child("taints")
		if n := len(d.Taints); n > resourcev1.DeviceTaintsMaxLength {
			errs = append(errs, field.TooMany(at, n, resourcev1.DeviceTaintsMaxLength))
		}
		errs = append(errs, each(d.Taints, resourcev1.DeviceTaintsMaxLength, at, validateTaint)...)
	}
	errs = append(errs, each(d.ConsumesCounters, resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice, p.Child("consumesCounters"), func(c *resourcev1.DeviceCounterConsumption, p *field.Path) field.ErrorList {
		return fewCounters(c.Counters, resourcev1.ResourceSliceMaxCountersPerDeviceCounterConsumption, p)
	})...)
	switch {
	case ownNodes:
		const choice = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
		set, more := whereabouts(d.NodeName, d.NodeSelector, d.AllNodes, "must not be empty", false, p)
		errs = append(errs, more...)
		switch {
		case len(set) == 0:
			errs = append(errs, field.Required(p, choice))
		case len(set) > 1:
			errs = append(errs, field.Invalid(p, "{"+strings.Join(set, ", ")+"}", choice))
		}
	case d.NodeName != nil || d.NodeSelector != nil || d.AllNodes != nil:
		errs = append(errs, field.Invalid(p, nil, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec"))
	}
	return append(errs, validateBindingConditions(d.BindingConditions, d.BindingFailureConditions, p)...)
}

// semver is the form of semver.org's version 2.0.0.
var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?` +
	`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`)

func validateAttribute(a resourcev1.DeviceAttribute, p *field.Path) (errs field.ErrorList) {
	long := func(s string, p *field.Path) {
		if len(s) > resourcev1.DeviceAttributeMaxValueLength {
			errs = append(errs, field.TooLong(p, "", resourcev1.DeviceAttributeMaxValueLength))
		}
	}
	if a.StringValue != nil {
		long(*a.StringValue, p.Child("string"))
	}
	if a.VersionValue != nil {
		if !semver.MatchString(*a.VersionValue) {
			errs = append(errs, field.Invalid(p.Child("version"), *a.VersionValue, "must be a string compatible with semver.org spec 2.0.0"))
		}
		long(*a.VersionValue, p.Child("version"))
	}
	return errs
}

// validateQualifiedName checks a name that may have a domain before it.
func validateQualifiedName(name string, p *field.Path) (errs field.ErrorList) {
	parts := strings.Split(name, "/")
	if len(parts) > 2 {
		return nil // upstream lets these pass
	}
	id := parts[len(parts)-1]
	if len(parts) == 2 {
		if parts[0] == "" {
			errs = append(errs, field.Invalid(p, "", "the domain must not be empty"))
		} else {
			errs = append(errs, podspec.ValidateDriverName(parts[0], p)...)
		}
		if id == "" {
			return append(errs, field.Invalid(p, "", "the name must not be empty"))
		}
	}
	if len(id) > resourcev1.DeviceMaxIDLength {
		errs = append(errs, field.TooLong(p, "", resourcev1.DeviceMaxIDLength))
	}
	return append(errs, check.Rule(p, id, content.IsCIdentifier)...)
}

// shortened cuts the middle out of a key too long to be right.
func shortened(key string) string {
	const most = resourcev1.DeviceMaxDomainLength + 1 + resourcev1.DeviceMaxIDLength
	if len(key) <= most {
		return key
	}
	left := most - len("...")
	return key[:(left+1)/2] + "..." + key[len(key)-left/2:]
}

// mostValues is how many amounts a policy may list.
const mostValues = 10

// validatePolicy checks how much of a device's capacity requests may take.
func validatePolicy(most resource.Quantity, r *resourcev1.CapacityRequestPolicy, p *field.Path) field.ErrorList {
	switch {
	case len(r.ValidValues) > 0 && r.ValidRange != nil:
		return field.ErrorList{field.Forbidden(p, `exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time`)}
	case len(r.ValidValues) > 0 && r.Default == nil:
		return field.ErrorList{field.Required(p.Child("default"), "required when validValues is defined")}
	case len(r.ValidValues) > 0:
		return validateValues(*r.Default, most, r.ValidValues, p.Child("validValues"))
	case r.ValidRange != nil && r.Default == nil:
		return field.ErrorList{field.Required(p.Child("default"), "required when validRange is defined")}
	case r.ValidRange != nil:
		return validateRange(*r.Default, most, r.ValidRange, p.Child("validRange"))
	}
	return nil
}

func validateValues(def, most resource.Quantity, values []resource.Quantity, p *field.Path) (errs field.ErrorList) {
	for i := 1; i < len(values); i++ {
		if values[i-1].Cmp(values[i]) > 0 {
			errs = append(errs, field.Invalid(p.Index(i), values[i].String(), "values must be sorted in ascending order"))
		}
	}
	if n := len(values); n > mostValues {
		errs = append(errs, field.TooMany(p, n, mostValues))
	}
	found := false
	errs = append(errs, each(values, mostValues, p, func(q *resource.Quantity, p *field.Path) field.ErrorList {
		found = found || q.Cmp(def) == 0
		if q.Cmp(most) > 0 {
			return field.ErrorList{field.Invalid(p, q.String(), fmt.Sprintf("option is larger than capacity value: %s", most.String()))}
		}
		return nil
	})...)
	for i := range values {
		if slices.ContainsFunc(values[:i], func(q resource.Quantity) bool { return q.Value() == values[i].Value() }) {
			errs = append(errs, field.Duplicate(p.Index(i), fmt.Sprint(values[i].Value())))
		}
	}
	if !found {
		errs = append(errs, field.Invalid(p, def.String(), "default value is not valid according to the requestPolicy"))
	}
	return errs
}

func validateRange(def, most resource.Quantity, r *resourcev1.CapacityRequestPolicyRange, p *field.Path) (errs field.ErrorList) {
	if r.Min == nil {
		return field.ErrorList{field.Required(p.Child("min"), "required when validRange is defined")}
	}
	bad := func(name string, q *resource.Quantity, format string, than *resource.Quantity) {
		errs = append(errs, field.Invalid(p.Child(name), q.String(), fmt.Sprintf(format, than.String())))
	}
	if r.Min.Cmp(most) > 0 {
		bad("min", r.Min, "min is larger than capacity value: %s", &most)
	}
	if def.Cmp(*r.Min) < 0 {
		bad("min", &def, "default is less than min: %s", r.Min)
	}
	if r.Max != nil {
		if r.Min.Cmp(*r.Max) > 0 {
			bad("max", r.Min, "min is larger than max: %s", r.Max)
		}
		if r.Max.Cmp(most) > 0 {
			bad("max", r.Max, "max is larger than capacity value: %s", &most)
		}
		if def.Cmp(*r.Max) > 0 {
			bad("max", &def, "default is more than max: %s", r.Max)
		}
	}
	if r.Step == nil {
		return errs
	}
	at := p.Child("step")
	if r.Step.Sign() <= 0 {
		return append(errs, field.Invalid(at, r.Step.String(), "must be greater than zero"))
	}
	one := r.Min.DeepCopy()
	if one.Add(*r.Step); one.Cmp(most) > 0 {
		errs = append(errs, field.Invalid(at, r.Step.String(), fmt.Sprintf("one step %s is larger than capacity value: %s", one.String(), most.String())))
	}
	for _, q := range []*resource.Quantity{&def, r.Max} {
		if q != nil && !onStep(q, r) {
			errs = append(errs, field.Invalid(at, q.String(), fmt.Sprintf("value is not a multiple of a given step (%s) from (%s)", r.Step.String(), r.Min.String())))
		}
	}
	return errs
}

// onStep tells whether an amount is the least one and a number of steps. Ranges
// with fractions are counted in thousandths.
func onStep(q *resource.Quantity, r *resourcev1.CapacityRequestPolicyRange) bool {
	value := (*resource.Quantity).Value
	for _, x := range []*resource.Quantity{r.Min, r.Max, r.Step} {
		if x != nil && x.MilliValue()%1000 != 0 {
			value = (*resource.Quantity).MilliValue
		}
	}
	step := value(r.Step)
	return step != 0 && (value(q)-value(r.Min))%step == 0
}
