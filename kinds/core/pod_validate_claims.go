package core

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

// validateClaimStatuses checks which claims were made for a pod.
func validateClaimStatuses(p *corev1.Pod, path *field.Path) (errs field.ErrorList) {
	seen := map[string]bool{}
	for i, s := range p.Status.ResourceClaimStatuses {
		at := path.Index(i)
		if !slices.ContainsFunc(p.Spec.ResourceClaims, func(c corev1.PodResourceClaim) bool { return c.Name == s.Name }) {
			errs = append(errs, field.Invalid(at.Child("name"), s.Name, "must match the name of an entry in `spec.resourceClaims`"))
		}
		if seen[s.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), s.Name))
		}
		seen[s.Name] = true
		if s.ResourceClaimName != nil {
			errs = append(errs, check.Name(at.Child("name"), *s.ResourceClaimName, validation.NameIsDNSSubdomain)...)
		}
	}
	return errs
}

// validateExtendedClaim checks the claim that was made for a pod's extended
// resources, and what containers have of it.
func validateExtendedClaim(p *corev1.Pod, path *field.Path) (errs field.ErrorList) {
	s := p.Status.ExtendedResourceClaimStatus
	if s == nil {
		return nil
	}
	list := path.Child("requestMappings")
	if len(s.RequestMappings) == 0 {
		errs = append(errs, field.Required(list, "at least one request mapping is required"))
	}
	seen := map[corev1.ContainerExtendedResourceRequest]bool{}
	all := slices.Concat(p.Spec.InitContainers, p.Spec.Containers)
	for i, m := range s.RequestMappings {
		at := list.Index(i)
		if k := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == m.ContainerName }); k < 0 {
			errs = append(errs, field.Invalid(at.Child("containerName"), m.ContainerName, "must match the name of an entry in spec.initContainers.name or spec.containers.name"))
		} else if _, asks := all[k].Resources.Requests[corev1.ResourceName(m.ResourceName)]; !asks {
			errs = append(errs, field.Invalid(at.Child("resourceName"), m.ResourceName, "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests"))
		}
		// Upstream's path, which leaves out the mapping.
		errs = append(errs, check.Rule(path.Child("requestName"), m.RequestName, utilvalidation.IsDNS1123Label)...)
		if seen[m] {
			errs = append(errs, field.Duplicate(at.Child("containerName"), m.ContainerName), field.Duplicate(at.Child("resourceName"), m.ResourceName), field.Duplicate(at.Child("requestName"), m.RequestName))
		}
		seen[m] = true
	}
	if s.ResourceClaimName == "" {
		return append(errs, field.Required(path.Child("resourceClaimName"), ""))
	}
	return append(errs, check.Name(path.Child("resourceClaimName"), s.ResourceClaimName, validation.NameIsDNSSubdomain)...)
}

var healths = []corev1.ResourceHealthStatus{corev1.ResourceHealthStatusHealthy, corev1.ResourceHealthStatusUnhealthy, corev1.ResourceHealthStatusUnknown}

// validateHealth checks the health of what containers were given.
func validateHealth(statuses []corev1.ContainerStatus, specs []corev1.Container, made *corev1.PodExtendedResourceClaimStatus, path *field.Path) (errs field.ErrorList) {
	for i := range statuses {
		for j, r := range statuses[i].AllocatedResourcesStatus {
			at := path.Index(i).Child("allocatedResourcesStatus").Index(j)
			// A status of no container is let pass.
			if k := slices.IndexFunc(specs, func(c corev1.Container) bool { return c.Name == statuses[i].Name }); k >= 0 {
				if text := unasked(&specs[k], r.Name, made); text != "" {
					errs = append(errs, field.Invalid(at.Child("name"), string(r.Name), text))
				}
			}
			seen := map[corev1.ResourceID]bool{}
			for k, h := range r.Resources {
				p := at.Child("resources").Index(k)
				if !slices.Contains(healths, h.Health) {
					errs = append(errs, field.NotSupported(p.Child("health"), h.Health, healths))
				}
				if m := h.Message; m != nil && *m == "" {
					errs = append(errs, field.Required(p.Child("message"), "must be non-empty if specified"))
				} else if m != nil && len(*m) > corev1.ResourceHealthMessageMaxLength {
					errs = append(errs, field.TooLong(p.Child("message"), "", corev1.ResourceHealthMessageMaxLength))
				}
				if seen[h.ResourceID] {
					errs = append(errs, field.Duplicate(p.Child("resourceID"), h.ResourceID))
				}
				seen[h.ResourceID] = true
			}
		}
	}
	return errs
}

// unasked says what a container's resource must be, "" when it asks for it.
func unasked(c *corev1.Container, name corev1.ResourceName, made *corev1.PodExtendedResourceClaimStatus) string {
	claim, ok := strings.CutPrefix(string(name), "claim:")
	if !ok {
		if _, asks := c.Resources.Requests[name]; !asks {
			return "must match one of the container's resource requests"
		}
		return ""
	}
	for _, r := range c.Resources.Claims {
		if claim == r.Name && r.Request == "" || claim == r.Name+"/"+r.Request {
			return ""
		}
	}
	if made != nil && slices.ContainsFunc(made.RequestMappings, func(m corev1.ContainerExtendedResourceRequest) bool {
		return m.ContainerName == c.Name && claim == made.ResourceClaimName+"/"+m.RequestName
	}) {
		return ""
	}
	return "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty"
}
