package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
)

const (
	notInteger  = "must be an integer"
	notStandard = "must be a standard resource type or fully qualified"
)

// ValidateResources checks what a container requests and is limited to. claims
// holds the names of the pod's resource claims.
func ValidateResources(r *corev1.ResourceRequirements, claims map[string]bool, path *field.Path) field.ErrorList {
	errs := validateRequirements(r, path)
	seen := map[corev1.ResourceClaim]bool{}
	for i, c := range r.Claims {
		p := path.Child("claims").Index(i)
		switch {
		case c.Name == "":
			errs = append(errs, field.Required(p.Child("name"), ""))
		case !claims[c.Name]:
			errs = append(errs, field.NotFound(p.Child("name"), c.Name))
		}
		if c.Request != "" {
			errs = append(errs, check.Rule(p.Child("request"), c.Request, check.IsDNS1123Label)...)
		}
		if c.Name != "" && (seen[c] || seen[corev1.ResourceClaim{Name: c.Name}]) {
			errs = append(errs, field.Duplicate(p, c.Name))
		}
		seen[c] = true
	}
	return errs
}

func validateRequirements(r *corev1.ResourceRequirements, path *field.Path) (errs field.ErrorList) {
	limits, requests := path.Child("limits"), path.Child("requests")
	errs = append(errs, validateContainerList(r.Limits, limits)...)
	huge, base := false, false
	for name := range r.Limits {
		huge = huge || isHugePage(name)
		base = base || name == corev1.ResourceCPU || name == corev1.ResourceMemory
	}
	for _, name := range sortedNames(r.Requests) {
		q := r.Requests[name]
		p := requests.Key(string(name))
		errs = append(errs, validateContainerName(string(name), p)...)
		errs = append(errs, ValidateQuantity(string(name), q, p)...)
		limit, limited := r.Limits[name]
		switch {
		case limited && !mayOvercommit(string(name)) && q.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case limited && q.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		case !limited && !mayOvercommit(string(name)):
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		}
		huge = huge || isHugePage(name)
		base = base || name == corev1.ResourceCPU || name == corev1.ResourceMemory
	}
	if huge && !base {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return errs
}

// validateContainerList checks a list such as containers, limits and overhead
// have.
func validateContainerList(l corev1.ResourceList, path *field.Path) (errs field.ErrorList) {
	for _, name := range sortedNames(l) {
		errs = append(errs, validateContainerName(string(name), path.Key(string(name)))...)
		errs = append(errs, ValidateQuantity(string(name), l[name], path.Key(string(name)))...)
	}
	return errs
}

// validatePodResources checks requests and limits of the pod as a whole.
func validatePodResources(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	r := s.Resources
	if r == nil {
		return nil
	}
	if len(r.Claims) > 0 {
		errs = append(errs, field.Forbidden(path.Child("claims"), "may not be set for Resources at pod-level"))
	}
	for _, l := range []struct {
		name string
		list corev1.ResourceList
	}{{"limits", r.Limits}, {"requests", r.Requests}} {
		for _, name := range sortedNames(l.list) {
			if !podLevelResource(name) {
				errs = append(errs, field.NotSupported(path.Child(l.name).Key(string(name)), string(name), []string{"cpu", "hugepages-", "memory"}))
			}
		}
	}
	errs = append(errs, validateRequirements(r, path)...)
	sum := ContainerRequests(s)
	for _, name := range sortedNames(sum) {
		have, ok := r.Requests[name]
		if want := sum[name]; ok && podLevelResource(name) && want.Cmp(have) > 0 {
			errs = append(errs, field.Invalid(path.Child("requests").Key(string(name)), have.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", want.String())))
		}
	}
	for _, group := range []struct {
		name string
		list []corev1.Container
	}{{"initContainers", s.InitContainers}, {"containers", s.Containers}} {
		for i := range group.list {
			for _, name := range sortedNames(group.list[i].Resources.Limits) {
				limit := group.list[i].Resources.Limits[name]
				if most, ok := r.Limits[name]; ok && limit.Cmp(most) > 0 {
					p := path.Root().Child(group.name).Index(i).Child("resources", "limits").Key(string(name))
					errs = append(errs, field.Invalid(p, limit.String(), "must be less than or equal to pod limits of "+most.String()))
				}
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
	if (integer(name) || extended(name)) && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, q.String(), notInteger))
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

func validateContainerName(name string, path *field.Path) field.ErrorList {
	errs := check.Rule(path, name, check.IsQualifiedName)
	if len(errs) > 0 {
		return errs
	}
	switch {
	case !strings.Contains(name, "/"):
		if !Standard(name) {
			errs = append(errs, field.Invalid(path, name, notStandard))
		}
		if !forContainers(name) {
			errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
		}
	case !native(name) && !ValidExtended(name):
		errs = append(errs, field.Invalid(path, name, "doesn't follow extended resource name standard"))
	}
	return errs
}

func validateResizePolicy(c *corev1.Container, path *field.Path) (errs field.ErrorList) {
	seen := map[corev1.ResourceName]bool{}
	for i, p := range c.ResizePolicy {
		if seen[p.ResourceName] {
			errs = append(errs, field.Duplicate(path.Index(i), p.ResourceName))
		}
		seen[p.ResourceName] = true
		errs = append(errs, check.RequiredOneOf(path.Index(i).Child("resourceName"), p.ResourceName, corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, check.RequiredOneOf(path.Index(i).Child("restartPolicy"), p.RestartPolicy, corev1.NotRequired, corev1.RestartContainer)...)
	}
	return errs
}
