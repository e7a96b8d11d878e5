package podspec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

const (
	notInteger  = "must be an integer"
	notStandard = "must be a standard resource type or fully qualified"
)

// ValidateResources checks what a container requests and is limited to. claims
// holds the names of the pod's resource claims.
func ValidateResources(r *corev1.ResourceRequirements, claims map[string]bool, path *field.Path) field.ErrorList {
	return validateRequirements(r, validateContainerName, claims, path)
}

// ValidateOverhead checks what a pod takes beyond its containers.
func ValidateOverhead(l corev1.ResourceList, path *field.Path) field.ErrorList {
	return ValidateResources(&corev1.ResourceRequirements{Limits: l}, nil, path)
}

func validateRequirements(r *corev1.ResourceRequirements, nameRule func(string, *field.Path) field.ErrorList, claims map[string]bool, path *field.Path) (errs field.ErrorList) {
	limits, requests := path.Child("limits"), path.Child("requests")
	huge, base := false, false
	amount := func(name corev1.ResourceName, q resource.Quantity, p *field.Path) {
		errs = append(errs, nameRule(string(name), p)...)
		errs = append(errs, ValidateQuantity(string(name), q, p)...)
	}
	// pages comes after what is said of requests and limits together.
	pages := func(name corev1.ResourceName, q resource.Quantity, p *field.Path) {
		base = base || name == corev1.ResourceCPU || name == corev1.ResourceMemory
		if !isHugePage(name) {
			return
		}
		huge = true
		if !wholePages(name, q) {
			errs = append(errs, field.Invalid(p, q.String(), fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), name)))
		}
	}
	for _, name := range sortedNames(r.Limits) {
		p := limits.Key(string(name))
		amount(name, r.Limits[name], p)
		pages(name, r.Limits[name], p)
	}
	for _, name := range sortedNames(r.Requests) {
		q, p := r.Requests[name], requests.Key(string(name))
		amount(name, q, p)
		limit, limited := r.Limits[name]
		switch {
		case limited && !MayOvercommit(string(name)) && q.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case limited && q.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		case !limited && !MayOvercommit(string(name)):
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		}
		pages(name, q, p)
	}
	if huge && !base {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	if len(r.Claims) > 0 {
		errs = append(errs, validateClaimNames(r.Claims, claims, path.Child("claims"))...)
	}
	return errs
}

// wholePages says whether an amount of huge pages is a whole number of them.
func wholePages(name corev1.ResourceName, q resource.Quantity) bool {
	size, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	return err == nil && size.Sign() > 0 && size.MilliValue()%1000 == 0 && q.Value()%size.Value() == 0
}

// validateClaimNames checks which of the pod's claims a container has a share
// of: each once, as a whole or by requests.
func validateClaimNames(list []corev1.ResourceClaim, claims map[string]bool, path *field.Path) (errs field.ErrorList) {
	seen := map[string]bool{}
	for i, c := range list {
		p := path.Index(i)
		if c.Name == "" {
			errs = append(errs, field.Required(p, ""))
			continue
		}
		if seen[c.Name] {
			errs = append(errs, field.Duplicate(p, c.Name))
		} else {
			key := c.Name
			if c.Request != "" {
				errs = append(errs, check.Rule(p.Child("request"), c.Request, check.IsDNS1123Label)...)
				key += "/" + c.Request
			}
			if seen[key] {
				errs = append(errs, field.Duplicate(p, key))
			} else if c.Request == "" {
				for other := range seen {
					if strings.HasPrefix(other, c.Name+"/") {
						errs = append(errs, field.Duplicate(p, c.Name))
					}
				}
			}
			seen[key] = true
		}
		if !claims[c.Name] {
			missing := field.NotFound(p, c.Name)
			missing.Detail = "must be one of the names in pod.spec.resourceClaims which is empty"
			if len(claims) > 0 {
				missing.Detail = "must be one of the names in pod.spec.resourceClaims: " + strings.Join(slices.Sorted(maps.Keys(claims)), ", ")
			}
			errs = append(errs, missing)
		}
	}
	return errs
}

// validatePodResources checks requests and limits of the pod as a whole.
func validatePodResources(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	r := s.Resources
	if s.OS != nil && s.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(path, "may not be set for a windows pod")}
	}
	if r.Claims != nil {
		errs = append(errs, field.Forbidden(path.Child("claims"), "claims may not be set for Resources at pod-level"))
	}
	claims := map[string]bool{}
	for _, c := range s.ResourceClaims {
		if c.Name != "" {
			claims[c.Name] = true
		}
	}
	errs = append(errs, validateRequirements(r, validatePodName, claims, path)...)
	pod := &corev1.Pod{Spec: *s}
	sum := resourcehelper.AggregateContainerRequests(pod, resourcehelper.PodResourcesOptions{})
	for _, name := range sortedNames(sum) {
		have, ok := r.Requests[name]
		if want := sum[name]; ok && want.Cmp(have) > 0 {
			errs = append(errs, field.Invalid(path.Child("requests").Key(string(name)), have.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", want.String())))
		}
	}
	// Huge pages are not given out twice, so that limits add up too.
	sum = resourcehelper.AggregateContainerLimits(pod, resourcehelper.PodResourcesOptions{})
	for _, name := range sortedNames(sum) {
		have, ok := r.Limits[name]
		if want := sum[name]; ok && isHugePage(name) && want.Cmp(have) > 0 {
			errs = append(errs, field.Invalid(path.Child("limits").Key(string(name)), have.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container limits of %s", want.String())))
		}
	}
	for i := range s.Containers {
		for _, name := range sortedNames(s.Containers[i].Resources.Limits) {
			limit := s.Containers[i].Resources.Limits[name]
			if most, ok := r.Limits[name]; ok && limit.Cmp(most) > 0 {
				errs = append(errs, field.Invalid(path.Child("containers").Index(i).Key(string(name)).Child("limits"), limit.String(),
					"must be less than or equal to pod limits of "+most.String()))
			}
		}
	}
	return errs
}

func sortedNames(l corev1.ResourceList) []corev1.ResourceName {
	names := make([]corev1.ResourceName, 0, len(l))
	for name := range l {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ValidateQuantity checks the amount of a resource: not below zero, and whole
// where the resource comes in pieces.
func ValidateQuantity(name string, q resource.Quantity, path *field.Path) field.ErrorList {
	errs := check.Quantity(path, q)
	if (integer(name) || ValidExtended(name)) && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, q, notInteger))
	}
	return errs
}

// ValidateName checks the name of a resource.
func ValidateName(name string, path *field.Path) field.ErrorList {
	errs := check.Rule(path, name, check.IsQualifiedName)
	if len(errs) == 0 && !strings.Contains(name, "/") && !Standard(name) {
		errs = append(errs, field.Invalid(path, name, notStandard))
	}
	return errs
}

// ValidateContainerName checks the name of a resource that containers have.
func ValidateContainerName(name string, path *field.Path) field.ErrorList {
	return validateContainerName(name, path)
}

func validateContainerName(name string, path *field.Path) field.ErrorList {
	errs := ValidateName(name, path)
	switch {
	case strings.Count(name, "/") == 0:
		if !forContainers(name) {
			errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
		}
	case !Native(name) && !ValidExtended(name):
		errs = append(errs, field.Invalid(path, name, "doesn't follow extended resource name standard"))
	}
	return errs
}

// validatePodName checks the name of a resource that a pod has as a whole.
func validatePodName(name string, path *field.Path) field.ErrorList {
	errs := ValidateName(name, path)
	if len(errs) == 0 && !podLevelResource(corev1.ResourceName(name)) {
		errs = append(errs, field.NotSupported(path, name, []string{"cpu", "hugepages-", "memory"}))
	}
	return errs
}

func validateResizePolicy(c *corev1.Container, restart corev1.RestartPolicy, path *field.Path) (errs field.ErrorList) {
	seen := map[corev1.ResourceName]bool{}
	for i, p := range c.ResizePolicy {
		if seen[p.ResourceName] {
			errs = append(errs, field.Duplicate(path.Index(i), p.ResourceName))
		}
		seen[p.ResourceName] = true
		errs = append(errs, check.RequiredOneOf(path, p.ResourceName, corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, check.RequiredOneOf(path, p.RestartPolicy, corev1.NotRequired, corev1.RestartContainer)...)
		if restart == corev1.RestartPolicyNever && p.RestartPolicy != corev1.NotRequired {
			errs = append(errs, field.Invalid(path, p.RestartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
		}
	}
	return errs
}
