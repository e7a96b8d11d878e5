package resource

import (
	"fmt"
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
	"sagong/kinds/podspec"
)

var specPath = field.NewPath("spec")

// request is what exact requests and the alternatives of others share.
type request struct {
	class       string
	selectors   []resourcev1.DeviceSelector
	mode        resourcev1.DeviceAllocationMode
	count       int64
	tolerations []resourcev1.DeviceToleration
}

func validateClaimSpec(s *resourcev1.ResourceClaimSpec, path *field.Path) (errs field.ErrorList) {
	d, path := &s.Devices, path.Child("devices")
	names := map[string]bool{}
	p := path.Child("requests")
	if n := len(d.Requests); n > resourcev1.DeviceRequestsMaxSize {
		errs = append(errs, field.TooMany(p, n, resourcev1.DeviceRequestsMaxSize))
	}
	for i := range d.Requests {
		r, p := &d.Requests[i], p.Index(i)
		errs = append(errs, check.RequiredName(p.Child("name"), r.Name, utilvalidation.IsDNS1123Label)...)
		if names[r.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), r.Name))
		}
		names[r.Name] = true
		switch {
		case r.Exactly != nil && len(r.FirstAvailable) > 0:
			errs = append(errs, field.Invalid(p, nil, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"))
		case r.Exactly == nil && len(r.FirstAvailable) == 0:
			errs = append(errs, field.Required(p, "exactly one of `exactly` or `firstAvailable` is required"))
		}
		if e := r.Exactly; e != nil {
			errs = append(errs, validateRequest(request{e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations}, p.Child("exactly"))...)
		}
		if n := len(r.FirstAvailable); n > resourcev1.FirstAvailableDeviceRequestMaxSize {
			errs = append(errs, field.TooMany(p.Child("firstAvailable"), n, resourcev1.FirstAvailableDeviceRequestMaxSize))
		}
		for j := range r.FirstAvailable {
			e, p := &r.FirstAvailable[j], p.Child("firstAvailable").Index(j)
			errs = append(errs, check.RequiredName(p.Child("name"), e.Name, utilvalidation.IsDNS1123Label)...)
			full := r.Name + "/" + e.Name
			if names[full] {
				errs = append(errs, field.Duplicate(p.Child("name"), e.Name))
			}
			names[full] = true
			errs = append(errs, validateRequest(request{e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations}, p)...)
		}
	}
	refers := func(requests []string, p *field.Path) {
		for i, name := range requests {
			if !names[name] {
				errs = append(errs, field.Invalid(p.Index(i), name, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"))
			}
			if slices.Contains(requests[:i], name) {
				errs = append(errs, field.Duplicate(p.Index(i), name))
			}
		}
	}
	p = path.Child("constraints")
	if n := len(d.Constraints); n > resourcev1.DeviceConstraintsMaxSize {
		errs = append(errs, field.TooMany(p, n, resourcev1.DeviceConstraintsMaxSize))
	}
	for i, c := range d.Constraints {
		p := p.Index(i)
		refers(c.Requests, p.Child("requests"))
		if c.MatchAttribute == nil && c.DistinctAttribute == nil {
			errs = append(errs, field.Required(p, "exactly one of `matchAttribute` or `distinctAttribute` must be specified"))
		}
		for _, a := range []struct {
			name string
			v    *resourcev1.FullyQualifiedName
		}{{"matchAttribute", c.MatchAttribute}, {"distinctAttribute", c.DistinctAttribute}} {
			if a.v != nil {
				errs = append(errs, validateQualified(string(*a.v), p.Child(a.name))...)
			}
		}
	}
	p = path.Child("config")
	if n := len(d.Config); n > resourcev1.DeviceConfigMaxSize {
		errs = append(errs, field.TooMany(p, n, resourcev1.DeviceConfigMaxSize))
	}
	for i := range d.Config {
		refers(d.Config[i].Requests, p.Index(i).Child("requests"))
		errs = append(errs, validateConfig(&d.Config[i].DeviceConfiguration, p.Index(i))...)
	}
	return errs
}

func validateConfig(c *resourcev1.DeviceConfiguration, p *field.Path) field.ErrorList {
	if c.Opaque == nil {
		return field.ErrorList{field.Required(p.Child("opaque"), "")}
	}
	p = p.Child("opaque")
	errs := podspec.ValidateDriverName(c.Opaque.Driver, p.Child("driver"))
	if len(c.Opaque.Parameters.Raw) == 0 && c.Opaque.Parameters.Object == nil {
		errs = append(errs, field.Required(p.Child("parameters"), ""))
	}
	return errs
}

// validateQualified checks an attribute's name, which must have its domain.
func validateQualified(name string, p *field.Path) field.ErrorList {
	domain, id, ok := strings.Cut(name, "/")
	if !ok {
		return field.ErrorList{field.Invalid(p, name, "must include a domain")}
	}
	errs := check.Rule(p, domain, utilvalidation.IsDNS1123Subdomain)
	if !cIdentifier(id) || len(id) > resourcev1.DeviceMaxIDLength {
		errs = append(errs, field.Invalid(p, id, "must be a valid C identifier"))
	}
	return errs
}

func cIdentifier(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func validateRequest(r request, p *field.Path) field.ErrorList {
	errs := check.RequiredName(p.Child("deviceClassName"), r.class, utilvalidation.IsDNS1123Subdomain)
	errs = append(errs, validateSelectors(r.selectors, p.Child("selectors"))...)
	switch r.mode {
	case resourcev1.DeviceAllocationModeAll:
		if r.count != 0 {
			errs = append(errs, field.Invalid(p.Child("count"), r.count, fmt.Sprintf("must not be specified when allocationMode is '%s'", r.mode)))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if r.count <= 0 {
			errs = append(errs, field.Invalid(p.Child("count"), r.count, "must be greater than zero"))
		}
	default:
		errs = append(errs, field.NotSupported(p.Child("allocationMode"), r.mode,
			[]resourcev1.DeviceAllocationMode{resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount}))
	}
	for i, t := range r.tolerations {
		p := p.Child("tolerations").Index(i)
		if t.Key != "" {
			errs = append(errs, metav1validation.ValidateLabelName(t.Key, p.Child("key"))...)
		}
		switch t.Operator {
		case resourcev1.DeviceTolerationOpExists:
			if t.Value != "" {
				errs = append(errs, field.Invalid(p.Child("value"), t.Value, "must be empty for operator `Exists`"))
			}
		case resourcev1.DeviceTolerationOpEqual:
			errs = append(errs, check.Rule(p.Child("value"), t.Value, utilvalidation.IsValidLabelValue)...)
			if t.Key == "" {
				errs = append(errs, field.Required(p.Child("key"), ""))
			}
		default:
			errs = append(errs, field.NotSupported(p.Child("operator"), t.Operator, []resourcev1.DeviceTolerationOperator{resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists}))
		}
	}
	return errs
}

// validateSelectors checks all but the expressions themselves, which whoever
// evaluates them compiles.
func validateSelectors(list []resourcev1.DeviceSelector, p *field.Path) (errs field.ErrorList) {
	if n := len(list); n > resourcev1.DeviceSelectorsMaxSize {
		errs = append(errs, field.TooMany(p, n, resourcev1.DeviceSelectorsMaxSize))
	}
	for i, s := range list {
		p := p.Index(i).Child("cel")
		switch {
		case s.CEL == nil:
			errs = append(errs, field.Required(p, ""))
		case strings.TrimSpace(s.CEL.Expression) == "":
			errs = append(errs, field.Required(p.Child("expression"), ""))
		case len(s.CEL.Expression) > resourcev1.CELSelectorExpressionMaxLength:
			errs = append(errs, field.TooLong(p.Child("expression"), "", resourcev1.CELSelectorExpressionMaxLength))
		}
	}
	return errs
}

func validateClaim(c *resourcev1.ResourceClaim) field.ErrorList {
	return validateClaimSpec(&c.Spec, specPath)
}

func validateClaimUpdate(c, old *resourcev1.ResourceClaim) field.ErrorList {
	return append(check.Immutable(specPath, c.Spec, old.Spec), validateClaim(c)...)
}

func validateClaimStatus(c, old *resourcev1.ResourceClaim) (errs field.ErrorList) {
	path, s := field.NewPath("status"), &c.Status
	p := path.Child("reservedFor")
	if n := len(s.ReservedFor); n > resourcev1.ResourceClaimReservedForMaxSize {
		errs = append(errs, field.TooMany(p, n, resourcev1.ResourceClaimReservedForMaxSize))
	}
	if len(s.ReservedFor) > 0 && s.Allocation == nil {
		errs = append(errs, field.Forbidden(p, "may not be specified when `allocated` is not set"))
	}
	if len(s.ReservedFor) > len(old.Status.ReservedFor) && c.DeletionTimestamp != nil {
		errs = append(errs, field.Forbidden(p, "new entries may not be added while `deletionTimestamp` is set"))
	}
	for i, r := range s.ReservedFor {
		p := p.Index(i)
		errs = append(errs, check.Required(p.Child("resource"), r.Resource, "")...)
		errs = append(errs, check.Required(p.Child("name"), r.Name, "")...)
		errs = append(errs, check.Required(p.Child("uid"), string(r.UID), "")...)
		if slices.ContainsFunc(s.ReservedFor[:i], func(o resourcev1.ResourceClaimConsumerReference) bool { return o.UID == r.UID }) {
			errs = append(errs, field.Duplicate(p.Child("uid"), r.UID))
		}
	}
	if old.Status.Allocation != nil && s.Allocation != nil {
		errs = append(errs, check.Immutable(path.Child("allocation"), s.Allocation, old.Status.Allocation)...)
	}
	return errs
}

func validateTemplate(t *resourcev1.ResourceClaimTemplate) field.ErrorList {
	p := specPath.Child("metadata")
	errs := metav1validation.ValidateLabels(t.Spec.Labels, p.Child("labels"))
	errs = append(errs, validation.ValidateAnnotations(t.Spec.Annotations, p.Child("annotations"))...)
	return append(errs, validateClaimSpec(&t.Spec.Spec, specPath.Child("spec"))...)
}

func validateTemplateUpdate(t, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
	return append(check.Immutable(specPath, t.Spec, old.Spec), validateTemplate(t)...)
}

func validateClass(c *resourcev1.DeviceClass) field.ErrorList {
	errs := validateSelectors(c.Spec.Selectors, specPath.Child("selectors"))
	p := specPath.Child("config")
	if n := len(c.Spec.Config); n > resourcev1.DeviceConfigMaxSize {
		errs = append(errs, field.TooMany(p, n, resourcev1.DeviceConfigMaxSize))
	}
	for i := range c.Spec.Config {
		errs = append(errs, validateConfig(&c.Spec.Config[i].DeviceConfiguration, p.Index(i))...)
	}
	if n := c.Spec.ExtendedResourceName; n != nil && !podspec.ValidExtended(*n) {
		errs = append(errs, field.Invalid(specPath.Child("extendedResourceName"), *n, "doesn't follow extended resource name standard"))
	}
	return errs
}

func validateTaint(t *resourcev1.DeviceTaint, p *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabelName(t.Key, p.Child("key"))
	errs = append(errs, check.Rule(p.Child("value"), t.Value, utilvalidation.IsValidLabelValue)...)
	return append(errs, check.RequiredOneOf(p.Child("effect"), t.Effect,
		resourcev1.DeviceTaintEffectNone, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNoExecute)...)
}

func validateTaintRule(r *resourcev1.DeviceTaintRule) (errs field.ErrorList) {
	if s := r.Spec.DeviceSelector; s != nil {
		p := specPath.Child("deviceSelector")
		if s.Driver != nil {
			errs = append(errs, podspec.ValidateDriverName(*s.Driver, p.Child("driver"))...)
		}
		if s.Device != nil {
			errs = append(errs, check.Rule(p.Child("device"), *s.Device, utilvalidation.IsDNS1123Label)...)
		}
	}
	return append(errs, validateTaint(&r.Spec.Taint, specPath.Child("taint"))...)
}

func validateSlice(s *resourcev1.ResourceSlice) field.ErrorList {
	errs := podspec.ValidateDriverName(s.Spec.Driver, specPath.Child("driver"))
	p := specPath.Child("pool")
	errs = append(errs, check.Required(p.Child("name"), s.Spec.Pool.Name, "")...)
	for _, part := range strings.Split(s.Spec.Pool.Name, "/") {
		if s.Spec.Pool.Name != "" {
			errs = append(errs, check.Rule(p.Child("name"), part, utilvalidation.IsDNS1123Subdomain)...)
		}
	}
	if s.Spec.Pool.ResourceSliceCount <= 0 {
		errs = append(errs, field.Invalid(p.Child("resourceSliceCount"), s.Spec.Pool.ResourceSliceCount, "must be greater than zero"))
	}
	if s.Spec.Pool.Generation < 0 {
		errs = append(errs, field.Invalid(p.Child("generation"), s.Spec.Pool.Generation, "must be greater than or equal to zero"))
	}
	set := 0
	for _, on := range []bool{
		s.Spec.NodeName != nil, s.Spec.NodeSelector != nil, s.Spec.AllNodes != nil, s.Spec.PerDeviceNodeSelection != nil,
	} {
		if on {
			set++
		}
	}
	const choice = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	switch {
	case set == 0 && len(s.Spec.SharedCounters) == 0:
		errs = append(errs, field.Required(specPath, choice))
	case set > 1:
		errs = append(errs, field.Invalid(specPath, field.OmitValueType{}, choice+", but multiple fields are set"))
	}
	if s.Spec.NodeSelector != nil {
		errs = append(errs, podspec.ValidateNodeSelector(s.Spec.NodeSelector, specPath.Child("nodeSelector"))...)
	}
	p = specPath.Child("devices")
	if n := len(s.Spec.Devices); n > resourcev1.ResourceSliceMaxDevices {
		errs = append(errs, field.TooMany(p, n, resourcev1.ResourceSliceMaxDevices))
	}
	names := map[string]bool{}
	for i := range s.Spec.Devices {
		d, p := &s.Spec.Devices[i], p.Index(i)
		errs = append(errs, check.RequiredName(p.Child("name"), d.Name, utilvalidation.IsDNS1123Label)...)
		if names[d.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), d.Name))
		}
		names[d.Name] = true
		if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
			errs = append(errs, field.Invalid(p, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d", resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice)))
		}
		for j := range d.Taints {
			errs = append(errs, validateTaint(&d.Taints[j], p.Child("taints").Index(j))...)
		}
	}
	return errs
}

func validateSliceUpdate(s, old *resourcev1.ResourceSlice) field.ErrorList {
	errs := validateSlice(s)
	errs = append(errs, check.Immutable(specPath.Child("driver"), s.Spec.Driver, old.Spec.Driver)...)
	errs = append(errs, check.Immutable(specPath.Child("pool", "name"), s.Spec.Pool.Name, old.Spec.Pool.Name)...)
	return append(errs, check.Immutable(specPath.Child("nodeName"), s.Spec.NodeName, old.Spec.NodeName)...)
}
