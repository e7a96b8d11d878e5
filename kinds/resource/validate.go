package resource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	devicecel "k8s.io/dynamic-resource-allocation/cel"

	"sagong/kinds/check"
	_ "sagong/kinds/expression" // bounds the quantities of selectors
	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

// The rules are upstream's: those that it generates from its types are called
// from k8s.io/api, and what those leave to code is here. So a rule missing here
// (sizes of lists, duplicates, some names) is one of the generated.

var specPath = field.NewPath("spec")

var (
	create = operation.Operation{Type: operation.Create, Options: off}
	update = operation.Operation{Type: operation.Update, Options: off}
	// off names what the generated rules ask about and what is not served.
	off = map[string]bool{"DRAPartitionableDevicesType": false}
)

// enforced leaves out the generated rules that upstream only tries out, and puts
// what others say of the values of a map, in any order, in that of the keys.
func enforced(errs field.ErrorList) field.ErrorList {
	errs = slices.DeleteFunc(errs, (*field.Error).IsAlpha)
	for i := 0; i < len(errs); {
		last := i + 1
		if m := mapOf(errs[i]); m != "" {
			for last < len(errs) && mapOf(errs[last]) == m {
				last++
			}
			slices.SortStableFunc(errs[i:last], func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
		}
		i = last
	}
	return errs
}

// mapOf is the path of the innermost map that an error's field is in, or "".
func mapOf(e *field.Error) string {
	path := e.Field
	for {
		i := strings.LastIndexByte(path, '[')
		if i < 0 {
			return ""
		}
		key, _, _ := strings.Cut(path[i+1:], "]")
		path = path[:i]
		if _, err := strconv.Atoi(key); err != nil {
			return path
		}
	}
}

// each checks the items of a list, unless it is too long to look at.
func each[T any](list []T, most int, path *field.Path, item func(*T, *field.Path) field.ErrorList) (errs field.ErrorList) {
	if len(list) > most {
		return nil
	}
	for i := range list {
		errs = append(errs, item(&list[i], path.Index(i))...)
	}
	return errs
}

// requestNames knows the requests of a claim by name, each with the names of its
// alternatives.
type requestNames map[string][]string

func namesOf(d *resourcev1.DeviceClaim) requestNames {
	names := make(requestNames, len(d.Requests))
	for i := range d.Requests {
		var subs []string
		for j := range d.Requests[i].FirstAvailable {
			subs = append(subs, d.Requests[i].FirstAvailable[j].Name)
		}
		names[d.Requests[i].Name] = subs
	}
	return names
}

// refers checks the name of a request, or of one of its alternatives.
func (n requestNames) refers(name *string, path *field.Path) (errs field.ErrorList) {
	const must = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
	parts := strings.Split(*name, "/")
	if len(parts) > 2 {
		return field.ErrorList{field.Invalid(path, *name, must)}
	}
	for _, part := range parts {
		errs = append(errs, check.Rule(path, part, utilvalidation.IsDNS1123Label)...)
	}
	if subs, known := n[parts[0]]; !known || len(parts) == 2 && !slices.Contains(subs, parts[1]) {
		errs = append(errs, field.Invalid(path, *name, must))
	}
	return errs
}

func validateClaimSpec(s *resourcev1.ResourceClaimSpec, path *field.Path) field.ErrorList {
	declared := enforced(resourcev1.Validate_ResourceClaimSpec(context.Background(), create, path.Upstream(), s, nil))
	d, path := &s.Devices, path.Child("devices")
	names := namesOf(d)
	errs := each(d.Requests, resourcev1.DeviceRequestsMaxSize, path.Child("requests"), validateRequest)
	errs = append(errs, each(d.Constraints, resourcev1.DeviceConstraintsMaxSize, path.Child("constraints"), func(c *resourcev1.DeviceConstraint, p *field.Path) field.ErrorList {
		errs := each(c.Requests, resourcev1.DeviceRequestsMaxSize, p.Child("requests"), names.refers)
		if c.MatchAttribute == nil && c.DistinctAttribute == nil {
			errs = append(errs, field.Required(p, `exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set`))
		}
		return errs
	})...)
	errs = append(errs, each(d.Config, resourcev1.DeviceConfigMaxSize, path.Child("config"), func(c *resourcev1.DeviceClaimConfiguration, p *field.Path) field.ErrorList {
		errs := each(c.Requests, resourcev1.DeviceRequestsMaxSize, p.Child("requests"), names.refers)
		return append(errs, validateConfig(&c.DeviceConfiguration, p, false)...)
	})...)
	return append(errs, declared...)
}

func validateRequest(r *resourcev1.DeviceRequest, p *field.Path) field.ErrorList {
	errs := check.Rule(p.Child("name"), r.Name, utilvalidation.IsDNS1123Label)
	switch {
	case r.Exactly != nil && len(r.FirstAvailable) > 0:
		return append(errs, field.Invalid(p, nil, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"))
	case r.Exactly != nil:
		e, p := r.Exactly, p.Child("exactly")
		errs = append(errs, check.RequiredName(p.Child("deviceClassName"), e.DeviceClassName, utilvalidation.IsDNS1123Subdomain)...)
		return append(errs, validateDemand(e.Selectors, e.AllocationMode, e.Count, e.Tolerations, p)...)
	case len(r.FirstAvailable) > 0:
		return append(errs, each(r.FirstAvailable, resourcev1.FirstAvailableDeviceRequestMaxSize, p.Child("firstAvailable"), func(e *resourcev1.DeviceSubRequest, p *field.Path) field.ErrorList {
			errs := check.Rule(p.Child("name"), e.Name, utilvalidation.IsDNS1123Label)
			return append(errs, validateDemand(e.Selectors, e.AllocationMode, e.Count, e.Tolerations, p)...)
		})...)
	}
	return append(errs, field.Required(p, "exactly one of `exactly` or `firstAvailable` is required"))
}

// validateDemand checks what exact requests and the alternatives of others share.
func validateDemand(selectors []resourcev1.DeviceSelector, mode resourcev1.DeviceAllocationMode, count int64, tolerations []resourcev1.DeviceToleration, p *field.Path) field.ErrorList {
	errs := validateSelectors(selectors, p.Child("selectors"), false)
	switch mode {
	case resourcev1.DeviceAllocationModeAll:
		if count != 0 {
			errs = append(errs, field.Invalid(p.Child("count"), count, fmt.Sprintf("must not be specified when allocationMode is '%s'", mode)))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if count <= 0 {
			errs = append(errs, field.Invalid(p.Child("count"), count, "must be greater than zero"))
		}
	}
	if n := len(tolerations); n > resourcev1.DeviceTolerationsMaxLength {
		return append(errs, field.TooMany(p.Child("tolerations"), n, resourcev1.DeviceTolerationsMaxLength))
	}
	return append(errs, each(tolerations, len(tolerations), p.Child("tolerations"), validateToleration)...)
}

func validateToleration(t *resourcev1.DeviceToleration, p *field.Path) field.ErrorList {
	switch t.Operator {
	case resourcev1.DeviceTolerationOpExists:
		if t.Value != "" {
			return field.ErrorList{field.Invalid(p.Child("value"), t.Value, "must be empty for operator `Exists`")}
		}
	case resourcev1.DeviceTolerationOpEqual:
		return check.Rule(p.Child("value"), t.Value, utilvalidation.IsValidLabelValue)
	}
	return nil
}

func validateSelectors(list []resourcev1.DeviceSelector, path *field.Path, stored bool) field.ErrorList {
	return each(list, resourcev1.DeviceSelectorsMaxSize, path, func(s *resourcev1.DeviceSelector, p *field.Path) field.ErrorList {
		p = p.Child("cel")
		if s.CEL == nil {
			return field.ErrorList{field.Required(p, "")}
		}
		p = p.Child("expression")
		if len(s.CEL.Expression) > resourcev1.CELSelectorExpressionMaxLength {
			return field.ErrorList{field.TooLong(p, "", resourcev1.CELSelectorExpressionMaxLength)}
		}
		return validateExpression(s.CEL.Expression, p, stored)
	})
}

// Selectors are what the expressions of selectors may use.
var Selectors = devicecel.Features{EnableConsumableCapacity: true}

// validateExpression compiles a selector. One that was stored before may use all
// that any version of the language had.
func validateExpression(expression string, p *field.Path, stored bool) field.ErrorList {
	env := environment.NewExpressions
	if stored {
		env = environment.StoredExpressions
	}
	r := devicecel.GetCompiler(Selectors).CompileCELExpression(expression, devicecel.Options{EnvType: &env})
	switch {
	case r.Error == nil && r.MaxCost > resourcev1.CELSelectorExpressionMaxCost:
		return field.ErrorList{field.Forbidden(p, "too complex, exceeds cost limit")}
	case r.Error == nil:
		return nil
	case r.Error.Type == apiservercel.ErrorTypeRequired:
		return field.ErrorList{field.Required(p, r.Error.Detail)}
	case r.Error.Type == apiservercel.ErrorTypeInvalid:
		return field.ErrorList{field.Invalid(p, expression, r.Error.Detail)}
	}
	return field.ErrorList{field.InternalError(p, errors.New(r.Error.Error()))}
}

func validateConfig(c *resourcev1.DeviceConfiguration, p *field.Path, stored bool) field.ErrorList {
	p = p.Child("opaque")
	if c.Opaque == nil {
		return field.ErrorList{field.Required(p, "")}
	}
	return validateRaw(&c.Opaque.Parameters, p.Child("parameters"), stored, resourcev1.OpaqueParametersMaxLength)
}

// validateRaw checks a driver's own data, an object.
func validateRaw(r *runtime.RawExtension, p *field.Path, stored bool, most int) field.ErrorList {
	var v any
	switch {
	case len(r.Raw) == 0:
		return field.ErrorList{field.Required(p, "")}
	case !stored && len(r.Raw) > most:
		return field.ErrorList{field.TooLong(p, "", most)}
	}
	if err := json.Unmarshal(r.Raw, &v); err != nil {
		return field.ErrorList{field.Invalid(p, "<value omitted>", fmt.Sprintf("error parsing data as JSON: %v", err))}
	}
	if v == nil {
		return field.ErrorList{field.Required(p, "")}
	}
	if _, isObject := v.(map[string]any); !isObject {
		return field.ErrorList{field.Invalid(p, "<value omitted>", "must be a valid JSON object")}
	}
	return nil
}

func validateClaim(c *resourcev1.ResourceClaim) field.ErrorList {
	return validateClaimSpec(&c.Spec, specPath)
}

func validateClaimUpdate(c, old *resourcev1.ResourceClaim) field.ErrorList {
	return check.Immutable(specPath, c.Spec, old.Spec)
}

func validateTemplate(t *resourcev1.ResourceClaimTemplate) field.ErrorList {
	p := specPath.Child("metadata")
	errs := metav1validation.ValidateLabels(t.Spec.Labels, p.Child("labels").Upstream())
	errs = append(errs, validation.ValidateAnnotations(t.Spec.Annotations, p.Child("annotations").Upstream())...)
	return append(errs, validateClaimSpec(&t.Spec.Spec, specPath.Child("spec"))...)
}

func validateTemplateUpdate(t, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
	return check.Immutable(specPath, t.Spec, old.Spec)
}

func validateClass(c *resourcev1.DeviceClass) field.ErrorList {
	return validateClassSpec(create, &c.Spec, nil)
}

func validateClassUpdate(c, old *resourcev1.DeviceClass) field.ErrorList {
	return validateClassSpec(update, &c.Spec, &old.Spec)
}

// validateClassSpec takes expressions and parameters that have not changed as
// they are.
func validateClassSpec(op operation.Operation, s, old *resourcev1.DeviceClassSpec) field.ErrorList {
	stored := old != nil && equality.Semantic.DeepEqual(s.Selectors, old.Selectors)
	errs := validateSelectors(s.Selectors, specPath.Child("selectors"), stored)
	stored = old != nil && equality.Semantic.DeepEqual(s.Config, old.Config)
	errs = append(errs, each(s.Config, resourcev1.DeviceConfigMaxSize, specPath.Child("config"), func(c *resourcev1.DeviceClassConfiguration, p *field.Path) field.ErrorList {
		return validateConfig(&c.DeviceConfiguration, p, stored)
	})...)
	return append(errs, enforced(resourcev1.Validate_DeviceClassSpec(context.Background(), op, specPath.Upstream(), s, old))...)
}

// lowercase warns of a driver's name that is not written as drivers should be.
func lowercase(path *field.Path, driver string) []string {
	if driver == strings.ToLower(driver) {
		return nil
	}
	return []string{fmt.Sprintf("%s: driver names should be lowercase; %q contains uppercase characters", path, driver)}
}

func validateTaint(t *resourcev1.DeviceTaint, p *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabelName(t.Key, p.Child("key").Upstream())
	return append(errs, check.Rule(p.Child("value"), t.Value, utilvalidation.IsValidLabelValue)...)
}

func validateTaintRule(r *resourcev1.DeviceTaintRule) field.ErrorList {
	return validateTaintRuleSpec(create, &r.Spec, nil)
}

func validateTaintRuleUpdate(r, old *resourcev1.DeviceTaintRule) field.ErrorList {
	return validateTaintRuleSpec(update, &r.Spec, &old.Spec)
}

func validateTaintRuleSpec(op operation.Operation, spec, old *resourcev1.DeviceTaintRuleSpec) field.ErrorList {
	var errs field.ErrorList
	if s := spec.DeviceSelector; s != nil {
		p := specPath.Child("deviceSelector")
		if s.Driver != nil {
			errs = append(errs, podspec.ValidateDriverName(*s.Driver, p.Child("driver"))...)
		}
		if s.Pool != nil {
			errs = append(errs, validatePoolName(*s.Pool, p.Child("pool"))...)
		}
		if s.Device != nil {
			errs = append(errs, check.Rule(p.Child("device"), *s.Device, utilvalidation.IsDNS1123Label)...)
		}
	}
	errs = append(errs, validateTaint(&spec.Taint, specPath.Child("taint"))...)
	return append(errs, enforced(resourcev1.Validate_DeviceTaintRuleSpec(context.Background(), op, specPath.Upstream(), spec, old))...)
}

func validateTaintRuleStatus(r, old *resourcev1.DeviceTaintRule) field.ErrorList {
	p := field.NewPath("status")
	errs := validateConditions(r.Status.Conditions, resourcev1.DeviceTaintRuleStatusMaxConditions, p.Child("conditions"))
	return append(errs, enforced(resourcev1.Validate_DeviceTaintRuleStatus(context.Background(), update, p.Upstream(), &r.Status, &old.Status))...)
}
